"""The rows of the table: each starts its program, loads it, and checks that what was answered is stored."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

import orjson

from benchmarks.engines import Platform, Stored
from benchmarks.load import LoadResult, send
from benchmarks.measure import Cores, Layout, on_cores
from benchmarks.prepared import Counted, Prepared
from benchmarks.programs import Running, baseline, product
from benchmarks.servers.obvious import TABLE

WRITTEN_WITHIN_S: Final = 120.0
COPY_ROWS: Final = 5_000
BULK_CONNECTIONS: Final = 4


@dataclass(frozen=True, slots=True)
class Settings:
    """How a run is made. `seconds` bounds each measured load."""

    seconds: float
    warm_up_s: float
    connections: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `events` postbacks, requests or rows in `seconds` of wall time; `cpu_us` of the measured process
    for each; `parts` the same for each process that took part. `problems` make it invalid."""

    events: int
    seconds: float
    cpu_us: float
    p50_us: int = 0
    p99_us: int = 0
    parts: dict[str, float] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    @property
    def per_s(self) -> float:
        """Events per second."""
        return self.events / self.seconds

    @property
    def per_cpu_s(self) -> float:
        """Events per second of the process' processor time."""
        return 1e6 / self.cpu_us if self.cpu_us else 0.0


class Bench:
    """What the rows share; `last` holds each row's latest sample."""

    def __init__(
        self,
        platform: Platform,
        prepared: Prepared,
        folder: Path,
        settings: Settings,
        apart: Layout,
        together: Layout,
    ) -> None:
        self.platform = platform
        self.prepared = prepared
        self.folder = folder
        self.settings = settings
        self.apart = apart
        self.together = together
        self.last: dict[str, Sample] = {}

    async def warm_up(self, program: Running, cores: Cores) -> LoadResult:
        """A short load of postbacks that no other run sends."""
        return await self.load(self.prepared.warm_up, program, cores, seconds=self.settings.warm_up_s)

    async def load(self, frames: Path, program: Running, cores: Cores, **options: Any) -> LoadResult:
        """A load with the usual options."""
        usual = {"connections": self.settings.connections, "seconds": self.settings.seconds}
        return await send(frames, program.port, cores=cores, **(usual | options))


Row = Callable[[Bench], Awaitable[Sample]]
Expect = Callable[[Bench, LoadResult, LoadResult, dict[str, int], int], list[str]]
"""Judges a receiver's run by the warm-up, the load and the queue's kinds; so many postbacks may have been under way."""


def sample_of(
    result: LoadResult, cpu: float, problems: list[str], *, each: int = 1, parts: dict[str, float] | None = None
) -> Sample:
    """Of a load whose requests carry `each` events; `cpu` in seconds."""
    events = result.answered * each
    problems += failures(result)
    return Sample(
        events,
        result.seconds,
        cpu / max(1, events) * 1e6,
        result.p50_us,
        result.p99_us,
        {name: seconds / max(1, events) * 1e6 for name, seconds in (parts or {}).items()},
        tuple(problems),
    )


def failures(result: LoadResult) -> list[str]:
    """What went wrong in a load."""
    failed = ", ".join(f"{count} x {what}" for what, count in result.failed.items() if count)
    problems = [f"connections failed: {failed}"] if failed else []
    if result.refused:
        problems.append(f"{result.refused} answers were not 2xx")
    if not result.answered:
        problems.append("nothing was answered")
    return problems


def check_count(what: str, found: int, answered: int, slack: int) -> list[str]:
    """Everything answered must be there; what was under way when the load ended may be."""
    if answered <= found <= answered + slack:
        return []
    return [f"{answered} were answered, {found} are in {what}"]


async def empty_with(bench: Bench, **options: Any) -> Sample:
    """aiohttp's empty handler under a load with these options."""
    bench.platform.move(bench.apart.others)
    with baseline("aiohttp_empty", bench.folder, bench.apart.server) as program:
        cores, frames = bench.apart.others, bench.prepared.counted
        await bench.load(frames, program, cores, seconds=bench.settings.warm_up_s, loop=True)
        before = program.cpu_s()["server"]
        result = await bench.load(frames, program, cores, loop=True, **options)
        return sample_of(result, program.cpu_s()["server"] - before, [])


async def aiohttp_empty(bench: Bench) -> Sample:
    """aiohttp's empty handler."""
    return await empty_with(bench)


async def aiohttp_empty_at_half(bench: Bench) -> Sample:
    """The same, at the rate that is half of the receiver's peak in this round."""
    return await empty_with(bench, rate=bench.last["receiver"].per_s / 2)


