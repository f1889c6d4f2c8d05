"""Caps on real servers: never over by one, whatever comes at once, is repeated, dies or is forgotten."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from zlib import crc32

import pytest
from msgspec import structs

from dedup.cap_types import Charge, End, Hold
from dedup.caps import CapCounters
from dedup.client import connect
from dedup.policy import TrackMultiple
from dedup.port import CachedClick, Entry, Verdict
from dedup.redis import RedisDeduplicator
from dedup.scripts import Client
from ingest.arrival import Arrival, Receipt
from ingest.cap_duty import CapDuty, jobs_of
from ingest.cap_gate import CapGate, job_of
from ingest.cap_recount import CapRecount
from ingest.catalog import Cap, CapAction, CapMeasure, CapPeriod, Rate, RateKey, Snapshot
from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from ingest.catalog_rows import load_snapshot
from ingest.click_source import ClickSource
from ingest.clicks import Click, pack_click
from ingest.decide import Rules
from ingest.metrics import Metrics
from ingest.outcome import AWAY, Outcome
from ingest.receipts import new_receipt
from ingest.recorder import Recorder
from ingest.sample import CATALOG
from ingest.simulation import simulate
from storage.caps import read_caps
from storage.postgres import Pool, close, open_pool
from storage.queue import PartitionQueue
from tests.catalogs import DAY_MS, campaign, goal, rate, snapshot
from tests.clusters import valkey_cluster
from tests.eventually import eventually
from tests.queued import queued_entries
from tests.writing import store

RULES = Rules(window_ms=90 * DAY_MS)
PARTITIONS = 2


def cap(
    measure: CapMeasure,
    limit: int,
    action: CapAction = CapAction.UNPAID,
    *,
    goal_id: int | None = 1000,
    period: CapPeriod = CapPeriod.LIFETIME,
    publisher_id: int | None = None,
    each: bool = False,
) -> Cap:
    return Cap(goal_id, publisher_id, each, measure, period, limit, action)


def catalog(*caps: Cap, percent: bool = False) -> Snapshot:
    """A campaign of one goal: 2.00 revenue and 1.00 payout or, by percent, the sale and half of it."""
    rates: dict[RateKey, Rate] | None = {(None, None): rate((0, 100_000_000), (0, 50_000_000))} if percent else None
    one = replace(goal(rates=rates, track_multiple=TrackMultiple.YES_WITH_TXN_ID), caps=caps)
    return replace(snapshot(campaign(one, default=one)), has_caps=bool(caps))


@dataclass
class Said:
    """What the gate tells."""

    over: Counter[CapAction] = field(default_factory=Counter)
    left_out: int = 0

    def over_cap(self, action: CapAction) -> None:
        self.over[action] += 1

    def unknown(self, count: int) -> None:
        self.left_out += count


class Unobserved:
    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        pass


@dataclass
class World:
    """A receiver's recorder and a writer's store, on real servers."""

    redis: Client
    pool: Pool
    catalog: Snapshot
    lease_ms: int = 60_000
    grace_ms: int = 0
    said: Said = field(default_factory=Said)

    def __post_init__(self) -> None:
        self.dedup = RedisDeduplicator(self.redis, partitions=PARTITIONS, max_backlog=100_000)
        self.counters = CapCounters(self.redis, lease_ms=self.lease_ms)
        self.recount = CapRecount(self.counters, self.redis, self.pool, partitions=PARTITIONS, grace_ms=self.grace_ms)
        self.gate = CapGate(self.counters, self.recount.ensure, self.said)
        clicks = ClickSource(self.dedup, self._lookup, expires_ms=lambda one: one.clicked_ms + RULES.window_ms)
        self.recorder = Recorder(self.dedup, clicks, lambda: self.catalog, RULES, Unobserved(), caps=self.gate)
        self._clicks: dict[str, Click] = {}

    async def _lookup(self, click_ids: Sequence[str]) -> dict[str, Click]:
        return {click_id: self._clicks[click_id] for click_id in click_ids if click_id in self._clicks}

    def click(self, click_id: str, publisher_id: int = 10) -> None:
        clicked_ms = new_receipt(None).received_us // 1000 - 600_000
        self._clicks[click_id] = Click(100, publisher_id, clicked_ms, "US")

    def arrival(self, click_id: str, receipt: Receipt | None = None, **sent: str) -> Arrival:
        if click_id not in self._clicks:
            self.click(click_id)
        return Arrival(receipt or new_receipt(None), [("click_id", click_id), *sent.items()])

    async def send(self, *arrivals: Arrival) -> list[str]:
        return [one.result.value for one in await self.recorder.record(arrivals)]

    async def at_once(self, arrivals: Sequence[Arrival], batch: int = 8) -> Counter[str]:
        """Batches of several receivers at the same time."""
        parts = [arrivals[start : start + batch] for start in range(0, len(arrivals), batch)]
        return Counter(
            result for part in await asyncio.gather(*(self.send(*part) for part in parts)) for result in part
        )

    async def write(self) -> None:
        """What a writer does with all that is queued."""
        for partition in range(PARTITIONS):
            queue = PartitionQueue(self.redis, partition, "w")
            await queue.create_group()
            while entries := await queue.read_new(1000, None):
                await store(self.pool, entries)
                await queue.settle(entries)

    async def rows(self) -> list[tuple[str, str | None, int, int]]:
        """Status, reason, micros of revenue and payout of each stored conversion."""
        found = await self.pool.fetch(
            "SELECT status, reason, (revenue * 1000000)::bigint, (payout * 1000000)::bigint FROM conversions"
        )
        return [(row[0], row[1], row[2], row[3]) for row in found]

    async def full(self) -> int:
        """Conversions that are stored and not over a cap."""
        await self.write()
        return sum(reason is None for _, reason, _, _ in await self.rows())

    async def taken(self, counter: str) -> int:
        found = await self.redis.hget("pb:cap:{100}", f"n:{counter}")
        return int(found or 0)

    async def held(self) -> int:
        """Postbacks that hold something."""
        standing = await self.counters.begin(100, "test")
        assert standing is not None
        await self.counters.finish(100, "test", {}, {})
        return len(standing.open)


@asynccontextmanager
async def world(
    redis_url: str, dsn: str, catalog: Snapshot, *, lease_ms: int = 60_000, grace_ms: int = 0
) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        redis = connect(redis_url)
        stack.push_async_callback(redis.aclose)
        pool = await open_pool(dsn, 4)
        stack.push_async_callback(close, pool)
        made = World(redis, pool, catalog, lease_ms, grace_ms)
        stack.push_async_callback(made.gate.close)
        yield made


async def test_exactly_the_limit_of_two_hundred_at_once(redis_url: str, postgres_dsn: str) -> None:
    one = cap(CapMeasure.CONVERSIONS, 57, CapAction.PENDING)
    async with world(redis_url, postgres_dsn, catalog(one)) as at:
        sent = [at.arrival(f"c{n % 40}", txn_id=f"t{n}") for n in range(200)]
        assert await at.at_once(sent) == {"accepted": 200}
        assert await at.full() == 57
        rows = await at.rows()
        assert Counter((status, reason) for status, reason, _, _ in rows) == {
            ("approved", None): 57,
            ("pending", "over_cap"): 143,
        }
        assert {payout for _, _, _, payout in rows} == {1_000_000}, "pending: nothing is taken off"
        assert at.said.over == {CapAction.PENDING: 143}
        assert (await at.taken("1000:-:conversions:all"), await at.held()) == (57, 0)


async def test_money_to_the_micro(redis_url: str, postgres_dsn: str) -> None:
    """Beyond 2^53 micros, where a Lua number would not tell them apart."""
    limit = 10**16 + 7
    revenue = cap(CapMeasure.REVENUE, limit, CapAction.CANCELLED)
    async with world(redis_url, postgres_dsn, catalog(revenue, percent=True)) as at:
        first = [at.arrival("a", txn_id=f"f{n}", sale_amount="1000000000") for n in range(10)]
        assert await at.at_once(first) == {"accepted": 10}
        sent = [at.arrival("a", txn_id=f"t{n}", sale_amount="0.000002") for n in range(6)]
        await at.at_once(sent)
        assert await at.taken("1000:-:revenue:all") == limit - 1, "what would cross it is over, nothing partial"
        await at.send(at.arrival("a", txn_id="last", sale_amount="0.000001"))
        await at.send(at.arrival("a", txn_id="over", sale_amount="0.000001"))
        assert await at.full() == 14
        rows = await at.rows()
        assert sum(revenue for _, reason, revenue, _ in rows if reason is None) == limit
        assert Counter(status for status, reason, _, _ in rows if reason) == {"cancelled": 4}


async def test_unpaid_and_all_or_nothing(redis_url: str, postgres_dsn: str) -> None:
    """Publisher 10 has a cap of its own instead of the one on each; who is over one cap takes nothing of another."""
    caps = (
        cap(CapMeasure.CONVERSIONS, 2, each=True),
        cap(CapMeasure.CONVERSIONS, 3, publisher_id=10),
        cap(CapMeasure.PAYOUT, 6_000_000, CapAction.PENDING, goal_id=None),
    )
    async with world(redis_url, postgres_dsn, catalog(*caps)) as at:
        for publisher_id in (10, 11, 12):
            at.click(f"c{publisher_id}", publisher_id)
            for n in range(4):
                await at.send(at.arrival(f"c{publisher_id}", txn_id=f"t{n}"))
        assert await at.full() == 6
        rows = Counter((status, reason, payout) for status, reason, _, payout in await at.rows())
        assert rows == {
            ("approved", None, 1_000_000): 6,
            ("approved", "over_cap", 0): 3,
            ("pending", "over_cap", 1_000_000): 3,
        }, "12 has room of its own, the campaign none"
        counters = ("1000:10:conversions:all", "1000:11:conversions:all", "1000:12:conversions:all", "-:-:payout:all")
        assert [await at.taken(one) for one in counters] == [3, 2, 1, 6_000_000]
        before = await at.redis.hgetall("pb:cap:{100}")
        assert await at.recount.all([job_of(100, at.catalog)]) == 1
        assert await at.redis.hgetall("pb:cap:{100}") == before, "counted anew, it comes to the same"


async def test_repeats_give_back_and_change_nothing(redis_url: str, postgres_dsn: str) -> None:
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 10, CapAction.CANCELLED))) as at:
        events = [f"t{n}" for n in range(10)]
        copies = [at.arrival("a", txn_id=txn) for txn in events for _ in range(5)]
        random.Random(5).shuffle(copies)
        said = await at.at_once(copies)
        assert said["accepted"] == 10
        assert said["duplicate"] == 40
        assert await at.held() == 0
        # A copy may have held the last room when an original came: over, though briefly under.
        full = await at.full()
        assert await at.taken("1000:-:conversions:all") == full <= 10
        before = await at.rows()
        assert await at.send(*(at.arrival("a", txn_id=txn, status="rejected") for txn in events)) == ["duplicate"] * 10
        await at.write()
        assert await at.rows() == before
        assert await at.pool.fetchval("SELECT count(*) FROM status_changes") == 10, "a status is still a status"


async def test_a_status_that_was_given_does_not_get_round_a_cap(redis_url: str, postgres_dsn: str) -> None:
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 1, CapAction.PENDING))) as at:
        for n, status in enumerate(("approved", "approved", "rejected", "pending")):
            await at.send(at.arrival("a", txn_id=f"t{n}", status=status))
        await at.write()
        found = await at.pool.fetch("SELECT txn_id, status, reason, status_given FROM conversions ORDER BY txn_id")
        assert [tuple(row) for row in found] == [
            ("t0", "approved", None, True),
            ("t1", "pending", "over_cap", False),
            ("t2", "rejected", "over_cap", True),
            ("t3", "pending", "over_cap", False),
        ]


async def test_after_redis_lost_its_memory_it_is_counted_anew(redis_url: str, postgres_dsn: str) -> None:
    """Some are stored, some only queued, one in dead_letters; a flush takes the queue, and claims, and counters."""
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 50))) as at:
        assert await at.at_once([at.arrival("a", txn_id=f"t{n}") for n in range(30)]) == {"accepted": 30}
        await at.write()
        assert await at.at_once([at.arrival("a", txn_id=f"lost{n}") for n in range(10)]) == {"accepted": 10}
        await at.redis.flushall()
        at.click("b")
        again = [at.arrival("a", txn_id=f"t{n}") for n in range(30)]
        new = [at.arrival("b", txn_id=f"u{n}") for n in range(60)]
        mixed = [*again, *new]
        random.Random(7).shuffle(mixed)
        assert await at.at_once(mixed) == {"accepted": 90}
        assert await at.full() <= 50, "30 stored before, 20 at most since"
        # What was claimed again held room too; it is stored already, and counted anew it is one.
        await at.recount.all([job_of(100, at.catalog)])
        room = 50 - await at.full()
        assert await at.taken("1000:-:conversions:all") == 50 - room
        await at.at_once([at.arrival("b", txn_id=f"v{n}") for n in range(60)])
        assert await at.full() == 50


async def test_a_flush_in_the_middle(redis_url: str, postgres_dsn: str) -> None:
    """Claims are under way whose holds are lost: what they made is waited for before it is counted."""
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 90)), grace_ms=400) as at:
        await at.send(at.arrival("a", txn_id="first"))

        async def deliver(number: int) -> None:
            mine = [at.arrival(f"c{number % 9}", txn_id=f"t{number}-{n}") for n in range(4)]
            while left := [one for one, said in zip(mine, await at.recorder.record(mine), strict=True) if said is AWAY]:
                mine = left

        sending = [asyncio.create_task(deliver(number)) for number in range(60)]
        for done in asyncio.as_completed(sending):
            await done
            if sum(task.done() for task in sending) in {5, 14}:
                await at.redis.flushall()
                await at.write()
        assert await at.full() <= 90
        await at.recount.all([job_of(100, at.catalog)])
        await at.at_once([at.arrival("a", txn_id=f"v{n}") for n in range(90)])
        assert await at.full() == 90


async def test_a_claim_that_outlives_its_hold_is_waited_for(redis_url: str, postgres_dsn: str) -> None:
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 2)), grace_ms=300) as at:
        assert await at.send(at.arrival("a", txn_id="t0")) == ["accepted"]
        await at.write()
        claim, held, go_on = at.dedup.claim, asyncio.Event(), asyncio.Event()

        async def slow(entries: Sequence[Entry]) -> list[Verdict]:
            if not held.is_set():
                held.set()
                await go_on.wait()
            return await claim(entries)

        at.dedup.claim = slow  # type: ignore[method-assign]  # a claim that takes its time
        first = asyncio.create_task(at.send(at.arrival("a", txn_id="t1")))
        await held.wait()
        await at.redis.flushall()
        second = asyncio.create_task(at.send(at.arrival("a", txn_id="t2")))
        await eventually(lambda: at.redis.hexists("pb:cap:{100}", ".born"), bool)
        go_on.set()
        assert (await first, await second) == (["accepted"], ["accepted"])
        await at.write()
        found = await at.pool.fetch("SELECT txn_id, reason FROM conversions ORDER BY txn_id")
        assert [tuple(row) for row in found] == [("t0", None), ("t1", None), ("t2", "over_cap")]


@pytest.mark.parametrize("kind", ["c1", "b1"])
async def test_unknown_counters_count_what_is_only_queued_or_dead(redis_url: str, postgres_dsn: str, kind: str) -> None:
    """A cap that is set later counts what was before it."""
    async with world(redis_url, postgres_dsn, catalog()) as at:
        await at.at_once([at.arrival("a", txn_id=f"t{n}") for n in range(5)])
        await at.write()
        await at.at_once([at.arrival("a", txn_id=f"q{n}") for n in range(4)])
        (block,) = await queued_entries(at.redis, crc32(b"a") % PARTITIONS)
        assert block.rows == 4
        # One is in both, as when its batch has just been stored and is not settled.
        await at.pool.execute(
            "INSERT INTO dead_letters (entry_id, kind, payload, error) VALUES ('0-1', $1, $2, 'x')",
            kind,
            block.payload if kind == "b1" else block.split()[0].payload,
        )
        at.catalog = catalog(cap(CapMeasure.CONVERSIONS, 12))
        assert await at.at_once([at.arrival("a", txn_id=f"u{n}") for n in range(10)]) == {"accepted": 10}
        await at.pool.execute("DELETE FROM dead_letters")
        assert await at.full() == 12
        # Raised, it goes on from where it is; the repeat of a refused one stays what it was.
        at.catalog = catalog(cap(CapMeasure.CONVERSIONS, 14))
        assert await at.at_once([at.arrival("a", txn_id=f"v{n}") for n in range(10)]) == {"accepted": 10}
        assert await at.full() == 14
        # Removed, nobody counts; the next round forgets what it knew, so that it begins anew when it is set again.
        at.catalog = catalog()
        await at.send(at.arrival("a", txn_id="free"))
        await at.recount.all([job_of(100, at.catalog)])
        at.catalog = catalog(cap(CapMeasure.CONVERSIONS, 16))
        await at.at_once([at.arrival("a", txn_id=f"w{n}") for n in range(10)])
        assert await at.full() == 16


async def test_what_a_receiver_held_when_it_died_is_given_back(redis_url: str, postgres_dsn: str) -> None:
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 3)), lease_ms=0) as at:
        await at.send(at.arrival("a", txn_id="t0"))
        charge = Charge("1000:-:conversions:all", "1000:-:conversions:lifetime", 0, 1, 3)
        lost = [
            Hold(100, new_receipt(None).postback_id, f"{n:08x}-0000-8000-8000-000000000000", n, (charge,))
            for n in (1, 2)
        ]
        assert await at.counters.reserve(lost) == [0, 0]
        await at.send(at.arrival("a", txn_id="t1"))
        assert await at.full() == 1, "no room while it may live"
        await at.recount.all([job_of(100, at.catalog)])
        await at.send(*(at.arrival("a", txn_id=f"u{n}") for n in range(5)))
        assert await at.full() == 3
        await at.counters.settle([(one, End.GIVEN_BACK) for one in lost])
        assert await at.taken(charge.counter) == 3, "who comes back has nothing to give"


async def test_who_asks_again_holds_what_it_holds(redis_url: str, postgres_dsn: str) -> None:
    """The claim's reply is lost; the postback comes again from the spool, or never."""
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 2))) as at:
        await at.send(at.arrival("a", txn_id="t0"))
        claim, away = at.dedup.claim, True

        async def unanswered(entries: Sequence[Entry]) -> list[Verdict]:
            verdicts = await claim(entries)
            return [Verdict.UNAVAILABLE] * len(verdicts) if away else verdicts

        at.dedup.claim = unanswered  # type: ignore[method-assign]  # a claim whose reply is lost
        one = at.arrival("a", txn_id="t1")
        for _ in range(3):
            assert await at.recorder.record([one]) == [AWAY]
        assert (await at.taken("1000:-:conversions:all"), await at.held()) == (2, 1)
        away = False
        assert await at.send(one, at.arrival("a", txn_id="t2")) == ["accepted", "accepted"]
        assert (await at.taken("1000:-:conversions:all"), await at.held()) == (2, 0)
        assert await at.full() == 2


