"""The catalog in Postgres: all of it read at one moment, a part of it written in one transaction."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import orjson

from storage.postgres import Connection, Row
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CapRow,
    CatalogRows,
    ExchangeRateRow,
    GoalRow,
    NewHistory,
    PublisherRow,
    RateRow,
)
from storage.sqlfiles import queries


@dataclass(frozen=True, slots=True)
class Part:
    """The ids of what is wanted of a catalog; None: all of the kind. Exchange rates by (from, to, day)."""

    advertisers: Sequence[int] | None = ()
    publishers: Sequence[int] | None = ()
    campaigns: Sequence[int] | None = ()
    goals: Sequence[int] | None = ()
    exchange_rates: Sequence[tuple[str, str, date]] | None = ()


ALL: Final = Part(None, None, None, None, None)


async def read_catalog(connection: Connection, part: Part = ALL) -> CatalogRows:
    """The catalog, in order of ids, as it stood at one moment. The connection must not be in a transaction."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await select_catalog(connection, part)


async def lock_catalog(connection: Connection) -> None:
    """Keep other writers of the catalog out until the transaction ends."""
    await connection.execute(queries("catalog")["lock"])


async def select_catalog(connection: Connection, part: Part = ALL) -> CatalogRows:
    """The catalog, in order of ids. The caller's transaction says of which moment."""
    sql = queries("catalog")
    keys = part.exchange_rates
    columns = (None, None, None) if keys is None else tuple([key[place] for key in keys] for place in range(3))
    found = [
        await connection.fetch(sql["advertisers"], part.advertisers),
        await connection.fetch(sql["publishers"], part.publishers),
        await connection.fetch(sql["campaigns"], part.campaigns),
        await connection.fetch(sql["goals"], part.goals),
        await connection.fetch(sql["rates"], part.goals),
        await connection.fetch(sql["caps"], part.campaigns, part.goals),
        await connection.fetch(sql["exchange_rates"], *columns),
    ]
    if part is not ALL:
        return _catalog(*found)
    return await asyncio.to_thread(_catalog, *found)  # a big one takes a while


async def goals_of(connection: Connection, campaign_ids: Sequence[int]) -> list[int]:
    """The ids of these campaigns' goals."""
    return [row[0] for row in await connection.fetch(queries("catalog")["goals_of"], campaign_ids)]


async def next_id(connection: Connection, kind: str) -> int:
    """An id that no `kind` (such as `goal`) has; the caller has locked the catalog."""
    number: int = await connection.fetchval(queries("catalog")[f"next_{kind}"])
    return number


def _catalog(
    advertisers: list[Row],
    publishers: list[Row],
    campaigns: list[Row],
    goals: list[Row],
    rates: list[Row],
    caps: list[Row],
    exchange_rates: list[Row],
) -> CatalogRows:
    rates_of: defaultdict[int, list[RateRow]] = defaultdict(list)
    for goal_id, publisher_id, countries, *terms in rates:
        rates_of[goal_id].append(RateRow(publisher_id, tuple(countries), *terms))
    caps_of: defaultdict[tuple[int, int | None], list[CapRow]] = defaultdict(list)
    for campaign_id, goal_id, *cap in caps:
        caps_of[campaign_id, goal_id].append(CapRow(*cap))
    return CatalogRows(
        advertisers=tuple(_advertiser(row) for row in advertisers),
        publishers=tuple(PublisherRow(*row) for row in publishers),
        campaigns=tuple(_campaign(row, caps_of[row["id"], None]) for row in campaigns),
        goals=tuple(_goal(row, rates_of[row["id"]], caps_of[row["campaign_id"], row["id"]]) for row in goals),
        exchange_rates=tuple(ExchangeRateRow(*row) for row in exchange_rates),
    )


def _advertiser(row: Row) -> AdvertiserRow:
    return AdvertiserRow(
        id=row["id"],
        name=row["name"],
        security_tokens=tuple(row["security_tokens"]),
        profile=row["profile"],
        aliases=orjson.loads(row["aliases"]),
        signing_secrets=tuple(row["signing_secrets"]),
        signature_window_ms=row["signature_window_ms"],
        allowed_addresses=tuple(row["allowed_addresses"]),
        rate_limit=row["rate_limit"],
        status=row["status"],
        version=row["version"],
    )


