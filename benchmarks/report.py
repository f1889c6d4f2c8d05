"""From samples to a report: medians, ratios within rounds, Markdown and JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final

from benchmarks.parts_report import PartCosts, parts_section
from benchmarks.rows import ROWS, Sample

Round = Mapping[str, Sample]


@dataclass(frozen=True, slots=True)
class Ratio:
    """One requirement: a figure of each round that must be `least` or more, or `most` or less."""

    what: str
    figure: Callable[[Round], float]
    least: float | None = None
    most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether the value is good enough."""
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    @property
    def wanted(self) -> str:
        """For people."""
        return f">= {self.least:g}" if self.least is not None else f"<= {self.most:g}"


RATIOS: Final = (
    Ratio(
        "receiver / aiohttp-empty, per CPU-second of the process",
        lambda r: r["receiver"].per_cpu_s / r["aiohttp-empty"].per_cpu_s,
        least=1.5,
    ),
    Ratio(
        "everything / obvious, committed rows per second",
        lambda r: r["everything"].per_s / r["obvious"].per_s,
        least=10,
    ),
    Ratio(
        "bulk NDJSON / aiohttp-empty, events per CPU-second of the process",
        lambda r: r["bulk NDJSON"].per_cpu_s / r["aiohttp-empty"].per_cpu_s,
        least=3,
    ),
    Ratio("writer / bare COPY, rows per second", lambda r: r["writer"].per_s / r["bare COPY"].per_s, least=0.6),
    Ratio("receiver's p99 at half of its peak, ms", lambda r: r["receiver, half load"].p99_us / 1000, most=10),
    Ratio(
        "the same / aiohttp-empty's p99 at that rate",
        lambda r: r["receiver, half load"].p99_us / r["aiohttp-empty, that load"].p99_us,
        most=3,
    ),
)
_NOT_HERE: Final = (
    "What is stored already, several partitions, backlogs and memory: [scale.md](scale.md). Connections:"
    " [scaling.md](scaling.md). What falls short, and why: [performance.md](performance.md)."
)
_NOTES: Final = """\
How to read it. The machine is shared and virtual, so wall-clock figures move from run to run; ratios are taken within a
round, rounds are interleaved, and the range over rounds stands beside each median.

- `aiohttp-empty` and the rows of one receiver or writer run that process on one core, engines and wrk on the others;
  `obvious` and `everything` may use all cores, which they share with engines and wrk.
- CPU is user and system time of the measured process alone, from /proc (of `bare COPY`: the client's); that of
  `everything` is all processes but wrk.
- wrk waits for answers before it sends on: latencies under full load say how many connections were waiting. The rows at
  half load send at a set rate.
- A row is invalid, and so marked, when less is stored than was answered with 2xx, or anything else than expected.
"""


def samples_of(rounds: Sequence[Round], name: str) -> list[Sample]:
    """A row's samples."""
    return [samples[name] for samples in rounds if name in samples]


def markdown(
    facts: Mapping[str, Mapping[str, str]],
    rounds: Sequence[Round],
    drawings: Sequence[str] = (),
    parts: PartCosts | None = None,
) -> str:
    """The whole report; `drawings` are files beside it."""
    lines = ["# Benchmarks", "", "Made by `make bench`.", ""]
    for title, entries in facts.items():
        lines.append(f"- {title}: " + ", ".join(f"{name} {value}" for name, value in entries.items()))
    lines += ["", "## What must hold", "", "| ratio | wanted | median | range over rounds | |", "|---|---|---|---|---|"]
    lines += [line for ratio in RATIOS if (line := _ratio_line(ratio, rounds))]
    lines += ["", _NOT_HERE, "", "## Rows", ""]
    lines += ["| row | events/s | range | CPU us/event | events per CPU-second | p50 ms | p99 ms | |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [_row_line(name, samples_of(rounds, name)) for name in ROWS if samples_of(rounds, name)]
    everything = samples_of(rounds, "everything")
    if everything and everything[0].parts:
        lines += ["", "## Processor time of everything, by process", "", "| process | us/postback |", "|---|---|"]
        lines += [f"| {name} | {median(s.parts[name] for s in everything):.1f} |" for name in everything[0].parts]
    lines += [line for name in drawings for line in ("", f"![{name.removesuffix('.svg')}]({name})")]
    if parts is not None:
        lines += ["", *parts_section(parts)]
    problems = [
        f"- {name}, round {number}: {problem}"
        for number, samples in enumerate(rounds, 1)
        for name, sample in samples.items()
        for problem in sample.problems
    ]
    if problems:
        lines += ["", "## Invalid", "", *problems]
    return "\n".join([*lines, "", "## Notes", "", _NOTES])


def _ratio_line(ratio: Ratio, rounds: Sequence[Round]) -> str | None:
    values = ratio_values(ratio, rounds)
    if not values:
        return None
    middle = median(values)
    verdict = "met" if ratio.is_met(middle) else "short"
    spread = f"{min(values):.2f} to {max(values):.2f}"
    return f"| {ratio.what} | {ratio.wanted} | **{middle:.2f}** | {spread} | {verdict} |"


def ratio_values(ratio: Ratio, rounds: Sequence[Round]) -> list[float]:
    """The figure of each round that has valid samples for it."""
    values = []
    for samples in rounds:
        valid = {name: sample for name, sample in samples.items() if not sample.problems}
        try:
            values.append(ratio.figure(valid))
        except KeyError:  # a row that was not asked for, or is invalid
            continue
    return values


def _row_line(name: str, samples: Sequence[Sample]) -> str:
    rates = [sample.per_s for sample in samples]
    cells = [
        name,
        f"{median(rates):,.0f}",
        f"{min(rates):,.0f} to {max(rates):,.0f}",
        f"{median(s.cpu_us for s in samples):.1f}",
        f"{median(s.per_cpu_s for s in samples):,.0f}",
        _ms([s.p50_us for s in samples]),
        _ms([s.p99_us for s in samples]),
        "INVALID" if any(s.problems for s in samples) else "",
    ]
    return "| " + " | ".join(cells) + " |"


def _ms(values_us: Sequence[int]) -> str:
    return f"{median(values_us) / 1000:.2f}" if any(values_us) else ""


def as_data(
    facts: Mapping[str, Mapping[str, str]], rounds: Sequence[Round], parts: PartCosts | None = None
) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "facts": facts,
        "rounds": [
            {name: asdict(sample) | {"per_s": sample.per_s} for name, sample in samples.items()} for samples in rounds
        ],
        "ratios": {ratio.what: ratio_values(ratio, rounds) for ratio in RATIOS},
        "parts": None if parts is None else asdict(parts),
    }
