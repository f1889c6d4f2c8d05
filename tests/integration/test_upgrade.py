"""The program on what its first release left: schema version 3, a queue in the format of then, claims, dead letters."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from storage.batch_store import BatchCounts
from storage.migrate import FOLDER, load_migrations, migrate, schema_state
from storage.postgres import Connection, close, connect, open_pool
from storage.queue import GROUP, queue_key
from storage.reader import QueueTimes
from tests.commands import Done, run_command
from tests.eventually import eventually
from tests.platform import client_of
from tests.program import environment, running
from tests.servers import PostgresServer
from tests.writing import drain

FIRST_RELEASE = 3
QUEUE = queue_key(0)

# Lines as that program wrote them, of one click. Nothing but the format's name, `c1`, says how they are to be read.
STORED = (
    "00000000-0000-0000-0000-00000000000a\t1767398400000010\t\\N\t1\t10\t100\t1000\tpurchase\t1\told-click\t1767312000123"
    "\tT-1\t019b7c01-047b-868d-8c5b-c366a8b59aba\tapproved\tUS\tUSD\t49990000\t4999000\t2500000\t\\N\t\\N\t\\N\t\\N"
    '\t192.0.2.1\t{"sub1":"x"}'
)
NEW = (
    "00000000-0000-0000-0000-00000000000b\t1767398400000011\t\\N\t1\t10\t100\t1000\tpurchase\t1\told-click\t1767312000123"
    "\tT-2\t019b7c01-047b-8e00-aac7-bc20c204357c\tapproved\tUS\tUSD\t49990000\t4999000\t2500000\t\\N\t\\N\t\\N\t\\N"
    '\t192.0.2.1\t{"sub1":"x"}'
)
CONVERTED = (
    "00000000-0000-0000-0000-00000000000c\t1767398400000012\tgoal_not_assigned\t1\t10\t100\t1000\tpurchase\t1\told-click"
    "\t1767312000123\tT-3\t019b7c01-047b-84b3-ba8c-709800985509\tapproved\tUS\tUSD\t49990000\t4999000\t0\t45000000\tEUR"
    '\t1110888889\t1767312000128\t192.0.2.1\t{"note":"a\\\\tb\\\\\\\\c"}'
)
REPEAT = (
    "00000000-0000-0000-0000-00000000000d\t1767398400000013\t\\N\t1\t10\t100\t1000\tpurchase\t1\told-click\t1767312000123"
    "\tT-1\t019b7c01-047b-868d-8c5b-c366a8b59aba\tapproved\tUS\tUSD\t49990000\t4999000\t2500000\t\\N\t\\N\t\\N\t\\N"
    '\t192.0.2.1\t{"sub1":"x"}'
)
CONFLICT = (
    "00000000-0000-0000-0000-00000000000e\t1767398400000014\t\\N\t1\t10\t100\t1000\tpurchase\t1\told-click\t1767312000123"
    "\tT-1\t019b7c01-047b-868d-8c5b-c366a8b59aba\tapproved\tUS\tUSD\t59990000\t4999000\t2500000\t\\N\t\\N\t\\N\t\\N"
    '\t192.0.2.1\t{"sub1":"x"}'
)
REJECTION = (
    "00000000-0000-0000-0000-00000000000f\t1767398400000015\tunknown_click\t\\N\t\\N\t\\N\t\\N\t\\N\t\\N\tnobody"
    + "\t\\N" * 13
    + '\t192.0.2.1\t{"goal":"purchase"}'
)
DEAD = (
    "00000000-0000-0000-0000-000000000009\t1767398400000009\t\\N\t1\t10\t100\t1000\tpurchase\t1\told-click\t1767312000123"
    "\tT-4\t019b7c01-047b-87d6-976b-e2b00d2802ca\tapproved\tUS\tUSD\t49990000\t4999000\t2500000\t\\N\t\\N\t\\N\t\\N"
    '\t192.0.2.1\t{"sub1":"x"}'
)
FROM_THE_FUTURE = NEW.replace("T-2", "T-6").replace("8e00-aac7", "8e00-aac8").replace("00000b", "0000bb")

ROWS = """
INSERT INTO advertisers (id, name) VALUES (1, 'Old Shop');
INSERT INTO publishers (id, name) VALUES (10, 'North Media');
INSERT INTO campaigns (id, advertiser_id, name, currency, window_ms)
VALUES (100, 1, 'Old campaign', 'USD', 315360000000);
INSERT INTO goals (id, campaign_id, title, value, is_default) VALUES (1000, 100, 'Purchase', 'purchase', true);
INSERT INTO goal_rates (goal_id, position, revenue_percent, payout_fixed) VALUES (1000, 0, 10, 2.5);
INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)
VALUES ('old-click', 100, 10, timestamptz 'epoch' + 1767312000123 * interval '1 ms', 'US');

