"""Rollups by hour and day: whatever is written, in whatever order it commits, they equal a count from scratch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Final
from uuid import UUID

import pytest

from storage.migrate import FOLDER, migrate
from storage.partitions import ensure_months, months_between
from storage.postgres import Connection, close, connect
from storage.rollups import fold, fold_all
from tests.servers import PostgresServer

START: Final = datetime(2026, 10, 30, tzinfo=UTC)
MONTHS: Final = months_between(date(2026, 8, 1), date(2026, 11, 1))
STATUSES: Final = ("approved", "pending", "cancelled", "rejected")

MEASURES: Final = """
    count(*) AS conversions, coalesce(sum(net_sale_amount), 0) AS sale_amount, sum(net_revenue) AS revenue,
    sum(net_payout) AS payout, sum(extract(epoch FROM received_at - clicked_at)) AS delay_s,
    count(*) FILTER (WHERE received_at - clicked_at <= '1 minute') AS within_1m,
    count(*) FILTER (WHERE received_at - clicked_at <= '10 minutes') AS within_10m,
    count(*) FILTER (WHERE received_at - clicked_at <= '1 hour') AS within_1h,
    count(*) FILTER (WHERE received_at - clicked_at <= '6 hours') AS within_6h,
    count(*) FILTER (WHERE received_at - clicked_at <= '1 day') AS within_1d,
    count(*) FILTER (WHERE received_at - clicked_at <= '7 days') AS within_7d,
    count(*) FILTER (WHERE received_at - clicked_at <= '30 days') AS within_30d
"""
FROM_SCRATCH: Final = {
    "conversions": f"""
        SELECT {{unit}}, campaign_id, goal_id, publisher_id, country, currency, status, {MEASURES}
        FROM (SELECT *, received_at AS at FROM conversions_net) AS net GROUP BY 1, 2, 3, 4, 5, 6, 7""",
    "clicks": """
        SELECT {unit}, campaign_id, publisher_id, country, count(*) AS clicks
        FROM (SELECT *, clicked_at AS at FROM clicks) AS clicks GROUP BY 1, 2, 3, 4""",
    "log": """
        SELECT {unit}, advertiser_id, campaign_id, outcome, reason, count(*) AS postbacks
        FROM (SELECT *, received_at AS at FROM postback_log) AS log GROUP BY 1, 2, 3, 4, 5""",
}
UNITS: Final = {"hourly": "date_trunc('hour', at, 'UTC')", "daily": "(at AT TIME ZONE 'UTC')::date"}
COUNTED: Final = {"conversions": "conversions", "clicks": "clicks", "log": "postbacks"}

INSERT: Final = """
INSERT INTO conversions (conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id,
    goal_value, goal_version, click_id, status, status_given, country, currency, sale_amount, revenue, payout, params)
VALUES ($1, $2, $3, 1, $4, $5, $6, 'g', 1, 'c', $7, $8, $9, 'USD', $10, $11, $12, '{}')
ON CONFLICT DO NOTHING
"""
CHANGE: Final = """
INSERT INTO status_changes (conversion_id, clicked_at, change_id, received_at, status, source)
VALUES ($1, $2, gen_random_uuid(), $3, $4, $5)
"""
ADJUST: Final = """
INSERT INTO adjustments (adjustment_id, conversion_id, clicked_at, kind, sale_amount, revenue, payout, reference,
    made_by)
