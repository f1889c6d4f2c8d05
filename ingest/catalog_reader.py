"""Tables of a catalog as rows: the rules that the catalog file and the API share. References are checked by
`ingest.catalog_change`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from typing import Final

from dedup.policy import TrackMultiple
from ingest import catalog_values as values
from ingest.catalog import (
    Approval,
    CapAction,
    CapMeasure,
    CapPeriod,
    GoalType,
    PayoutOf,
    Profile,
    Standing,
    Status,
)
from ingest.catalog_table import Table
from ingest.vault import Vault
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CapRow,
    ExchangeRateRow,
    GoalRow,
    PublisherRow,
    RateRow,
)

NO_DAY: Final = date(1, 1, 1)
"""Stands where a day could not be read."""


class CatalogReader:
    """Reads each kind of table. Ids are unique across what one reader reads; `places` says where each thing stands, by
    (kind, id). Signing secrets are encrypted by `vault`."""

    def __init__(self, vault: Vault | None) -> None:
        self._vault = vault
        self.places: dict[tuple[str, int], str] = {}

    def _id(self, kind: str, table: Table) -> int:
        number = table.take("id", values.identifier, 0, required=True)
        if number and self.places.setdefault((kind, number), table.place) != table.place:
            table.problem("id", f"{number} is the id of {self.places[kind, number]} already")
        return number

    def advertiser(self, table: Table) -> AdvertiserRow:
        row = AdvertiserRow(
            id=self._id("advertiser", table),
            name=_name(table, "name"),
            security_tokens=table.take("security_tokens", values.security_tokens, ()),
            profile=table.take("profile", values.choice(Profile), Profile.JSON.value),
            aliases=table.take("aliases", values.aliases, {}),
            signing_secrets=table.take("signing_secrets", values.signing_secrets(self._vault), ()),
            signature_window_ms=table.take("signature_window", _optional(values.signature_window_ms), None),
            allowed_addresses=table.take("allowed_addresses", values.allowed_addresses, ()),
            rate_limit=table.take("rate_limit", _optional(values.rate_limit), None),
            status=_standing(table),
        )
        table.done()
        return row

    def publisher(self, table: Table) -> PublisherRow:
        row = PublisherRow(self._id("publisher", table), _name(table, "name"), _standing(table))
        table.done()
        return row

    def campaign(self, table: Table) -> CampaignRow:
        """What the campaign is itself; its goals are read by `goal`, and `table.done()` is left to the caller."""
        row = CampaignRow(
            id=self._id("campaign", table),
            advertiser_id=table.take("advertiser", values.identifier, 0, required=True),
            name=_name(table, "name"),
            currency=table.take("currency", values.currency, "", required=True),
            timezone=table.take("timezone", values.timezone, "UTC"),
            status=table.take("status", values.choice(Status), Status.ACTIVE.value),
            window_ms=table.take("window", _optional(values.window_ms), None),
            min_age_ms=table.take("min_age", _optional(values.duration_ms), None),
            caps=tuple(_caps(table)),
        )
        if row.window_ms is not None and (row.min_age_ms or 0) >= row.window_ms:
            table.problem("min_age", "must be shorter than window, else nothing is ever counted")
        return row

    def goal(self, table: Table, campaign_id: int) -> GoalRow:
        goal = GoalRow(
            id=self._id("goal", table),
            campaign_id=campaign_id,
            title=_name(table, "title"),
            value=table.take("value", values.goal_value, "", required=True),
            is_default=table.take("default", values.boolean, absent=False),
            type=table.take("type", values.choice(GoalType), GoalType.PUBLIC.value),
            publishers=table.take("publishers", values.identifiers, ()),
            track_multiple=table.take(
                "track_multiple", values.choice(TrackMultiple), TrackMultiple.YES_WITH_TXN_ID.value
            ),
            status=table.take("status", values.choice(Status), Status.ACTIVE.value),
            rates=tuple(_rates(table)),
            approval=table.take("approval", values.choice(Approval), Approval.AUTO.value),
            hold_ms=table.take("hold", _optional(values.duration_ms), None),
            caps=tuple(_caps(table)),
        )
        if goal.approval == Approval.AUTO and goal.hold_ms is not None:
            table.problem("hold", 'only a goal with approval = "manual" holds its conversions')
        if goal.type == GoalType.PUBLIC and goal.publishers:
            table.problem("publishers", 'a public goal is for every publisher; write type = "private", or no list')
        table.done()
        return goal


def _rates(goal: Table) -> Iterable[RateRow]:
    taken: dict[tuple[int | None, str | None], str] = {}
    for table in goal.tables("rates"):
        revenue, payout = table.table("revenue"), table.table("payout")
        rate = RateRow(
            publisher_id=table.take("publisher", _optional(values.identifier), None),
            countries=table.take("countries", values.countries, ()),
            revenue_fixed_micros=revenue.take("fixed", values.amount_micros, 0),
            revenue_micro_percent=revenue.take("percent", values.micro_percent, 0),
            payout_fixed_micros=payout.take("fixed", values.amount_micros, 0),
            payout_micro_percent=payout.take("percent", values.micro_percent, 0),
            payout_of=payout.take("of", values.choice(PayoutOf), PayoutOf.SALE.value),
        )
        for part in (revenue, payout, table):
            part.done()
        for country in rate.countries or (None,):
            first = taken.setdefault((rate.publisher_id, country), table.place)
            if first != table.place:
                who = "every publisher" if rate.publisher_id is None else f"publisher {rate.publisher_id}"
                table.problem(
                    "countries", f"{first} is the rate of {who} in {country or 'every other country'} already"
                )
        yield rate


def _caps(owner: Table) -> Iterable[CapRow]:
    taken: dict[tuple[int | None, bool, str, str], str] = {}
    for table in owner.tables("caps"):
        measure = table.take("measure", values.choice(CapMeasure), "", required=True)
        cap = CapRow(
            measure=measure,
            period=table.take("period", values.choice(CapPeriod), "", required=True),
            limit=table.take("limit", values.cap_limit(measure), 0, required=True),
            action=table.take("action", values.choice(CapAction), "", required=True),
            publisher_id=table.take("publisher", _optional(values.identifier), None),
            each_publisher=table.take("each_publisher", values.boolean, absent=False),
        )
        if cap.each_publisher and cap.publisher_id is not None:
            table.problem("each_publisher", "the cap is for one publisher already")
        table.done()
        first = taken.setdefault((cap.publisher_id, cap.each_publisher, cap.measure, cap.period), table.place)
        if first != table.place and cap.measure and cap.period:
            table.problem("measure", f"{first} is the cap on {cap.measure} for the same publishers and period already")
        yield cap


def exchange_rate(table: Table) -> ExchangeRateRow:
    """The row; its place is not kept."""
    row = ExchangeRateRow(
        from_currency=table.take("from", values.currency, "", required=True),
        to_currency=table.take("to", values.currency, "", required=True),
        rate_nanos=table.take("rate", values.rate_nanos, 0, required=True),
        valid_from=table.take("valid_from", values.day, NO_DAY, required=True),
        status=_standing(table),
    )
    if row.from_currency and row.from_currency == row.to_currency:
        table.problem("to", f"is {row.to_currency}, as from is")
    table.done()
    return row


def _name(table: Table, key: str) -> str:
    return table.take(key, values.text(values.MAX_NAME), "", required=True)


def _standing(table: Table) -> str:
    return table.take("status", values.choice(Standing), Standing.ACTIVE.value)


def _optional(read: Callable[[object], int]) -> Callable[[object], int | None]:
    """The same reader, for a key whose absence is None. JSON can say None too."""

    def read_or_none(value: object) -> int | None:
        return None if value is None else read(value)

    return read_or_none
