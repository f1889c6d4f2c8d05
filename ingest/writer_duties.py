"""What a writer does beside writing: partitions ahead of time and dropped in time, holds that have passed, rollups,
and the backlog as a metric."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import structlog
from redis.exceptions import RedisError

from dedup.scripts import Client
from ingest.metrics import Metrics
from storage.holds import release_holds
from storage.partitions import ahead_until, ensure_ahead
from storage.postgres import AWAY, Pool, PostgresError, borrowed
from storage.queue import queue_key
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
        partitions_due = holds_due = rollups_due = retention_due = loop.time()
        while not stop.is_set():
            await self._measure_backlog()
            if loop.time() >= partitions_due:
                partitions_due = loop.time() + await self._make_partitions()
            if loop.time() >= holds_due:
                holds_due = loop.time() + await self._release_holds()
            if loop.time() >= rollups_due:
                rollups_due = loop.time() + await self._fold_rollups(stop)
            if loop.time() >= retention_due:
                retention_due = loop.time() + await self._drop_what_is_old(stop)
            try:
                async with asyncio.timeout(BACKLOG_EVERY_S):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _measure_backlog(self) -> None:
        try:
            for partition in range(self._partitions):
                # Both of one moment, so that their difference, what has been acknowledged, is exact.
                stream = await self._redis.xinfo_stream(queue_key(partition))
                self._backlog.labels(str(partition)).set(stream["length"])
                self._queued.labels(str(partition)).set(stream.get("entries-added", 0))
        except (RedisError, OSError) as error:
            log.debug("backlog cannot be measured", error=str(error))

    async def _make_partitions(self) -> float:
        """Seconds until it is due again."""
        try:
            async with borrowed(self._pool, PARTITIONS_LIMIT_S) as connection:
                now = datetime.now(UTC)
                made = await ensure_ahead(connection, now, self._keep.window_ms)
        except (*AWAY, PostgresError) as error:
            log.warning("partitions cannot be made ahead", error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        self._partitions_until.set(ahead_until(now).timestamp())
        if made:
            log.info("partitions made", partitions=made)
        return PARTITIONS_EVERY_S

    async def _drop_what_is_old(self, stop: asyncio.Event) -> float:
        """Seconds until it is due again."""
        try:
            async with borrowed(self._pool, RETENTION_LIMIT_S) as connection:
                await drop_expired(connection, self._keep, "retention", self._note_dropped)
            deleted = MAX_CLICKS
            while deleted == MAX_CLICKS and not stop.is_set():
                async with borrowed(self._pool, RETENTION_LIMIT_S) as connection:
                    deleted = await delete_old_clicks(connection, self._keep) or 0
                self._clicks_deleted.inc(deleted)
        except (*AWAY, PostgresError) as error:
            log.warning("what is old cannot be dropped", error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        return RETENTION_EVERY_S

    def _note_dropped(self, dropped: Sequence[Partition]) -> None:
        for partition in dropped:
            self._dropped.labels(partition.table).inc()
        log.info("partitions dropped", partitions=[partition.name for partition in dropped])

    async def _release_holds(self) -> float:
        """Seconds until it is due again."""
        try:
            async with borrowed(self._pool, HOLDS_LIMIT_S) as connection:
                approved = await release_holds(connection)
        except (*AWAY, PostgresError) as error:
            log.warning("holds that have passed cannot be approved", error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        if approved:
            log.info("holds have passed", approved=approved)
        return HOLDS_EVERY_S

    async def _fold_rollups(self, stop: asyncio.Event) -> float:
        """Seconds until it is due again."""
        try:
            while not stop.is_set():
                async with borrowed(self._pool, ROLLUPS_LIMIT_S) as connection:
                    folded = await fold(connection)
                if folded is None:  # another writer is at it
                    break
                self._rollup_lag.set(folded.lag_s)
                if folded.is_all:
                    break
        except (*AWAY, PostgresError) as error:
            log.warning("rollups cannot be brought up to date", error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        return ROLLUPS_EVERY_S
