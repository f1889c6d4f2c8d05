"""Parked postbacks whose click has come are recorded; those whose time is over go into the log."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

import structlog

from ingest.arrival import Arrival
from ingest.click_source import ClickSource
from ingest.logs import said
from ingest.outcome import AWAY, UNAVAILABLE, Result
from ingest.parking import MAX_PARKED, Parking
from ingest.recorder import Recorder
from ingest.vault import VaultError
from storage.backoff import pause
from storage.parked import (
    MAX_EXPIRED,
    MAX_TAKEN,
    ParkedPostback,
    count_parked,
    drop_parked,
    expire_parked,
    take_parked,
)
from storage.postgres import AWAY as POSTGRES_AWAY
from storage.postgres import Pool, PostgresError, borrowed

LOOK_EVERY_S: Final = 1.0
"""How soon a receiver finds what became due by another's doing."""
REST_S: Final = 0.05
"""Between two looks at the least, however many clicks are registered."""
COUNT_EVERY_S: Final = 5.0
LIMIT_S: Final = 5.0

log = structlog.get_logger()


class UnparkingObserver(Protocol):
    """Told what becomes of parked postbacks."""

    def parked(self, count: int) -> None:
        """So many are parked now."""

    def unparked(self, count: int) -> None:
        """Their clicks have come and they were recorded; the recorder tells with what outcomes."""

    def expired(self, count: int) -> None:
        """Their time is over and they are in the log."""


class Unparking:
    """Many receivers share the work: each takes some, and what it does not come to record is left to the others. One
    that is recorded twice finds its own claim, and its own row."""

    def __init__(
        self, parking: Parking, recorder: Recorder, clicks: ClickSource, pool: Pool, observer: UnparkingObserver
    ) -> None:
        self._parking = parking
        self._recorder = recorder
        self._clicks = clicks
        self._pool = pool
        self._observer = observer
        self._woken = asyncio.Event()
        self._is_away = False
        self._count_due_s = 0.0

    def wake(self) -> None:
        """Look at once: clicks were registered, or it is time to stop."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; `wake` it then."""
        while not stop.is_set():
            self._woken.clear()
            try:
                await self._look(stop)
                self._is_away = False
            except (*POSTGRES_AWAY, PostgresError) as error:
                if not self._is_away:
                    log.warning("parked postbacks wait for Postgres", error=said(error))
                self._is_away = True
            await asyncio.sleep(REST_S)
            await pause(self._woken, LOOK_EVERY_S)

    async def _look(self, stop: asyncio.Event) -> None:
        """Once: record what is due, log what is over."""
        taken = MAX_TAKEN
        while taken == MAX_TAKEN and not stop.is_set():
            taken = await self._record_due()
        expired = MAX_EXPIRED
        while expired == MAX_EXPIRED and not stop.is_set():
            expired = await self._log_expired()
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._count_due_s:
            self._count_due_s = now_s + COUNT_EVERY_S
            await self._count()

    async def _record_due(self) -> int:
        """How many were taken, none if an engine is away. What is not recorded is due again in some seconds."""
        async with borrowed(self._pool, LIMIT_S) as connection:
            taken = await take_parked(connection, self._parking.key_ids)
        if not taken:
            return 0
        # What was missed before the click came would hide it.
        self._clicks.forget_misses(click_id for parked in taken for click_id in parked.click_ids)
        arrivals = list(self._opened(taken))
        outcomes = await self._recorder.record(arrivals)
        self._observer.unparked(sum(outcome is not AWAY for outcome in outcomes))
        done = [
            arrival.receipt.postback_id
            for arrival, outcome in zip(arrivals, outcomes, strict=True)
            if outcome is not AWAY and outcome is not UNAVAILABLE and outcome.result is not Result.PARKED
        ]
        if not done:
            return 0
        async with borrowed(self._pool, LIMIT_S) as connection:
            await drop_parked(connection, done)
        return len(taken)

    def _opened(self, taken: Sequence[ParkedPostback]) -> Iterator[Arrival]:
        for parked in taken:
            try:
                yield self._parking.open(parked)
            except VaultError as error:
                log.error("parked postback cannot be opened", postback_id=parked.postback_id.hex(), error=str(error))

    async def _log_expired(self) -> int:
        async with borrowed(self._pool, LIMIT_S) as connection:
            expired = await expire_parked(connection)
        self._observer.expired(expired.count)
        if expired.abandoned:
            log.error(
                "postbacks were rejected though their clicks came: no receiver opened them", lost=expired.abandoned
            )
        return expired.count

    async def _count(self) -> None:
        async with borrowed(self._pool, LIMIT_S) as connection:
            count = await count_parked(connection)
        self._parking.is_full = count >= MAX_PARKED
        self._observer.parked(count)