CREATE TABLE conversions_2026_01 PARTITION OF conversions
    FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-02-01 00:00Z');
CREATE TABLE postback_log_2026_01 PARTITION OF postback_log
    FOR VALUES FROM ('2026-01-01 00:00Z') TO ('2026-02-01 00:00Z');
INSERT INTO conversions (
    conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id, goal_value, goal_version,
    click_id, txn_id, status, country, currency, sale_amount, revenue, payout, params
)
SELECT
    id, timestamptz 'epoch' + 1767312000123 * interval '1 ms', timestamptz 'epoch' + us * interval '1 us',
    1, 10, 100, 1000, 'purchase', 1, 'old-click', txn_id, 'approved', 'US', 'USD', 49.99, 4.999, 2.5, '{"sub1": "x"}'
FROM (VALUES
    (uuid '019b7c01-047b-87ab-8944-d1fb7078e2d3', 1767398400000001, 'T-0'),
    (uuid '019b7c01-047b-868d-8c5b-c366a8b59aba', 1767398400000010, 'T-1')
) AS old (id, us, txn_id);
INSERT INTO postback_log (log_id, received_at, outcome, click_id, txn_id, conversion_id, params)
VALUES ('00000000-0000-0000-0000-000000000003', '2026-01-03 00:00:01Z', 'duplicate', 'old-click', 'T-0',
        '019b7c01-047b-87ab-8944-d1fb7078e2d3', '{}');