VALUES (gen_random_uuid(), $1, $2, 'refund', $3, $4, $5, 'r', 'me')
"""


@pytest.fixture
async def connections(postgres_dsn: str) -> AsyncIterator[list[Connection]]:
    made = [await connect(postgres_dsn) for _ in range(4)]
    await ensure_months(made[0], "conversions", MONTHS)
    await ensure_months(made[0], "status_changes", MONTHS)
    await ensure_months(made[0], "postback_log", MONTHS)
    yield made
    await asyncio.gather(*map(close, made))


async def assert_equal_to_a_count_from_scratch(connection: Connection) -> int:
    """How many conversions the rollups hold."""
    for table, statement in FROM_SCRATCH.items():
        for suffix, unit in UNITS.items():
            kept = f"SELECT * FROM {table}_{suffix} WHERE {COUNTED[table]} <> 0"
            scratch = statement.format(unit=unit)
            for what, difference in (("missing", f"{scratch} EXCEPT {kept}"), ("wrong", f"{kept} EXCEPT {scratch}")):
                rows = [tuple(row) for row in await connection.fetch(difference)]
                assert rows == [], f"{what} in {table}_{suffix}"
    zeros = "FROM conversions_hourly WHERE conversions = 0 AND (revenue, payout, within_7d) <> (0, 0, 0)"
    assert await connection.fetchval(f"SELECT count(*) {zeros}") == 0
    count: int = await connection.fetchval("SELECT coalesce(sum(conversions), 0)::bigint FROM conversions_hourly")
    return count


class Activity:
    """Random statements of one transaction at a time."""

    def __init__(self, connection: Connection, chance: random.Random, known: list[tuple[UUID, datetime]]) -> None:
        self._connection = connection
        self._chance = chance
        self._known = known

    async def run(self, transactions: int) -> None:
        for _ in range(transactions):
            transaction = self._connection.transaction()
            is_kept = self._chance.random() < 0.85
            try:
                async with transaction:
                    for _ in range(self._chance.randrange(1, 5)):
                        await self._any()
                        await asyncio.sleep(0)
                    if not is_kept:
                        raise InterruptedError
            except InterruptedError:
                continue

    async def _any(self) -> None:
        chance = self._chance
        often = [self._insert, self._insert, self._move, self._adjust, self._reject, self._click]
        await chance.choice([*often * 3, self._repeat, self._repeat, self._correct, self._delete])()

    def _one(self) -> tuple[UUID, datetime]:
        return self._chance.choice(self._known)

    def _money(self, limit: int = 100) -> Decimal:
        return Decimal(self._chance.randrange(-limit if limit < 50 else 0, limit * 1_000_000)).scaleb(-6)

    async def _insert(self) -> None:
        """Some are late: received long before now."""
        chance = self._chance
        clicked = START - timedelta(seconds=chance.choice([1, 60, 5000, 90_000, 900_000]) * chance.random())
        key = UUID(int=chance.getrandbits(128)), clicked.replace(microsecond=0)
        self._known.append(key)
        await self._insert_as(key)

    async def _insert_as(self, key: tuple[UUID, datetime]) -> None:
        chance = self._chance
        received = key[1] + timedelta(seconds=chance.choice([30, 600, 3600, 86_400, 800_000]))
        await self._connection.execute(
            INSERT, *key, received, chance.choice([10, 11]), chance.choice([100, 200]), 1000, chance.choice(STATUSES),
            chance.random() < 0.5, chance.choice(["US", "DE", None]), chance.choice([None, self._money()]),
            self._money(), self._money(),
        )  # fmt: skip

    async def _repeat(self) -> None:
        """Perhaps there already, perhaps rolled back before, perhaps another's that is not committed yet."""
        await self._insert_as(self._one())

    async def _move(self) -> None:
        key = self._one()
        received = key[1] + timedelta(seconds=self._chance.randrange(2_000_000))
        source = self._chance.choice(["postback", "operator", "hold"])
        await self._connection.execute(CHANGE, *key, received, self._chance.choice(STATUSES), source)

    async def _adjust(self) -> None:
        await self._connection.execute(ADJUST, *self._one(), self._money(20), self._money(20), self._money(20))

    async def _correct(self) -> None:
        await self._connection.execute(
            "UPDATE conversions SET country = $3, revenue = revenue + 1, params = '{}'"
            " WHERE conversion_id = $1 AND clicked_at = $2",
            *self._one(),
            self._chance.choice(["US", "FR", None]),
        )

    async def _delete(self) -> None:
        """With all that was said of it; it may be written again."""
        key = self._one()
        for table in ("conversions", "status_changes", "adjustments"):
            await self._connection.execute(f"DELETE FROM {table} WHERE conversion_id = $1 AND clicked_at = $2", *key)

    async def _reject(self) -> None:
        await self._connection.execute(
            "INSERT INTO postback_log (log_id, received_at, outcome, reason, advertiser_id, campaign_id, params)"
            " SELECT gen_random_uuid(), $1, 'rejected', $2, $3, $4, '{}' FROM generate_series(1, 3)",
            START - timedelta(seconds=self._chance.randrange(500_000)),
            self._chance.choice(["unknown_click", "bad_token", None]),
            self._chance.choice([1, None]),
            self._chance.choice([100, None]),
        )

    async def _click(self) -> None:
        await self._connection.execute(
            "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)"
            " VALUES ($1, 100, 10, $2, $3) ON CONFLICT DO NOTHING",
            f"click-{self._chance.randrange(40)}",
            START - timedelta(seconds=self._chance.randrange(500_000)),
            self._chance.choice(["US", None]),
        )


@pytest.mark.parametrize("seed", range(2))
async def test_rollups_equal_a_count_from_scratch(connections: list[Connection], seed: int) -> None:
    chance = random.Random(seed)
    *writing, folding = connections
    known = [(UUID(int=number), START) for number in range(5)]
    for _ in range(3):
        done = asyncio.Event()

        async def fold_all_the_time(done: asyncio.Event = done) -> None:
            while not done.is_set():
                await fold(folding, max_rows=7)
                await asyncio.sleep(0)

        task = asyncio.create_task(fold_all_the_time())
        # Each its own conversions to change: what waits for another's row would wait for it for ever in one loop.
        mine: list[list[tuple[UUID, datetime]]] = [
            [(UUID(int=number * 100 + who), key[1]) for number, key in enumerate(known)] for who in range(len(writing))
        ]
        await asyncio.gather(*(Activity(one, chance, keys).run(25) for one, keys in zip(writing, mine, strict=True)))
        done.set()
        await task
        assert await fold_all(folding) is not None
        assert await assert_equal_to_a_count_from_scratch(folding) > 0


