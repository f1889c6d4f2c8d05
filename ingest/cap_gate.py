"""The step between decision and claim where caps are: room is taken for each conversion, or it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec
import structlog

from dedup.cap_types import End, Hold
from dedup.caps import HELD, UNAVAILABLE, UNKNOWN, CapCounters
from dedup.port import Verdict
from ingest.cap_recount import FAILURES, Job
from ingest.caps import Scope, concerning, hold_of, over
from ingest.catalog import Cap, CapAction, Snapshot
from ingest.decide import Decision

PATIENCE_S: Final = 1.0
"""How long a batch waits for counters that are counted anew; then what they concern is spooled."""
RETRY_S: Final = 1.0
"""Pause before a count that failed is tried again."""
ASK_S: Final = 0.05
"""Pause before it is looked again whether another process has counted."""
HOLD_S: Final = 3.0
"""How old a hold may be when its claim begins: a count that begins after a loss waits longer than that."""

_ENDS: Final = {
    Verdict.ACCEPTED: End.COUNTED,
    Verdict.DUPLICATE: End.GIVEN_BACK,
    Verdict.CONFLICT: End.GIVEN_BACK,
    Verdict.FULL: End.UNCOUNTED,
}
"""Without an entry: nobody knows. What is held stays so until the same postback comes again or it is counted anew."""

log = structlog.get_logger()


class CapObserver(Protocol):
    """Told what caps do."""

    def over_cap(self, action: CapAction) -> None:
        """A conversion was counted that is over a cap."""

    def unknown(self, count: int) -> None:
        """Postbacks could not be decided, for counters are not known."""


class Passed(msgspec.Struct, frozen=True, gc=False):
    """Decisions that may be claimed now. `places`: theirs among those that were asked for; `holds`: by place among
    `decisions`; `over`: likewise, what becomes of those that are over."""

    places: list[int]
    decisions: list[Decision]
    holds: list[tuple[int, Hold]]
    over: list[tuple[int, CapAction]]


class _Count(msgspec.Struct):
    """A count of one campaign: until when a batch waits for it, by the loop's clock; after a failure, none does."""

    task: asyncio.Task[bool]
    patience_until: float


class CapGate:
    """Holds room under caps before decisions are claimed. `ensure` counts a campaign anew; see `ingest.cap_recount`."""

    def __init__(self, counters: CapCounters, ensure: Callable[[Job], Awaitable[bool]], observer: CapObserver) -> None:
        self._counters = counters
        self._ensure = ensure
        self._observer = observer
        self._counts: dict[int, _Count] = {}

    async def hold(self, decisions: Sequence[Decision], snapshot: Snapshot) -> Passed:
        """What may be claimed now, and as what; those are left out whose counters nobody knows. Never raises for an
        engine's sake. `settle` must follow the claim."""
        began = asyncio.get_running_loop().time()
        caps: dict[int, list[Cap]] = {}
        holds: dict[int, Hold] = {}
        for place, decision in enumerate(decisions):
            concerned = concerning(decision, snapshot)
            if concerned:
                caps[place] = [cap for cap, _ in concerned]
                holds[place] = hold_of(decision, [charge for _, charge in concerned])
        results = await self._reserve(holds, snapshot)
        if asyncio.get_running_loop().time() - began > HOLD_S:
            results = dict.fromkeys(results, UNAVAILABLE)
        passed = Passed([], [], [], [])
        for place, decision in enumerate(decisions):
            result = results.get(place)
            if result in (UNKNOWN, UNAVAILABLE):
                continue
            if result is not None and result > HELD:
                cap = caps[place][result - 1]
                passed.over.append((len(passed.places), cap.action))
                passed.decisions.append(over(decision, cap))
                passed.places.append(place)
                continue
            if result == HELD:
                passed.holds.append((len(passed.places), holds[place]))
            passed.decisions.append(decision)
            passed.places.append(place)
        if len(passed.places) < len(decisions):
            self._observer.unknown(len(decisions) - len(passed.places))
        return passed

    async def settle(self, passed: Passed, verdicts: Sequence[Verdict]) -> None:
        """Keep what was counted, give back what was not."""
        ends = [(hold, end) for place, hold in passed.holds if (end := _ENDS.get(verdicts[place])) is not None]
        if ends:
            await self._counters.settle(ends)
        for place, action in passed.over:
            if verdicts[place] is Verdict.ACCEPTED:
                self._observer.over_cap(action)

    async def close(self) -> None:
        """End what is under way."""
        tasks = [count.task for count in self._counts.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _reserve(self, holds: dict[int, Hold], snapshot: Snapshot) -> dict[int, int]:
        if not holds:
            return {}
        results = dict(zip(holds, await self._counters.reserve(list(holds.values())), strict=True))
        unknown = {place: holds[place] for place, result in results.items() if result == UNKNOWN}
        if unknown and await self._learn(unknown.values(), snapshot):
            results.update(zip(unknown, await self._counters.reserve(list(unknown.values())), strict=True))
        return results

    async def _learn(self, holds: Iterable[Hold], snapshot: Snapshot) -> bool:
        """Have the holds' campaigns counted anew; whether it makes sense to ask again."""
        since_us: dict[int, int] = {}
        for hold in holds:
            since_us[hold.campaign_id] = min(hold.received_us, since_us.get(hold.campaign_id, hold.received_us))
        now = asyncio.get_running_loop().time()
        counts = [self._count(job_of(campaign_id, snapshot, since), now) for campaign_id, since in since_us.items()]
        patience_s = max(count.patience_until for count in counts) - now
        tasks = [count.task for count in counts]
        if patience_s > 0:
            await asyncio.wait(tasks, timeout=patience_s)
        return any(task.done() and not task.cancelled() and task.result() for task in tasks)

    def _count(self, job: Job, now: float) -> _Count:
        """The count that is under way, or a new one."""
        count = self._counts.get(job.campaign_id)
        if count is not None and not count.task.done():
            return count
        has_failed = count is not None and not count.task.result()
        task = asyncio.create_task(self._run(job, RETRY_S if has_failed else 0.0))
        count = self._counts[job.campaign_id] = _Count(task, now if has_failed else now + PATIENCE_S)
        return count

    async def _run(self, job: Job, pause_s: float) -> bool:
        """Whether the campaign is known now."""
        try:
            await asyncio.sleep(pause_s)
            while not await self._ensure(job):  # noqa: ASYNC110  another process counts, and only Redis knows
                await asyncio.sleep(ASK_S)
        except FAILURES as error:
            log.warning("caps cannot be counted anew", campaign=job.campaign_id, error=str(error), again_in_s=RETRY_S)
            return False
        return True


def job_of(campaign_id: int, snapshot: Snapshot, since_us: int | None = None) -> Job:
    """What there is to count of a campaign."""
    campaign = snapshot.campaigns[campaign_id]
    scopes = {Scope.of(cap): None for goal in campaign.goals.values() for cap in goal.caps}
    return Job(campaign_id, campaign.timezone, tuple(scopes), since_us)
