"""A change of the catalog, whoever makes it: checked against the rest, versioned, written, remembered."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Final, Generic, TypeVar

from ingest.catalog import Standing, Status
from ingest.catalog_documents import Document, Row, document_of, rate_id
from ingest.catalog_table import CatalogProblem
from ingest.catalog_values import GUARDED
from storage.catalog_store import write_catalog, write_history
from storage.postgres import Connection
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CapRow,
    CatalogRows,
    ExchangeRateRow,
    GoalRow,
    NewHistory,
    PublisherRow,
)

RowT = TypeVar("RowT", AdvertiserRow, PublisherRow, CampaignRow, GoalRow, ExchangeRateRow)

SECRETS: Final = ("security_tokens", "signing_secrets")
"""Keys of an advertiser whose values are nobody's to read."""


class Kind(StrEnum):
    """What the catalog is made of."""

    ADVERTISER = "advertiser"
    PUBLISHER = "publisher"
    CAMPAIGN = "campaign"
    GOAL = "goal"
    EXCHANGE_RATE = "exchange_rate"


@dataclass(frozen=True, slots=True)
class Change(Generic[RowT]):
    """One row as it was (None: it is new) and as it is to be, with its next version."""

    before: RowT | None
    after: RowT


@dataclass(frozen=True, slots=True)
class Changes:
    """What is to be written, by kind."""

    advertisers: tuple[Change[AdvertiserRow], ...]
    publishers: tuple[Change[PublisherRow], ...]
    campaigns: tuple[Change[CampaignRow], ...]
    goals: tuple[Change[GoalRow], ...]
    exchange_rates: tuple[Change[ExchangeRateRow], ...]

    def all(self) -> list[tuple[Row | None, Row]]:
        """(before, after) of each."""
        return [
            *((change.before, change.after) for change in self.advertisers),
            *((change.before, change.after) for change in self.publishers),
            *((change.before, change.after) for change in self.campaigns),
            *((change.before, change.after) for change in self.goals),
            *((change.before, change.after) for change in self.exchange_rates),
        ]


def changes_between(stored: CatalogRows, wanted: CatalogRows) -> Changes:
    """What must be written for `wanted` to be stored: each row that is new or another, with its next version. Versions
    in `wanted` say nothing."""
    return Changes(
        advertisers=_changed(wanted.advertisers, stored.advertisers),
        publishers=_changed(wanted.publishers, stored.publishers),
        campaigns=_changed(wanted.campaigns, stored.campaigns),
        goals=_changed(wanted.goals, stored.goals),
        exchange_rates=_changed(wanted.exchange_rates, stored.exchange_rates),
    )


async def make_changes(connection: Connection, changes: Changes, changed_by: str) -> None:
    """Write and remember them, in the caller's transaction, which has locked the catalog. Raises IntegrityError."""
    await write_catalog(
        connection,
        CatalogRows(
            advertisers=tuple(change.after for change in changes.advertisers),
            publishers=tuple(change.after for change in changes.publishers),
            campaigns=tuple(change.after for change in changes.campaigns),
            goals=tuple(change.after for change in changes.goals),
            exchange_rates=tuple(change.after for change in changes.exchange_rates),
        ),
    )
    await write_history(connection, [_history(changed_by, before, after) for before, after in changes.all()])


def kind_of(row: Row) -> Kind:
    """What the row is."""
    match row:
        case AdvertiserRow():
            return Kind.ADVERTISER
        case PublisherRow():
            return Kind.PUBLISHER
        case CampaignRow():
            return Kind.CAMPAIGN
        case GoalRow():
            return Kind.GOAL
        case ExchangeRateRow():
            return Kind.EXCHANGE_RATE


def _history(changed_by: str, before: Row | None, after: Row) -> NewHistory:
    old = None if before is None else document_of(before)
    new = document_of(after)
    for key in SECRETS:
        if key in new:
            _hide(key, old, new)
    campaign_id = after.id if isinstance(after, CampaignRow) else getattr(after, "campaign_id", None)
    return NewHistory(
        changed_by=changed_by,
        kind=kind_of(after).value,
        entity_id=str(key_of(after)),
        campaign_id=campaign_id,
        version=after.version,
        before=None if old is None else _json(old),
        after=_json(new),
    )


def _hide(key: str, before: Document | None, after: Document) -> None:
    """How many secrets there are, and whether they are others than before: no digest and no cipher text."""
    was, becomes = (None if one is None else one[key] for one in (before, after))
    if before is not None:
        before[key] = _count(was)
    after[key] = _count(becomes) + (", changed" if before is not None and was != becomes else "")


def _count(secrets: object) -> str:
    return str(len(secrets)) if isinstance(secrets, list) else "0"


def _json(document: Document) -> str:
    return json.dumps(document, ensure_ascii=False, default=date.isoformat)


def key_of(row: Row) -> int | str:
    """The id; an exchange rate's is made of what it is for."""
    return rate_id(row) if isinstance(row, ExchangeRateRow) else row.id


def _changed(wanted: Iterable[RowT], stored: Iterable[RowT]) -> tuple[Change[RowT], ...]:
    """The new ones first."""
    before = {key_of(row): row for row in stored}
    created: list[Change[RowT]] = []
    updated: list[Change[RowT]] = []
    for row in wanted:
        old = before.get(key_of(row))
        if old is None:
            created.append(Change(None, replace(row, version=1)))
        elif replace(row, version=old.version) != old:
            updated.append(Change(old, replace(row, version=old.version + 1)))
    return tuple(created + updated)


# What would be wrong then ---------------------------------------------------------------------------------------------