async def insert_one(connection: Connection, number: int, *, minutes: int = 1) -> tuple[UUID, datetime]:
    """A conversion of campaign 100, approved, revenue 2, payout 1, so long after its click."""
    key = UUID(int=number), START
    received = START + timedelta(minutes=minutes)
    await connection.execute(
        INSERT, *key, received, 10, 100, 1000, "approved", True, "US", None, Decimal(2), Decimal(1)
    )
    return key


async def test_late_transactions_are_not_missed_and_nobody_waits(connections: list[Connection]) -> None:
    early, late, folding, other = connections
    await early.execute("BEGIN")
    await insert_one(early, 1)
    await insert_one(late, 2)
    folded = await fold_all(folding)
    assert folded is not None
    assert folded.rows == 1, "what is not committed is nobody's business yet"
    assert folded.lag_s < 60
    await early.execute("COMMIT")
    folded = await fold_all(folding)
    assert folded is not None
    assert folded.rows == 1
    assert await assert_equal_to_a_count_from_scratch(folding) == 2

    async with folding.transaction():
        await folding.fetchval("SELECT pg_advisory_xact_lock(hashtextextended('postback rollups', 0))")
        assert await fold(other) is None, "another is at it"
        await insert_one(late, 3)
    assert await fold_all(other) is not None
    assert await assert_equal_to_a_count_from_scratch(other) == 3


async def test_views_show_what_stands_now(connections: list[Connection]) -> None:
    connection = connections[0]
    await connection.execute(
        "INSERT INTO advertisers (id, name) VALUES (1, 'Acme'); INSERT INTO publishers (id, name) VALUES (10, 'North');"
        "INSERT INTO campaigns (id, advertiser_id, name, currency) VALUES (100, 1, 'Quest', 'USD');"
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)"
        " SELECT 'c' || n, 100, 10, '2026-10-30', 'US' FROM generate_series(1, 4) AS n"
    )
    key = await insert_one(connection, 1)
    other = await insert_one(connection, 2, minutes=11)
    await fold_all(connection)
    await connection.execute(ADJUST, *key, Decimal(0), Decimal("-0.5"), Decimal(0))
    await connection.execute(CHANGE, *other, START + timedelta(days=2), "pending", "operator")
    await fold_all(connection)
    (day,) = await connection.fetch("SELECT * FROM performance_daily")
    assert (day["advertiser"], day["campaign"], day["publisher"]) == ("Acme", "Quest", "North")
    assert (day["clicks"], day["conversions"], day["approved"], day["pending"]) == (4, 2, 1, 1)
    assert (day["revenue"], day["payout"], day["margin"]) == (Decimal("1.5"), Decimal(1), Decimal("0.5"))
    assert (day["pending_revenue"], day["pending_payout"], day["mean_delay_s"]) == (2, 1, Decimal("360.0"))
    rows = await connection.fetch("SELECT status, conversions, margin FROM goals_hourly ORDER BY status")
    assert [tuple(row) for row in rows] == [("approved", 1, Decimal("0.5")), ("pending", 1, Decimal(1))]
    assert await connection.fetchval("SELECT sum(within_1m) FROM conversions_daily") == 1
    assert await connection.fetchval("SELECT sum(within_1h) FROM conversions_daily") == 2

    await connection.execute("DROP TABLE conversions_2026_10")
    await fold_all(connection)
    assert await connection.fetchval("SELECT sum(conversions) FROM performance_hourly") == 2, "rollups outlive the rows"


async def test_a_change_comes_before_its_conversion(connections: list[Connection]) -> None:
    connection = connections[0]
    await connection.execute(CHANGE, UUID(int=1), START, START + timedelta(days=1), "cancelled", "operator")
    folded = await fold_all(connection)
    assert folded is not None
    assert folded.rows == 0
    await insert_one(connection, 1)
    await fold_all(connection)
    rows = await connection.fetch("SELECT status FROM goals_daily")
    assert [row[0] for row in rows] == ["cancelled"]
    assert await assert_equal_to_a_count_from_scratch(connection) == 1
    await connection.execute(CHANGE, UUID(int=2), START, START + timedelta(days=1), "cancelled", "operator")
    await connection.execute("UPDATE rollup_touched SET queued_at = now() - interval '8 days'")
    await fold_all(connection)
    assert await connection.fetchval("SELECT count(*) FROM rollup_touched") == 0, "it is not waited for for ever"


async def test_what_is_there_before_the_migration_is_counted(postgres_server: PostgresServer, tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.mkdir()
    for path in sorted(FOLDER.glob("*.sql")):
        if path.name < "0006":
            (before / path.name).write_bytes(path.read_bytes())
    with postgres_server.database() as dsn:
        connection = await connect(dsn)
        await migrate(connection, before)
        for table in ("conversions", "status_changes", "postback_log"):
            await ensure_months(connection, table, MONTHS)
        keys = [await insert_one(connection, number) for number in range(3)]
        await connection.execute(CHANGE, *keys[0], START + timedelta(days=1), "cancelled", "operator")
        await connection.execute(ADJUST, *keys[1], Decimal(0), Decimal(-1), Decimal(0))
        await migrate(connection)
        await fold_all(connection)
        assert await assert_equal_to_a_count_from_scratch(connection) == 3
        await close(connection)
