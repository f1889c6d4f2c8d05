"""The catalog in Postgres: all of it read at one moment, a part of it written in one transaction."""

from __future__ import annotations

import asyncio
from collections import defaultdict

import orjson

from storage.postgres import Connection, Row
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CatalogRows,
    ExchangeRateRow,
    GoalRow,
    PublisherRow,
    RateRow,
)
from storage.sqlfiles import queries


async def read_catalog(connection: Connection) -> CatalogRows:
    """The whole catalog, in order of ids, as it stood at one moment. The connection must not be in a transaction."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return await select_catalog(connection)


async def lock_catalog(connection: Connection) -> None:
    """Keep other writers of the catalog out until the transaction ends."""
    await connection.execute(queries("catalog")["lock"])


async def select_catalog(connection: Connection) -> CatalogRows:
    """The whole catalog, in order of ids. The caller's transaction says of which moment."""
    names = ("advertisers", "publishers", "campaigns", "goals", "rates", "exchange_rates")
    found = [await connection.fetch(queries("catalog")[name]) for name in names]
    return await asyncio.to_thread(_catalog, *found)  # a big one takes a while


def _catalog(
    advertisers: list[Row],
    publishers: list[Row],
    campaigns: list[Row],
    goals: list[Row],
    rates: list[Row],
    exchange_rates: list[Row],
) -> CatalogRows:
    rates_of: defaultdict[int, list[RateRow]] = defaultdict(list)
    for goal_id, publisher_id, countries, *terms in rates:
        rates_of[goal_id].append(RateRow(publisher_id, tuple(countries), *terms))
    return CatalogRows(
        advertisers=tuple(_advertiser(row) for row in advertisers),
        publishers=tuple(PublisherRow(*row) for row in publishers),
        campaigns=tuple(CampaignRow(*row) for row in campaigns),
        goals=tuple(_goal(row, rates_of[row["id"]]) for row in goals),
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
    )


def _goal(row: Row, rates: list[RateRow]) -> GoalRow:
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
    )


async def write_catalog(connection: Connection, rows: CatalogRows) -> None:
    """Create or replace these by id; a goal with all its rates. Within the caller's transaction.

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
            )
            for row in rows.advertisers
        ],
    )
    await connection.executemany(sql["put_publisher"], [(row.id, row.name) for row in rows.publishers])
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
            )
            for row in rows.campaigns
        ],
    )
    await _write_goals(connection, rows.goals)
    await connection.executemany(
        sql["put_exchange_rate"],
        [(row.from_currency, row.to_currency, row.rate_nanos, row.valid_from) for row in rows.exchange_rates],
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