def _campaign(row: Row, caps: list[CapRow]) -> CampaignRow:
    return CampaignRow(
        id=row["id"],
        advertiser_id=row["advertiser_id"],
        name=row["name"],
        currency=row["currency"],
        timezone=row["timezone"],
        status=row["status"],
        window_ms=row["window_ms"],
        min_age_ms=row["min_age_ms"],
        caps=tuple(caps),
        version=row["version"],
    )


def _goal(row: Row, rates: list[RateRow], caps: list[CapRow]) -> GoalRow:
    return GoalRow(
        id=row["id"],
        campaign_id=row["campaign_id"],
        title=row["title"],
        value=row["value"],
        is_default=row["is_default"],
        type=row["type"],
        publishers=tuple(row["publishers"]),
        track_multiple=row["track_multiple"],
        status=row["status"],
        version=row["version"],
        rates=tuple(rates),
        approval=row["approval"],
        hold_ms=row["hold_ms"],
        caps=tuple(caps),
    )


async def write_catalog(connection: Connection, rows: CatalogRows) -> None:
    """Create or replace these by id; a goal with all its rates and caps. Within the caller's transaction.

    Raises IntegrityError where the schema refuses them.
    """
    sql = queries("catalog")
    await connection.executemany(
        sql["put_advertiser"],
        [
            (
                row.id,
                row.name,
                row.security_tokens,
                row.profile,
                orjson.dumps(dict(row.aliases)).decode(),
                row.signing_secrets,
                row.signature_window_ms,
                row.allowed_addresses,
                row.rate_limit,
                row.status,
                row.version,
            )
            for row in rows.advertisers
        ],
    )
    await connection.executemany(
        sql["put_publisher"], [(row.id, row.name, row.status, row.version) for row in rows.publishers]
    )
    await connection.executemany(
        sql["put_campaign"],
        [
            (
                row.id,
                row.advertiser_id,
                row.name,
                row.currency,
                row.timezone,
                row.status,
                row.window_ms,
                row.min_age_ms,
                row.version,
            )
            for row in rows.campaigns
        ],
    )
    await _write_goals(connection, rows.goals)
    await _write_caps(connection, rows)
    await connection.executemany(
        sql["put_exchange_rate"],
        [
            (row.from_currency, row.to_currency, row.rate_nanos, row.valid_from, row.status, row.version)
            for row in rows.exchange_rates
        ],
    )


async def _write_goals(connection: Connection, goals: tuple[GoalRow, ...]) -> None:
    sql = queries("catalog")
    ids = [goal.id for goal in goals]
    await connection.execute(sql["free_goals"], ids)
    await connection.execute(sql["drop_rates"], ids)
    await connection.executemany(
        sql["put_goal"],
        [
            (
                goal.id,
                goal.campaign_id,
                goal.title,
                goal.value,
                goal.is_default,
                goal.type,
                goal.publishers,
                goal.track_multiple,
                goal.status,
                goal.version,
                goal.approval,
                goal.hold_ms,
            )
            for goal in goals
        ],
    )
    await connection.executemany(
        sql["put_rate"],
        [
            (
                goal.id,
                position,
                rate.publisher_id,
                rate.countries,
                rate.revenue_fixed_micros,
                rate.revenue_micro_percent,
                rate.payout_fixed_micros,
                rate.payout_micro_percent,
                rate.payout_of,
            )
            for goal in goals
            for position, rate in enumerate(goal.rates)
        ],
    )


async def _write_caps(connection: Connection, rows: CatalogRows) -> None:
    sql = queries("catalog")
    await connection.execute(sql["drop_caps"], [row.id for row in rows.campaigns], [goal.id for goal in rows.goals])
    owned = [
        *((row.id, None, row.caps) for row in rows.campaigns),
        *((goal.campaign_id, goal.id, goal.caps) for goal in rows.goals),
    ]
    await connection.executemany(
        sql["put_cap"],
        [
            (
                campaign_id,
                goal_id,
                position,
                cap.measure,
                cap.period,
                cap.limit,
                cap.action,
                cap.publisher_id,
                cap.each_publisher,
            )
            for campaign_id, goal_id, caps in owned
            for position, cap in enumerate(caps)
        ],
    )


async def write_history(connection: Connection, entries: Sequence[NewHistory]) -> None:
    """Remember changes, in the transaction that makes them."""
    await connection.executemany(
        queries("catalog")["put_history"],
        [
            (
                entry.changed_by,
                entry.kind,
                entry.entity_id,
                entry.campaign_id,
                entry.version,
                entry.before,
                entry.after,
            )
            for entry in entries
        ],
    )
