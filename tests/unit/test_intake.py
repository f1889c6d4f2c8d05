"""The intake's drain of the spool: what Redis takes is recorded, whatever is in the same segment."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingest.arrival import Arrival
from ingest.intake import DRAIN_BATCH, Intake
from ingest.outcome import AWAY, Outcome, Result
from ingest.spool import Spool, used_bytes
from ingest.wire import pairs_of
from tests.catalogs import receipt
from tests.eventually import eventually

COUNT = 3 * DRAIN_BATCH + 7


class Recording:
    """A recorder that answers AWAY for the places in `away`; a place is the first pair's value."""

    def __init__(self, away: set[int]) -> None:
        self.away = away
        self.batches: list[list[int]] = []
        self.recorded: list[int] = []

    async def record(self, arrivals: Sequence[Arrival]) -> list[Outcome]:
        places = [int(pairs_of(arrival.sent)[0][1]) for arrival in arrivals]
        self.batches.append(places)
        self.recorded += [place for place in places if place not in self.away]
        return [AWAY if place in self.away else Outcome(Result.ACCEPTED) for place in places]


class Silent:
    """An observer that keeps what the spool takes."""

    size = 0

    def received(self, count: int) -> None: ...

    def answered(self, count: int) -> None: ...

    def refused(self, count: int) -> None: ...

    def spooled(self, count: int) -> None: ...

    def drained(self, outcomes: Sequence[Outcome]) -> None: ...

    def spool_bytes(self, size: int) -> None:
        self.size = size


async def _answers() -> bool:
    return True


@pytest.mark.parametrize("away", [{0}, {5, DRAIN_BATCH + 1}, {COUNT - 1}])
async def test_what_cannot_be_confirmed_keeps_nothing_else_back(tmp_path: Path, away: set[int]) -> None:
    spool, recording = Spool(tmp_path, max_bytes=1 << 20), Recording(set(away))
    await spool.append([Arrival(receipt(), [("click_id", str(place))]) for place in range(COUNT)])
    intake = Intake(recording, spool, tmp_path, _answers, Silent())  # type: ignore[arg-type]  # a recorder in memory
    stop = asyncio.Event()
    draining = asyncio.create_task(intake.drain(stop))

    async def recorded() -> int:
        return len(recording.recorded)

    await eventually(recorded, lambda found: found == COUNT - len(away))
    assert used_bytes(tmp_path)
    recording.away.clear()
    await eventually(recorded, lambda found: found == COUNT)
    stop.set()
    await draining
    assert sorted(recording.recorded) == list(range(COUNT)), "each once"
    assert not used_bytes(tmp_path)


async def test_where_nothing_is_taken_nothing_more_is_tried(tmp_path: Path) -> None:
    spool, recording = Spool(tmp_path, max_bytes=1 << 20), Recording(set(range(COUNT)))
    await spool.append([Arrival(receipt(), [("click_id", str(place))]) for place in range(COUNT)])
    intake = Intake(recording, spool, tmp_path, _answers, Silent())  # type: ignore[arg-type]  # a recorder in memory
    stop = asyncio.Event()
    draining = asyncio.create_task(intake.drain(stop))

    async def tries() -> int:
        return len(recording.batches)

    await eventually(tries, lambda found: found >= 2)
    stop.set()
    await draining
    assert {tuple(batch) for batch in recording.batches} == {tuple(range(DRAIN_BATCH))}
