"""Reads one partition of the queue into batches: first what this consumer left pending, then what is new, and from time
to time what consumers that are gone left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from storage.backoff import StoppedError, pause, retrying
from storage.batcher import MAX_READ, Batcher, BatchLimits
from storage.faults import is_transient
from storage.queue import Entry, PartitionQueue

_POLLS_PER_AGE: Final = 4
"""How often a batch that has begun looks for more. A read that waits would be answered once an entry instead."""
_START: Final = b"0-0"


@dataclass(frozen=True, slots=True)
class QueueTimes:
    """A reader's patience. `claim_idle_ms`: a consumer that has not been seen for so long is gone (one that waits for
    Redis up to its time limit is not); `held_ms`: an entry is taken from a living consumer too; `own_ms`: an own entry
    that is not in hand is read again; `claim_every_ms`: how often to look for all these; `consumer_idle_ms`: a consumer
    with nothing pending is forgotten; `block_ms`: how long one read waits for entries, and so how late a stop may be
    noticed; `life_ms`: how often one is seen, at least."""

    claim_idle_ms: int = 7_000
    held_ms: int = 600_000
    own_ms: int = 10_000
    claim_every_ms: int = 2_000
    consumer_idle_ms: int = 3_600_000
    block_ms: int = 1_000
    life_ms: int = 1_000


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


class QueueReader:
    """Makes batches until `stop`. `on_retry` is told of Redis' errors and of the seconds until the next attempt."""

    def __init__(
        self,
        queue: PartitionQueue,
        limits: BatchLimits,
        times: QueueTimes,
        *,
        stop: asyncio.Event,
        on_retry: Callable[[Exception, float], None],
    ) -> None:
        self._queue = queue
        self._batcher: Batcher[Entry] = Batcher(limits)
        self._poll_ms = max(1, limits.age_ms // _POLLS_PER_AGE)
        self._times = times
        self._stop = stop
        self._on_retry = on_retry
        self._unsettled: list[Sequence[Entry]] = []
        self._own_after: bytes | None = _START  # None: all read
        self._search_at_ms = _now_ms()
        self._seen_at_ms = 0
        self._has_looked_last = False

    async def next_batch(self) -> list[Entry]:
        """The next batch; after `stop` one more of what is there, so that what receivers queued while they ended is
        written, and then an empty one. A longer backlog is left to the next start."""
        while not self._stop.is_set() and (not len(self._batcher) or self._batcher.wait_ms(_now_ms())):
            try:
                entries = await retrying(self._read, stop=self._stop, is_transient=is_transient, on_retry=self._failed)
            except StoppedError:
                break
            self._batcher.add(entries, _now_ms())
        if self._stop.is_set() and not self._has_looked_last:
            self._has_looked_last = True
            await self._look_last()
        batch = self._batcher.take()
        self._unsettled.append(batch)
        return batch

    def settled(self, batch: Sequence[Entry]) -> None:
        """The batch is acknowledged."""
        self._unsettled = [other for other in self._unsettled if other is not batch]

    async def show_life(self, done: asyncio.Event) -> None:
        """Until `done`, see to it that nobody takes us for gone: while a batch waits for Postgres nothing is read."""
        while True:
            await pause(done, self._times.life_ms / 1_000)
            if done.is_set():
                return
            if _now_ms() - self._seen_at_ms < self._times.life_ms:
                continue
            try:
                await self._queue.show_life()
            except Exception as error:  # reading and settling meet the same, and tell of it
                if not is_transient(error):
                    raise

    async def _look_last(self) -> None:
        try:
            while room := self._batcher.room:
                entries = await self._queue.read_new(room, None)
                self._batcher.add(entries, _now_ms())
                if len(entries) < room:
                    return
        except Exception as error:  # what cannot be read now stays in the queue
            if not is_transient(error):
                raise

    async def _read(self) -> list[Entry]:
        room = self._batcher.room
        self._seen_at_ms = _now_ms()
        if self._own_after is not None:
            return await self._read_own(self._own_after, room)
        if _now_ms() >= self._search_at_ms:
            return await self._search(room)
        if not len(self._batcher):
            return await self._queue.read_new(room, self._times.block_ms)
        entries = await self._queue.read_new(room, None)
        if len(entries) < room:  # nothing is waiting
            await pause(self._stop, min(self._poll_ms, self._batcher.wait_ms(_now_ms())) / 1_000)
        return entries

    async def _read_own(self, after: bytes, room: int) -> list[Entry]:
        entries = await self._queue.read_own(after, room)
        self._own_after = entries[-1].id if entries else None
        return self._unheld(entries)

    async def _search(self, room: int) -> list[Entry]:
        """What nobody works on. Own entries too: a replica that becomes the primary may not have been told what was
        settled, and no error tells us."""
        await self._queue.forget_consumers(self._times.consumer_idle_ms)
        if not self._held.issuperset(await self._queue.own_for_long(self._times.own_ms, MAX_READ)):
            self._own_after = _START
        entries = await self._queue.take_over(self._times.claim_idle_ms, self._times.held_ms, room)
        if len(entries) < room:
            self._search_at_ms = _now_ms() + self._times.claim_every_ms
        return self._unheld(entries)

    @property
    def _held(self) -> set[bytes]:
        """The ids of what is in our hands."""
        return {entry.id for entry in chain(self._batcher, *self._unsettled)}

    def _unheld(self, entries: list[Entry]) -> list[Entry]:
        """Without those that are in our hands already: after a lost reply all of ours are read once more, and another
        may have taken some of them while we were frozen, and died since."""
        if not entries:
            return entries
        held = self._held
        return [entry for entry in entries if entry.id not in held]

    def _failed(self, error: Exception, delay_s: float) -> None:
        """A reply may be lost, and with it the entries that it gave us: they are pending now, so look there again. The
        others may have been cut off as well: give them time to be seen before they are taken for gone."""
        self._own_after = _START
        self._search_at_ms = _now_ms() + self._times.claim_idle_ms
        self._on_retry(error, delay_s)
