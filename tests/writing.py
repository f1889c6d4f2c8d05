"""What tests of the writer share: records, a writer at work, and what it left in Postgres."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import UUID

import msgspec
from redis.asyncio import Redis

from dedup.policy import conversion_id
from dedup.port import Entry as Claim
from dedup.port import Verdict
from dedup.redis import RedisDeduplicator
from storage.batch_store import BatchCounts, BatchStore
from storage.postgres import Pool
from storage.queue import GROUP, Client, Entry, queue_key
from storage.reader import QueueTimes
from storage.records import Kind, Record, encode
from storage.writer import Writer
from tests.eventually import eventually

CLICKED_MS = 1_767_312_000_123  # 2026-01-02 00:00:00.123 UTC
RECEIVED_US = 1_767_398_400_123_457
PERCENT_CATALOG = """
advertisers = [{ id = 1, name = "A" }]
publishers = [{ id = 10, name = "P" }]
[[campaigns]]
id = 100
advertiser = 1
name = "C"
currency = "USD"
[[campaigns.goals]]
id = 1000
title = "Purchase"
value = "purchase"
[[campaigns.goals.rates]]
revenue = { fixed = "2", percent = "%s" }
payout = { fixed = "1", percent = "50", of = "revenue" }
"""
"""The goal of `conversion`; % (its revenue in percent of the sale)."""
QUICK = QueueTimes(claim_idle_ms=30_000, claim_every_ms=20, block_ms=20)


@dataclass
class Observer:
    """Adds up what it is told."""

    counts: BatchCounts = field(default_factory=BatchCounts)
    retries: list[tuple[str, Exception]] = field(default_factory=list)
    dead: list[tuple[Entry, str]] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)
    on_commit: Callable[[], object] = lambda: None
    retried_once: asyncio.Event = field(default_factory=asyncio.Event)

    def committed(
        self, partition: int, entries: Sequence[Entry], counts: BatchCounts, *, seconds: float, oldest_age_s: float
    ) -> None:
        self.counts += counts
        self.ages_s.append(oldest_age_s)
        self.on_commit()

    def retried(self, partition: int, doing: str, error: Exception, *, delay_s: float) -> None:
        self.retries.append((doing, error))
        self.retried_once.set()

    def dead_letter(self, partition: int, entry: Entry, error: str) -> None:
        self.dead.append((entry, error))


def conversion(number: int, *, click: str = "click", txn: str | None = None, **changes: object) -> Record:
    """A conversion of 1.99 USD, decided from postback `number`."""
    txn_id = f"txn-{number}" if txn is None else txn
    record = Record(
        log_id=str(UUID(int=number + 1)),
        received_us=RECEIVED_US + number,
        advertiser_id=1,
        publisher_id=10,
        campaign_id=100,
        goal_id=1000,
        goal_value="purchase",
        goal_version=1,
        click_id=click,
        clicked_ms=CLICKED_MS,
        txn_id=txn_id,
        conversion_id=conversion_id(click, CLICKED_MS, 1000, txn_id.encode()),
        status="approved",
        country="US",
        currency="USD",
        sale_micros=1_990_000,
        revenue_micros=199_000,
        payout_micros=100_000,
        remote_ip="192.0.2.1",
        params={"sub1": "x"},
    )
    return msgspec.structs.replace(record, **changes)


def entry(record: Record, kind: Kind = Kind.CONVERSION) -> Entry:
    return Entry(b"%d-0" % UUID(record.log_id).int, kind.encode(), encode(record))


async def add(redis: Client, record: Record, kind: Kind = Kind.CONVERSION, prior: str | None = None) -> None:
    fields: dict[str | bytes, str | bytes] = {kind: encode(record)}
    if prior is not None:
        fields["p"] = prior
    await redis.xadd(queue_key(0), fields)  # type: ignore[arg-type]  # redis-py wants one invariant dict


async def add_all(redis: Redis, records: list[Record]) -> None:
    async with redis.pipeline(transaction=False) as pipeline:
        for record in records:
            pipeline.xadd(queue_key(0), {Kind.CONVERSION: encode(record)})
        await pipeline.execute()


def writer(redis: Client, pool: Pool, observer: Observer, **changes: object) -> Writer:
    options: dict[str, object] = {
        "partitions": 1,
        "consumer": "w1",
        "batch_rows": 1_000,
        "batch_age_ms": 20,
        "times": QUICK,
        **changes,
    }
    return Writer(redis, pool, observer=observer, **options)  # type: ignore[arg-type]  # options of several types


async def add_blocks(redis: Redis, records: Sequence[Record], rows: int = 25) -> None:
    """As receivers queue them: in blocks of so many, with claims of nothing."""
    dedup = RedisDeduplicator(redis, partitions=1, max_backlog=1_000_000)
    entries = [Claim("", b"", b"", 0, Kind.CONVERSION.encode(), encode(record)) for record in records]
    for start in range(0, len(entries), rows):
        assert set(await dedup.claim(entries[start : start + rows])) == {Verdict.ACCEPTED}


@asynccontextmanager
async def running(writer: Writer) -> AsyncIterator[asyncio.Event]:
    """The writer at work; it is stopped at the end and must come to it."""
    stop = asyncio.Event()
    async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
        tasks.create_task(writer.run(stop))
        try:
            yield stop
        finally:
            stop.set()


async def drained(redis: Client, partitions: int = 1) -> None:
    async def length() -> int:
        return sum([await redis.xlen(queue_key(partition)) for partition in range(partitions)])

    await eventually(length, lambda entries: entries == 0)


async def drain(redis: Redis, pool: Pool, **changes: object) -> Observer:
    """What a writer reports that has run until the queue was empty."""
    observer = Observer()
    async with running(writer(redis, pool, observer, **changes)):
        await drained(redis)
    assert (await redis.xpending(queue_key(0), GROUP))["pending"] == 0
    return observer


async def store(pool: Pool, entries: list[Entry], batches: BatchStore | None = None) -> BatchCounts:
    """Stored without retries, by a store of its own or this one: an error of the connection fails the test."""

    async def once(operation: Callable[[], Awaitable[BatchCounts]]) -> BatchCounts:
        return await operation()

    return await (batches or BatchStore(pool)).store(entries, once, lambda entry, error: None)


async def count(pool: Pool, table: str) -> int:
    number: int = await pool.fetchval(f"SELECT count(*) FROM {table}")
    return number


async def log_rows(pool: Pool) -> list[tuple[int, str, str | None, str]]:
    """(number of the postback, outcome, conversion id, params) of postback_log, by number."""
    rows = await pool.fetch(
        "SELECT log_id, outcome, conversion_id::text, params::text FROM postback_log ORDER BY log_id"
    )
    return [(row[0].int - 1, row[1], row[2], row[3]) for row in rows]
