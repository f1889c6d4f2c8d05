"""One partition's stream and consumer group, on the embedded Valkey and on the machine's own Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from ingest.commands.status import look
from ingest.config import Config, PostgresConfig, RedisConfig
from storage.queue import GROUP, Backlog, Entry, PartitionQueue, count_key, queue_key, read_backlog
from tests.eventually import eventually
from tests.queued import waiting

KEY = queue_key(0)


@pytest.fixture(params=["redis_url", "debian_redis_url"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[Redis]:
    async with Redis.from_url(request.getfixturevalue(request.param)) as client:
        yield client


async def add(client: Redis, number: int) -> bytes:
    entry_id = await client.xadd(KEY, {"c1": b"%d" % number})
    assert isinstance(entry_id, bytes)
    return entry_id


def payloads(entries: list[Entry]) -> list[int]:
    return [int(entry.payload) for entry in entries]


async def test_what_is_read_stays_pending_until_it_is_settled(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    assert await queue.read_new(10, None) == [], "neither the stream nor the group is there yet"
    first, second = await add(client, 1), await add(client, 2)
    await add(client, 3)

    entries = await queue.read_new(2, None)
    assert entries == [Entry(first, b"c1", b"1"), Entry(second, b"c1", b"2")]
    assert payloads(await queue.read_new(10, None)) == [3]
    assert await queue.read_new(10, 1) == []
    assert payloads(await queue.read_own(b"0", 10)) == [1, 2, 3]
    assert payloads(await queue.read_own(first, 1)) == [2]

    await queue.settle(entries)
    assert payloads(await queue.read_own(b"0", 10)) == [3]
    assert await client.xlen(KEY) == 1
    await queue.settle(entries)


async def test_a_large_batch_is_settled_whole(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    for number in range(2_501):
        await add(client, number)
    entries = await queue.read_new(2_500, None)
    await queue.settle(entries)
    assert await client.xlen(KEY) == 1
    assert (await client.xpending(KEY, GROUP))["pending"] == 0
    assert payloads(await queue.read_new(10, None)) == [2_500]


async def test_an_entry_from_before_the_group_is_read(client: Redis) -> None:
    await add(client, 1)
    queue = PartitionQueue(client, 0, "w1")
    assert await queue.read_new(10, None) == []
    assert payloads(await queue.read_new(10, None)) == [1]


async def test_what_an_earlier_claim_held_comes_with_a_repeat(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    await client.xadd(KEY, {"x1": "line", "p": "49.99USD"})
    await client.xadd(KEY, {"p": "", "d1": "line"})
    entries = await queue.read_new(10, None)
    assert [(one.kind, one.payload, one.prior) for one in entries] == [
        (b"x1", b"line", b"49.99USD"),
        (b"d1", b"line", b""),
    ]


async def test_a_dead_consumers_entries_are_taken_over(client: Redis) -> None:
    dead, alive = PartitionQueue(client, 0, "w1"), PartitionQueue(client, 0, "w2")
    await dead.create_group()
    ids = [await add(client, number) for number in range(5)]
    assert len(await dead.read_new(10, None)) == 5
    await client.xdel(KEY, ids[1])

    assert await alive.take_over(60_000, 60_000, 10) == []
    taken = await alive.take_over(0, 60_000, 2)
    while more := await alive.take_over(0, 60_000, 2):
        taken += more
    assert payloads(taken) == [0, 2, 3, 4], "without the deleted one"
    assert payloads(await alive.read_own(b"0", 10)) == [0, 2, 3, 4]
    assert await alive.take_over(0, 0, 10) == [], "its own are not for it to take"


async def test_a_slow_consumer_that_shows_life_keeps_its_entries(client: Redis) -> None:
    slow, other = PartitionQueue(client, 0, "w1"), PartitionQueue(client, 0, "w2")
    await slow.create_group()
    await add(client, 1)
    assert len(await slow.read_new(10, None)) == 1

    async def idle_ms() -> int:
        (consumer,) = [one for one in await client.xinfo_consumers(KEY, GROUP) if one["name"] == b"w1"]
        idle: int = consumer["idle"]
        return idle

    await eventually(idle_ms, lambda idle: idle >= 100)
    await slow.show_life()
    assert await other.take_over(100, 60_000, 10) == []
    assert payloads(await other.take_over(60_000, 50, 10)) == [1], "held for too long, by whomever"
    assert await slow.read_own(b"0", 10) == []


async def test_an_own_entry_that_was_deleted_is_known_as_gone(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    await client.xdel(KEY, await add(client, 1))
    entry_id = await add(client, 2)
    await queue.read_new(10, None)
    await client.xdel(KEY, entry_id)
    (gone,) = await queue.read_own(b"0", 10)
    assert gone.is_gone
    await queue.settle([gone])
    assert await queue.read_own(b"0", 10) == []


async def test_a_flushed_group_is_made_again(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    await queue.create_group()
    await client.flushall()
    await add(client, 7)
    assert await queue.take_over(0, 0, 10) == []
    await queue.show_life()
    assert payloads(await queue.read_new(10, None)) == [7]
    await client.flushall()
    assert await queue.forget_consumers(0) == 0
    assert await queue.read_own(b"0", 10) == []


async def test_another_refusal_is_raised(client: Redis) -> None:
    await client.set(KEY, "not a stream")
    queue = PartitionQueue(client, 0, "w1")
    for attempt in (queue.read_new(1, None), queue.create_group()):
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await attempt


async def test_only_idle_consumers_with_nothing_pending_are_forgotten(client: Redis) -> None:
    queues = {name: PartitionQueue(client, 0, name) for name in ("me", "done", "holding")}
    await queues["me"].create_group()
    await add(client, 1)
    assert len(await queues["holding"].read_new(10, None)) == 1
    assert await queues["done"].read_new(10, None) == []
    await client.xgroup_createconsumer(KEY, GROUP, "done")
    await client.xgroup_createconsumer(KEY, GROUP, "me")

    assert await queues["me"].forget_consumers(3_600_000) == 0
    assert await queues["me"].forget_consumers(0) == 1
    assert {one["name"] for one in await client.xinfo_consumers(KEY, GROUP)} == {b"me", b"holding"}


# Blocks ----------------------------------------------------------------------------------------------------------


async def add_block(client: Redis, *rows: bytes, kind: bytes = b"c1") -> bytes:
    """As claim.lua does it."""
    lines = b"".join(b"%b\t\t%b\n" % (kind, row) for row in rows)
    entry_id = await client.xadd(KEY, {"b1": lines, "n": f"{len(rows)} {len(rows) if kind == b'c1' else 0} 0"})
    await client.hincrby(count_key(0), "in", len(rows))
    assert isinstance(entry_id, bytes)
    return entry_id


async def test_a_block_is_read_as_it_is(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    entry_id = await client.xadd(KEY, {"b1": "c1\t\ta\tb\nd1\t5\\\\USD\tc\np1\t\td\n", "n": "3 1 1"})
    assert isinstance(entry_id, bytes)
    (entry,) = await queue.read_new(10, None)
    assert entry == Entry(entry_id, b"b1", b"c1\t\ta\tb\nd1\t5\\\\USD\tc\np1\t\td\n", b"", 3, 1, 1)
    assert entry.split() == [
        Entry(entry_id, b"c1", b"a\tb"),
        Entry(entry_id, b"d1", b"c", b"5\\USD"),
        Entry(entry_id, b"p1", b"d"),
    ]


@pytest.mark.parametrize("counts", [None, "", "2", "x y z"])
async def test_a_block_that_does_not_say_what_it_holds_is_counted(client: Redis, counts: str | None) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    await client.xadd(KEY, {"b1": "c1\t\ta\nr1\t\tb\nc1\t\tc\n", **({} if counts is None else {"n": counts})})
    (entry,) = await queue.read_new(10, None)
    assert (entry.rows, entry.conversions, entry.parked) == (3, 2, 0)


def test_what_is_no_block_of_ours_keeps_its_bytes() -> None:
    odd = Entry(b"1-0", b"b1", b"c1\t\tgood\n\nno columns\nb1\t\tc1\t\tnested")
    assert odd.split() == [
        Entry(b"1-0", b"c1", b"good"),
        Entry(b"1-0", b"", b""),
        Entry(b"1-0", b"", b"no columns"),
        Entry(b"1-0", b"", b"b1\t\tc1\t\tnested"),
    ]


async def test_what_was_settled_is_counted_once(client: Redis) -> None:
    queue = PartitionQueue(client, 0, "w1")
    await queue.create_group()
    for number in range(1, 6):
        await add_block(client, *[b"x"] * number)
    await add(client, 1)
    await add(client, 2)
    entries = await queue.read_new(10, None)
    assert [entry.counted for entry in entries] == [1, 2, 3, 4, 5, 0, 0]
    await queue.settle(entries[:2])
    await queue.settle(entries[:4])
    assert await client.hgetall(count_key(0)) == {b"in": b"15", b"out": b"10"}
    assert await read_backlog(client, 0) == Backlog(5, 15)
    await queue.settle(entries)
    await queue.settle(entries)
    assert await client.hgetall(count_key(0)) == {b"in": b"15", b"out": b"15"}
    assert await waiting(client) == 0


async def test_a_dead_consumers_blocks_are_taken_over_whole(client: Redis) -> None:
    dead, alive = PartitionQueue(client, 0, "w1"), PartitionQueue(client, 0, "w2")
    await dead.create_group()
    ids = [await add_block(client, b"1", b"2"), await add(client, 3), await add_block(client, b"4", kind=b"r1")]
    assert len(await dead.read_new(10, None)) == 3
    taken = await alive.take_over(0, 60_000, 10)
    assert [entry.id for entry in taken] == ids
    assert [row.payload for entry in taken for row in entry.split()] == [b"1", b"2", b"3", b"4"]
    await dead.settle(taken)
    await alive.settle(taken)
    assert await client.hgetall(count_key(0)) == {b"in": b"3", b"out": b"3"}


async def test_status_counts_postbacks_and_pending_entries(redis: Redis, redis_url: str, postgres_dsn: str) -> None:
    config = Config(postgres=PostgresConfig(dsn=postgres_dsn), redis=RedisConfig(url=redis_url))
    queue = PartitionQueue(redis, 0, "w1")
    await queue.create_group()
    await add_block(redis, *[b"x"] * 40)
    await add_block(redis, *[b"x"] * 60)
    assert len(await queue.read_new(1, None)) == 1
    (partition,) = (await look(config, with_hour=False)).queue
    assert (partition.backlog, partition.pending) == (100, 1)
    assert 0 <= (partition.oldest_age_s or 0) < 60
