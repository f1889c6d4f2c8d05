"""Counters of caps, counted anew: from what is stored, what is on its way there, and what postbacks hold.

A conversion moves one way only: held, queued, stored. What is looked at in that order is seen at least once; what is
taken or given back meanwhile moves the counters by itself and is kept. So a count never comes out too low, and it is
exact when nothing is on its way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import Final
from uuid import uuid4

import msgspec
from redis.exceptions import RedisError

from dedup.cap_types import Standing
from dedup.caps import CapCounters
from dedup.scripts import Client
from ingest.caps import Period, Scope, Tally, add_up, belongs, period_of, periods_since
from ingest.reasons import Reason
from storage.caps import Queued, Stored, queued_conversions, stored_tallies
from storage.postgres import AWAY, Pool, PostgresError

KEPT_US: Final = 2 * 86_400_000_000
"""How far back periods are counted, unless somebody asks for earlier ones."""
GRACE_MS: Final = 10_000
"""How old counters must be before they are filled for the first time. When Redis loses its memory, claims may be under
way whose holds were lost with it; by then they are in the queue."""
FAILURES: Final[tuple[type[Exception], ...]] = (*AWAY, PostgresError, RedisError)
"""What a count may raise; trying again helps."""
MAX_JOBS: Final = 16
"""Campaigns that one reading of the queue is for."""
LIMIT_S: Final = 30.0
"""How long Postgres may take for one campaign."""


class Job(msgspec.Struct, frozen=True, gc=False):
    """A campaign's counters: what they count, in which time zone, and from when on at least (epoch µs)."""

    campaign_id: int
    timezone: str
    scopes: tuple[Scope, ...]
    since_us: int | None = None


class CapRecount:
    """Counts anew, one at a time for each campaign, whoever asks."""

    def __init__(
        self, counters: CapCounters, redis: Client, pool: Pool, *, partitions: int, grace_ms: int = GRACE_MS
    ) -> None:
        self._counters = counters
        self._redis = redis
        self._pool = pool
        self._partitions = partitions
        self._grace_ms = grace_ms
        self._counting = asyncio.Lock()  # one connection to Postgres: clicks are looked up over the others

    async def ensure(self, job: Job) -> bool:
        """Count a campaign anew unless what the job asks for is known by now. False: somebody else counts. Raises
        one of FAILURES."""
        who = uuid4().hex
        await self._let_age([job], who)
        async with self._counting:
            standing = await self._begin(job, who)
            if standing is None:
                return False
            since = _known_since(job, _periods(job, standing.now_ms))
            if all(standing.known.get(scope, start_ms + 1) <= start_ms for scope, start_ms in since.items()):
                return await self._counters.finish(job.campaign_id, who, {}, {})
            return await self._count([(job, standing)], who, prune=False) == 1

    async def all(self, jobs: Sequence[Job]) -> int:
        """Count campaigns anew, and forget what none of their caps counts any more; how many. What somebody else counts
        is left out. Raises as above."""
        who = uuid4().hex
        await self._let_age(jobs, who)
        counted = 0
        for start in range(0, len(jobs), MAX_JOBS):
            async with self._counting:
                part = jobs[start : start + MAX_JOBS]
                begun = [(job, standing) for job in part if (standing := await self._begin(job, who)) is not None]
                counted += await self._count(begun, who, prune=True)
        return counted

    async def _let_age(self, jobs: Sequence[Job], who: str) -> None:
        """Wait until all counters are old enough to be filled, without keeping anybody from them."""
        found = [await self._counters.begin(job.campaign_id, who, lock_ms=0) for job in jobs]
        youngest_ms = min((standing.age_ms for standing in found if standing is not None), default=self._grace_ms)
        if youngest_ms < self._grace_ms:
            await asyncio.sleep((self._grace_ms - youngest_ms) / 1000)

    async def _begin(self, job: Job, who: str) -> Standing | None:
        standing = await self._counters.begin(job.campaign_id, who)
        return standing if standing is not None and standing.age_ms >= self._grace_ms else None

    async def _count(self, begun: Sequence[tuple[Job, Standing]], who: str, *, prune: bool) -> int:
        if not begun:
            return 0
        queued = await queued_conversions(self._redis, self._partitions, {job.campaign_id for job, _ in begun})
        counted = 0
        for job, standing in begun:
            mine = [one for one in queued if one.campaign_id == job.campaign_id]
            counted += await self._correct(job, standing, mine, who, prune=prune)
        return counted

    async def _correct(self, job: Job, standing: Standing, queued: list[Queued], who: str, *, prune: bool) -> bool:
        periods = _periods(job, standing.now_ms)
        ids = {one.conversion_id for one in queued} | {one.conversion_id for one in standing.open}
        spans = [(period.start_us, period.end_us) for period in periods]
        stored = await stored_tallies(self._pool, job.campaign_id, spans, ids, LIMIT_S)
        # Who holds and is in the queue already is one; another postback of the same event holds for itself.
        seen = stored.known | {(one.conversion_id, one.received_us) for one in queued}
        held = [one for one in standing.open if (one.conversion_id, one.received_us) not in seen]
        keys = {period.key for period in periods}
        scopes = {scope.name for scope in job.scopes}
        totals = add_up(job.scopes, _tallies(job, periods, stored, queued), held, keys)
        before = {counter: taken for counter, taken in standing.counters.items() if belongs(counter, scopes, keys)}
        differences = {
            counter: totals.get(counter, 0) - before.get(counter, 0) for counter in totals.keys() | before.keys()
        }
        return await self._counters.finish(
            job.campaign_id,
            who,
            {counter: difference for counter, difference in differences.items() if difference},
            _known_since(job, periods),
            gone_counters=_gone(standing.counters.keys() - before.keys(), scopes, periods) if prune else (),
            gone_scopes=[scope for scope in standing.known if scope not in scopes] if prune else (),
        )


