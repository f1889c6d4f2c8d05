"""A backlog: rows that a receiver made, multiplied, and then drained by everything while a load goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

from benchmarks.engines import Platform, Stored
from benchmarks.load import LoadResult, send
from benchmarks.measure import Cores
from benchmarks.prepared import write_postbacks
from benchmarks.programs import product
from benchmarks.rows import WRITTEN_WITHIN_S, check_count, failures
from benchmarks.workload import DAY_MS
from storage.records import COLUMNS, Kind

BASE: Final = 5_000
"""Rows that a receiver makes; all others are made from these."""
LOAD_S: Final = 5
DRAINED_WITHIN_S: Final = 600.0
_AHEAD: Final = 0.7
"""Loads prepared beforehand, for a drain of as many rows a second as this share of the peak."""
_LOOK_S: Final = 0.25
_CALL: Final = 500

_LOG_ID: Final = COLUMNS.index("log_id")
_CLICK_ID: Final = COLUMNS.index("click_id")
_CLICKED: Final = COLUMNS.index("clicked_ms")
_CONVERSION_ID: Final = COLUMNS.index("conversion_id")


@dataclass(frozen=True, slots=True)
class Drained:
    """A backlog of `rows`, of `row_bytes` each, was gone after `seconds`; `rate` postbacks a second were sent
    meanwhile, and `answered` in all. `course`: (seconds, rows) on the way. `latencies_us`: (p50, p99) of each load.
    `problems` make it invalid."""

    rows: int
    row_bytes: float
    seconds: float
    rate: float
    answered: int
    course: list[tuple[float, int]]
    latencies_us: list[tuple[int, int]]
    problems: list[str] = field(default_factory=list)

    @property
    def per_s(self) -> float:
        """By how much the backlog shrank in a second."""
        return self.rows / self.seconds

    @property
    def p99_us(self) -> tuple[float, int]:
        """Median and worst over the loads."""
        all_us = [p99 for _, p99 in self.latencies_us]
        return median(all_us), max(all_us)


@dataclass(slots=True)
class _Loads:
    """Files of postbacks of new clicks, each for LOAD_S at the rate; the clicks are in the cache."""

    platform: Platform
    folder: Path
    rng: Random
    events: int
    made: int = 0
    sent: int = 0

    async def make(self) -> None:
        path = self.folder / f"backlog-{self.made}.frames"
        clicks = await asyncio.to_thread(write_postbacks, path, self.rng, self.events, time.time_ns() // 1_000_000)
        await self.platform.cache(clicks)
        self.made += 1

    async def next(self) -> Path:
        """The next one to send; made now where those made beforehand are used up."""
        if self.sent == self.made:
            await self.make()
        self.sent += 1
        return self.folder / f"backlog-{self.sent - 1}.frames"


def renewed(line: bytes, number: int, rng: Random) -> bytes:
    """Another conversion like that of a queue row's line: of another click, which is up to a day older, and with ids
    that differ for each number of twelve hex digits."""
    columns = line.split(b"\t")
    clicked_ms = int(columns[_CLICKED]) - rng.randrange(DAY_MS)
    clicked, tail = b"%012x" % clicked_ms, b"%012x" % number
    columns[_LOG_ID] = columns[_LOG_ID][:-12] + tail
    columns[_CLICK_ID] = b"%032x" % rng.getrandbits(128)
    columns[_CLICKED] = b"%d" % clicked_ms
    columns[_CONVERSION_ID] = b"%b-%b%b%b" % (clicked[:8], clicked[8:], columns[_CONVERSION_ID][13:-12], tail)
    return b"\t".join(columns)


def renewals(lines: Sequence[bytes], count: int, rng: Random) -> Iterator[bytes]:
    """So many, from each line in turn."""
    return (renewed(lines[number % len(lines)], number, rng) for number in range(count))


async def fill(platform: Platform, folder: Path, rows: int, connections: int, cores: Cores, rng: Random) -> float:
    """Put rows into an empty queue: a receiver's first, then those made from them; bytes of Redis for each of the
    latter. Raises AssertionError where the queue does not hold so many then."""
    base = min(BASE, rows // 2)
    frames = folder / "base.frames"
    clicks = write_postbacks(frames, rng, base, time.time_ns() // 1_000_000)
    await platform.reset(clicks)
    with product(folder, platform.urls, cores, role="receiver") as program:
        result = await send(frames, program.port, connections=connections, seconds=60, cores=cores)
    kinds = await platform.kinds()
    made = kinds.pop(Kind.CONVERSION)
    problems = failures(result) + check_count("the queue", made, result.answered, connections)
    assert not problems, "; ".join(problems)
    assert not any(kinds.values()), f"some were not counted: {kinds}"
    before = await platform.redis_bytes()
    remaining = renewals([row.payload async for row in platform.rows()], rows - made, rng)
    while some := list(islice(remaining, _CALL)):
        await platform.queue(some)
    taken = await platform.redis_bytes() - before
    found = await platform.backlog()
    assert found == rows, f"the queue has {found} rows instead of {rows}"
    return taken / (rows - made)


async def drain(
    platform: Platform, folder: Path, rows: int, peak: float, connections: int, cores: Cores, rng: Random
) -> Drained:
    """Fill the queue, then run everything under half of its peak load until the backlog is gone: no more waits than a
    second brings. Raises AssertionError where that takes longer than DRAINED_WITHIN_S."""
    rate = peak / 2
    platform.move(cores)
    row_bytes = await fill(platform, folder, rows, connections, cores, rng)
    loads = _Loads(platform, folder, rng, max(1, round(rate * LOAD_S)))
    for _ in range(ceil(rows / (peak * _AHEAD) / LOAD_S)):
        await loads.make()
    await platform.rewrite_log()
    await platform.stage_queue()
    results: list[LoadResult] = []
    course: list[tuple[float, int]] = []
    with product(folder, platform.urls, cores, role="all") as program:
        await platform.unstage_queue()
        began = time.perf_counter()
        watching = asyncio.create_task(_watch(platform, rate, began, course))
        try:
            while not watching.done():
                frames = await loads.next()
                results.append(
                    await send(
                        frames, program.port, connections=connections, seconds=LOAD_S * 2, cores=cores, rate=rate
                    )
                )
            await watching
        finally:
            watching.cancel()
            with suppress(asyncio.CancelledError, AssertionError):
                await watching
        await platform.until_written(WRITTEN_WITHIN_S)
    answered = sum(result.answered for result in results)
    stored = await platform.stored()
    problems = check_count("conversions", stored.conversions, rows + answered, connections * len(results))
    if stored != Stored(stored.conversions, 0, 0):
        problems.append(f"some were not counted: {stored}")
    problems += [problem for result in results for problem in failures(result)]
    latencies = [(result.p50_us, result.p99_us) for result in results]
    return Drained(rows, row_bytes, course[-1][0], rate, answered, course, latencies, problems)


async def _watch(platform: Platform, rate: float, began: float, course: list[tuple[float, int]]) -> None:
    """Note how many rows there are until no more wait than a second brings."""
    while True:
        waiting, passed = await platform.backlog(), time.perf_counter() - began
        course.append((passed, waiting))
        if waiting <= rate:
            return
        assert passed < DRAINED_WITHIN_S, f"after {passed:.0f} s there are {waiting} rows"
        await asyncio.sleep(_LOOK_S)
