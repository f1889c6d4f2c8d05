"""The fields of the forms: as a catalog document says them, as a person has filled them in, and back. Pure.

All values are texts as they stand in the inputs, so that a form which is refused shows again what was entered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from dedup.policy import TrackMultiple
from ingest.catalog import Approval, CapAction, CapMeasure, CapPeriod, GoalType, PayoutOf, Status
from ingest.catalog_documents import Document
from ingest.catalog_table import CatalogProblem
from ingest.console.forms import Form, items, number


class Assigned(StrEnum):
    """A goal's type as the form has it: `chosen` is a private goal with publishers on its list."""

    PUBLIC = "public"
    PRIVATE = "private"
    CHOSEN = "chosen"


class Model(StrEnum):
    """Which parts of a rate a goal uses."""

    FIXED = "fixed"
    PERCENT = "percent"
    MIXED = "mixed"


@dataclass(slots=True)
class RateFields:
    """One rate."""

    countries: str = ""
    publisher: str = ""
    revenue_fixed: str = ""
    revenue_percent: str = ""
    payout_fixed: str = ""
    payout_percent: str = ""
    payout_of: str = PayoutOf.SALE.value


@dataclass(slots=True)
class CapFields:
    """One cap."""

    measure: str = CapMeasure.CONVERSIONS.value
    period: str = CapPeriod.DAY.value
    limit: str = ""
    action: str = CapAction.PENDING.value
    publisher: str = ""
    each_publisher: bool = False


@dataclass(slots=True)
class GoalFields:
    """The goal form."""

    title: str = ""
    value: str = ""
    assigned: str = Assigned.PUBLIC.value
    publishers: list[str] = field(default_factory=list)
    track_multiple: str = TrackMultiple.YES_WITH_TXN_ID.value
    is_default: bool = False
    status: str = Status.ACTIVE.value
    approval: str = Approval.AUTO.value
    hold: str = ""
    model: str = Model.FIXED.value
    rates: list[RateFields] = field(default_factory=list)
    caps: list[CapFields] = field(default_factory=list)


@dataclass(slots=True)
class CampaignFields:
    """The campaign form."""

    name: str = ""
    advertiser: str = ""
    currency: str = ""
    timezone: str = "UTC"
    status: str = Status.ACTIVE.value
    window: str = ""
    min_age: str = ""
    caps: list[CapFields] = field(default_factory=list)


_AMOUNTS: Final = ("revenue_fixed", "payout_fixed")
_PERCENTAGES: Final = ("revenue_percent", "payout_percent")


def goal_fields(document: Mapping[str, Any]) -> GoalFields:
    """The fields of a goal that is stored."""
    rates = [_rate_fields(rate) for rate in document["rates"]]
    kind = document["type"]
    return GoalFields(
        title=document["title"],
        value=document["value"],
        assigned=Assigned.CHOSEN.value if kind == GoalType.PRIVATE and document["publishers"] else kind,
        publishers=[str(one) for one in document["publishers"]],
        track_multiple=document["track_multiple"],
        is_default=document["default"],
        status=document["status"],
        approval=document["approval"],
        hold=document["hold"] or "",
        model=_model_of(rates),
        rates=rates,
        caps=[_cap_fields(cap) for cap in document["caps"]],
    )


def campaign_fields(document: Mapping[str, Any]) -> CampaignFields:
    """The fields of a campaign that is stored."""
    return CampaignFields(
        name=document["name"],
        advertiser=str(document["advertiser"]),
        currency=document["currency"],
        timezone=document["timezone"],
        status=document["status"],
        window=document["window"] or "",
        min_age=document["min_age"] or "",
        caps=[_cap_fields(cap) for cap in document["caps"]],
    )


def read_goal(form: Form) -> GoalFields:
    """The fields as they were filled in."""
    return GoalFields(
        title=form.text("title"),
        value=form.text("value"),
        assigned=form.text("type"),
        publishers=form.texts("publishers"),
        track_multiple=form.text("track_multiple"),
        is_default=form.is_ticked("default"),
        status=form.text("status"),
        approval=form.text("approval"),
        hold=form.text("hold"),
        model=form.text("model"),
        rates=[
            RateFields(
                countries=row.text("countries"),
                publisher=row.text("publisher"),
                revenue_fixed=row.text("revenue.fixed"),
                revenue_percent=row.text("revenue.percent"),
                payout_fixed=row.text("payout.fixed"),
                payout_percent=row.text("payout.percent"),
                payout_of=row.text("payout.of", PayoutOf.SALE.value),
            )
            for row in form.rows("rates")
        ],
        caps=_read_caps(form),
    )


def read_campaign(form: Form) -> CampaignFields:
    """The fields as they were filled in."""
    return CampaignFields(
        name=form.text("name"),
        advertiser=form.text("advertiser"),
        currency=form.text("currency").upper(),
        timezone=form.text("timezone"),
        status=form.text("status"),
        window=form.text("window"),
        min_age=form.text("min_age"),
        caps=_read_caps(form),
    )