def _periods(job: Job, now_ms: int) -> list[Period]:
    """All that is counted, in order for each kind."""
    now_us = now_ms * 1000
    since_us = now_us - KEPT_US if job.since_us is None else min(job.since_us, now_us - KEPT_US)
    kinds = {scope.period for scope in job.scopes}
    return [period for kind in sorted(kinds) for period in periods_since(kind, job.timezone, since_us, now_us)]


def _known_since(job: Job, periods: Sequence[Period]) -> dict[str, int]:
    """When the first period of each scope began, epoch ms."""
    return {
        scope.name: min(period.start_ms for period in periods if period.kind is scope.period) for scope in job.scopes
    }


def _tallies(job: Job, periods: Sequence[Period], stored: Stored, queued: Sequence[Queued]) -> Iterator[Tally]:
    """What is stored, then what is on its way."""
    for place, goal_id, publisher_id, *sums in stored.tallies:
        yield Tally(periods[place].key, goal_id, publisher_id, *sums)
    stored_ids = {conversion_id for conversion_id, _ in stored.known}
    kinds = {period.kind for period in periods}
    for one in {one.conversion_id: one for one in (*stored.dead, *queued)}.values():
        if one.conversion_id in stored_ids or one.reason == Reason.OVER_CAP:
            continue
        for kind in kinds:
            key = period_of(kind, job.timezone, one.received_us).key
            yield Tally(key, one.goal_id, one.publisher_id, 1, one.revenue_micros, one.payout_micros)


def _gone(counters: Iterable[str], scopes: AbstractSet[str], periods: Sequence[Period]) -> list[str]:
    """Those that nobody counts any more: of no scope, or of an earlier period than those that are counted."""
    first = {len(period.key): period.key for period in reversed(periods)}
    found = []
    for counter in counters:
        key = counter.rpartition(":")[2]
        if not belongs(counter, scopes, {key}) or key < first[len(key)]:
            found.append(counter)
    return found
