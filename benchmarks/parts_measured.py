"""What each part of a postback's way costs: the product's own recorder, queue and store in one process."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import fmean, median
from typing import Final, TypeVar

from benchmarks.engines import Platform, durable_disk, platform
from benchmarks.laps import Laps, TimedClaims, TimedClicks, Way, by_rules, compiled
from benchmarks.measure import Noise, layouts, on_cores
from benchmarks.parts_report import Cost, Part, PartCosts
from benchmarks.workload import get_request, make_clicks, make_postbacks
from dedup.wire import Wire
from ingest.app import now_ms
from ingest.catalog import Snapshot
from ingest.catalog_rows import load_snapshot
from ingest.compiled import is_built
from ingest.config import Config
from ingest.outcome import Result
from ingest.stored_clicks import StoredClicks
from storage.batch_store import BatchCounts, BatchStore
from storage.batcher import Batcher, BatchLimits
from storage.queue import Entry, PartitionQueue
from storage.rows import NewClick
from storage.writer import BATCH_BYTES

BATCH: Final = 64
"""Postbacks that are recorded together."""
POSTBACKS: Final = 10_240
ROUNDS: Final = 7
_PEER: Final = "127.0.0.1"
_COMPILED: Final = "compiled"
_RULES: Final = "rules"
_BY_WAY: Final = frozenset({Part.REQUEST, Part.PARSE, Part.DECIDE, Part.ANSWER})
"""Where compiled code does what the rules would; elsewhere both do the same."""
_ENGINES: Final = {Part.CLICK: "redis", Part.CLAIM: "redis", Part.QUEUE_READ: "redis", Part.COMMIT: "postgres"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Round:
    """Seconds of processor time for all postbacks: of our process, of the engines that it waited for."""

    own_s: Mapping[Part, float]
    engine_s: Mapping[Part, float]


class _Bench:
    """What the rounds share."""

    def __init__(
        self, engines: Platform, wire: Wire, snapshot: Snapshot, clicks: Sequence[NewClick], requests: Sequence[bytes]
    ) -> None:
        self._engines = engines
        self._clicks = clicks
        self._requests = requests
        self._laps = Laps()
        self._claims = TimedClaims(self._laps, engines.redis, wire)
        self._queue = PartitionQueue(engines.redis, 0, "parts")
        self._store = BatchStore(engines.pool)
        source = TimedClicks(self._laps, self._claims, StoredClicks(engines.pool, now_ms), snapshot)
        self.ways = {_RULES: by_rules(self._claims, source, snapshot)}
        if is_built():
            self.ways[_COMPILED] = compiled(self._claims, source, snapshot)

    async def round(self, way: Way) -> _Round:
        """All postbacks, from their requests to their rows. Raises AssertionError where one is not counted."""
        await self._engines.reset(self._clicks)
        await self._queue.create_group()
        self._laps.take()
        began = self._engines.cpu_s()
        await self._look_up()
        looked_up = self._engines.cpu_s()
        await self._receive(way)
        received = self._engines.cpu_s()
        await self._write()
        written = self._engines.cpu_s()
        stored = await self._engines.stored()
        assert stored.conversions == len(self._requests), f"of {len(self._requests)} postbacks {stored} came through"
        click_s = looked_up["redis"] - began["redis"]
        return _Round(
            self._laps.take(),
            {
                Part.CLICK: click_s,
                Part.CLAIM: received["redis"] - looked_up["redis"] - click_s,
                Part.QUEUE_READ: written["redis"] - received["redis"],
                Part.COMMIT: written["postgres"] - received["postgres"],
            },
        )

    async def _look_up(self) -> None:
        """Ask Redis for all clicks, as `_receive` will once more: that tells its share from that of the claims."""
        for clicks in _batches(self._clicks):
            await self._claims.clicks([click.click_id for click in clicks])

    async def _receive(self, way: Way) -> None:
        read, write, laps = way.read, way.write, self._laps
        for requests in _batches(self._requests):
            laps.begin()
            arrivals = [arrival for data in requests if (arrival := read(data, _PEER)) is not None]
            laps.lap(Part.REQUEST)
            outcomes = await way.recorder.record(arrivals)
            for outcome in outcomes:
                write(outcome)
            laps.lap(Part.ANSWER)
            assert [outcome.result for outcome in outcomes] == [Result.ACCEPTED] * len(requests)

    async def _write(self) -> None:
        writer = Config().writer
        batcher = Batcher[Entry](BatchLimits(writer.batch_rows, BATCH_BYTES, writer.batch_age))
        self._laps.begin()
        while True:
            while (room := batcher.room) and (entries := await self._queue.read_new(room, None)):
                batcher.add(entries, 0)
            batch = batcher.take()
            self._laps.lap(Part.QUEUE_READ)
            if not batch:
                return
            await self._store.store(batch, _at_once, _refused)
            self._laps.lap(Part.COMMIT)
            await self._queue.settle(batch)


async def measure_parts(
    folder: Path, seed: int, say: Callable[[str], None], *, postbacks: int = POSTBACKS, rounds: int = ROUNDS
) -> PartCosts:
    """All parts, with engines of their own under `folder`. Run it in an event loop such as workers have. Raises
    NotDurableError, EngineError."""
    durable_disk(folder)
    rng = Random(seed)
    clicks = make_clicks(rng, postbacks, now_ms())
    requests = [get_request(postback) for postback in make_postbacks(rng, clicks)]
    found: dict[str, list[_Round]] = {}
    async with platform(folder / "parts") as engines:
        await engines.settings()
        await engines.register(clicks)
        async with engines.pool.acquire() as connection:
            snapshot = await load_snapshot(connection)
        wire = Wire(engines.redis)
        apart, _ = layouts()
        engines.move(apart.others)
        noise = Noise()
        try:
            bench = _Bench(engines, wire, snapshot, clicks, requests)
            with on_cores(apart.server), _young():
                for number in range(1, rounds + 1):
                    for name in list(bench.ways)[:: 1 if number % 2 else -1]:
                        found.setdefault(name, []).append(one := await bench.round(bench.ways[name]))
                        own_us = sum(one.own_s.values()) / postbacks * 1e6
                        say(f"parts, round {number}/{rounds}, {name}: {own_us:.1f} us CPU")
        finally:
            await wire.aclose()
    return PartCosts(rounds, postbacks, seed, noise.shares(), [_cost(part, found, postbacks) for part in Part])


@contextmanager
def _young() -> Iterator[None]:
    """What is there already is not looked at by the garbage collector, as in a worker."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


async def _at_once(operation: Callable[[], Awaitable[BatchCounts]], /) -> BatchCounts:
    return await operation()


def _refused(entry: Entry, error: str) -> None:
    raise AssertionError(f"PostgreSQL refuses {entry.payload!r}: {error}")


def _cost(part: Part, found: Mapping[str, Sequence[_Round]], postbacks: int) -> Cost:
    def middle_us(seconds: Sequence[float]) -> float:
        return median(seconds) / postbacks * 1e6

    own_s = {name: [one.own_s[part] for one in rounds] for name, rounds in found.items()}
    if part in _BY_WAY:
        return Cost(part, middle_us(own_s[_COMPILED]) if _COMPILED in own_s else None, middle_us(own_s[_RULES]))
    either_us = middle_us([seconds for mine in own_s.values() for seconds in mine])
    # A mean: their clock counts in ticks of 10 ms, and a median would be a whole number of them.
    engine_us = fmean([one.engine_s[part] for rounds in found.values() for one in rounds]) / postbacks * 1e6
    return Cost(part, either_us=either_us, engine=_ENGINES[part], engine_us=engine_us)