async def obvious(bench: Bench) -> Sample:
    """The obvious program, on all cores."""
    cores = bench.together.server
    bench.platform.move(cores)
    await bench.platform.reset()
    await bench.platform.pool.execute(TABLE)
    await bench.platform.pool.execute("TRUNCATE obvious_conversions")
    clicks = bench.prepared.warm_up_clicks + bench.prepared.clicks
    for start in range(0, len(clicks), 1000):
        some = {
            f"obvious:click:{click.click_id}": orjson.dumps(
                {
                    "campaign_id": click.campaign_id,
                    "publisher_id": click.publisher_id,
                    "clicked_ms": click.clicked_ms,
                    "country": click.country,
                }
            )
            for click in clicks[start : start + 1000]
        }
        await bench.platform.redis.mset(some)
    urls = bench.platform.urls
    with baseline("obvious", bench.folder, cores, urls.redis_url, urls.postgres_dsn) as program:
        warm = await bench.warm_up(program, cores)
        before = program.cpu_s()["server"]
        result = await bench.load(bench.prepared.counted, program, cores)
        cpu = program.cpu_s()["server"] - before
    rows = await bench.platform.pool.fetchval("SELECT count(*) FROM obvious_conversions")
    problems = check_count("its table", rows, warm.answered + result.answered, _slack(bench))
    return sample_of(result, cpu, problems)


async def _receiver(
    bench: Bench,
    frames: Path,
    expect: Expect,
    *,
    cached: bool = True,
    first: Path | None = None,
    each: int = 1,
    **options: Any,
) -> Sample:
    """One receiver, no writer. `first` is sent once as the warm-up; `expect` judges the queue's kinds at the end."""
    bench.platform.move(bench.apart.others)
    clicks = bench.prepared.clicks if cached else []
    await bench.platform.reset([*bench.prepared.warm_up_clicks, *clicks])
    cores = bench.apart.others
    with product(bench.folder, bench.platform.urls, bench.apart.server, role="receiver") as program:
        if first is None:
            warm = await bench.warm_up(program, cores)
        else:
            warm = await bench.load(first, program, cores, seconds=60)
        before = program.cpu_s()["receiver"]
        result = await bench.load(frames, program, cores, **options)
        cpu = program.cpu_s()["receiver"] - before
    slack = (bench.settings.connections + options.get("connections", bench.settings.connections)) * each
    return sample_of(result, cpu, expect(bench, warm, result, await bench.platform.kinds(), slack), each=each)


def _slack(bench: Bench) -> int:
    return 2 * bench.settings.connections


def _all_counted(_: Bench, warm: LoadResult, result: LoadResult, kinds: dict[str, int], slack: int) -> list[str]:
    problems = check_count("the queue", kinds["c1"], warm.answered + result.answered, slack)
    others = sum(kinds.values()) - kinds["c1"]
    return problems + ([f"{others} of the queue's rows are no conversions: {kinds}"] if others else [])


def _all_repeats(_: Bench, warm: LoadResult, result: LoadResult, kinds: dict[str, int], slack: int) -> list[str]:
    return check_count("the queue as conversions", kinds["c1"], warm.answered, slack) + check_count(
        "the queue as duplicates", kinds["d1"], result.answered, slack
    )


