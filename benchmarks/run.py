"""The benchmark from end to end: `python -m benchmarks.run --help`. Starts everything, leaves only the report."""

from __future__ import annotations

import asyncio
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer
import uvloop

from benchmarks.engines import NotDurableError, durable_disk, platform
from benchmarks.load import LoadError, find_wrk
from benchmarks.measure import Noise, fsync_us, layouts, machine, versions
from benchmarks.parts_measured import measure_parts
from benchmarks.parts_report import PARTS_SVG, PartCosts, draw_parts
from benchmarks.prepared import prepare
from benchmarks.report import as_data, markdown
from benchmarks.rows import ROWS, Bench, Sample, Settings
from benchmarks.sweep import sweep
from ingest.engines import EngineError

OUT: Final = Path(__file__).with_name("out")
KEPT: Final = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
_NEEDS: Final = {
    "writer": ("receiver",),
    "bare COPY": ("receiver", "writer"),
    "receiver, half load": ("receiver",),
    "aiohttp-empty, that load": ("receiver",),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and how."""

    names: tuple[str, ...]
    rounds: int
    events: int
    settings: Settings
    seed: int
    with_plots: bool
    wrk: str


def with_needed(names: Sequence[str]) -> tuple[str, ...]:
    """The rows and those that they build on, in the order of a round. Raises LoadError for a name that is none."""
    wanted = set(names)
    for name in names:
        if name not in ROWS:
            raise LoadError(f"there is no row {name!r}: choose from {', '.join(ROWS)}")
        wanted |= set(_NEEDS.get(name, ()))
    return tuple(name for name in ROWS if name in wanted)


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Interleaved rounds; figures are medians over them.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="The most that one measured load lasts.")] = 5.0,
    events: Annotated[
        int, typer.Option(min=100, help="Postbacks prepared; a load ends when they are used up.")
    ] = 120_000,
    connections: Annotated[int, typer.Option(min=1, help="wrk's, for single postbacks.")] = 128,
    row: Annotated[list[str] | None, typer.Option(help="Only this row, with what it builds on; repeatable.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One short round, to see that it works.")] = False,
    plots: Annotated[
        bool, typer.Option(help="Also sweeps over concurrency and rate, and the cost by part, as SVG.")
    ] = True,
    seed: Annotated[int | None, typer.Option(help="Of the postbacks; printed, to repeat a run.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Where the engines' data goes: on a disk.")] = None,
    out: Annotated[Path, typer.Option(help="Where the report goes.")] = OUT,
    keep: Annotated[bool, typer.Option("--keep", help="Also write docs/benchmarks.md.")] = False,
) -> None:
    """Measure the product beside its baselines."""
    seed = secrets.randbelow(1 << 32) if seed is None else seed
    settings = Settings(1.0 if quick else seconds, 1.0, connections)
    events = min(events, 20_000) if quick else events
    try:
        names = with_needed(row or tuple(ROWS))
        with_plots = plots and not quick and row is None
        plan = Plan(names, 1 if quick else rounds, events, settings, seed, with_plots, find_wrk())
        with short_lived_folder(data_dir) as folder:
            parts = uvloop.run(measure_parts(folder, seed, say)) if with_plots else None
            report = asyncio.run(_run(folder, plan, parts))
    except (LoadError, EngineError, NotDurableError) as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(1) from None
    report.write(out)
    if keep:
        report.publish(KEPT)
    typer.echo(f"\n{report.text}")
    if not report.is_valid:
        raise typer.Exit(1)


@dataclass(frozen=True, slots=True)
class Report:
    """What a run leaves: Markdown, the same for machines, and drawings by file name."""

    text: str
    data: dict[str, Any]
    drawings: dict[str, str]

    @property
    def is_valid(self) -> bool:
        """Whether every row is."""
        return not any(sample["problems"] for samples in self.data["rounds"] for sample in samples.values())

    def write(self, folder: Path) -> None:
        """Into files of that folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_bytes(orjson.dumps(self.data, option=orjson.OPT_INDENT_2))
        self.publish(folder / "report.md")

    def publish(self, path: Path) -> None:
        """The text into a file, the drawings beside it."""
        path.write_text(self.text, encoding="utf-8")
        for name, drawing in self.drawings.items():
            path.with_name(name).write_text(drawing, encoding="utf-8")


@contextmanager
def short_lived_folder(parent: Path | None) -> Iterator[Path]:
    """A folder that PostgreSQL may enter; gone at the end."""
    folder = Path(tempfile.mkdtemp(prefix="pb-", dir=parent))
    folder.chmod(0o755)  # PostgreSQL under root runs as another user
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def _run(folder: Path, plan: Plan, parts: PartCosts | None) -> Report:
    disk = durable_disk(folder)
    say(f"seed {plan.seed}; preparing {plan.events} postbacks")
    prepared = prepare(folder, plan.seed, plan.events, time.time_ns() // 1_000_000)
    apart, together = layouts()
    noise = Noise()
    async with platform(folder / "engines") as engines:
        facts = {
            "machine": machine() | {"disk": disk, "fsync of 4 KiB": f"{fsync_us(folder)} us"},
            "versions": versions(plan.wrk),
            "engines": await engines.settings(),
            "run": {
                "seed": str(plan.seed),
                "rounds": str(plan.rounds),
                "seconds a load, at most": f"{plan.settings.seconds:g}",
                "postbacks prepared": str(plan.events),
                "connections": str(plan.settings.connections),
            },
        }
        await engines.register([*prepared.warm_up_clicks, *prepared.clicks])
        bench = Bench(engines, prepared, folder, plan.settings, apart, together)
        rounds: list[dict[str, Sample]] = []
        for number in range(1, plan.rounds + 1):
            samples: dict[str, Sample] = {}
            rounds.append(samples)
            for name in plan.names:
                sample = bench.last[name] = samples[name] = await ROWS[name](bench)
                say(
                    f"round {number}/{plan.rounds} {name}: {sample.per_s:,.0f}/s, {sample.cpu_us:.1f} us CPU"
                    f"{'  INVALID: ' + '; '.join(sample.problems) if sample.problems else ''}"
                )
        drawings = await sweep(bench, say) if plan.with_plots else {}
        facts["noise"] = noise.shares()
    text = markdown(facts, rounds, tuple(drawings), parts)
    if parts is not None:
        drawings[PARTS_SVG] = draw_parts(parts)
    return Report(text, as_data(facts, rounds, parts), drawings)


def say(text: str) -> None:
    """How far it is, to the error stream: the output is the report."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    app = typer.Typer(pretty_exceptions_enable=False, add_completion=False, rich_markup_mode=None)
    app.command()(main)
    app()
