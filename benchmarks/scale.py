"""Scale from end to end: `python -m benchmarks.scale --help`. Starts everything, leaves only the report.

Throughput with millions of rows and claims stored against an empty platform, with 1, 2 and 4 partitions, and how a
backlog of a million is drained while a load goes on.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Annotated, Any, Final, TypeVar

import orjson
import typer
from redis.exceptions import RedisError

from benchmarks.engines import NotDurableError, Platform, durable_disk, platform
from benchmarks.load import LoadError, find_wrk
from benchmarks.measure import Cores, Noise, fsync_us, layouts, machine, versions
from benchmarks.prepared import Counted, prepare_counted
from benchmarks.programs import ProgramError
from benchmarks.report import Round
from benchmarks.rows import Sample, Settings, committed
from benchmarks.run import OUT, say, short_lived_folder
from benchmarks.scale_backlog import drain
from benchmarks.scale_report import EMPTY, FULL, Measured, as_data, drawings_of, markdown
from benchmarks.scale_stored import MOST, Loaded, NotStoredError, store
from ingest.engines import EngineError
from storage.postgres import AWAY, PostgresError

KEPT: Final = Path(__file__).resolve().parent.parent / "docs" / "scale.md"
PARTITIONS: Final = (1, 2, 4)
T = TypeVar("T")
_BROKEN: Final[tuple[type[Exception], ...]] = (
    AssertionError,
    LoadError,
    NotStoredError,
    ProgramError,
    RedisError,
    PostgresError,
    *AWAY,
)
"""What ends a part of the run, not the run: what the others found is worth minutes."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how."""

    stored: int
    backlog: int
    rounds: int
    events: int
    warm_up: int
    settings: Settings
    seed: int
    most_minutes: float
    tenths: tuple[int, ...] = (0, 1, 3, 10)
    """Of what is stored at last: where to measure on the way."""


