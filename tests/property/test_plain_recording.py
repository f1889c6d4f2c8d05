"""The recorder with compiled code and without: whole batches have the same outcomes, queue, clicks asked for and
metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace as changed

from dedup.port import Entry, Verdict
from ingest.arrival import Arrival
from ingest.catalog import Advertiser
from ingest.click_source import ClickSource
from ingest.clicks import Click, unpack_click
from ingest.decide import Decision
from ingest.metrics import Metrics
from ingest.observers import RecorderMetrics
from ingest.outcome import Outcome
from ingest.plain import MakePlain, NothingPlain, plain_maker
from ingest.recorder import Recorder
from tests.plain_cases import Case, cases
from tests.plain_postbacks import nearly_plain_case, plain_case
from tests.property.test_plain import many
from tests.unit.test_recorder import Lookup, MemoryDeduplicator

make_plain = plain_maker()
pytestmark = pytest.mark.skipif(make_plain is NothingPlain, reason="the compiled code is not built")

STATES: Final = ("ok", "ok", "ok", "ok", "clicks away", "claims away", "full", "some room", "no look-up")


@dataclass
class Batch:
    """Some of the case's arrivals, by place, and how the engines are while they are recorded."""

    places: list[int]
    state: str
    is_admitted: bool = True


@dataclass
class Seen:
    """All that can be seen of the recording of batches."""

    outcomes: list[list[Outcome] | str] = field(default_factory=list)
    queue: list[tuple[bytes, Entry]] = field(default_factory=list)
    claimed: list[list[Entry]] = field(default_factory=list)
    cached: dict[str, bytes] = field(default_factory=dict)
    looked_up: list[set[str]] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)


class Room(MemoryDeduplicator):
    """With room for some entries of a batch only, when told so."""

    def __init__(self) -> None:
        super().__init__()
        self.room: int | None = None

    async def claim(self, entries: Sequence[Entry]) -> list[Verdict]:
        room = len(entries) if self.room is None else self.room
        return await super().claim(entries[:room]) + [Verdict.FULL] * len(entries[room:])


def park(arrival: Arrival, decision: Decision, click_ids: Sequence[str]) -> Decision:
    params: dict[str, object] = {"click_ids": len(click_ids)}
    return changed(decision, record=changed(decision.record, params=params))


def admit(advertiser: Advertiser, is_proven: bool) -> bool:
    return advertiser.rate_limit is None


async def record(case: Case, batches: Sequence[Batch], make: MakePlain, is_parking: bool) -> Seen:
    dedup, lookup, seen, metrics = Room(), Lookup(), Seen(), Metrics()
    for number, (click_id, packed) in enumerate(case.packed.items()):
        if packed is not None and number % 3 == 2:
            try:
                lookup.clicks[click_id] = unpack_click(packed)
                continue
            except ValueError:
                pass
        if packed is not None:
            dedup.packed[click_id] = packed

    def expires_ms(click: Click) -> int:
        return click.clicked_ms + 10**9

    recorder = Recorder(
        dedup,
        ClickSource(dedup, lookup, expires_ms=expires_ms),
        lambda: case.catalog,
        case.rules,
        RecorderMetrics(metrics),
        park if is_parking else None,
        make_plain=make,
    )
    for batch in batches:
        dedup.clicks_away = batch.state == "clicks away"
        dedup.claims_away = batch.state == "claims away"
        dedup.is_full = batch.state == "full"
        dedup.room = 1 if batch.state == "some room" else None
        lookup.is_away = batch.state == "no look-up"
        arrivals = [case.arrivals[place % len(case.arrivals)] for place in batch.places]
        try:
            seen.outcomes.append(await recorder.record(arrivals, admit if batch.is_admitted else None))
        except (ValueError, UnicodeDecodeError) as error:  # a damaged click
            seen.outcomes.append(repr(error))
    seen.queue, seen.claimed, seen.cached = dedup.queue, dedup.calls, dedup.packed
    seen.looked_up = [set(click_ids) for click_ids in lookup.asked]
    seen.metrics = [
        line for line in metrics.render().decode().splitlines() if "seconds" not in line and "_created" not in line
    ]
    return seen


batches = st.lists(
    st.builds(Batch, st.lists(st.integers(0, 11), min_size=1, max_size=8), st.sampled_from(STATES), st.booleans()),
    min_size=2,
    max_size=5,
)
seeds = st.integers(0, 2**64)


@many(100)
@given(cases(most=8) | seeds.map(plain_case) | seeds.map(nearly_plain_case), batches, st.booleans())
def test_batches_are_recorded_the_same(case: Case, said: list[Batch], is_parking: bool) -> None:
    assume(not case.catalog.has_caps)  # those are held elsewhere, and left to the rules here

    async def both() -> tuple[Seen, Seen]:
        return (
            await record(case, said, make_plain, is_parking),
            await record(case, said, NothingPlain, is_parking),
        )

    compiled, ruled = asyncio.run(both())
    assert compiled == ruled
