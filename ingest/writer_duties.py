"""What a writer does beside writing: partitions ahead of time and dropped in time, holds that have passed, rollups,
and the backlog as a metric."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import structlog
from redis.exceptions import RedisError

from dedup.scripts import Client
from ingest.metrics import Metrics
from storage.backoff import pause
from storage.holds import release_holds
from storage.partitions import ahead_until, ensure_ahead
from storage.postgres import AWAY, Pool, PostgresError, borrowed
from storage.queue import read_backlog
from storage.retention import MAX_CLICKS, Keep, Partition, delete_old_clicks, drop_expired
from storage.rollups import fold

BACKLOG_EVERY_S: Final = 5.0
PARTITIONS_EVERY_S: Final = 3600.0
PARTITIONS_LIMIT_S: Final = 10.0
HOLDS_EVERY_S: Final = 10.0
HOLDS_LIMIT_S: Final = 10.0
ROLLUPS_EVERY_S: Final = 5.0
ROLLUPS_LIMIT_S: Final = 20.0
RETENTION_EVERY_S: Final = 3600.0
RETENTION_LIMIT_S: Final = 60.0
RETRY_S: Final = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Duty:
    """Something to do every so often; `problem` says what a failure means."""

    every_s: float
    problem: str
    work: Callable[[], Awaitable[None]]

    async def attempt(self) -> float:
        """Seconds until it is due again."""
        try:
            await self.work()
        except (*AWAY, PostgresError) as error:
            log.warning(self.problem, error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        return self.every_s


class WriterDuties:
    """Runs beside a Writer; what fails is logged and tried again."""

    def __init__(self, redis: Client, pool: Pool, metrics: Metrics, *, partitions: int, keep: Keep) -> None:
        self._redis = redis
        self._pool = pool
        self._backlog = metrics.gauge("postback_backlog")
        self._queued = metrics.gauge("postback_queued")
        self._partitions_until = metrics.gauge("postback_partitions_until_seconds")
        self._rollup_lag = metrics.gauge("postback_rollup_lag_seconds")
        self._dropped = metrics.counter("postback_partitions_dropped")
        self._clicks_deleted = metrics.counter("postback_clicks_deleted")
        self._partitions = partitions
        self._keep = keep

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        loop = asyncio.get_running_loop()
        duties = (
            _Duty(PARTITIONS_EVERY_S, "partitions cannot be made ahead", self._make_partitions),
            _Duty(HOLDS_EVERY_S, "holds that have passed cannot be approved", self._release_holds),
            _Duty(ROLLUPS_EVERY_S, "rollups cannot be brought up to date", lambda: self._fold_rollups(stop)),
            _Duty(RETENTION_EVERY_S, "what is old cannot be dropped", lambda: self._drop_what_is_old(stop)),
        )
        due = [loop.time()] * len(duties)
        while not stop.is_set():
            await self._measure_backlog()
            for place, duty in enumerate(duties):
                if loop.time() >= due[place]:
                    due[place] = loop.time() + await duty.attempt()
            await pause(stop, BACKLOG_EVERY_S)

    async def _measure_backlog(self) -> None:
        try:
            for partition in range(self._partitions):
                # Both of one moment, so that their difference, what has been acknowledged, is exact.
                backlog = await read_backlog(self._redis, partition)
                self._backlog.labels(str(partition)).set(backlog.waiting)
                self._queued.labels(str(partition)).set(backlog.queued)
        except (RedisError, OSError) as error:
            log.debug("backlog cannot be measured", error=str(error))

    async def _make_partitions(self) -> None:
        async with borrowed(self._pool, PARTITIONS_LIMIT_S) as connection:
            now = datetime.now(UTC)
            made = await ensure_ahead(connection, now, self._keep.window_ms)
        self._partitions_until.set(ahead_until(now).timestamp())
        if made:
            log.info("partitions made", partitions=made)

    async def _drop_what_is_old(self, stop: asyncio.Event) -> None:
        async with borrowed(self._pool, RETENTION_LIMIT_S) as connection:
            await drop_expired(connection, self._keep, "retention", self._note_dropped)
        deleted = MAX_CLICKS
        while deleted == MAX_CLICKS and not stop.is_set():
            async with borrowed(self._pool, RETENTION_LIMIT_S) as connection:
                deleted = await delete_old_clicks(connection, self._keep) or 0
            self._clicks_deleted.inc(deleted)

    def _note_dropped(self, dropped: Sequence[Partition]) -> None:
        for partition in dropped:
            self._dropped.labels(partition.table).inc()
        log.info("partitions dropped", partitions=[partition.name for partition in dropped])

    async def _release_holds(self) -> None:
        async with borrowed(self._pool, HOLDS_LIMIT_S) as connection:
            approved = await release_holds(connection)
        if approved:
            log.info("holds have passed", approved=approved)

    async def _fold_rollups(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            async with borrowed(self._pool, ROLLUPS_LIMIT_S) as connection:
                folded = await fold(connection)
            if folded is None:  # another writer is at it
                return
            self._rollup_lag.set(folded.lag_s)
            if folded.is_all:
                return
