"""One behaviour suite of deduplication, on fakeredis, the embedded Valkey and the machine's own Redis."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from itertools import count, pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.crc import key_slot

from dedup.client import connect
from dedup.durability import Durability
from dedup.port import CachedClick, Entry, QueueUnavailableError, Verdict
from dedup.redis import BLOCK_BYTES, BLOCK_ROWS, MAX_CALL, RedisDeduplicator
from dedup.scripts import Client
from dedup.wire import Wire
from ingest.engines.binaries import find_valkey
from storage.queue import BLOCK_ROWS as READ_ROWS
from storage.queue import Backlog, PartitionQueue, count_key, read_backlog
from tests import servers
from tests.queued import queued_entries, queued_rows, waiting

ACCEPTED, DUPLICATE, CONFLICT = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.CONFLICT
FULL, UNAVAILABLE = Verdict.FULL, Verdict.UNAVAILABLE
SERVERS = {"valkey": "redis_url", "redis": "debian_redis_url"}
FAR_MS = int(time.time() * 1000) + 86_400_000
PACKED = b"100,10,1790000000000,US"
ODD_TEXTS = ("a b", "x{y}z", "{}", "a:b:c", ":", "%00", "ключ", "点击🎉", "\x01\x7f", "'\"\\", "ü" * 127)


_numbers = count()


def entry(
    click_id: str = "click",
    field: str | None = "1000",
    fact: bytes = b"5USD",
    payload: bytes = b"row",
    *,
    kind: bytes = b"c1",
    expires_ms: int = FAR_MS,
) -> Entry:
    """The entry of a postback of its own."""
    return Entry(click_id, (field or "").encode(), next_token() + fact, expires_ms, kind, payload)


def next_token() -> bytes:
    return next(_numbers).to_bytes(7, "big")


def sent_again(entries: Sequence[Entry]) -> list[Entry]:
    """The same events in other postbacks."""
    return [msgspec.structs.replace(one, value=next_token() + one.fact) for one in entries]


def click_key(click_id: str, partitions: int = 1) -> bytes:
    click = click_id.encode()
    return b"pb:{%d}:click:%b" % (crc32(click) % partitions, click)


def deduplicator(
    client: Client,
    *,
    partitions: int = 1,
    max_backlog: int = 1_000_000,
    durability: Durability = Durability.WRITTEN,
    durability_timeout_ms: int = 1000,
    wire: Wire | None = None,
) -> RedisDeduplicator:
    return RedisDeduplicator(
        client,
        partitions=partitions,
        max_backlog=max_backlog,
        durability=durability,
        durability_timeout_ms=durability_timeout_ms,
        wire=wire,
    )


async def claims_of(client: Client, click_id: str, partitions: int = 1) -> set[bytes]:
    fields: Any = await client.hkeys(click_key(click_id, partitions))
    return set(fields) - {b"."}


async def keys_of(client: Client) -> set[bytes]:
    keys: Any = await client.keys()
    return set(keys)


async def expires_ms_of(client: Client, click_id: str) -> int:
    expires_ms: int = await client.pexpiretime(click_key(click_id).decode())
    return expires_ms


@pytest.fixture(params=["fake", *SERVERS])
def url(request: pytest.FixtureRequest) -> str | None:
    """Where the server is; None for the fake."""
    if request.param == "fake":
        return None
    found: str = request.getfixturevalue(SERVERS[request.param])
    return found


@pytest.fixture
async def client(url: str | None) -> AsyncIterator[Client]:
    made: Client = FakeAsyncRedis(server=FakeServer()) if url is None else connect(url)
    yield made
    await made.aclose()


@pytest.fixture
async def dedup(client: Client, url: str | None) -> AsyncIterator[RedisDeduplicator]:
    """As a receiver has it."""
    if url is None or not isinstance(client, Redis):
        yield deduplicator(client)
        return
    wire = Wire(client)
    yield deduplicator(client, wire=wire)
    await wire.aclose()


# Verdicts --------------------------------------------------------------------------------------------------------


async def test_first_claim_is_accepted_and_queued_as_it_is(client: Client, dedup: RedisDeduplicator) -> None:
    assert await dedup.claim([entry(payload=b"\x00\t\xff row")]) == [ACCEPTED]
    assert await queued_rows(client) == [{b"c1": b"\x00\t\xff row"}]
    assert await claims_of(client, "click") == {b"1000"}


async def test_same_fact_again_is_a_duplicate_and_is_logged(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim([entry(payload=b"first")])
    assert await dedup.claim([entry(payload=b"second")]) == [DUPLICATE]
    assert await queued_rows(client) == [{b"c1": b"first"}, {b"d1": b"second", b"p": b"5USD"}]


async def test_other_fact_is_a_conflict_that_says_what_was_claimed(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim([entry(fact=b"5USD")])
    assert await dedup.claim([entry(fact=b"6USD", payload=b"second")]) == [CONFLICT]
    assert await dedup.claim([entry(fact=b"", payload=b"third")]) == [CONFLICT]
    assert await dedup.claim([entry(fact=b"5USD", payload=b"fourth")]) == [DUPLICATE]
    assert (await queued_rows(client))[1:] == [
        {b"x1": b"second", b"p": b"5USD"},
        {b"x1": b"third", b"p": b"5USD"},
        {b"d1": b"fourth", b"p": b"5USD"},
    ]


async def test_a_claim_without_an_amount(client: Client, dedup: RedisDeduplicator) -> None:
    assert await dedup.claim([entry(fact=b""), entry(fact=b""), entry(fact=b"1USD")]) == [ACCEPTED, DUPLICATE, CONFLICT]
    assert [fields.get(b"p") for fields in await queued_rows(client)] == [None, b"", b""]


async def test_entries_without_a_field_are_always_queued(client: Client, dedup: RedisDeduplicator) -> None:
    rejection = entry(field=None, kind=b"r1", payload=b"no")
    assert await dedup.claim([rejection, rejection, entry(field=None)]) == [ACCEPTED] * 3
    assert await dedup.claim([rejection]) == [ACCEPTED]
    assert await queued_rows(client) == [{b"r1": b"no"}, {b"r1": b"no"}, {b"c1": b"row"}, {b"r1": b"no"}]
    assert await keys_of(client) == {b"pb:{0}:queue", b"pb:{0}:count"}


async def test_repeats_inside_one_batch(client: Client, dedup: RedisDeduplicator) -> None:
    batch = [
        entry(payload=b"1"),
        entry(payload=b"2"),
        entry(field="1000:tx", payload=b"3"),
        entry(fact=b"6USD", payload=b"4"),
        entry("other", payload=b"5"),
        entry(field="1000:tx", payload=b"6"),
    ]
    assert await dedup.claim(batch) == [ACCEPTED, DUPLICATE, ACCEPTED, CONFLICT, ACCEPTED, DUPLICATE]
    kinds = [next(iter(fields)) for fields in await queued_rows(client)]
    assert kinds == [b"c1", b"d1", b"c1", b"x1", b"c1", b"d1"]


async def test_nothing_to_claim(client: Client, dedup: RedisDeduplicator) -> None:
    assert await dedup.claim([]) == []
    assert await dedup.clicks([]) == []
    await dedup.cache([])
    assert await keys_of(client) == set()


async def test_concurrent_copies_are_accepted_once(client: Client, dedup: RedisDeduplicator) -> None:
    calls = [dedup.claim([entry(payload=b"%d" % number)]) for number in range(50)]
    verdicts = [verdict for (verdict,) in await asyncio.gather(*calls)]
    assert sorted(verdict.value for verdict in verdicts) == ["accepted"] + ["duplicate"] * 49
    assert sum(b"c1" in fields for fields in await queued_rows(client)) == 1


@pytest.mark.parametrize("text", ODD_TEXTS)
async def test_ids_of_any_characters(client: Client, dedup: RedisDeduplicator, text: str) -> None:
    await dedup.cache([CachedClick(text, PACKED, FAR_MS)])
    assert await dedup.clicks([text, text + "x"]) == [PACKED, None]
    batch = [entry(text, f"1000:{text}"), entry(text, "1000:"), entry(text, f"100:0:{text}"), entry(text, "1000")]
    assert await dedup.claim(batch) == [ACCEPTED] * 4
    assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 4
    assert await claims_of(client, text) == {item.field for item in batch if item.field}


# Atomicity -------------------------------------------------------------------------------------------------------


async def test_full_queue_refuses_the_batch_and_changes_nothing(client: Client) -> None:
    dedup = deduplicator(client, max_backlog=5)
    assert await dedup.claim([entry(field=f"{n}") for n in range(3)]) == [ACCEPTED] * 3
    before = await queued_rows(client)
    too_much = [entry("new"), entry(field=None), entry(field="0")]
    assert await dedup.claim(too_much) == [FULL] * 3
    assert await queued_rows(client) == before
    assert await keys_of(client) == {click_key("click"), b"pb:{0}:queue", b"pb:{0}:count"}
    assert await claims_of(client, "click") == {b"0", b"1", b"2"}
    assert await dedup.claim(too_much[:2]) == [ACCEPTED] * 2
    assert await dedup.claim([entry(field=None)]) == [FULL]
    await client.xtrim("pb:{0}:queue", maxlen=0)
    assert await dedup.claim(sent_again(too_much)) == [DUPLICATE, ACCEPTED, DUPLICATE]


async def test_a_queue_of_another_type_leaves_no_claim(client: Client, dedup: RedisDeduplicator) -> None:
    await client.set("pb:{0}:queue", "not a stream")
    assert await dedup.claim([entry(), entry(field=None)]) == [UNAVAILABLE] * 2
    assert await keys_of(client) == {b"pb:{0}:queue"}


async def test_one_partition_that_fails_harms_no_other(client: Client) -> None:
    partitions = 4
    dedup = deduplicator(client, partitions=partitions)
    broken = crc32(b"click-0") % partitions
    await client.set(f"pb:{{{broken}}}:queue", "not a stream")
    batch = [entry(f"click-{number}") for number in range(40)]
    verdicts = await dedup.claim(batch)
    expected = [UNAVAILABLE if crc32(item.click_id.encode()) % partitions == broken else ACCEPTED for item in batch]
    assert verdicts == expected
    assert set(verdicts) == {ACCEPTED, UNAVAILABLE}
    for item, verdict in zip(batch, verdicts, strict=True):
        claims = await claims_of(client, item.click_id, partitions)
        assert claims == ({b"1000"} if verdict is ACCEPTED else set())


async def test_a_claim_exists_if_and_only_if_its_conversion_is_queued(client: Client) -> None:
    partitions = 3
    dedup = deduplicator(client, partitions=partitions, max_backlog=40)
    batches = [
        [entry(f"click-{n % 7}", f"{n % 11}", payload=b"click-%d/%d" % (n % 7, n % 11)) for _ in "ab"]
        for n in range(90)
    ]
    await asyncio.gather(*(dedup.claim(batch) for batch in batches))
    conversions = [
        fields[b"c1"]
        for partition in range(partitions)
        for fields in await queued_rows(client, partition)
        if b"c1" in fields
    ]
    claims = [
        f"click-{number}/".encode() + field
        for number in range(7)
        for field in await claims_of(client, f"click-{number}", partitions)
    ]
    assert sorted(conversions) == sorted(claims)
    assert 0 < len(claims) < 77, "the limit must have refused some"


# Batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("partitions", [1, 5])
async def test_results_keep_the_order_of_large_batches(client: Client, partitions: int) -> None:
    dedup = deduplicator(client, partitions=partitions)
    ids = [f"click-{number}" for number in range(2 * MAX_CALL + 100)]
    await dedup.cache([CachedClick(click_id, click_id.encode(), FAR_MS) for click_id in ids[::3]])
    assert await dedup.clicks(ids) == [
        click_id.encode() if place % 3 == 0 else None for place, click_id in enumerate(ids)
    ]
    assert set(await dedup.claim([entry(click_id) for click_id in ids[::2]])) == {ACCEPTED}
    verdicts = await dedup.claim(
        [entry(click_id, fact=b"5USD" if n % 4 else b"6USD") for n, click_id in enumerate(ids)]
    )
    assert verdicts == [ACCEPTED if n % 2 else DUPLICATE if n % 4 else CONFLICT for n in range(len(ids))]
    keys = {f"pb:{{{partition}}}:queue".encode() for partition in range(partitions)}
    assert {key for key in await keys_of(client) if key.endswith(b":queue")} == keys


async def test_the_queue_keeps_the_order_of_a_batch(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim([entry(f"{n}", payload=b"%d" % n) for n in range(2 * MAX_CALL)])
    assert [int(fields[b"c1"]) for fields in await queued_rows(client)] == list(range(2 * MAX_CALL))


# Blocks ----------------------------------------------------------------------------------------------------------


async def test_a_block_has_so_many_rows(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim([entry(f"{n}", payload=b"%d" % n) for n in range(2 * BLOCK_ROWS + 5)])
    blocks = await queued_entries(client)
    assert [(one.kind, one.rows, one.conversions, one.parked) for one in blocks] == [
        (b"b1", BLOCK_ROWS, BLOCK_ROWS, 0),
        (b"b1", BLOCK_ROWS, BLOCK_ROWS, 0),
        (b"b1", 5, 5, 0),
    ]
    assert [one.payload.count(b"\n") for one in blocks] == [one.rows for one in blocks]


async def test_a_block_has_so_many_bytes_and_a_larger_row_is_one_by_itself(
    client: Client, dedup: RedisDeduplicator
) -> None:
    kind_and_ends = len(b"c1\t\t\n")
    sizes = [
        8_192 - kind_and_ends,
        8_192 - kind_and_ends,
        1,
        BLOCK_BYTES,
        100,
        BLOCK_BYTES - kind_and_ends,
        8_000,
        8_400,
    ]
    await dedup.claim([entry(f"{n}", payload=b"x" * size) for n, size in enumerate(sizes)])
    blocks = await queued_entries(client)
    assert [[len(row.payload) for row in one.split()] for one in blocks] == [
        sizes[:2], sizes[2:3], sizes[3:4], sizes[4:5], sizes[5:6], sizes[6:7], sizes[7:],
    ]  # fmt: skip
    assert len(blocks[0].payload) == BLOCK_BYTES


def test_writers_and_receivers_agree_on_the_rows_of_a_block() -> None:
    assert READ_ROWS == BLOCK_ROWS


async def test_a_block_says_what_is_in_it(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim(
        [
            entry(payload=b"1"),
            entry(payload=b"2"),
            entry(fact=b"6USD", payload=b"3"),
            entry(field=None, kind=b"r1", payload=b"4"),
            entry(field=None, kind=b"p1", payload=b"5"),
            entry("other", payload=b"6"),
        ]
    )
    found: Any = await client.xrange("pb:{0}:queue")
    ((_, fields),) = found
    lines = (b"c1\t\t1", b"d1\t5USD\t2", b"x1\t5USD\t3", b"r1\t\t4", b"p1\t\t5", b"c1\t\t6")
    assert fields == {b"b1": b"".join(line + b"\n" for line in lines), b"n": b"6 2 1"}


ODD_FACTS = {
    b"\\N": rb"\\N",
    b"1\t2\n3\r4\\.5": rb"1\t2\n3\r4\\.5",
    b"\x00\x7f\xff": rb"\\x00\\x7f\\xff",
    "5€".encode(): rb"5\\xe2\\x82\\xac",
    b"\\": rb"\\",
    b"49.99USD [a]^-%~ ": b"49.99USD [a]^-%~ ",
}


@pytest.mark.parametrize("fact", ODD_FACTS)
async def test_what_was_claimed_first_breaks_no_block(client: Client, dedup: RedisDeduplicator, fact: bytes) -> None:
    await dedup.claim([entry(fact=fact)])
    assert await dedup.claim([entry(fact=fact), entry(fact=b"1USD"), entry("other")]) == [DUPLICATE, CONFLICT, ACCEPTED]
    (_, block) = await queued_entries(client)
    escaped = ODD_FACTS[fact]
    assert block.payload == b"d1\t%b\trow\nx1\t%b\trow\nc1\t\trow\n" % (escaped, escaped)
    assert [row.prior.isascii() for row in block.split()] == [True] * 3


async def test_a_payload_that_is_not_one_line_is_kept_out_of_blocks(client: Client, dedup: RedisDeduplicator) -> None:
    odd = b"a\nc1\t\tb"
    await dedup.claim(
        [entry(payload=b"1"), entry("odd", payload=odd), entry("odd", payload=odd), entry("2", payload=b"2")]
    )
    found: Any = await client.xrange("pb:{0}:queue")
    assert [fields for _, fields in found] == [
        {b"b1": b"c1\t\t1\n", b"n": b"1 1 0"},
        {b"c1": odd},
        {b"d1": odd, b"p": b"5USD"},
        {b"b1": b"c1\t\t2\n", b"n": b"1 1 0"},
    ]


async def test_an_error_midway_leaves_no_claim_without_its_row(client: Client, dedup: RedisDeduplicator) -> None:
    await client.set(click_key("broken"), "not a hash")
    batch = [entry("a"), entry("b"), entry("broken"), entry("c")]
    assert await dedup.claim(batch) == [UNAVAILABLE] * 4
    assert [await claims_of(client, click_id) for click_id in "abc"] == [{b"1000"}, {b"1000"}, set()]
    assert len(await queued_rows(client)) == 2
    assert await waiting(client) == 2


# The count of rows -----------------------------------------------------------------------------------------------

COUNT = count_key(0)


async def test_room_is_for_rows_exactly(client: Client) -> None:
    limit = 3 * BLOCK_ROWS
    dedup = deduplicator(client, max_backlog=limit)
    assert set(await dedup.claim([entry(f"{n}") for n in range(limit - 10)])) == {ACCEPTED}
    assert set(await dedup.claim([entry(f"more-{n}") for n in range(11)])) == {FULL}
    assert await waiting(client) == limit - 10
    again = [entry(f"more-{n}") for n in range(10)]
    assert set(await dedup.claim(again)) == {ACCEPTED}
    assert await dedup.claim([entry("one more")]) == [FULL]
    assert await waiting(client) == limit == len(await queued_rows(client))

    queue = PartitionQueue(client, 0, "w")
    await queue.create_group()
    (first,) = await queue.read_new(1, None)
    await queue.settle([first])
    await queue.settle([first])
    assert await waiting(client) == limit - BLOCK_ROWS
    assert set(await dedup.claim([entry(f"last-{n}") for n in range(BLOCK_ROWS + 1)])) == {FULL}
    assert set(await dedup.claim([entry(f"last-{n}") for n in range(BLOCK_ROWS)])) == {ACCEPTED}
    assert await client.hgetall(COUNT) == {b"in": b"%d" % (limit + BLOCK_ROWS), b"out": b"%d" % BLOCK_ROWS}


async def test_what_was_queued_before_is_not_counted_again(client: Client, dedup: RedisDeduplicator) -> None:
    batch = [entry(), entry("other")]
    for _ in range(3):
        assert await dedup.claim(batch) == [ACCEPTED] * 2
    assert await read_backlog(client, 0) == Backlog(2, 2)


@pytest.mark.parametrize("lost", ["flushed", "trimmed", "deleted", "settled by a writer of before"])
async def test_a_queue_that_was_emptied_is_never_full(client: Client, lost: str) -> None:
    dedup = deduplicator(client, max_backlog=100)
    for _ in range(3):
        assert set(await dedup.claim([entry(field=None) for _ in range(100)])) == {ACCEPTED}
        assert await dedup.claim([entry(field=None)]) == [FULL]
        match lost:
            case "flushed":
                await client.flushall()
            case "trimmed":
                await client.xtrim("pb:{0}:queue", maxlen=0)
            case "deleted":
                await client.delete("pb:{0}:queue")
            case _:
                await client.xdel("pb:{0}:queue", *[one.id for one in await queued_entries(client)])
        assert await waiting(client) == 0
    assert set(await dedup.claim([entry(field=None) for _ in range(100)])) == {ACCEPTED}
    assert await waiting(client) == 100


@pytest.mark.parametrize(
    "count",
    [{"in": "10", "out": "9000"}, {"in": "1000000000", "out": "0"}, {"in": "", "out": "x"}, {"in": "1.5"}, {}],
    ids=str,
)
async def test_a_wrong_count_is_bounded_by_the_length_and_heals(client: Client, count: dict[str, str]) -> None:
    dedup = deduplicator(client, max_backlog=1_000)
    await dedup.claim([entry(field=None) for _ in range(5)])
    await client.delete(COUNT)
    for name, value in count.items():
        await client.hset(COUNT, name, value)
    assert 1 <= await waiting(client) <= BLOCK_ROWS
    assert set(await dedup.claim([entry(field=None) for _ in range(5)])) == {ACCEPTED}
    assert 2 <= await waiting(client) <= 2 * BLOCK_ROWS

    queue = PartitionQueue(client, 0, "w")
    await queue.create_group()
    await queue.settle(await queue.read_new(10, None))
    assert await waiting(client) == 0
    assert set(await dedup.claim([entry(field=None) for _ in range(300)])) == {ACCEPTED}
    assert await waiting(client) == 300


async def test_a_count_that_cannot_be_is_put_right_while_there_are_entries(client: Client) -> None:
    """A queue may never be empty; what was once counted too much must not stay."""
    dedup = deduplicator(client)
    await dedup.claim([entry(field=None)])
    await client.hset(COUNT, "in", "5000")
    await dedup.claim([entry(field=None)])
    assert await client.hgetall(COUNT) == {b"in": b"5001", b"out": b"%d" % (5000 - BLOCK_ROWS)}
    queue = PartitionQueue(client, 0, "w")
    await queue.create_group()
    await queue.settle(await queue.read_new(1, None))
    assert await read_backlog(client, 0) == Backlog(BLOCK_ROWS, 5001)


async def test_entries_of_before_count_as_one_row_each_at_least(client: Client) -> None:
    dedup = deduplicator(client, max_backlog=10)
    for number in range(8):
        await client.xadd("pb:{0}:queue", {"c1": b"old-%d" % number})
    assert await waiting(client) == 8
    assert await dedup.claim([entry(field=None) for _ in range(3)]) == [FULL] * 3
    assert await dedup.claim([entry(field=None) for _ in range(2)]) == [ACCEPTED] * 2
    queue = PartitionQueue(client, 0, "w")
    await queue.create_group()
    await queue.settle(await queue.read_new(8, None))
    assert await read_backlog(client, 0) == Backlog(2, 2), "they came uncounted, and so they go"


# Retries of the client library -----------------------------------------------------------------------------------


async def test_the_same_postback_again_is_accepted_and_queued_once(client: Client, dedup: RedisDeduplicator) -> None:
    batch = [entry(field="1"), entry(field="2"), entry("other", field="1")]
    assert await dedup.claim(batch) == [ACCEPTED] * 3
    assert await dedup.claim(batch) == [ACCEPTED] * 3
    assert [next(iter(fields)) for fields in await queued_rows(client)] == [b"c1"] * 3
    assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 3
    assert await dedup.claim(batch[::-1]) == [ACCEPTED] * 3


async def test_a_repeated_batch_keeps_telling_repeats_inside_it(client: Client, dedup: RedisDeduplicator) -> None:
    batch = [entry(), entry(), entry(fact=b"6USD")]
    assert await dedup.claim(batch) == [ACCEPTED, DUPLICATE, CONFLICT]
    assert await dedup.claim(batch) == [ACCEPTED, DUPLICATE, CONFLICT]
    assert sum(b"c1" in fields for fields in await queued_rows(client)) == 1


class LossyProxy:
    """Between a client and a server: loses the reply to a command and closes the connection, once when armed."""

    def __init__(self, url: str, folder: Path) -> None:
        self._upstream = url
        self._path = folder / "proxy.sock"
        self._armed = b""
        self.lost = 0
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        return f"unix://{self._path}"

    def lose_reply_to(self, command: bytes) -> None:
        self._armed = command

    @asynccontextmanager
    async def running(self) -> AsyncIterator[LossyProxy]:
        server = await asyncio.start_unix_server(self._serve, self._path)
        try:
            yield self
        finally:
            server.close()
            if self._connections:  # they end with their clients
                await asyncio.wait(self._connections, timeout=5)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        if self._upstream.startswith("unix://"):
            up_reader, up_writer = await asyncio.open_unix_connection(self._upstream.removeprefix("unix://"))
        else:
            host, _, port = self._upstream.removeprefix("redis://").partition(":")
            up_reader, up_writer = await asyncio.open_connection(host, int(port))
        is_losing = asyncio.Event()

        async def requests() -> None:
            while request := await reader.read(1 << 20):
                if self._armed and self._armed in request:
                    self._armed = b""
                    is_losing.set()
                up_writer.write(request)

        async def replies() -> None:
            while reply := await up_reader.read(1 << 20):
                if is_losing.is_set():
                    self.lost += 1
                    return
                writer.write(reply)

        pumps = [asyncio.create_task(requests()), asyncio.create_task(replies())]
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            self._connections.discard(task)
            for end in (writer, up_writer):
                end.close()


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_lost_reply_is_retried_and_still_accepted(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    async with LossyProxy(request.getfixturevalue(SERVERS[kind]), tmp_path).running() as proxy:
        client = connect(proxy.url)
        dedup = deduplicator(client)
        try:
            await dedup.claim([entry("warm-up")])
            proxy.lose_reply_to(b"EVALSHA")
            assert await dedup.claim([entry(), entry(field="2000")]) == [ACCEPTED, ACCEPTED]
            assert proxy.lost == 1
            assert await dedup.claim([entry()]) == [DUPLICATE]
            assert [next(iter(fields)) for fields in await queued_rows(client)] == [b"c1"] * 3 + [b"d1"]
        finally:
            await client.aclose()


async def test_a_lost_reply_in_a_durable_claim_is_retried(redis_url: str, tmp_path: Path) -> None:
    async with LossyProxy(redis_url, tmp_path).running() as proxy:
        client = connect(proxy.url)
        try:
            dedup = deduplicator(client, durability=Durability.FSYNCED)
            proxy.lose_reply_to(b"WAITAOF")
            assert await dedup.claim([entry()]) == [ACCEPTED]
            assert proxy.lost == 1
            assert await queued_rows(client) == [{b"c1": b"row"}]
        finally:
            await client.aclose()


async def test_a_server_that_forgot_its_scripts(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.cache([CachedClick("click", PACKED, FAR_MS)])
    assert await dedup.claim([entry()]) == [ACCEPTED]
    await client.script_flush()
    assert await dedup.claim([entry(), entry(field="2000")]) == [DUPLICATE, ACCEPTED]
    await client.script_flush()
    assert await dedup.clicks(["click"]) == [PACKED]
    await client.script_flush()
    await dedup.cache([CachedClick("click", b"other", FAR_MS)])
    assert await dedup.clicks(["click"]) == [PACKED]


# Clicks and expiry -----------------------------------------------------------------------------------------------


async def test_the_first_registration_of_a_click_wins(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.cache([CachedClick("click", PACKED, FAR_MS)])
    await dedup.cache([CachedClick("click", b"other", FAR_MS + 5), CachedClick("new", b"new", FAR_MS)])
    assert await dedup.clicks(["new", "click", "new", "none"]) == [b"new", PACKED, b"new", None]
    assert await expires_ms_of(client, "click") == FAR_MS


async def test_a_cached_click_expires_with_its_claims(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.cache([CachedClick("click", PACKED, FAR_MS)])
    await dedup.claim([entry(expires_ms=FAR_MS + 7), entry(field="2000", expires_ms=FAR_MS + 9)])
    assert await expires_ms_of(client, "click") == FAR_MS


async def test_a_hash_that_a_claim_created_expires(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.claim([entry(expires_ms=FAR_MS)])
    assert await expires_ms_of(client, "click") == FAR_MS
    await dedup.claim([entry(field="2000", expires_ms=FAR_MS + 7)])
    assert await expires_ms_of(client, "click") == FAR_MS
    await dedup.cache([CachedClick("click", PACKED, FAR_MS + 3)])
    assert await expires_ms_of(client, "click") == FAR_MS + 3
    assert await dedup.claim([entry()]) == [DUPLICATE]


async def test_a_click_that_expires_takes_its_claims_along(client: Client, dedup: RedisDeduplicator) -> None:
    await dedup.cache([CachedClick("click", PACKED, FAR_MS)])
    await dedup.claim([entry()])
    await client.pexpireat(click_key("click"), 1)
    assert await dedup.clicks(["click"]) == [None]
    assert await client.exists(click_key("click")) == 0
    assert await client.ttl("pb:{0}:queue") == -1


# Servers that are not there --------------------------------------------------------------------------------------


@asynccontextmanager
async def silent_server(path: Path) -> AsyncIterator[str]:
    """Takes connections and never answers."""
    open_writers: list[asyncio.StreamWriter] = []

    def hold(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_writers.append(writer)

    server = await asyncio.start_unix_server(hold, path)
    try:
        yield f"unix://{path}"
    finally:
        server.close()
        for writer in open_writers:
            writer.close()


async def check_unavailable(url: str) -> None:
    client = connect(url, timeout_s=0.1)
    started = time.monotonic()
    try:
        dedup = deduplicator(client, partitions=2)
        for durability in Durability:
            claiming = deduplicator(client, partitions=2, durability=durability)
            batch = [entry(f"click-{n}") for n in range(4)] + [entry(field=None)]
            assert await claiming.claim(batch) == [UNAVAILABLE] * 5
        with pytest.raises(QueueUnavailableError):
            await dedup.clicks(["a", "b"])
        with pytest.raises(QueueUnavailableError):
            await dedup.cache([CachedClick("a", PACKED, FAR_MS)])
    finally:
        await client.aclose()
    assert time.monotonic() - started < 10, "time limits hold"


async def test_a_dead_server(tmp_path: Path) -> None:
    await check_unavailable(f"unix://{tmp_path}/nobody.sock")


async def test_a_silent_server(tmp_path: Path) -> None:
    async with silent_server(tmp_path / "silent.sock") as url:
        await check_unavailable(url)


# Durability ------------------------------------------------------------------------------------------------------


async def test_fsynced_claims(redis_url: str) -> None:
    client = connect(redis_url)
    try:
        dedup = deduplicator(client, durability=Durability.FSYNCED, partitions=2)
        batch = [entry(f"click-{number}") for number in range(6)]
        assert await dedup.claim(batch) == [ACCEPTED] * 6
        assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 6
        full = deduplicator(client, durability=Durability.FSYNCED, partitions=2, max_backlog=1)
        assert await full.claim(sent_again(batch)) == [FULL] * 6
    finally:
        await client.aclose()


@pytest.fixture(scope="module")
def forgetful_server() -> Iterator[str]:
    """A Valkey without an append-only file and without a replica."""
    with servers.redis_program(str(find_valkey()), "--appendonly", "no", "--repl-diskless-sync-delay", "0") as server:
        yield server.url


@pytest.mark.parametrize("durability", [Durability.FSYNCED, Durability.REPLICATED])
async def test_what_is_not_durable_is_not_accepted(forgetful_server: str, durability: Durability) -> None:
    client = connect(forgetful_server)
    try:
        dedup = deduplicator(client, durability=durability, durability_timeout_ms=20)
        assert await dedup.claim([entry(durability.value)]) == [UNAVAILABLE]
    finally:
        await client.aclose()


async def test_a_retry_is_not_taken_for_fsynced(tmp_path: Path) -> None:
    """The claim is found to be one's own on another connection, which has written nothing that could be waited for."""
    with servers.redis_program(str(find_valkey()), "--appendfsync", "no") as server:
        async with LossyProxy(server.url, tmp_path).running() as proxy:
            client = connect(proxy.url)
            try:
                dedup = deduplicator(client, durability=Durability.FSYNCED, durability_timeout_ms=50)
                proxy.lose_reply_to(b"WAITAOF")
                assert await dedup.claim([entry()]) == [UNAVAILABLE]
                assert proxy.lost == 1
                assert await queued_rows(client) == [{b"c1": b"row"}]
            finally:
                await client.aclose()


