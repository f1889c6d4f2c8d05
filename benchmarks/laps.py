"""Looks at the processor time between the parts of what the product's own recorder does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.parts_report import Part
from dedup.port import Entry, Verdict
from dedup.redis import RedisDeduplicator
from dedup.wire import Wire
from ingest.app import expiry, rules_of
from ingest.catalog import Snapshot
from ingest.click_source import ClickSource
from ingest.config import Config
from ingest.fast_protocol import Heads, Read, Write
from ingest.outcome import Outcome
from ingest.plain import MakePlain, NothingPlain, plain_maker
from ingest.plain_requests import PlainRequests
from ingest.recorder import Recorder
from ingest.stored_clicks import StoredClicks


class Laps:
    """Processor time of this process by part."""

    def __init__(self) -> None:
        self._spent_s = dict.fromkeys(Part, 0.0)
        self._at_s = 0.0

    def begin(self) -> None:
        """What was since the last lap counts nowhere."""
        self._at_s = time.process_time()

    def lap(self, part: Part) -> None:
        """What was since the last lap was for this part."""
        now_s = time.process_time()
        self._spent_s[part] += now_s - self._at_s
        self._at_s = now_s

    def take(self) -> dict[Part, float]:
        """Seconds by part since the last call."""
        spent_s, self._spent_s = self._spent_s, dict.fromkeys(Part, 0.0)
        return spent_s


class TimedClicks(ClickSource):
    """Ends what comes before clicks are fetched, and the fetching."""

    def __init__(self, laps: Laps, claims: RedisDeduplicator, stored: StoredClicks, snapshot: Snapshot) -> None:
        super().__init__(claims, stored.lookup, expires_ms=expiry(lambda: snapshot, rules_of(Config())))
        self._laps = laps

    async def fetch(self, click_ids: Sequence[str], now_ms: int) -> dict[str, bytes | None]:
        """See ClickSource."""
        self._laps.lap(Part.PARSE)
        found = await super().fetch(click_ids, now_ms)
        self._laps.lap(Part.CLICK)
        return found


class TimedClaims(RedisDeduplicator):
    """Ends what comes before a claim, and the claim."""

    def __init__(self, laps: Laps, redis: Any, wire: Wire) -> None:
        super().__init__(redis, partitions=1, max_backlog=Config().redis.max_backlog, wire=wire)
        self._laps = laps

    async def claim(self, entries: Sequence[Entry]) -> list[Verdict]:
        """See RedisDeduplicator."""
        self._laps.lap(Part.DECIDE)
        verdicts = await super().claim(entries)
        self._laps.lap(Part.CLAIM)
        return verdicts


class _Nobody:
    def recorded(self, outcomes: Sequence[Outcome], seconds: float) -> None:
        """See RecorderObserver: metrics are no part of what is measured."""


@dataclass(frozen=True, slots=True)
class Way:
    """A receiver's code, but for its sockets."""

    read: Read
    recorder: Recorder
    write: Write


def by_rules(claims: TimedClaims, clicks: TimedClicks, snapshot: Snapshot) -> Way:
    """As where there is no compiled code."""
    return Way(_requests().read, _recorder(claims, clicks, snapshot, NothingPlain), Heads().write)


def compiled(claims: TimedClaims, clicks: TimedClicks, snapshot: Snapshot) -> Way:
    """As where there is, and there must be."""
    from ingest.compiled.requests import Answers, Requests  # noqa: PLC0415  it may not be there

    recorder = _recorder(claims, clicks, snapshot, plain_maker())
    return Way(Requests(_requests()).read, recorder, Answers(Heads().write).write)


def _requests() -> PlainRequests:
    return PlainRequests(Config().server.paths, ())


def _recorder(claims: TimedClaims, clicks: TimedClicks, snapshot: Snapshot, make_plain: MakePlain) -> Recorder:
    rules = rules_of(Config())
    return Recorder(claims, clicks, lambda: snapshot, rules, _Nobody(), make_plain=make_plain)
