"""The writer when it dies, is stopped, or loses its engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ResponseError

from storage.batch_store import BatchCounts
from storage.postgres import Pool, close, open_pool
from storage.queue import GROUP, queue_key
from storage.records import Kind, Record, encode
from tests import servers
from tests.eventually import eventually
from tests.proxy import Mode, proxy_to
from tests.queued import waiting
from tests.writing import (
    QUICK,
    Observer,
    add,
    add_all,
    add_blocks,
    conversion,
    count,
    drain,
    drained,
    entry,
    log_rows,
    running,
    store,
    writer,
)


@pytest.mark.parametrize("add_these", [add_all, add_blocks])
@pytest.mark.parametrize("second", ["w1", "w2"], ids=["restarted", "taken over"])
async def test_a_writer_killed_before_it_acknowledged(
    redis: Redis, pool: Pool, second: str, add_these: Callable[[Redis, list[Record]], Awaitable[None]]
) -> None:
    await add_these(redis, [conversion(number) for number in range(300)])
    observer = Observer(on_commit=crash)
    with pytest.raises(ExceptionGroup):
        await writer(redis, pool, observer, batch_rows=100).run(asyncio.Event())
    assert observer.counts.new == 100
    assert await waiting(redis) == 300

    after = await drain(redis, pool, consumer=second, times=replace(QUICK, claim_idle_ms=1))
    assert (after.counts.new, after.counts.logged) == (200, 0)
    assert after.counts.present == 100
    assert await count(pool, "conversions") == 300
    assert await count(pool, "postback_log") == 0


async def test_a_slow_writers_entries_are_left_to_it(redis: Redis, pool: Pool) -> None:
    await add_all(redis, [conversion(number) for number in range(75)])
    times = replace(QUICK, claim_idle_ms=500, life_ms=20)
    slow, other = Observer(), Observer()
    async with pool.acquire() as connection, running(writer(redis, pool, slow, batch_rows=25, times=times)):
        async with connection.transaction():
            await connection.execute("LOCK TABLE conversions IN ACCESS EXCLUSIVE MODE")
            await eventually(lambda: redis.xpending(queue_key(0), GROUP), lambda found: found["pending"] == 75)
            async with running(writer(redis, pool, other, consumer="w2", times=times)):
                await asyncio.sleep(3 * times.claim_idle_ms / 1_000)  # how long Postgres is slow
                found = await redis.xpending(queue_key(0), GROUP)
            assert found["consumers"] == [{"name": b"w1", "pending": 75}]
        await drained(redis)
    assert (slow.counts, other.counts) == (BatchCounts(read=75, new=75), BatchCounts())


async def test_own_entries_that_are_pending_again_are_written_again(redis: Redis, pool: Pool) -> None:
    """After a failover the new primary may not know that they were acknowledged."""
    observer = Observer()
    async with running(writer(redis, pool, observer, times=replace(QUICK, own_ms=100))):
        await add(redis, conversion(1))
        await drained(redis)
        async with redis.pipeline(transaction=True) as pipeline:
            pipeline.xadd(queue_key(0), {Kind.CONVERSION: encode(conversion(1))})
            pipeline.xreadgroup(GROUP, "w1", {queue_key(0): ">"})
            await pipeline.execute()
        await drained(redis)
    assert (observer.counts.new, observer.counts.present) == (1, 1)
    assert observer.retries == []


def crash() -> None:
    raise RuntimeError("the end")


async def test_a_cancelled_writer_ends(redis: Redis, pool: Pool) -> None:
    await add_all(redis, [conversion(number) for number in range(300)])
    observer = Observer()
    task = asyncio.create_task(writer(redis, pool, observer, batch_rows=50).run(asyncio.Event()))
    observer.on_commit = task.cancel
    async with asyncio.timeout(30):
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await drain(redis, pool)).counts.dead == 0
    assert await count(pool, "conversions") == 300


async def test_postgres_away_and_back(redis: Redis, pool: Pool, postgres_server: servers.PostgresServer) -> None:
    database = await pool.fetchval("SELECT current_database()")
    postgres_server.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    kick(postgres_server, database)
    await add_all(redis, [conversion(number) for number in range(200)])
    observer = Observer()
    async with running(writer(redis, pool, observer, batch_rows=50)):
        await observer.retried_once.wait()
        assert await redis.xlen(queue_key(0)) == 200
        postgres_server.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
        await drained(redis)
    assert {doing for doing, _ in observer.retries} == {"store"}
    assert observer.counts == BatchCounts(read=200, new=200)


async def test_connections_that_break_again_and_again(
    redis: Redis, pool: Pool, postgres_server: servers.PostgresServer
) -> None:
    database = await pool.fetchval("SELECT current_database()")
    records = [conversion(number, payout_micros=number) for number in range(5_000)]
    observer = Observer()
    async with running(writer(redis, pool, observer, batch_rows=50)):
        for start in range(0, 5_000, 500):
            await add_all(redis, records[start : start + 500])
            await asyncio.to_thread(kick, postgres_server, database)
        await drained(redis)
    assert observer.counts.new + observer.counts.present == 5_000
    async with asyncio.timeout(10):
        pool = await open_pool(postgres_server.dsn_of(database), 1)
    (row,) = await pool.fetch("SELECT count(*), sum(payout) FROM conversions")
    await close(pool)
    assert (row[0], int(row[1].scaleb(6))) == (5_000, sum(range(5_000)))


def kick(server: servers.PostgresServer, database: str) -> None:
    server.sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database}'")


async def test_a_server_that_hangs_holds_nobody(redis: Redis, pool: Pool, postgres_dsn: str) -> None:
    await store(pool, [entry(conversion(1))])
    other = await open_pool(postgres_dsn, 1)
    observer = Observer()
    await add(redis, conversion(2))
    async with running(writer(redis, pool, observer, timeout_s=0.1)):
        async with other.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE conversions IN ACCESS EXCLUSIVE MODE")
            await observer.retried_once.wait()
        await drained(redis)
    await close(other)
    assert await count(pool, "conversions") == 2


async def test_flushed_in_midway(redis: Redis, pool: Pool) -> None:
    committed = asyncio.Event()
    observer = Observer(on_commit=committed.set)
    async with running(writer(redis, pool, observer, batch_rows=100)):
        await add_all(redis, [conversion(number) for number in range(500)])
        await committed.wait()
        await redis.flushall()
        await add_all(redis, [conversion(number + 1_000, txn=f"txn-{number}") for number in range(500)])
        await drained(redis)
    assert await count(pool, "conversions") == 500, "each event once, whichever of its postbacks was first"
    assert observer.counts.read == observer.counts.new + observer.counts.present
    logged = await log_rows(pool)
    assert len(logged) == observer.counts.logged == observer.counts.present
    assert all(number >= 1_000 and outcome == "duplicate" for number, outcome, _, _ in logged)


async def test_a_stop_finishes_what_was_read(redis: Redis, pool: Pool) -> None:
    await add_all(redis, [conversion(number) for number in range(30)])
    observer = Observer()

    async def pending() -> int:
        try:
            return int((await redis.xpending(queue_key(0), GROUP))["pending"])
        except ResponseError:
            return 0  # the group is not there yet

    tasks_before = asyncio.all_tasks()
    async with running(writer(redis, pool, observer, batch_age_ms=600_000)):
        await eventually(pending, lambda entries: entries == 30)
        assert observer.counts.read == 0
    assert observer.counts == BatchCounts(read=30, new=30)
    assert await redis.xlen(queue_key(0)) == 0
    assert asyncio.all_tasks() == tasks_before


async def test_a_stop_while_postgres_is_away_leaves_the_queue(
    redis: Redis, pool: Pool, postgres_server: servers.PostgresServer
) -> None:
    database = await pool.fetchval("SELECT current_database()")
    postgres_server.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS false")
    kick(postgres_server, database)
    await add_all(redis, [conversion(number) for number in range(30)])
    observer = Observer()
    async with running(writer(redis, pool, observer, batch_rows=10)):
        await observer.retried_once.wait()
    assert await redis.xlen(queue_key(0)) == 30
    postgres_server.sql(f"ALTER DATABASE {database} ALLOW_CONNECTIONS true")
    assert (await drain(redis, pool)).counts == BatchCounts(read=30, new=30)


async def test_redis_away_and_back(debian_redis_url: str, pool: Pool) -> None:
    target = urlsplit(debian_redis_url)
    observer = Observer()
    with proxy_to((target.hostname or "", target.port or 0)) as proxy:
        proxy.set(Mode.REFUSE)
        async with (
            Redis.from_url(debian_redis_url) as direct,
            Redis.from_url(f"redis://127.0.0.1:{proxy.port}", retry=Retry(NoBackoff(), 0)) as client,
            running(writer(client, pool, observer, batch_rows=200)),
        ):
            await observer.retried_once.wait()
            await add_all(direct, [conversion(number) for number in range(1_000)])
            observer.on_commit = lambda: proxy.set(Mode.REFUSE)
            for _ in range(4):
                observer.retried_once.clear()
                proxy.set(Mode.PASS)
                await observer.retried_once.wait()
            observer.on_commit = proxy.cut
            proxy.set(Mode.PASS)
            await drained(direct)
            assert (await direct.xpending(queue_key(0), GROUP))["pending"] == 0
    assert observer.counts.new == 1_000
    assert {doing for doing, _ in observer.retries} == {"read", "settle"}