async def test_replicated_claims(forgetful_server: str) -> None:
    host, _, port = forgetful_server.removeprefix("redis://").partition(":")
    client = connect(forgetful_server)
    with servers.redis_program(str(find_valkey()), "--replicaof", f"{host} {port}") as replica:
        copy: Redis = Redis.from_url(replica.url)
        try:
            for _ in range(1500):
                if (await copy.info("replication"))["master_link_status"] == "up":
                    break
                await asyncio.sleep(0.02)
            dedup = deduplicator(client, durability=Durability.REPLICATED, durability_timeout_ms=5000)
            assert await dedup.claim([entry("copied")]) == [ACCEPTED]
            assert await copy.exists(click_key("copied")) == 1
        finally:
            await copy.aclose()
            await client.aclose()


# Clusters --------------------------------------------------------------------------------------------------------


@contextmanager
def cluster_of_two(second_appendonly: str) -> Iterator[str]:
    """The URL of a cluster of two nodes with half of the slots each."""
    with ExitStack() as stack:
        nodes: list[Any] = []
        bus_ports = [servers.free_port() for _ in range(2)]
        for place, bus_port in enumerate(bus_ports):
            settings = ["--cluster-enabled", "yes", "--cluster-port", str(bus_port)]
            settings += ["--appendonly", ("yes", second_appendonly)[place]]
            server = stack.enter_context(servers.redis_program(str(find_valkey()), *settings))
            nodes.append(stack.enter_context(SyncRedis.from_url(server.url)))
            nodes[-1].execute_command("CLUSTER", "ADDSLOTSRANGE", 8192 * place, 8192 * place + 8191)
            nodes[-1].execute_command("CLUSTER", "SET-CONFIG-EPOCH", place + 1)
        port = nodes[0].connection_pool.connection_kwargs["port"]
        nodes[1].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus_ports[0])
        deadline = time.monotonic() + 30
        while not all(b"cluster_state:ok" in node.execute_command("CLUSTER", "INFO") for node in nodes):
            assert time.monotonic() < deadline, "the cluster did not form"
            time.sleep(0.02)
        yield f"redis+cluster://127.0.0.1:{port}"


