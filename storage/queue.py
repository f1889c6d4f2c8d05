"""One partition of the queue: a Redis stream, read through the consumer group that all writers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

from storage.records import Kind, unescape

GROUP: Final = "writers"
Client = Redis | RedisCluster
BLOCK_ROWS: Final = 64
"""The most rows of an entry, as receivers make them."""
_BLOCK: Final = b"b1"
_COUNTS: Final = b"n"
_PRIOR: Final = b"p"
_CONVERSION: Final = Kind.CONVERSION.encode()
_PARKED: Final = Kind.PARKED.encode()
_AFTER_ALL: Final = "18446744073709551615-0"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A queue entry as it was read, or one row of it.

    A block: `payload` holds `rows` lines, each `kind \\t prior \\t line \\n`; so many are `conversions` and `parked`.
    Otherwise one row: `payload` is its line, `prior` what an earlier claim held, on repeats. So are also the entries of
    receivers that did not make blocks yet.
    """

    id: bytes
    kind: bytes
    payload: bytes
    prior: bytes = b""
    rows: int = 1
    conversions: int = 0
    parked: int = 0

    @property
    def is_block(self) -> bool:
        """Whether it holds lines of several rows."""
        return self.kind == _BLOCK

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted while it was pending: settled by another, or by us without our learning it."""
        return not self.kind and not self.payload

    @property
    def counted(self) -> int:
        """How many rows were counted when it was queued."""
        return self.rows if self.is_block else 0

    @property
    def queued_ms(self) -> int:
        """When it was queued, by Redis' clock: epoch ms."""
        return int(self.id.partition(b"-")[0])

    def lines(self) -> list[bytes]:
        """The lines of a block, without their newlines."""
        return self.payload.removesuffix(b"\n").split(b"\n")

    def payloads(self) -> list[bytes]:
        """The payload of each row."""
        return [line.split(b"\t", 2)[-1] for line in self.lines()] if self.is_block else [self.payload]

    def split(self) -> list[Entry]:
        """Each of its rows by itself, under its id."""
        return [_row(self.id, line) for line in self.lines()] if self.is_block else [self]


def queue_key(partition: int) -> str:
    """The partition's stream; the braces put it into one slot of a cluster with the partition's clicks."""
    return f"pb:{{{partition}}}:queue"


def count_key(partition: int) -> str:
    """What is counted of the partition's rows, in the same slot; see dedup/lua/claim.lua."""
    return f"pb:{{{partition}}}:count"


@cache
def _script(name: str) -> str:
    return (Path(__file__).parent / "lua" / f"{name}.lua").read_text(encoding="utf-8")


class Backlog(msgspec.Struct, frozen=True, gc=False):
    """Of one partition and moment: rows that wait, and rows that were ever queued."""

    waiting: int
    queued: int


async def read_backlog(client: Client, partition: int) -> Backlog:
    """How much waits. Entries have up to BLOCK_ROWS rows, so a stream's length does not say it. Raises RedisError,
    OSError."""
    waiting, queued = await client.eval(_script("backlog"), 2, queue_key(partition), count_key(partition), BLOCK_ROWS)
    return Backlog(waiting, queued)


