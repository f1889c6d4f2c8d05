"""Catalog files into the database and out of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from ingest.catalog_file import CatalogError, CatalogFile
from ingest.catalog_toml import format_catalog
from storage.catalog_store import lock_catalog, read_catalog, select_catalog, write_catalog
from storage.postgres import Connection, IntegrityError
from storage.rows import CatalogRows, GoalRow

RowT = TypeVar("RowT")


@dataclass(frozen=True, slots=True)
class Counts:
    """What an import did with one kind of thing."""

    created: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, by kind."""

    advertisers: Counts
    publishers: Counts
    campaigns: Counts
    goals: Counts
    exchange_rates: Counts


async def import_catalog(connection: Connection, catalog: CatalogFile) -> ImportSummary:
    """Create or update by id, all or nothing; what is not in the file stays. A goal that changes gets a new version.

    Raises CatalogError with all problems. The connection must not be in a transaction.
    """
    try:
        async with connection.transaction():
            await lock_catalog(connection)
            stored = await select_catalog(connection)
            problems = list(_problems(catalog, stored))
            if problems:
                raise CatalogError(problems)
            changes, summary = _compare(catalog.rows, stored)
            await write_catalog(connection, changes)
            return summary
    except IntegrityError as error:
        raise CatalogError([f"the database refuses the catalog: {error}"]) from None


async def export_catalog(connection: Connection) -> str:
    """The whole catalog as a file's text. Security tokens are in it as digests."""
    return format_catalog(await read_catalog(connection))


def _problems(catalog: CatalogFile, stored: CatalogRows) -> Iterator[str]:
    """References to what is neither in the file nor in the database, and quarrels with goals that are only there."""
    rows, places = catalog.rows, catalog.places
    advertisers = {row.id for row in (*stored.advertisers, *rows.advertisers)}
    publishers = {row.id for row in (*stored.publishers, *rows.publishers)}
    for campaign in rows.campaigns:
        if campaign.advertiser_id not in advertisers:
            place = places["campaign", campaign.id]
            yield f"{place}.advertiser: there is no advertiser {campaign.advertiser_id}, here or in the database"
    in_file = {goal.id for goal in rows.goals}
    kept = [goal for goal in stored.goals if goal.id not in in_file]
    value_of_kept = {(goal.campaign_id, goal.value.casefold()): goal.id for goal in kept}
    default_of_kept = {goal.campaign_id: goal.id for goal in kept if goal.is_default}
    campaign_of_stored = {goal.id: goal.campaign_id for goal in stored.goals}
    for goal in rows.goals:
        place = places["goal", goal.id]
        for key, publisher_id in _publishers(goal):
            if publisher_id not in publishers:
                yield f"{place}.{key}: there is no publisher {publisher_id}, here or in the database"
        owner = campaign_of_stored.get(goal.id, goal.campaign_id)
        if owner != goal.campaign_id:
            yield f"{place}.id: goal {goal.id} belongs to campaign {owner} in the database; take a new id"
        other = value_of_kept.get((goal.campaign_id, goal.value.casefold()))
        if other is not None:
            yield f"{place}.value: {goal.value!r} is the value of goal {other} in the database already, but for case"
        if goal.is_default and goal.campaign_id in default_of_kept:
            yield (
                f"{place}.default: goal {default_of_kept[goal.campaign_id]} in the database is the campaign's default"
                " already; put it into the file with default = false"
            )


def _publishers(goal: GoalRow) -> Iterator[tuple[str, int]]:
    """(key, publisher id) of each reference to a publisher."""
    for publisher_id in goal.publishers:
        yield "publishers", publisher_id
    for index, rate in enumerate(goal.rates):
        if rate.publisher_id is not None:
            yield f"rates[{index}].publisher", rate.publisher_id


def _compare(wanted: CatalogRows, stored: CatalogRows) -> tuple[CatalogRows, ImportSummary]:
    """What must be written, and the counts."""
    versions = {goal.id: goal.version for goal in stored.goals}
    goals = tuple(replace(goal, version=versions.get(goal.id, 1)) for goal in wanted.goals)
    advertisers, of_advertisers = _changed(wanted.advertisers, stored.advertisers, lambda row: row.id)
    publishers, of_publishers = _changed(wanted.publishers, stored.publishers, lambda row: row.id)
    campaigns, of_campaigns = _changed(wanted.campaigns, stored.campaigns, lambda row: row.id)
    changed_goals, of_goals = _changed(goals, stored.goals, lambda row: row.id)
    exchange_rates, of_exchange_rates = _changed(
        wanted.exchange_rates,
        stored.exchange_rates,
        lambda row: (row.from_currency, row.to_currency, row.valid_from),
    )
    changes = CatalogRows(
        advertisers=advertisers,
        publishers=publishers,
        campaigns=campaigns,
        goals=tuple(_next_version(goal, versions) for goal in changed_goals),
        exchange_rates=exchange_rates,
    )
    return changes, ImportSummary(of_advertisers, of_publishers, of_campaigns, of_goals, of_exchange_rates)


def _next_version(goal: GoalRow, versions: Mapping[int, int]) -> GoalRow:
    return replace(goal, version=versions.get(goal.id, 0) + 1)


def _changed(
    wanted: Iterable[RowT], stored: Iterable[RowT], key: Callable[[RowT], Hashable]
) -> tuple[tuple[RowT, ...], Counts]:
    """The rows that are new or other than stored, and the counts."""
    before = {key(row): row for row in stored}
    wanted = tuple(wanted)
    created = [row for row in wanted if key(row) not in before]
    updated = [row for row in wanted if key(row) in before and row != before[key(row)]]
    counts = Counts(len(created), len(updated), len(wanted) - len(created) - len(updated))
    return (*created, *updated), counts