async def test_on_a_cluster_each_node_speaks_for_its_own_claims() -> None:
    partitions = 8
    batch = [entry(text, f"1000:{text}") for text in (*ODD_TEXTS, *map(str, range(60)))]
    with cluster_of_two(second_appendonly="no") as url:
        client = connect(url)
        try:
            dedup = deduplicator(client, partitions=partitions)
            await dedup.cache([CachedClick(item.click_id, item.click_id.encode(), FAR_MS) for item in batch])
            assert await dedup.clicks([item.click_id for item in batch]) == [item.click_id.encode() for item in batch]
            assert set(await dedup.claim(batch)) == {ACCEPTED}
            assert set(await dedup.claim(sent_again(batch))) == {DUPLICATE}

            durable = deduplicator(client, partitions=partitions, durability=Durability.FSYNCED)
            expected = []
            for item in batch:
                partition = crc32(item.click_id.encode()) % partitions
                is_on_second = key_slot(b"pb:{%d}:queue" % partition) >= 8192
                expected.append(UNAVAILABLE if is_on_second else DUPLICATE)
            assert set(expected) == {UNAVAILABLE, DUPLICATE}
            assert await durable.claim(sent_again(batch)) == expected
        finally:
            await client.aclose()


async def test_a_dead_cluster() -> None:
    await check_unavailable(f"redis+cluster://127.0.0.1:{servers.free_port()}")