class PartitionQueue:
    """Reads, takes over and settles entries of one partition as one consumer.

    `client` answers in bytes and in RESP2's shapes, and has a time limit above `block_ms`. Every method raises
    RedisError or OSError while Redis is away; a group that is gone (flushed, failed over) is made again.
    """

    def __init__(self, client: Client, partition: int, consumer: str) -> None:
        self.partition = partition
        self._client = client
        self._key = queue_key(partition)
        self._count_key = count_key(partition)
        self._consumer = consumer
        self._forget = _script("forget_consumers")
        self._take_over = _script("take_over")
        self._settle = _script("settle")

    async def read_new(self, count: int, block_ms: int | None) -> list[Entry]:
        """Up to `count` entries that nobody was given; waits up to `block_ms` (None: not at all) for the first."""
        return await self._read(">", count, block_ms)

    async def read_own(self, after: bytes, count: int) -> list[Entry]:
        """Up to `count` entries that this consumer was given and has not settled, after the id `after` (b"0": all)."""
        return await self._read(after, count, None)

    async def _read(self, after: bytes | str, count: int, block_ms: int | None) -> list[Entry]:
        try:
            reply: Any = await self._client.xreadgroup(
                GROUP, self._consumer, {self._key: after}, count=count, block=block_ms
            )
        except ResponseError as error:
            await self._recover(error)
            return []
        return [read_entry(entry_id, fields) for _, entries in reply or () for entry_id, fields in entries]

    async def show_life(self) -> None:
        """Be seen by the other consumers, which takes a read: of own entries after the last there can be."""
        await self._read(_AFTER_ALL, 1, None)

    async def own_for_long(self, idle_ms: int, count: int) -> list[bytes]:
        """The ids of up to `count` entries that this consumer has held for `idle_ms` or longer."""
        try:
            found: Any = await self._client.xpending_range(
                self._key, GROUP, "-", "+", count, consumername=self._consumer, idle=idle_ms
            )
        except ResponseError as error:
            await self._recover(error)
            return []
        return [one["message_id"] for one in found]

    async def take_over(self, gone_ms: int, held_ms: int, count: int) -> list[Entry]:
        """Up to `count` entries of other consumers: of those that have not been seen for `gone_ms`, and what a living
        one has held for `held_ms`. As many as `count`: there may be more."""
        try:
            reply: Any = await self._client.eval(
                self._take_over, 1, self._key, GROUP, self._consumer, gone_ms, held_ms, count
            )
        except ResponseError as error:
            await self._recover(error)
            return []
        return [read_entry(one[0], dict(zip(one[1][::2], one[1][1::2], strict=True))) for one in reply if one]

    async def settle(self, entries: Sequence[Entry]) -> None:
        """Acknowledge, delete and count as settled, all or nothing."""
        ids: dict[int, list[bytes]] = {}
        for entry in entries:
            ids.setdefault(entry.counted, []).append(entry.id)
        args = [arg for rows, some in ids.items() for arg in (rows, b" ".join(some))]
        await self._client.eval(self._settle, 2, self._key, self._count_key, GROUP, *args)

    async def forget_consumers(self, idle_ms: int) -> int:
        """Remove the other consumers that have nothing pending and have not asked for `idle_ms`; how many."""
        try:
            removed: int = await self._client.eval(self._forget, 1, self._key, GROUP, self._consumer, idle_ms)
        except ResponseError as error:
            await self._recover(error)
            return 0
        return removed

    async def create_group(self) -> None:
        """Make the stream and its group, from the stream's first entry on, unless they are there."""
        try:
            await self._client.xgroup_create(self._key, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def _recover(self, error: ResponseError) -> None:
        """A lost group is made again; any other refusal is raised."""
        if not any(sign in str(error) for sign in ("NOGROUP", "UNBLOCKED", "no such key")):
            raise error
        await self.create_group()


def read_entry(entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> Entry:
    """An entry of the stream; one without fields is gone."""
    if not fields:
        return Entry(entry_id, b"", b"")
    block = fields.get(_BLOCK)
    if block is None:
        prior = fields.get(_PRIOR, b"")
        kind, payload = next((item for item in fields.items() if item[0] != _PRIOR), (b"", b""))
        return Entry(entry_id, kind, payload, prior)
    try:
        rows, conversions, parked = map(int, fields[_COUNTS].split())
    except (KeyError, ValueError):
        return read_letter(entry_id, _BLOCK, block, b"")
    return Entry(entry_id, _BLOCK, block, b"", rows, conversions, parked)


def read_letter(entry_id: bytes, kind: bytes, payload: bytes, prior: bytes) -> Entry:
    """An entry as dead_letters keeps it: what is in a block must be counted."""
    entry = Entry(entry_id, kind, payload, prior)
    if not entry.is_block:
        return entry
    kinds = [row.kind for row in entry.split()]
    return Entry(entry_id, kind, payload, prior, len(kinds), kinds.count(_CONVERSION), kinds.count(_PARKED))


def _row(entry_id: bytes, line: bytes) -> Entry:
    """A line of a block. One that is none of ours is kept whole, under no kind."""
    columns = line.split(b"\t", 2)
    if len(columns) < 3 or columns[0] == _BLOCK:
        return Entry(entry_id, b"", line)
    kind, prior, payload = columns
    return Entry(entry_id, kind, payload, unescape(prior.decode(errors="backslashreplace")).encode() if prior else b"")
