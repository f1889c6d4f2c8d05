"""What the HTTP side hands postbacks to: the recorder, and the spool for what it cannot reach Redis with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import structlog

from ingest.arrival import Waiting, read_all
from ingest.catalog import Advertiser
from ingest.limits import RateLimiter
from ingest.outcome import AWAY, SPOOLED, UNAVAILABLE, Outcome
from ingest.recorder import Recorder
from ingest.spool import Segment, Spool, SpoolFullError, next_segment, used_bytes
from storage.backoff import pause

DRAIN_BATCH: Final = 256
LOOK_EVERY_S: Final = 0.5

log = structlog.get_logger()


class IntakeObserver(Protocol):
    """Told what comes in and what becomes of it, beside what the recorder tells."""

    def received(self, count: int) -> None:
        """Postbacks came in; `answered` follows."""

    def answered(self, count: int) -> None:
        """As many of them have their outcome."""

    def refused(self, count: int) -> None:
        """Postbacks are stored nowhere: neither an engine nor the spool took them."""

    def spooled(self, count: int) -> None:
        """Postbacks are in the spool, on disk."""

    def drained(self, outcomes: Sequence[Outcome]) -> None:
        """Postbacks of the spool have these outcomes; what is UNAVAILABLE or in an unfinished batch comes again."""

    def spool_bytes(self, size: int) -> None:
        """What the spool takes on disk."""


class Intake:
    """Records; what Redis or Postgres being away keeps from being decided is spooled, and recorded when they are back.

    Once a batch has failed for Redis' sake, all go to the spool at once until Redis answers `ping` again: senders do
    not wait for a server that hangs.
    """

    def __init__(
        self,
        recorder: Recorder,
        spool: Spool,
        folder: Path,
        ping: Callable[[], Awaitable[bool]],
        observer: IntakeObserver,
    ) -> None:
        self._recorder = recorder
        self._spool = spool
        self._folder = folder
        self._ping = ping
        self._observer = observer
        self._is_away = False
        self._limiter = RateLimiter()
        self._recorded: dict[str, set[int]] = {}

    async def record(self, arrivals: Sequence[Waiting]) -> list[Outcome]:
        """One outcome for each, in order. What is SPOOLED is on disk, what is UNAVAILABLE is nowhere."""
        self._observer.received(len(arrivals))
        try:
            return await self._record(arrivals)
        finally:
            self._observer.answered(len(arrivals))

    async def _record(self, arrivals: Sequence[Waiting]) -> list[Outcome]:
        if self._is_away:
            return await self._put_aside(arrivals, [AWAY] * len(arrivals))
        outcomes = await self._recorder.record(arrivals, self._admit)
        if not any(outcome is AWAY for outcome in outcomes):
            return outcomes
        if not await self._ping():
            self._is_away = True
            log.warning("Redis is away: postbacks go to the spool")
        return await self._put_aside(arrivals, outcomes)

    async def problem(self) -> str | None:
        """What keeps postbacks from being taken; None if nothing does."""
        if self._is_away and not await asyncio.to_thread(self._spool.has_room):
            return "Redis is away and the spool is full"
        return None

    def _admit(self, advertiser: Advertiser, is_proven: bool) -> bool:
        """One sender's flood must not starve the others; nor may a stranger, who counts apart, use up an advertiser's
        share. What is drained was taken already, and passes."""
        rate = advertiser.rate_limit
        if rate is None:
            return True
        return self._limiter.admit((advertiser.id, is_proven), rate, time.monotonic_ns() // 1000)

    async def _put_aside(self, arrivals: Sequence[Waiting], outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes, with those that are AWAY spooled."""
        mine = [arrival for arrival, outcome in zip(arrivals, outcomes, strict=True) if outcome is AWAY]
        try:
            await self._spool.append(read_all(mine))
        except SpoolFullError:
            stored = UNAVAILABLE
            self._observer.refused(len(mine))
        else:
            stored = SPOOLED
            self._observer.spooled(len(mine))
        return [stored if outcome is AWAY else outcome for outcome in outcomes]

    async def drain(self, stop: asyncio.Event) -> None:
        """Until `stop`: notice that Redis is back, and record what the spool holds, oldest segment first."""
        while not stop.is_set():
            try:
                await self._look(stop)
            except OSError as error:
                log.error("spool cannot be drained", folder=str(self._folder), error=str(error))
            await pause(stop, LOOK_EVERY_S)
        await self._spool.seal()

    async def _look(self, stop: asyncio.Event) -> None:
        """Once: if Redis answers, record what the spool holds."""
        self._observer.spool_bytes(await asyncio.to_thread(used_bytes, self._folder))
        if not await self._ping():
            return
        if self._is_away:
            self._is_away = False
            log.info("Redis is back")
        await self._spool.seal()
        while not stop.is_set() and await self._drain_segment(stop):
            pass

    async def _drain_segment(self, stop: asyncio.Event) -> bool:
        """Whether the oldest free segment was recorded whole. What is left of it, for one partition of Redis cannot
        confirm, does not keep back the rest, and is taken the next time; another process begins anew, which is
        harmless: what was recorded is known by its ids."""
        segment = await asyncio.to_thread(next_segment, self._folder)
        if segment is None:
            return False
        arrivals, damage = await asyncio.to_thread(segment.read)
        recorded = self._recorded.setdefault(segment.path.name, set())
        left = [place for place in range(len(arrivals)) if place not in recorded]
        for start in range(0, len(left), DRAIN_BATCH):
            places = left[start : start + DRAIN_BATCH]
            outcomes = await self._recorder.record([arrivals[place] for place in places])
            done = {
                place: outcome
                for place, outcome in zip(places, outcomes, strict=True)
                if outcome is not AWAY and outcome is not UNAVAILABLE
            }
            recorded.update(done)
            self._observer.drained(list(done.values()))
            if stop.is_set() or not done:
                break
        if len(recorded) < len(arrivals):
            segment.release()
            return False
        del self._recorded[segment.path.name]
        return await self._finish(segment, len(arrivals), is_damaged=damage is not None and not damage.is_tail)

    async def _finish(self, segment: Segment, count: int, *, is_damaged: bool) -> bool:
        if is_damaged:
            log.error("spool segment is damaged: what follows is kept aside for a person", segment=segment.path.name)
        await asyncio.to_thread(segment.remove, keep_damaged=is_damaged)
        log.info("spool segment recorded", segment=segment.path.name, postbacks=count)
        return True