def problems_of(
    wanted: CatalogRows, stored: CatalogRows, places: Mapping[tuple[str, int], str]
) -> Iterator[CatalogProblem]:
    """References to what is neither wanted nor stored, and quarrels between the two. `places` says where each wanted
    row stands, by (kind, id)."""
    yield from _alias_problems(wanted, stored, places)
    yield from _standing_problems(wanted, stored, places)
    publishers = {row.id for row in (*stored.publishers, *wanted.publishers)}
    advertisers = {row.id for row in (*stored.advertisers, *wanted.advertisers)}
    for campaign in wanted.campaigns:
        place = places[Kind.CAMPAIGN, campaign.id]
        if campaign.advertiser_id not in advertisers:
            yield _problem(place, "advertiser", f"there is no advertiser {campaign.advertiser_id}{_where(place)}")
        yield from _missing(place, _cap_publishers(campaign.caps), publishers)
    kept = _without(stored.goals, wanted.goals)
    value_of_kept = {(goal.campaign_id, goal.value.casefold()): goal.id for goal in kept}
    default_of_kept = {goal.campaign_id: goal.id for goal in kept if goal.is_default}
    campaign_of_stored = {goal.id: goal.campaign_id for goal in stored.goals}
    for goal in wanted.goals:
        place = places[Kind.GOAL, goal.id]
        yield from _missing(place, _goal_publishers(goal), publishers)
        owner = campaign_of_stored.get(goal.id, goal.campaign_id)
        if owner != goal.campaign_id:
            yield _problem(place, "id", f"goal {goal.id} belongs to campaign {owner} in the database; take a new id")
        other = value_of_kept.get((goal.campaign_id, goal.value.casefold()))
        if other is not None:
            text = f"{goal.value!r} is the value of goal {other} in the database already, but for case"
            yield _problem(place, "value", text)
        if goal.is_default and goal.campaign_id in default_of_kept:
            yield _problem(
                place,
                "default",
                f"goal {default_of_kept[goal.campaign_id]} in the database is the campaign's default already;"
                " let it be default = false first, or in the same file",
            )


def _where(place: str) -> str:
    """Where something was looked for: a file's reader must be told that it was not only there."""
    return ", here or in the database" if place else ""


def _problem(place: str, key: str, detail: str) -> CatalogProblem:
    return CatalogProblem(f"{place}.{key}" if place else key, detail)


def _missing(place: str, references: Iterable[tuple[str, int]], publishers: Iterable[int]) -> Iterator[CatalogProblem]:
    for key, publisher_id in references:
        if publisher_id not in publishers:
            yield _problem(place, key, f"there is no publisher {publisher_id}{_where(place)}")


def publishers_of(row: Row) -> set[int]:
    """The publishers that a row refers to."""
    match row:
        case GoalRow():
            return {publisher_id for _, publisher_id in _goal_publishers(row)}
        case CampaignRow():
            return {publisher_id for _, publisher_id in _cap_publishers(row.caps)}
        case _:
            return set()


def _goal_publishers(goal: GoalRow) -> Iterator[tuple[str, int]]:
    """(key, publisher id) of each reference to a publisher."""
    for publisher_id in goal.publishers:
        yield "publishers", publisher_id
    for index, rate in enumerate(goal.rates):
        if rate.publisher_id is not None:
            yield f"rates[{index}].publisher", rate.publisher_id
    yield from _cap_publishers(goal.caps)


def _cap_publishers(caps: Iterable[CapRow]) -> Iterator[tuple[str, int]]:
    for index, cap in enumerate(caps):
        if cap.publisher_id is not None:
            yield f"caps[{index}].publisher", cap.publisher_id


def _without(stored: Iterable[RowT], wanted: Iterable[RowT]) -> list[RowT]:
    """What is stored and stays as it is."""
    touched = {key_of(row) for row in wanted}
    return [row for row in stored if key_of(row) not in touched]


def _alias_problems(
    wanted: CatalogRows, stored: CatalogRows, places: Mapping[tuple[str, int], str]
) -> Iterator[CatalogProblem]:
    """A postback's click is looked for before its advertiser is known, and tokens are kept from every log: so no name
    can be the one here and the other there."""
    clashing = {"click_id": GUARDED, GUARDED: "click_id"}
    user_of: dict[tuple[str, str], int] = {}
    for row in (*_without(stored.advertisers, wanted.advertisers), *wanted.advertisers):
        for own, standard in row.aliases.items():
            user_of.setdefault((own, standard), row.id)
    for row in wanted.advertisers:
        for own, standard in row.aliases.items():
            other = user_of.get((own, clashing.get(standard, "")))
            if other is not None:
                yield _problem(
                    places[Kind.ADVERTISER, row.id],
                    "aliases",
                    f"{own}: is {clashing[standard]} for advertiser {other}, so it cannot be {standard} here:"
                    " take another name",
                )


def _standing_problems(
    wanted: CatalogRows, stored: CatalogRows, places: Mapping[tuple[str, int], str]
) -> Iterator[CatalogProblem]:
    """An archived advertiser has no campaign that still takes conversions: they would be lost unawares."""
    advertisers = (*_without(stored.advertisers, wanted.advertisers), *wanted.advertisers)
    archived = {row.id for row in advertisers if row.status == Standing.ARCHIVED}
    for campaign in (*_without(stored.campaigns, wanted.campaigns), *wanted.campaigns):
        if campaign.advertiser_id not in archived or campaign.status == Status.ARCHIVED:
            continue
        place = places.get((Kind.CAMPAIGN, campaign.id))
        if place is not None:
            yield _problem(place, "advertiser", f"advertiser {campaign.advertiser_id} is archived")
        elif (place := places.get((Kind.ADVERTISER, campaign.advertiser_id))) is not None:
            yield _problem(place, "status", f"campaign {campaign.id} is {campaign.status}; archive it first")
