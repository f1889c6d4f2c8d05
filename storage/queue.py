"""One partition of the queue: a Redis stream, read through the consumer group that all writers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ResponseError

GROUP: Final = "writers"
Client = Redis | RedisCluster
_PRIOR: Final = b"p"
_AFTER_ALL: Final = "18446744073709551615-0"
_SCRIPTS: Final = Path(__file__).parent / "lua"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A queue entry as it was read. `prior` is what an earlier claim held, on repeats."""

    id: bytes
    kind: bytes
    payload: bytes
    prior: bytes = b""

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted while it was pending: settled by another, or by us without our learning it."""
        return not self.kind and not self.payload

    @property
    def queued_ms(self) -> int:
        """When it was queued, by Redis' clock: epoch ms."""
        return int(self.id.partition(b"-")[0])


def queue_key(partition: int) -> str:
    """The partition's stream; the braces put it into one slot of a cluster with the partition's clicks."""
    return f"pb:{{{partition}}}:queue"


class PartitionQueue:
    """Reads, takes over and settles entries of one partition as one consumer.

    `client` answers in bytes and in RESP2's shapes, and has a time limit above `block_ms`. Every method raises
    RedisError or OSError while Redis is away; a group that is gone (flushed, failed over) is made again.
    """

    def __init__(self, client: Client, partition: int, consumer: str) -> None:
        self.partition = partition
        self._client = client
        self._key = queue_key(partition)
        self._consumer = consumer
        self._forget = (_SCRIPTS / "forget_consumers.lua").read_text(encoding="utf-8")
        self._take_over = (_SCRIPTS / "take_over.lua").read_text(encoding="utf-8")
        self._settle = (_SCRIPTS / "settle.lua").read_text(encoding="utf-8")

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
        return [_entry(entry_id, fields) for _, entries in reply or () for entry_id, fields in entries]

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
        return [_entry(one[0], dict(zip(one[1][::2], one[1][1::2], strict=True))) for one in reply if one]

    async def settle(self, entries: Sequence[Entry]) -> None:
        """Acknowledge and delete, both or neither."""
        ids = b" ".join([entry.id for entry in entries])
        await self._client.eval(self._settle, 1, self._key, GROUP, ids)

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


def _entry(entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> Entry:
    if not fields:
        return Entry(entry_id, b"", b"")
    if len(fields) == 1:
        ((kind, payload),) = fields.items()
        return Entry(entry_id, kind, payload)
    prior = fields.get(_PRIOR, b"")
    kind, payload = next((item for item in fields.items() if item[0] != _PRIOR), (b"", b""))
    return Entry(entry_id, kind, payload, prior)
