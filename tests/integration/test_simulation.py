"""Simulations on real servers: they foresee what a receiver then does, and leave nothing behind."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from redis.asyncio import Redis

from dedup.client import connect
from dedup.redis import RedisDeduplicator
from ingest.answers import answer
from ingest.app import expiry
from ingest.arrival import Arrival
from ingest.catalog import Snapshot
from ingest.catalog_rows import load_snapshot
from ingest.click_source import ClickSource
from ingest.decide import Rules
from ingest.outcome import Outcome, Result
from ingest.receipts import new_receipt
from ingest.recorder import Recorder
from ingest.simulation import Simulation, Standing, simulate
from ingest.stored_clicks import StoredClicks
from ingest.vault import ensure_vault
from ingest.wire import read_query
from storage.clicks import register_clicks
from storage.postgres import Pool, close, open_pool
from storage.rows import NewClick
from tests.catalogs import DAY_MS
from tests.platform import load_sample
from tests.writing import Observer, drained, running, writer

_TABLES = """
SELECT oid::regclass::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
"""
PARTITIONS = 4
RULES = Rules(window_ms=90 * DAY_MS)
NOW_MS = time.time_ns() // 1_000_000
OTHER_SHOP = "click_id=shop&order=S1&total=9&shop_key="

SENT = [
    "click_id=game",
    "click_id=game",
    "click_id=game&status=rejected",
    "click_id=game&goal=purchase&txn_id=T1&sale_amount=49.99",
    "click_id=game&goal=purchase&txn_id=T1&sale_amount=49.990",
    "click_id=game&goal=purchase&txn_id=T1&sale_amount=50",
    "click_id=game&goal=purchase&txn_id={txn_id}&sale_amount=1&currency=EUR",
    "click_id=game&goal=purchase&txn_id=",
    "click_id=game&goal=ad_view",
    "click_id=game&goal=ad_view&event_id=E1",
    "click_id=game&goal=ad_view&event_id=E1",
    "click_id=game&goal=level_10",
    "click_id=game&goal=nothing",
    "click_id=game&goal=purchase&sale_amount=x",
    "click_id=nobody",
    "goal=install",
    f"{OTHER_SHOP}demo-token",
    f"{OTHER_SHOP}demo-token",
    f"{OTHER_SHOP}wrong-token",
    "lead_ref=lead&result=application",
    "lead_ref=lead&result=application&click_id=game",
    "lead_ref=lead&result=issued",
]


class Unobserved:
    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class World:
    """Both servers, what is in them, and what a receiver would do."""

    redis: Redis
    pool: Pool
    snapshot: Snapshot
    claims: RedisDeduplicator
    recorder: Recorder

    async def contents(self) -> dict[str, object]:
        """All that both servers hold: each key with what it holds and when it goes, each table's rows."""
        keys = sorted([key async for key in self.redis.scan_iter()])
        kept: dict[str, object] = {
            repr(key): (await self.redis.dump(key), await self.redis.pexpiretime(key)) for key in keys
        }
        for (table,) in await self.pool.fetch(_TABLES):
            rows = await self.pool.fetch(f"SELECT t::text, t.tableoid, t.xmin::text FROM {table} AS t")
            kept[table] = sorted(tuple(row) for row in rows)
        return kept

    async def simulated(self, text: str) -> Simulation:
        """A simulation; it must change nothing."""
        before = await self.contents()
        made = await simulate(text, self.snapshot, RULES, self.claims, self.pool)
        assert await self.contents() == before
        return made

    async def recorded(self, text: str) -> Outcome:
        """What a receiver does."""
        (outcome,) = await self.recorder.record([Arrival(new_receipt(None), read_query(text))])
        return outcome


@pytest.fixture
async def world(redis_url: str, postgres_dsn: str, tmp_path: Path) -> AsyncIterator[World]:
    await load_sample(postgres_dsn)
    pool = await open_pool(postgres_dsn, 4)
    redis = connect(redis_url)
    assert isinstance(redis, Redis)
    try:
        async with pool.acquire() as connection:
            snapshot = await load_snapshot(connection, ensure_vault(tmp_path / "secret.key"))
        new = [("game", 100, "US"), ("shop", 200, "DE"), ("lead", 300, "GB")]
        await register_clicks(
            pool, [NewClick(name, campaign, 10, NOW_MS - 60_000, country, {}) for name, campaign, country in new]
        )
        claims = RedisDeduplicator(redis, partitions=PARTITIONS, max_backlog=1000)
        lookup = StoredClicks(pool, lambda: NOW_MS).lookup
        clicks = ClickSource(claims, lookup, expires_ms=expiry(lambda: snapshot, RULES))
        recorder = Recorder(claims, clicks, lambda: snapshot, RULES, Unobserved())
        yield World(redis, pool, snapshot, claims, recorder)
    finally:
        await redis.aclose()
        await close(pool)


async def test_what_is_foreseen_happens_and_nothing_is_left_behind(world: World) -> None:
    verdicts = []
    for text in SENT:
        made = await world.simulated(text)
        outcome = await world.recorded(text)
        said = answer(outcome)
        expected = Result.REJECTED if outcome.result is Result.INVALID else outcome.result
        assert (made.verdict, made.detail) == (expected.value, outcome.detail), text
        assert (made.answer.status, made.answer.content_type) == (said.status, said.content_type)
        each_counts = made.claim is not None and made.claim.standing is Standing.NONE
        if not each_counts:  # its id is made of the postback's own
            assert made.conversion_id == outcome.conversion_id, text
            assert made.answer.body == (said.body.decode() or None)
        verdicts.append(made.verdict)
    assert {*verdicts} == {"accepted", "duplicate", "conflict", "rejected"}


async def test_what_redis_forgot_is_found_in_postgres(world: World) -> None:
    text = "click_id=game&goal=purchase&txn_id=T1&sale_amount=49.99"
    accepted = await world.recorded(text)
    held = await world.simulated(text)
    async with running(writer(world.redis, world.pool, Observer(), partitions=PARTITIONS)):
        await drained(world.redis, PARTITIONS)
    await world.redis.flushdb()
    repeat = await world.simulated(text)
    other = await world.simulated(text.replace("49.99", "50"))
    assert [one.claim and one.claim.standing for one in (held, repeat, other)] == ["held", "stored", "stored"]
    assert [one.verdict for one in (held, repeat, other)] == ["duplicate", "duplicate", "conflict"]
    assert [one.conversion_id for one in (held, repeat, other)] == [accepted.conversion_id] * 3
    # The sender is told what Redis says, the log what Postgres says.
    assert '"status":"accepted"' in (repeat.answer.body or "")
    assert (await world.recorded(text)).result is Result.ACCEPTED


async def test_clicks_say_where_they_were_found(world: World) -> None:
    first = await world.simulated("click_id=game")
    await world.recorded("click_id=game")
    second = await world.simulated("click_id=game")
    assert [one.steps[0].found.partition(";")[0] for one in (first, second)] == [
        "the click is in Postgres",
        "the click is in Redis",
    ]
