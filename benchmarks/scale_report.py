"""From what was measured at scale to a report: ratios within rounds, Markdown, JSON and drawings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Final

from benchmarks.plots import Line, line_chart
from benchmarks.report import Ratio, Round, ratio_values, samples_of
from benchmarks.rows import Sample
from benchmarks.scale_backlog import LOAD_S, Drained
from benchmarks.scale_stored import Loaded

CLICK_BYTES: Final = 250
EMPTY: Final = "empty"
FULL: Final = "full"
STORED_SVG: Final = "scale-stored.svg"
PARTITIONS_SVG: Final = "scale-partitions.svg"
BACKLOG_SVG: Final = "scale-backlog.svg"
Facts = Mapping[str, Mapping[str, str]]

_NOTES: Final = """\
How to read it. The machine is shared and virtual, so wall-clock figures move from run to run; ratios are taken within a
round, what is compared alternates in short rounds, in changing order, and the range over rounds stands beside each
median.

- Every measurement is everything on all cores: from the first request to the last committed row. Programs are started
  anew for each; engines of the platform that is not measured idle.
- The empty platform is emptied before each round. What is stored in the full one was written by SQL and a script: no
  triggers, so that the rollups begin empty on both, but with all indexes, and spread over 87 days. What the rounds
  before have brought is there as well.
- After storing, tables are vacuumed, a checkpoint is made and the append-only file is rewritten. A first round then
  writes many whole pages into Postgres' log, later ones fewer: the range shows it.
- Redis rewrites its append-only file by itself only in the part about the backlog: else it would fall into some rounds.
- CPU is user and system time of all processes but wrk, from /proc.
- Loads beside the backlog are sent at a set rate; the backlog is gone when no more waits than a second brings.
- A measurement is invalid, and so marked, when less is stored than was answered with 2xx, or anything else than
  expected.
