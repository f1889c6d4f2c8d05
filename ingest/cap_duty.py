"""Counts all caps anew from time to time: what was held by a process that died is given back, and counters are known
before they are first asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import groupby
from typing import Final

import structlog

from ingest.cap_recount import FAILURES, CapRecount, Job
from ingest.caps import Scope
from ingest.catalog import CapMeasure, CapPeriod
from ingest.metrics import Metrics
from storage.backoff import pause
from storage.caps import CapRow, read_caps
from storage.postgres import Pool, borrowed

EVERY_S: Final = 10.0
SHARE: Final = 20
"""The pause after a round is at least so many times what the round took."""
LIMIT_S: Final = 10.0
RETRY_S: Final = 30.0

log = structlog.get_logger()


class CapDuty:
    """Runs beside a writer; what fails is logged and tried again."""

    def __init__(self, recount: CapRecount, pool: Pool, metrics: Metrics) -> None:
        self._recount = recount
        self._pool = pool
        self._counted = metrics.counter("postback_caps_counted")

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            await pause(stop, await self._round())

    async def _round(self) -> float:
        """Seconds until the next one is due."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with borrowed(self._pool, LIMIT_S) as connection:
                rows = await read_caps(connection)
            if rows:
                self._counted.inc(await self._recount.all(jobs_of(rows)))
        except FAILURES as error:
            log.warning("caps cannot be counted anew", error=str(error), again_in_s=RETRY_S)
            return RETRY_S
        return max(EVERY_S, SHARE * (loop.time() - began))


def jobs_of(rows: Iterable[CapRow]) -> list[Job]:
    """What there is to count, by campaign; the rows are in order of campaigns."""
    return [
        Job(
            campaign_id,
            timezone,
            tuple(
                Scope(row.goal_id, row.publisher_id, row.each_publisher, CapMeasure(row.measure), CapPeriod(row.period))
                for row in mine
            ),
        )
        for (campaign_id, timezone), mine in groupby(rows, lambda row: (row.campaign_id, row.timezone))
    ]