"""


@dataclass(frozen=True, slots=True)
class Left:
    """What there is to upgrade, and how to run commands on it."""

    dsn: str
    database: Connection
    folder: Path
    env: dict[str, str]

    def run(self, *arguments: str) -> Done:
        """What a command says."""
        return run_command(arguments, env=self.env, cwd=self.folder)

    async def sums(self) -> tuple[Any, ...]:
        """(conversions, of which different, sale, revenue, payout)."""
        row = await self.database.fetchrow(
            "SELECT count(*), count(DISTINCT conversion_id), sum(sale_amount)::text, sum(revenue)::text,"
            " sum(payout)::text FROM conversions"
        )
        assert row is not None
        return tuple(row)


@pytest.fixture
async def left(postgres_server: PostgresServer, redis: Redis, redis_url: str, tmp_path: Path) -> AsyncIterator[Left]:
    """As a writer of the first release was killed at: read, and partly stored, and not acknowledged."""
    old = tmp_path / "migrations"
    old.mkdir()
    for path in sorted(FOLDER.glob("*.sql"))[:FIRST_RELEASE]:
        shutil.copy(path, old)
    with postgres_server.database() as dsn:
        database = await connect(dsn)
        assert len(await migrate(database, old)) == FIRST_RELEASE
        await database.execute(ROWS)
        await database.execute(
            "INSERT INTO dead_letters (entry_id, kind, payload, error) VALUES ('1767398400000-0', 'c1', $1, 'refused')",
            DEAD.encode(),
        )
        await redis.hset("pb:{0}:click:old-click", mapping={f"1000:T-{n}": "tokenof49.99USD" for n in (1, 2)})
        await redis.hset("pb:{0}:click:old-click", "1000:T-3", "tokenof45EUR")
        await redis.xgroup_create(QUEUE, GROUP, "0", mkstream=True)
        for kind, line in (("c1", STORED), ("c1", NEW)):
            await redis.xadd(QUEUE, {kind: line})
        await redis.xreadgroup(GROUP, "a-writer-of-then", {QUEUE: ">"})
        await redis.xadd(QUEUE, {"c1": CONVERTED})
        await redis.xadd(QUEUE, {"d1": REPEAT, "p": "49.99USD"})
        await redis.xadd(QUEUE, {"x1": CONFLICT, "p": "49.99USD"})
        await redis.xadd(QUEUE, {"r1": REJECTION})
        await redis.xadd(QUEUE, {"c9": FROM_THE_FUTURE})
        folder = tmp_path / "data"
        yield Left(dsn, database, tmp_path, environment(folder, redis_url, dsn, {}))
        await close(database)


async def test_an_upgrade_loses_nothing_and_counts_nothing_twice(left: Left, redis: Redis, redis_url: str) -> None:
    assert "run `postback migrate`" in ((await schema_state(left.database)).problem or "")
    migrated = left.run("migrate")
    assert migrated.returncode == 0, migrated.stderr
    assert (await schema_state(left.database)).found == len(load_migrations())
    assert await left.sums() == (2, 2, "99.980000", "9.998000", "5.000000"), "what was stored is untouched"

    # The queue: what the old writer had read is taken over, and what it had stored is known.
    pool = await open_pool(left.dsn, 2)
    drained = await drain(redis, pool, times=QueueTimes(claim_idle_ms=20, claim_every_ms=20, block_ms=20))
    await close(pool)
    assert drained.counts == BatchCounts(read=7, new=2, present=1, logged=3, dead=1)
    assert await left.sums() == (4, 4, "199.960000", "19.996000", "7.500000")
    rows = await left.database.fetch(
        "SELECT txn_id, status, reason, original_amount::text AS original, original_currency, exchange_rate::text"
        " AS rate, params->>'note' AS note FROM conversions WHERE txn_id IN ('T-2', 'T-3') ORDER BY txn_id"
    )
    assert [tuple(row) for row in rows] == [
        ("T-2", "approved", None, None, None, None, None),
        ("T-3", "approved", "goal_not_assigned", "45.000000", "EUR", "1.110888889", "a\tb\\c"),
    ]
    logged = await left.database.fetch("SELECT outcome, txn_id, params->>'sent' FROM postback_log ORDER BY log_id")
    assert [tuple(row) for row in logged] == [
        ("duplicate", "T-0", None),
        ("duplicate", "T-1", None),
        ("conflict", "T-1", "59.99USD"),
        ("rejected", None, None),
    ]

    with running(left.folder / "data", redis_url, left.dsn) as program:
        # Postbacks of now about what was counted then. Redis has no claim of T-0: the writer finds that it is stored.
        async with client_of(program, left.dsn) as client:
            said = {
                txn_id: (await client.get(f"click_id=old-click&goal=purchase&txn_id={txn_id}&amount={amount}"))[1]
                for txn_id, amount in (("T-1", "49.99"), ("T-2", "59.99"), ("T-0", "49.99"), ("T-5", "49.99"))
            }
            assert {txn_id: one["status"] for txn_id, one in said.items()} == {
                "T-1": "duplicate", "T-2": "conflict", "T-0": "accepted", "T-5": "accepted",
            }  # fmt: skip
            assert said["T-1"]["conversion_id"] == "019b7c01-047b-868d-8c5b-c366a8b59aba"
            assert said["T-0"]["conversion_id"] == "019b7c01-047b-87ab-8944-d1fb7078e2d3"
            await eventually(lambda: redis.xlen(QUEUE), lambda length: length == 0)
            assert await client.count("conversions") == 5
            since = "received_at > '2026-02-01'"  # what is older may be past its time
            assert await client.count("postback_log", since) == 3

        # What an older program does not understand waits for a newer one.
        refused = left.run("dead-letters", "retry", "--all")
        assert refused.returncode == 1
        assert "refused: unknown kind" in refused.stdout
        letters = await left.database.fetch("SELECT kind, payload, error FROM dead_letters")
        assert [tuple(row) for row in letters] == [("c9", FROM_THE_FUTURE.encode(), "unknown kind")]
        assert (await left.sums())[:3] == (6, 6, "299.940000"), "the old dead letter is stored"
        await left.database.execute("UPDATE dead_letters SET kind = 'c1'")  # as if this program knew it
        assert left.run("dead-letters", "retry", "--all").returncode == 0
        assert await left.sums() == (7, 7, "349.930000", "34.993000", "15.000000")

        # Rollups count what was there before they were, once.
        summed = "SELECT sum(conversions)::int, sum(sale_amount)::text, sum(revenue)::text FROM conversions_hourly"
        await eventually(
            lambda: left.database.fetchrow(summed), lambda row: tuple(row or ()) == (7, "349.930000", "34.993000")
        )