"""


@dataclass(slots=True)
class Measured:
    """What is known so far. `steps`: rounds of an empty platform beside one in which so many rows and claims are
    stored; `partitions`: rounds by how many there are; `failed`: what ended a part before its end."""

    steps: dict[int, list[Round]] = field(default_factory=dict)
    loaded: Loaded | None = None
    partitions: list[Round] = field(default_factory=list)
    drained: Drained | None = None
    failed: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """What makes it invalid."""
        named = [(f"{stored:,} stored", rounds) for stored, rounds in self.steps.items()]
        named.append(("partitions", self.partitions))
        return (
            self.failed
            + [
                f"{part}, round {number}, {name}: {problem}"
                for part, rounds in named
                for number, samples in enumerate(rounds, 1)
                for name, sample in samples.items()
                for problem in sample.problems
            ]
            + [f"backlog: {problem}" for problem in (self.drained.problems if self.drained else [])]
        )

    def peak(self) -> float:
        """Committed rows a second where nothing is stored. Raises AssertionError where that is not known."""
        rates = [sample.per_s for rounds in self.steps.values() for sample in samples_of(rounds, EMPTY)]
        rates += [sample.per_s for sample in samples_of(self.partitions, "1")]
        assert rates, "nothing was measured that tells the peak"
        return median(rates)


def per_s_ratio(name: str, base: str, *, least: float | None = None) -> Ratio:
    """Committed rows a second of one by those of the other in the same round."""
    what = f"everything, {name} / {base}, committed rows per second"
    return Ratio(what, lambda r: r[name].per_s / r[base].per_s, least=least)


def cpu_ratio(name: str, base: str) -> Ratio:
    """Processor time for each postback, likewise."""
    return Ratio(f"everything, {name} / {base}, CPU per postback", lambda r: r[name].cpu_us / r[base].cpu_us)


def markdown(facts: Facts, measured: Measured, drawings: Sequence[str]) -> str:
    """The whole report; `drawings` are files beside it."""
    lines = ["# Scale", "", "Made by `python -m benchmarks.scale`.", ""]
    for title, entries in facts.items():
        lines.append(f"- {title}: " + ", ".join(f"{name} {value}" for name, value in entries.items()))
    lines += ["", *_wanted(measured)]
    lines += ["", *_stored(measured), *_drawing(STORED_SVG, drawings)]
    lines += ["", *_partitions(measured), *_drawing(PARTITIONS_SVG, drawings)]
    lines += ["", *_backlog(measured), *_drawing(BACKLOG_SVG, drawings)]
    lines += ["", *_memory(measured)]
    if problems := measured.problems():
        lines += ["", "## Invalid", "", *(f"- {problem}" for problem in problems)]
    return "\n".join([*lines, "", "## Notes", "", _NOTES])


def drawings_of(measured: Measured) -> dict[str, str]:
    """By file name, of the parts that were measured."""
    drawings = {}
    if measured.steps:
        drawings[STORED_SVG] = line_chart(
            "Throughput against what is stored already",
            "million rows and claims",
            "ratio to an empty platform",
            [
                Line("rows per second", _by_stored(measured.steps, per_s_ratio(FULL, EMPTY))),
                Line("CPU per postback", _by_stored(measured.steps, cpu_ratio(FULL, EMPTY))),
            ],
        )
    if measured.partitions:
        drawings[PARTITIONS_SVG] = line_chart(
            "Throughput against partitions",
            "partitions, on one server",
            "ratio to one partition",
            [
                Line("rows per second", _by_partitions(measured.partitions, per_s_ratio)),
                Line("CPU per postback", _by_partitions(measured.partitions, cpu_ratio)),
            ],
            is_log_x=True,
        )
    if measured.drained:
        course = [(seconds, float(entries)) for seconds, entries in measured.drained.course]
        drawings[BACKLOG_SVG] = line_chart("A backlog under load", "seconds", "entries", [Line("backlog", course)])
    return drawings


def as_data(facts: Facts, measured: Measured) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "facts": facts,
        "stored": [{"stored": stored, "rounds": _rounds_data(rounds)} for stored, rounds in measured.steps.items()],
        "loaded": asdict(measured.loaded) if measured.loaded else None,
        "partitions": _rounds_data(measured.partitions),
        "backlog": asdict(measured.drained) if measured.drained else None,
        "problems": measured.problems(),
    }


def _rounds_data(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    return [{name: asdict(sample) | {"per_s": sample.per_s} for name, sample in samples.items()} for samples in rounds]


def _wanted(measured: Measured) -> Iterator[str]:
    yield from ("## What must hold", "", "| figure | wanted | median | range over rounds | |", "|---|---|---|---|---|")
    if measured.steps:
        most = max(measured.steps)
        ratio = per_s_ratio(FULL, EMPTY, least=0.85)
        if values := ratio_values(ratio, measured.steps[most]):
            verdict = "met" if ratio.is_met(median(values)) else "short"
            what = f"{ratio.what}, {most:,} stored"
            yield f"| {what} | {ratio.wanted} | **{median(values):.2f}** | {_spread(values)} | {verdict} |"
    if measured.loaded:
        found = measured.loaded.redis_bytes / measured.loaded.rows
        verdict = "met" if found <= CLICK_BYTES else "short"
        yield f"| bytes of Redis for a click and its first claim | <= {CLICK_BYTES} | **{found:.0f}** | | {verdict} |"


def _stored(measured: Measured) -> Iterator[str]:
    yield "## Against what is stored already"
    if not measured.steps:
        yield from ("", "Not measured, see below.")
        return
    yield from (
        "",
        "| rows and claims stored | empty, rows/s | full, rows/s | full / empty | range | CPU, full / empty | |",
    )
    yield "|---|---|---|---|---|---|---|"
    for stored, rounds in measured.steps.items():
        rates = [_per_s(samples_of(rounds, name)) for name in (EMPTY, FULL)]
        speed, cpu = (ratio_values(of(FULL, EMPTY), rounds) for of in (per_s_ratio, cpu_ratio))
        cells = [f"{stored:,}", *rates, _middle(speed), _spread(speed), _middle(cpu), _invalid(rounds)]
        yield "| " + " | ".join(cells) + " |"
    most = max(measured.steps)
    yield from ("", f"Processor time for each postback with {most:,} stored, by process:", "")
    yield from ("| process | empty, us | full, us | full / empty |", "|---|---|---|---|")
    for name in measured.steps[most][0][EMPTY].parts:
        us = [(samples[EMPTY].parts[name], samples[FULL].parts[name]) for samples in measured.steps[most]]
        both = [f"{median(values):.1f}" for values in zip(*us, strict=True)]
        yield "| " + " | ".join([name, *both, _middle([full / empty for empty, full in us if empty])]) + " |"


def _partitions(measured: Measured) -> Iterator[str]:
    yield "## Partitions"
    if not measured.partitions:
        yield from ("", "Not measured, see below.")
        return
    yield from (
        "",
        "| partitions | rows/s | by 1 partition | range | CPU by 1 partition | |",
        "|---|---|---|---|---|---|",
    )
    for name in measured.partitions[0]:
        speed, cpu = (ratio_values(of(name, "1"), measured.partitions) for of in (per_s_ratio, cpu_ratio))
        mine = [{name: samples[name]} for samples in measured.partitions]
        rate = _per_s(samples_of(measured.partitions, name))
        yield "| " + " | ".join([name, rate, _middle(speed), _spread(speed), _middle(cpu), _invalid(mine)]) + " |"


def _by_stored(steps: Mapping[int, Sequence[Round]], ratio: Ratio) -> list[tuple[float, float]]:
    found = {stored: ratio_values(ratio, rounds) for stored, rounds in steps.items()}
    return [(stored / 1e6, median(values)) for stored, values in found.items() if values]


def _by_partitions(rounds: Sequence[Round], ratio: Callable[[str, str], Ratio]) -> list[tuple[float, float]]:
    ratios = {name: ratio_values(ratio(name, "1"), rounds) for name in rounds[0]}
    return [(float(name), median(values)) for name, values in ratios.items() if values]


def _backlog(measured: Measured) -> Iterator[str]:
    yield "## Backlog under load"
    drained = measured.drained
    if drained is None:
        yield from ("", "Not measured, see below.")
        return
    middle_us, worst_us = drained.p99_us
    yield from ("", "| | |", "|---|---|")
    yield f"| postbacks that waited | {drained.rows:,} |"
    yield f"| postbacks sent a second meanwhile, half of the peak | {drained.rate:,.0f} |"
    yield f"| gone after | {drained.seconds:.1f} s |"
    yield f"| shrank by, postbacks a second | {drained.per_s:,.0f} |"
    p99_ms = f"{middle_us / 1000:.1f}, {worst_us / 1000:.1f}"
    yield f"| answers' p99 meanwhile, median and worst of loads of {LOAD_S} s | {p99_ms} ms |"
    verdict = "INVALID" if drained.problems else "all stored"
    yield f"| those and the answered ones | {drained.rows + drained.answered:,}, {verdict} |"


def _memory(measured: Measured) -> Iterator[str]:
    yield from ("## Memory and disk", "", "| | bytes |", "|---|---|")
    if measured.loaded:
        loaded = measured.loaded
        yield f"| Redis: a click with its record and first claim | {loaded.redis_bytes / loaded.rows:.0f} |"
        yield f"| Redis: {loaded.rows:,} of them | {loaded.redis_bytes:,} |"
        yield f"| Postgres: a row of conversions with its indexes | {loaded.postgres_bytes / loaded.rows:.0f} |"
    if measured.drained:
        yield f"| Redis: a postback in the queue | {measured.drained.row_bytes:.0f} |"


def _drawing(name: str, drawings: Sequence[str]) -> list[str]:
    return ["", f"![{name.removesuffix('.svg')}]({name})"] if name in drawings else []


def _per_s(samples: Sequence[Sample]) -> str:
    return f"{median(sample.per_s for sample in samples):,.0f}" if samples else ""


def _middle(values: Sequence[float]) -> str:
    return f"{median(values):.2f}" if values else ""


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.2f} to {max(values):.2f}" if values else ""


def _invalid(rounds: Sequence[Round]) -> str:
    return "INVALID" if any(sample.problems for samples in rounds for sample in samples.values()) else ""