# Memory ----------------------------------------------------------------------------------------------------------


async def test_memory_of_clicks_and_claims(redis_url: str) -> None:
    """At most 250 bytes for a click with its first claim, 40 for each further one; keys, tables and all."""
    clicks, batch = 20_000, 500
    ids = [
        f"{os.urandom(4).hex()}-{os.urandom(2).hex()}-4{number:03x}-8000-{number:012x}"[:36] for number in range(clicks)
    ]
    assert len(set(ids)) == clicks
    facts = (b"19.99USD", b"4.99USD", b"120USD", b"")
    client = connect(redis_url)
    dedup = deduplicator(client)

    async def used_bytes() -> int:
        await client.delete("pb:{0}:queue")
        memory = await client.info("memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"])

    async def claim_all(goal_id: int) -> None:
        for start in range(0, clicks, batch):
            await dedup.claim(
                [
                    entry(click_id, f"{goal_id}:{os.urandom(8).hex()}", facts[place % len(facts)])
                    for place, click_id in enumerate(ids[start : start + batch])
                ]
            )

    try:
        marks = [await used_bytes()]
        for start in range(0, clicks, batch):
            await dedup.cache([CachedClick(click_id, PACKED, FAR_MS) for click_id in ids[start : start + batch]])
        marks.append(await used_bytes())
        for goal_id in range(1000, 1009):
            await claim_all(goal_id)
            marks.append(await used_bytes())
        of_keys = [await client.memory_usage(click_key(click_id), samples=0) or 0 for click_id in ids[:200]]
    finally:
        await client.aclose()
    steps = [(after - before) / clicks for before, after in pairwise(marks)]
    click, first, further = steps[0], steps[1], sum(steps[2:]) / len(steps[2:])
    print(f"bytes: click {click:.0f}, first claim {first:.0f}, each further claim {further:.1f}")
    print(f"MEMORY USAGE of a click with nine claims: {sum(of_keys) / len(of_keys):.0f}")
    assert click + first <= 250
    assert further <= 40