def goal_document(fields: GoalFields) -> Document:
    """What the fields say, for `ingest.catalog_service`: every key, None where a field is empty."""
    is_chosen = fields.assigned == Assigned.CHOSEN
    return {
        "title": fields.title or None,
        "value": fields.value or None,
        "default": fields.is_default,
        "type": GoalType.PRIVATE.value if is_chosen else fields.assigned,
        "publishers": [number(one) for one in fields.publishers] if is_chosen else [],
        "track_multiple": fields.track_multiple,
        "status": fields.status,
        "approval": fields.approval,
        "hold": (fields.hold or None) if fields.approval == Approval.MANUAL else None,
        "rates": [rate_document(rate, fields.model) for rate in fields.rates],
        "caps": _cap_documents(fields.caps),
    }


def campaign_document(fields: CampaignFields) -> Document:
    """As `goal_document`."""
    return {
        "name": fields.name or None,
        "advertiser": number(fields.advertiser),
        "currency": fields.currency or None,
        "timezone": fields.timezone,
        "status": fields.status,
        "window": fields.window or None,
        "min_age": fields.min_age or None,
        "caps": _cap_documents(fields.caps),
    }


def rate_document(rate: RateFields, model: str) -> Document:
    """What a rate says under a payout model; the other model's fields say nothing."""
    has_fixed, has_percent = model != Model.PERCENT, model != Model.FIXED
    return {
        "countries": items(rate.countries.upper()),
        "publisher": number(rate.publisher),
        "revenue": {
            "fixed": (has_fixed and rate.revenue_fixed) or "0",
            "percent": (has_percent and rate.revenue_percent) or "0",
        },
        "payout": {
            "fixed": (has_fixed and rate.payout_fixed) or "0",
            "percent": (has_percent and rate.payout_percent) or "0",
            "of": rate.payout_of if has_percent else PayoutOf.SALE.value,
        },
    }


def form_problems(fields: GoalFields) -> Iterable[CatalogProblem]:
    """What only the form can say: the catalog does not know these choices."""
    if fields.assigned not in set(Assigned):
        yield CatalogProblem("type", "choose one")
    if fields.assigned == Assigned.CHOSEN and not fields.publishers:
        yield CatalogProblem("publishers", "choose at least one, or make the goal private")
    if fields.model not in set(Model):
        yield CatalogProblem("model", "choose one")


def change_rows(fields: GoalFields | CampaignFields, action: str) -> str | None:
    """Do what a button beside a list asks for, such as `add-rates` or `remove-caps-2`; the name of the input to go to
    then. None: it is no such button."""
    verb, _, rest = action.partition("-")
    name, _, place = rest.partition("-")
    rows: list[Any] | None = getattr(fields, name, None) if name in {"rates", "caps"} else None
    if rows is None:
        return None
    if verb == "add":
        rows.append(RateFields() if name == "rates" else CapFields())
        return f"{name}[{len(rows) - 1}].{'countries' if name == 'rates' else 'measure'}"
    if verb == "remove" and place.isascii() and place.isdigit() and int(place) < len(rows):
        del rows[int(place)]
        return f"add-{name}"
    return None


def _rate_fields(rate: Mapping[str, Any]) -> RateFields:
    return RateFields(
        countries=", ".join(rate["countries"]),
        publisher=_text(rate["publisher"]),
        revenue_fixed=_shown(rate["revenue"]["fixed"]),
        revenue_percent=_shown(rate["revenue"]["percent"]),
        payout_fixed=_shown(rate["payout"]["fixed"]),
        payout_percent=_shown(rate["payout"]["percent"]),
        payout_of=rate["payout"]["of"],
    )


def _cap_fields(cap: Mapping[str, Any]) -> CapFields:
    return CapFields(
        measure=cap["measure"],
        period=cap["period"],
        limit=str(cap["limit"]),
        action=cap["action"],
        publisher=_text(cap["publisher"]),
        each_publisher=cap["each_publisher"],
    )


def _read_caps(form: Form) -> list[CapFields]:
    return [
        CapFields(
            measure=row.text("measure"),
            period=row.text("period"),
            limit=row.text("limit"),
            action=row.text("action"),
            publisher=row.text("publisher"),
            each_publisher=row.is_ticked("each_publisher"),
        )
        for row in form.rows("caps")
    ]


def _cap_documents(caps: Sequence[CapFields]) -> list[Document]:
    return [
        {
            "measure": cap.measure,
            "period": cap.period,
            "limit": number(cap.limit) if cap.measure == CapMeasure.CONVERSIONS and cap.limit.isdigit() else cap.limit,
            "action": cap.action,
            "publisher": number(cap.publisher),
            "each_publisher": cap.each_publisher,
        }
        for cap in caps
    ]


def _model_of(rates: Iterable[RateFields]) -> str:
    rates = list(rates)
    has_fixed = any(getattr(rate, name) for rate in rates for name in _AMOUNTS)
    has_percent = any(getattr(rate, name) for rate in rates for name in _PERCENTAGES)
    if has_percent:
        return Model.MIXED.value if has_fixed else Model.PERCENT.value
    return Model.FIXED.value


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _shown(decimal: str) -> str:
    return "" if decimal == "0" else decimal