async def test_a_full_queue_gives_back(redis_url: str, postgres_dsn: str) -> None:
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 2))) as at:
        await at.send(at.arrival("a", txn_id="t0"))
        at.dedup._max_backlog = 0
        assert await at.send(*(at.arrival("a", txn_id=f"u{n}") for n in range(2))) == ["unavailable"] * 2
        assert (await at.taken("1000:-:conversions:all"), await at.held()) == (1, 0)


async def test_periods_before_those_that_are_known(redis_url: str, postgres_dsn: str) -> None:
    """What the spool held for days is counted in the day it was received."""
    async with world(redis_url, postgres_dsn, catalog(cap(CapMeasure.CONVERSIONS, 2, period=CapPeriod.DAY))) as at:
        now = new_receipt(None)
        clicked_ms = now.received_us // 1000 - 8 * DAY_MS
        at._clicks["old"] = Click(100, 10, clicked_ms, "US")

        def days_ago(days: int, txn_id: str) -> Arrival:
            receipt = Receipt(new_receipt(None).postback_id, now.received_us - days * DAY_MS * 1000)
            return at.arrival("old", receipt, txn_id=txn_id)

        assert await at.send(*(days_ago(0, f"now{n}") for n in range(3))) == ["accepted"] * 3
        for _ in range(2):
            assert await at.send(*(days_ago(6, f"then{n}") for n in range(3))) in (["accepted"] * 3, ["duplicate"] * 3)
            await at.recount.all([job_of(100, at.catalog)])
        assert await at.send(days_ago(6, "then4"), days_ago(7, "before")) == ["accepted"] * 2
        assert await at.full() == 5
        assert at.said.left_out == 0


