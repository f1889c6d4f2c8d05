"""The writer: what receivers queued goes into Postgres in batches, and is acknowledged then. Each entry is delivered at
least once; the tables' primary keys make that exactly once."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from storage.backoff import StoppedError, retrying
from storage.batch_store import TIMEOUT_S, BatchCounts, BatchStore
from storage.batcher import BatchLimits
from storage.faults import is_transient
from storage.postgres import Pool
from storage.queue import Client, Entry, PartitionQueue
from storage.reader import QueueReader, QueueTimes

BATCH_BYTES: Final = 8 << 20

T = TypeVar("T")


class WriterObserver(Protocol):
    """Is told what happens, for logs and metrics. Must neither wait nor raise."""

    def committed(
        self, partition: int, entries: Sequence[Entry], counts: BatchCounts, *, seconds: float, oldest_age_s: float
    ) -> None:
        """A batch is in Postgres: how long storing took, and how long ago its first rows were queued."""

    def retried(self, partition: int, doing: str, error: Exception, *, delay_s: float) -> None:
        """An engine failed while `doing` "read", "store" or "settle"; the same again in `delay_s`. Nothing is lost."""

    def dead_letter(self, partition: int, entry: Entry, error: str) -> None:
        """Postgres refuses a row for its data: it is in dead_letters. The entry is that row alone."""


class Writer:
    """Drains every partition of the queue.

    `consumer` must be unique among the writers that run, and had better be the same after a restart: what was left
    pending is then taken up at once. The client needs a connection for each partition and a few more.
    """

    def __init__(
        self,
        client: Client,
        pool: Pool,
        *,
        partitions: int,
        consumer: str,
        observer: WriterObserver,
        batch_rows: int,
        batch_age_ms: int,
        batch_bytes: int = BATCH_BYTES,
        times: QueueTimes | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._queues = [PartitionQueue(client, partition, consumer) for partition in range(partitions)]
        self._store = BatchStore(pool, timeout_s=timeout_s)
        self._observer = observer
        self._limits = BatchLimits(batch_rows, batch_bytes, batch_age_ms)
        self._times = times or QueueTimes()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop`, then finish what was read. What Redis or Postgres then does not let us finish stays
        pending in the stream, for this or another writer. A cancellation or a defect sets `stop`, for all partitions.
        """
        async with asyncio.TaskGroup() as tasks:
            drains = [_Drain(queue, self._store, self._observer, stop) for queue in self._queues]
            working = [tasks.create_task(drain.run(self._limits, self._times)) for drain in drains]
            try:
                await asyncio.wait(working)
            finally:
                # Before Python 3.12 a cancellation can get lost in asyncio.wait_for, which redis-py uses to send.
                stop.set()


class _Drain:
    """One partition's work: while one batch is acknowledged the next is stored and a third is read."""

    def __init__(self, queue: PartitionQueue, store: BatchStore, observer: WriterObserver, stop: asyncio.Event) -> None:
        self._queue = queue
        self._store = store
        self._observer = observer
        self._stop = stop
        self._storing = asyncio.Lock()
        self._has_given_up = False

    async def run(self, limits: BatchLimits, times: QueueTimes) -> None:
        reader = QueueReader(self._queue, limits, times, stop=self._stop, on_retry=self._on_retry("read"))
        done = asyncio.Event()
        async with asyncio.TaskGroup() as beside:
            beside.create_task(reader.show_life(done))
            try:
                await self._work(reader)
            finally:
                done.set()

    async def _work(self, reader: QueueReader) -> None:
        settling: deque[asyncio.Task[None]] = deque()
        async with asyncio.TaskGroup() as tasks:
            while batch := await reader.next_batch():
                if len(settling) == 2:
                    await settling.popleft()
                settling.append(tasks.create_task(self._settle(reader, batch)))

    async def _settle(self, reader: QueueReader, batch: Sequence[Entry]) -> None:
        """Store the batch, then acknowledge it."""
        try:
            async with self._storing:
                if self._has_given_up:
                    return
                if entries := [entry for entry in batch if not entry.is_gone]:
                    await self._record(entries)
            await self._retrying("settle", lambda: self._queue.settle(batch))
        except StoppedError:
            self._has_given_up = True  # what one batch found away, the next need not wait for
            return
        reader.settled(batch)

    async def _record(self, entries: Sequence[Entry]) -> None:
        began = time.monotonic()
        counts = await self._store.store(
            entries,
            lambda operation: self._retrying("store", operation),
            lambda entry, error: self._observer.dead_letter(self._queue.partition, entry, error),
        )
        oldest_ms = min(entry.queued_ms for entry in entries)
        self._observer.committed(
            self._queue.partition,
            entries,
            counts,
            seconds=time.monotonic() - began,
            oldest_age_s=max(0.0, time.time() - oldest_ms / 1_000),
        )

    async def _retrying(self, doing: str, operation: Callable[[], Awaitable[T]]) -> T:
        return await retrying(operation, stop=self._stop, is_transient=is_transient, on_retry=self._on_retry(doing))

    def _on_retry(self, doing: str) -> Callable[[Exception, float], None]:
        def tell(error: Exception, delay_s: float) -> None:
            self._observer.retried(self._queue.partition, doing, error, delay_s=delay_s)

        return tell