def _some_rejected(bench: Bench, warm: LoadResult, result: LoadResult, kinds: dict[str, int], slack: int) -> list[str]:
    expected = [0, *accumulate(bench.prepared.is_rejection)]
    rejected = expected[min(result.answered, len(expected) - 1)]
    problems = check_count("the queue", kinds["c1"] + kinds["r1"], warm.answered + result.answered, slack)
    return problems + check_count("the queue as rejections", kinds["r1"] + slack // 2, rejected, slack)


async def receiver_with(bench: Bench, **options: Any) -> Sample:
    """One receiver, from the socket to the durable queue, under a load with these options."""
    return await _receiver(bench, bench.prepared.counted, _all_counted, **options)


async def receiver(bench: Bench) -> Sample:
    """One receiver under full load. Leaves the queue for the writer's row."""
    return await receiver_with(bench)


async def receiver_at_half(bench: Bench) -> Sample:
    """The same at half of this round's peak."""
    return await receiver_with(bench, rate=bench.last["receiver"].per_s / 2)


async def duplicates(bench: Bench) -> Sample:
    """Every postback was counted before."""
    repeated = bench.prepared.repeated
    return await _receiver(bench, repeated, _all_repeats, first=repeated, loop=True)


async def rejections(bench: Bench) -> Sample:
    """Every fifth is rejected, for one of four reasons."""
    return await _receiver(bench, bench.prepared.rejected, _some_rejected)


async def cold_clicks(bench: Bench) -> Sample:
    """Redis knows no click: each is read from Postgres."""
    return await _receiver(bench, bench.prepared.counted, _all_counted, cached=False)


async def bulk(bench: Bench) -> Sample:
    """NDJSON bodies; the events are their items."""

    def expect(_: Bench, warm: LoadResult, result: LoadResult, kinds: dict[str, int], slack: int) -> list[str]:
        answered = warm.answered + result.answered * size
        return check_count("the queue", kinds["c1"], answered, slack)

    size = bench.prepared.bulk_size
    return await _receiver(bench, bench.prepared.bulk, expect, each=size, connections=BULK_CONNECTIONS)


async def writer(bench: Bench) -> Sample:
    """One writer drains what the receiver's row left in the queue."""
    platform = bench.platform
    platform.move(bench.apart.others)
    rows = await platform.backlog()
    await platform.stage_queue()
    with product(bench.folder, platform.urls, bench.apart.server, role="writer") as program:
        before, started = program.cpu_s()["writer"], time.perf_counter()
        await platform.unstage_queue()
        await platform.until_written(WRITTEN_WITHIN_S)
        seconds, cpu = time.perf_counter() - started, program.cpu_s()["writer"] - before
    stored = await platform.stored()
    problems = [] if stored == Stored(rows, 0, 0) else [f"{rows} rows became {stored}"]
    return Sample(rows, seconds, cpu / rows * 1e6, problems=tuple(problems))


async def bare_copy(bench: Bench) -> Sample:
    """The rows that the writer's row left, by copy_records_to_table into the same table, as many at a time."""
    pool: Any = bench.platform.pool
    rows = await pool.fetch("SELECT * FROM conversions")
    columns = list(rows[0].keys())
    batches = [rows[start : start + COPY_ROWS] for start in range(0, len(rows), COPY_ROWS)]
    await bench.platform.pool.execute("TRUNCATE conversions")
    await bench.platform.pool.execute("CHECKPOINT")
    async with pool.acquire() as connection:
        with on_cores(bench.apart.server):
            before, started = time.process_time(), time.perf_counter()
            for batch in batches:
                await connection.copy_records_to_table("conversions", records=batch, columns=columns)
            seconds, cpu = time.perf_counter() - started, time.process_time() - before
    stored = await bench.platform.stored()
    problems = [] if stored.conversions == len(rows) else [f"{len(rows)} rows became {stored}"]
    return Sample(len(rows), seconds, cpu / len(rows) * 1e6, problems=tuple(problems))


async def everything(bench: Bench) -> Sample:
    """Receiver, queue, writer, tables, on all cores: from the first request to the last committed row."""
    await bench.platform.reset([*bench.prepared.warm_up_clicks, *bench.prepared.clicks])
    return await committed(bench.platform, bench.prepared, bench.folder, bench.settings, bench.together.server)


async def committed(platform: Platform, counted: Counted, folder: Path, settings: Settings, cores: Cores) -> Sample:
    """The same, whatever is stored already. The clicks must be in the cache."""
    platform.move(cores)
    usual: dict[str, Any] = {"connections": settings.connections, "cores": cores}
    began = datetime.now(UTC)
    partitions = str(platform.partitions)
    with product(folder, platform.urls, cores, role="all", REDIS__PARTITIONS=partitions) as program:
        warm = await send(counted.warm_up, program.port, seconds=settings.warm_up_s, **usual)
        await platform.until_written(WRITTEN_WITHIN_S)
        before = program.cpu_s() | platform.cpu_s()
        started = time.perf_counter()
        result = await send(counted.counted, program.port, seconds=settings.seconds, **usual)
        await platform.until_written(WRITTEN_WITHIN_S)
        seconds = time.perf_counter() - started
        parts = {name: after - before[name] for name, after in (program.cpu_s() | platform.cpu_s()).items()}
    stored = await platform.stored(began)
    problems = check_count("conversions", stored.conversions, warm.answered + result.answered, 2 * settings.connections)
    if stored.logged or stored.dead:
        problems.append(f"some were not counted: {stored}")
    sample = sample_of(result, sum(parts.values()), problems, parts=parts)
    return Sample(sample.events, seconds, sample.cpu_us, sample.p50_us, sample.p99_us, sample.parts, sample.problems)


ROWS: Final[dict[str, Row]] = {
    "obvious": obvious,
    "everything": everything,
    "bulk NDJSON": bulk,
    "aiohttp-empty": aiohttp_empty,
    "receiver": receiver,
    "writer": writer,
    "bare COPY": bare_copy,
    "100 % duplicates": duplicates,
    "20 % rejections": rejections,
    "cold Redis": cold_clicks,
    "receiver, half load": receiver_at_half,
    "aiohttp-empty, that load": aiohttp_empty_at_half,
}
"""In the order of a round: what is compared stands together, and a row may use what the one before it left."""