async def test_on_a_cluster_each_campaign_has_a_slot(postgres_dsn: str) -> None:
    with valkey_cluster() as cluster:
        caps = (cap(CapMeasure.CONVERSIONS, 20), cap(CapMeasure.PAYOUT, 15_000_000, goal_id=None))
        one = replace(goal(), caps=caps)
        both = snapshot(campaign(one, default=one), campaign(one, default=one, campaign_id=200))
        async with world(cluster.url, postgres_dsn, replace(both, has_caps=True)) as at:
            at.click("a")
            at._clicks["b"] = structs.replace(at._clicks["a"], campaign_id=200)
            sent = [at.arrival(click_id, txn_id=f"t{n}") for n in range(100) for click_id in "ab"]
            assert await at.at_once(sent) == {"accepted": 200}
            assert await at.full() == 30
            assert cluster.owner("pb:cap:{100}") is not cluster.owner("pb:cap:{200}")


async def test_a_simulation_shows_caps(redis_url: str, postgres_dsn: str) -> None:
    caps = (
        cap(CapMeasure.CONVERSIONS, 9, publisher_id=10, period=CapPeriod.DAY),
        cap(CapMeasure.REVENUE, 3_000_000, CapAction.UNPAID, goal_id=None),
    )
    async with world(redis_url, postgres_dsn, catalog(*caps)) as at:

        async def look() -> tuple[list[str], object, object]:
            sent = "click_id=a&txn_id=new"
            made = await simulate(sent, at.catalog, RULES, at.dedup, at.pool, caps=at.counters)
            return [step.found for step in made.steps if step.step == "cap"], made.reason, made.record["payout"]

        at.click("a")
        one = at._clicks["a"]
        packed = pack_click(one.campaign_id, one.publisher_id, one.clicked_ms, one.country)
        await at.dedup.cache([CachedClick("a", packed, one.clicked_ms + RULES.window_ms)])
        unknown = "what is taken is not known yet, a receiver would have it counted"
        assert await look() == (
            [
                f"9 conversions a day of goal 1000, publisher 10: {unknown}",
                f"3 revenue for ever of the campaign, all: {unknown}",
            ],
            None,
            "1",
        )
        await at.send(at.arrival("a", txn_id="t0"))
        assert await look() == (
            [
                "9 conversions a day of goal 1000, publisher 10: 8 left",
                "3 revenue for ever of the campaign, all: 1 left, so it is over: unpaid",
            ],
            "over_cap",
            "0",
        )
        assert await at.taken("-:-:revenue:all") == 2_000_000, "looking takes nothing"


async def test_rounds_know_caps_before_they_are_asked_for(redis_url: str, postgres_dsn: str) -> None:
    text = CATALOG.read_text(encoding="utf-8")
    rates = "[[campaigns.goals.rates]]"
    capped = '[[campaigns.goals.caps]]\nmeasure = "{}"\nperiod = "day"\nlimit = 5\naction = "pending"\n'
    text = text.replace(rates, capped.format("conversions") + capped.format("revenue") + rates, 1)
    async with world(redis_url, postgres_dsn, catalog()) as at:
        async with at.pool.acquire() as connection:
            await import_catalog(connection, parse_catalog(text))
            (job,) = jobs_of(await read_caps(connection))
            loaded = await load_snapshot(connection)
        assert loaded.has_caps
        assert job == job_of(job.campaign_id, loaded), "writers and receivers count the same"
        stop = asyncio.Event()
        duty = asyncio.create_task(CapDuty(at.recount, at.pool, Metrics()).run(stop))

        async def known() -> dict[str, int]:
            standing = await at.counters.begin(job.campaign_id, "test", lock_ms=0)
            return {} if standing is None else standing.known

        found = await eventually(known, bool)
        assert found.keys() == {scope.name for scope in job.scopes}
        stop.set()
        await duty
