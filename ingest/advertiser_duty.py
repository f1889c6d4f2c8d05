"""Tells, as a metric, when each advertiser was last heard of: one that is silent among many is seen by that."""

from __future__ import annotations

import asyncio
from math import nan
from typing import Final

import structlog

from ingest.metrics import Metrics
from storage.activity import fetch_last_received
from storage.backoff import pause
from storage.postgres import AWAY, Pool, PostgresError

EVERY_S: Final = 60.0

log = structlog.get_logger()


class AdvertiserDuty:
    """Runs beside a writer; what fails is logged and tried again."""

    def __init__(self, pool: Pool, metrics: Metrics) -> None:
        self._pool = pool
        self._last_received = metrics.gauge("postback_advertiser_last_received_seconds")
        self._told: set[int] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`."""
        while not stop.is_set():
            await self.look()
            await pause(stop, EVERY_S)

    async def look(self) -> None:
        """Once."""
        try:
            found = await fetch_last_received(self._pool)
        except (*AWAY, PostgresError) as error:
            log.warning("when advertisers were last heard of cannot be read", error=str(error), again_in_s=EVERY_S)
            return
        for advertiser_id, received_at in found.items():
            self._last_received.labels(str(advertiser_id)).set(received_at.timestamp())
        # A series that processes share cannot be taken away; no comparison is true of this one.
        for advertiser_id in self._told - found.keys():
            self._last_received.labels(str(advertiser_id)).set(nan)
        self._told = set(found)