def main(
    stored: Annotated[
        int, typer.Option(min=1_000, max=MOST, help="Rows in Postgres and claims in Redis, at last.")
    ] = 10_000_000,
    backlog: Annotated[int, typer.Option(min=1_000, max=4_000_000, help="Entries to drain.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of empty and full, and of partitions; medians count.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="The most that one measured load lasts.")] = 4.0,
    events: Annotated[int, typer.Option(min=100, help="Postbacks of a load; it ends when they are used up.")] = 60_000,
    connections: Annotated[int, typer.Option(min=1, help="wrk's.")] = 128,
    quick: Annotated[bool, typer.Option("--quick", help="Small numbers and one round, to see that it works.")] = False,
    most_minutes: Annotated[float, typer.Option(min=1, help="Give up after so long.")] = 45.0,
    seed: Annotated[int | None, typer.Option(help="Of the postbacks; printed, to repeat a run.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the engines' data goes: on a disk.")] = None,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = OUT,
    keep: Annotated[bool, typer.Option("--keep", help="Also write docs/scale.md and its drawings.")] = False,
) -> None:
    """Measure the product with much stored, with several partitions and with a backlog."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    settings = Settings(1.0 if quick else seconds, 1.0, connections)
    plan = Plan(stored, backlog, rounds, events, 5_000, settings, seed, most_minutes)
    if quick:
        fewer = replace(plan, stored=min(stored, 100_000), backlog=min(backlog, 20_000), events=min(events, 3_000))
        plan = replace(fewer, rounds=1, warm_up=500, tenths=(0, 10))
    try:
        with short_lived_folder(data_dir) as folder:
            facts, measured = asyncio.run(_run(folder, plan))
    except (LoadError, EngineError, NotDurableError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    drawings = drawings_of(measured)
    text = markdown(facts, measured, tuple(drawings))
    out.mkdir(parents=True, exist_ok=True)
    (out / "scale.json").write_bytes(orjson.dumps(as_data(facts, measured), option=orjson.OPT_INDENT_2))
    for path in (out / "scale.md", *([KEPT] if keep else [])):
        path.write_text(text, encoding="utf-8")
        for name, drawing in drawings.items():
            path.with_name(name).write_text(drawing, encoding="utf-8")
    typer.echo(f"\n{text}")
    if measured.problems():
        raise typer.Exit(1)


class _Bench:
    """What the parts share."""

    def __init__(self, plan: Plan, folder: Path, cores: Cores) -> None:
        self.plan = plan
        self.folder = folder
        self.cores = cores
        self.rng = Random(plan.seed)
        self.now_ms = time.time_ns() // 1_000_000

    async def fresh(self, *platforms: Platform) -> Counted:
        """Postbacks of clicks that were never seen, registered in each of the platforms."""
        plan = self.plan
        made = prepare_counted(self.folder, self.rng, plan.events, plan.warm_up, time.time_ns() // 1_000_000)
        for one in platforms:
            await one.register([*made.warm_up_clicks, *made.clicks])
        return made

    async def empty(self, one: Platform, made: Counted) -> Sample:
        """On a platform that holds nothing but the clicks."""
        await one.reset([*made.warm_up_clicks, *made.clicks])
        return await self._committed(one, made)

    async def full(self, one: Platform, made: Counted) -> Sample:
        """On one that keeps what it holds."""
        await one.cache([*made.warm_up_clicks, *made.clicks])
        return await self._committed(one, made)

    async def _committed(self, one: Platform, made: Counted) -> Sample:
        return await committed(one, made, self.folder, self.plan.settings, self.cores)


async def _run(folder: Path, plan: Plan) -> tuple[dict[str, dict[str, str]], Measured]:
    wrk = find_wrk()
    disk = durable_disk(folder)
    say(f"seed {plan.seed}")
    noise, measured = Noise(), Measured()
    began = asyncio.get_running_loop().time()
    until = began + plan.most_minutes * 60
    bench = _Bench(plan, folder, layouts()[1].server)
    async with _calm_platform(folder / "empty") as empty:
        facts = {
            "machine": machine() | {"disk": disk, "fsync of 4 KiB": f"{fsync_us(folder)} us"},
            "versions": versions(wrk),
            "engines": await empty.settings(),
            "run": {
                "seed": str(plan.seed),
                "rounds": str(plan.rounds),
                "seconds a load, at most": f"{plan.settings.seconds:g}",
                "postbacks a load": f"{plan.events:,}",
                "connections": str(plan.settings.connections),
                "stored": f"{plan.stored:,}",
                "backlog": f"{plan.backlog:,}",
            },
        }
        for part in (_against_stored, _partitions, _backlog):
            limit = asyncio.timeout_at(until)
            try:
                async with limit:
                    await asyncio.sleep(0)  # ends here where the time is up already: redis-py may swallow that
                    await part(bench, empty, measured)
            except _BROKEN as error:
                why = f"{type(error).__name__}: {error}"
                if limit.expired():
                    why = f"not done within {plan.most_minutes:g} minutes, allow more with --most-minutes"
                measured.failed.append(f"{part.__name__.strip('_').replace('_', ' ')} ended early: {why}")
                say(f"INVALID: {measured.failed[-1]}")
    facts["noise"] = noise.shares()
    facts["run"]["minutes"] = f"{(asyncio.get_running_loop().time() - began) / 60:.1f}"
    return facts, measured


@asynccontextmanager
async def _calm_platform(folder: Path) -> AsyncIterator[Platform]:
    """A platform whose Redis rewrites its file when it is told."""
    async with platform(folder) as one:
        await one.redis.config_set("auto-aof-rewrite-percentage", 0)
        yield one


async def _against_stored(bench: _Bench, empty: Platform, measured: Measured) -> None:
    """An empty platform and one that is filled step by step, in turn."""
    plan, loaded = bench.plan, Loaded(0, 0.0, 0, 0)
    async with _calm_platform(bench.folder / "full") as full:
        began = datetime.now(UTC)
        for stored in (plan.stored * tenths // 10 for tenths in plan.tenths):
            if stored:
                one = await store(full, loaded.rows + 1, stored, bench.now_ms)
                measured.loaded = loaded = loaded + one
                await full.settings()
                say(f"stored {one.rows:,} more in {one.seconds:.0f} s, {one.rows / one.seconds:,.0f}/s")
            for number in range(1, (plan.rounds if stored == plan.stored else plan.rounds // 2 + 1) + 1):
                made = await bench.fresh(empty, full)
                samples: dict[str, Sample] = {}
                for name in rotated((EMPTY, FULL), number):
                    samples[name] = await (bench.empty(empty, made) if name == EMPTY else bench.full(full, made))
                measured.steps.setdefault(stored, []).append(samples)
                _tell(f"{stored:,} stored, round {number}", samples)
        kept = (await full.stored()).conversions - (await full.stored(began)).conversions
        if kept != plan.stored:
            measured.failed.append(f"{plan.stored:,} rows were stored, {kept:,} are there beside those of the rounds")


async def _partitions(bench: _Bench, empty: Platform, measured: Measured) -> None:
    """Everything with several partitions on one server, in turn."""
    try:
        for number in range(1, bench.plan.rounds + 1):
            made = await bench.fresh(empty)
            samples: dict[str, Sample] = {}
            for partitions in rotated(PARTITIONS, number):
                empty.divide(partitions)
                samples[str(partitions)] = await bench.empty(empty, made)
            measured.partitions.append(samples)
            _tell(f"partitions, round {number}", samples)
    finally:
        empty.divide(1)


async def _backlog(bench: _Bench, empty: Platform, measured: Measured) -> None:
    """A backlog drained under load."""
    await empty.redis.config_set("auto-aof-rewrite-percentage", 100)
    plan = bench.plan
    drained = measured.drained = await drain(
        empty, bench.folder, plan.backlog, measured.peak(), plan.settings.connections, bench.cores, bench.rng
    )
    say(
        f"backlog of {drained.rows:,} gone after {drained.seconds:.1f} s at {drained.rate:,.0f} postbacks a second, "
        f"{drained.per_s:,.0f}/s{_said(drained.problems)}"
    )


def rotated(things: Sequence[T], number: int) -> Sequence[T]:
    """In another order each round, so that it does not matter what comes after what."""
    first = (number - 1) % len(things)
    return [*things[first:], *things[:first]]


def _tell(what: str, samples: Round) -> None:
    rates = ", ".join(
        f"{name} {sample.per_s:,.0f}/s {sample.cpu_us:.1f} us CPU{_said(sample.problems)}"
        for name, sample in samples.items()
    )
    say(f"{what}: {rates}")


def _said(problems: Any) -> str:
    return f"  INVALID: {'; '.join(problems)}" if problems else ""


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
