"""The Deduplicator on Redis, Valkey or a cluster of either.

Keys: `pb:{P}:click:<click_id>`, a hash of the packed click (field `.`) and its claims; `pb:{P}:queue`, a stream;
`pb:{P}:count`, a hash of how many rows were queued and settled. P is crc32(click_id) % partitions, and the braces put
all of a partition into one slot of a cluster.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final
from zlib import crc32

import structlog

from dedup.cluster import Command
from dedup.durability import CONFIRM_MS, Durability, confirmation, is_confirmed, run_confirmed
from dedup.port import TOKEN_BYTES, CachedClick, Entry, QueueUnavailableError, Verdict
from dedup.scripts import CLIENT_ERRORS, Client, Script, ask_primaries, run_together
from dedup.wire import Wire

_VERDICTS: Final = {ord("a"): Verdict.ACCEPTED, ord("d"): Verdict.DUPLICATE, ord("x"): Verdict.CONFLICT}
MAX_CALL: Final = 512
"""Entries in one script call: Redis serves nobody else meanwhile (about 10 us an entry)."""
BLOCK_ROWS: Final = 64
"""Rows in one entry of the queue."""
BLOCK_BYTES: Final = 16 << 10
"""Bytes of one entry of the queue; a row that is larger is one by itself. Both bound what one read brings."""
MAX_CALLS: Final = 8
"""Script calls under way at once: fewer than the client has connections, which refuses instead of waiting."""
DOUBT_S: Final = 1.0
"""How long nothing is claimed in a partition whose last claim failed, unless it is known to be well sooner."""
_PROBE_MS: Final = 20
_PROBE_S: Final = 1.0

_ARGUMENTS: Final[Callable[[Entry], tuple[bytes | int, ...]]] = attrgetter(
    "kind", "payload", "field", "value", "expires_ms"
)
"""What the script is told of an entry."""

log = structlog.get_logger()


class RedisDeduplicator:
    """See `dedup.port.Deduplicator`. `client` answers in bytes and has time limits of its own."""

    def __init__(
        self,
        client: Client,
        *,
        partitions: int,
        max_backlog: int,
        durability: Durability = Durability.WRITTEN,
        durability_timeout_ms: int | None = None,
        wire: Wire | None = None,
    ) -> None:
        """`wire`: another way to the same server, for what each postback needs."""
        self._client = client
        self._quick = wire or client
        self._partitions = partitions
        self._max_backlog = max_backlog
        self._durability = durability
        self._durability_timeout_ms = CONFIRM_MS[durability] if durability_timeout_ms is None else durability_timeout_ms
        self._calls = asyncio.Semaphore(MAX_CALLS)
        self._doubted: dict[int, float] = {}  # partition: until when, by the loop's clock
        self._claim = Script.load("claim")
        self._clicks = Script.load("clicks")
        self._cache = Script.load("cache")

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        """See the port."""

        async def read(partition: int, part: Sequence[str]) -> Sequence[bytes | None]:
            found: list[bytes | None] = await self._clicks.run(self._quick, self._click_keys(partition, part), ())
            return found

        try:
            return await self._by_partition(click_ids, lambda click_id: click_id, read)
        except CLIENT_ERRORS as error:
            raise QueueUnavailableError(str(error)) from error

    async def cache(self, clicks: Sequence[CachedClick]) -> None:
        """See the port."""

        async def keep(partition: int, part: Sequence[CachedClick]) -> Sequence[None]:
            args = [value for click in part for value in (click.packed, click.expires_ms)]
            keys = self._click_keys(partition, [click.click_id for click in part])
            await self._cache.run(self._client, keys, args)
            return [None] * len(part)

        try:
            await self._by_partition(clicks, lambda click: click.click_id, keep)
        except CLIENT_ERRORS as error:
            raise QueueUnavailableError(str(error)) from error

    async def claim(self, entries: Sequence[Entry]) -> list[Verdict]:
        """See the port. A partition that fails or is full makes only its own entries UNAVAILABLE. One that has failed
        is let rest until `problem` finds it well: who else is in a batch does not wait for its time limit again."""
        return await self._by_partition(entries, lambda entry: entry.click_id, self._claim_part)

    async def _claim_part(self, partition: int, entries: Sequence[Entry]) -> list[Verdict]:
        if self._doubted.get(partition, 0.0) > asyncio.get_running_loop().time():
            return [Verdict.UNAVAILABLE] * len(entries)
        queue = b"pb:{%d}:queue" % partition
        click = b"pb:{%d}:click:" % partition
        keys = [queue, b"pb:{%d}:count" % partition]
        keys += [click + entry.click_id.encode() if entry.field else queue for entry in entries]
        args = [self._max_backlog, BLOCK_ROWS, BLOCK_BYTES, TOKEN_BYTES, *chain.from_iterable(map(_ARGUMENTS, entries))]
        try:
            letters: bytes = await run_confirmed(
                self._client, self._claim, keys, args, self._durability, self._durability_timeout_ms, self._quick
            )
        except CLIENT_ERRORS as error:
            self._doubt(partition)
            log.warning("claim failed, nothing was accepted", partition=partition, error=str(error))
            return [Verdict.UNAVAILABLE] * len(entries)
        if not letters:
            return [Verdict.FULL] * len(entries)
        return [_VERDICTS[letter] for letter in letters]

    async def claimed(self, click_id: str, field: str) -> bytes | None:
        """The fact that is claimed in the click's field, None where nothing is. For looking only: by the time it is
        known it may be another. Raises QueueUnavailableError."""
        (key,) = self._click_keys(crc32(click_id.encode()) % self._partitions, [click_id])
        try:
            held = await self._client.hget(key, field.encode())
        except CLIENT_ERRORS as error:
            raise QueueUnavailableError(str(error)) from error
        assert not isinstance(held, str)  # the client answers in bytes
        return None if held is None else held[TOKEN_BYTES:]

    async def problem(self) -> str | None:
        """Why claims cannot be accepted just now; None if nothing is known to be in their way. Of a cluster each
        primary must answer, and one at least must be able to confirm what is written. Ask twice a second: partitions
        that failed are looked at again."""
        try:
            async with asyncio.timeout(_PROBE_S):
                replies = await ask_primaries(self._client, self._probe())
        except CLIENT_ERRORS as error:
            return f"Redis does not answer: {error}"
        if not any(map(self._is_well, replies)):
            return f"Redis cannot say that writes are {self._durability.value}"
        await asyncio.gather(*map(self._look_again, list(self._doubted)))
        return None

    def _probe(self) -> Command:
        return ("PING",) if self._durability is Durability.WRITTEN else confirmation(self._durability, _PROBE_MS)

    def _is_well(self, reply: Any) -> bool:
        """What a probe was answered."""
        return self._durability is Durability.WRITTEN or is_confirmed(reply)

    def _doubt(self, partition: int) -> None:
        self._doubted[partition] = asyncio.get_running_loop().time() + DOUBT_S

    async def _look_again(self, partition: int) -> None:
        try:
            async with self._calls:
                (reply,) = await run_together(self._client, b"pb:{%d}:queue" % partition, [self._probe()])
        except CLIENT_ERRORS:
            self._doubt(partition)
            return
        if self._is_well(reply):
            self._doubted.pop(partition, None)
        else:
            self._doubt(partition)

    def _click_keys(self, partition: int, click_ids: Sequence[str]) -> list[bytes]:
        click = b"pb:{%d}:click:" % partition
        return [click + click_id.encode() for click_id in click_ids]

    async def _by_partition(
        self,
        items: Sequence[Any],
        click_id_of: Callable[[Any], str],
        call: Callable[[int, Sequence[Any]], Awaitable[Sequence[Any]]],
    ) -> list[Any]:
        """`call` for each partition's items, at most MAX_CALL at a time; the results in the order of the items."""
        if not items:
            return []
        if self._partitions == 1 and len(items) <= MAX_CALL:
            async with self._calls:
                return list(await call(0, items))
        places: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            partition = crc32(click_id_of(item).encode()) % self._partitions
            places.setdefault(partition, []).append(place)
        results: list[Any] = [None] * len(items)

        async def one_partition(partition: int, mine: list[int]) -> None:
            for start in range(0, len(mine), MAX_CALL):
                part = mine[start : start + MAX_CALL]
                async with self._calls:
                    found = await call(partition, [items[i] for i in part])
                for place, result in zip(part, found, strict=True):
                    results[place] = result

        await asyncio.gather(*(one_partition(partition, mine) for partition, mine in places.items()))
        return results
