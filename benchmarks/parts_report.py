"""What the parts of a postback's way cost, for people: a table and a drawing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from typing import Final

from benchmarks.plots import Bars, bar_chart

PARTS_SVG: Final = "benchmark-parts.svg"


class Part(StrEnum):
    """The parts, in order."""

    REQUEST = "request"
    PARSE = "parse"
    CLICK = "click"
    DECIDE = "decide"
    CLAIM = "claim"
    ANSWER = "answer"
    QUEUE_READ = "queue read"
    COMMIT = "commit"


@dataclass(frozen=True, slots=True)
class Cost:
    """What a part takes for each postback, us of processor time: of our process with compiled code and by the rules
    alone, or either way where both do the same; of the engine that it waits for."""

    part: Part
    compiled_us: float | None = None
    rules_us: float | None = None
    either_us: float | None = None
    engine: str | None = None
    engine_us: float = 0.0


@dataclass(frozen=True, slots=True)
class PartCosts:
    """From so many rounds of so many postbacks each: medians, of engines means. `noise`: what disturbed them."""

    rounds: int
    postbacks: int
    seed: int
    noise: Mapping[str, str]
    costs: Sequence[Cost]


_DONE: Final = {
    Part.REQUEST: "the request read",
    Part.PARSE: "names and values read",
    Part.CLICK: "clicks fetched",
    Part.DECIDE: "decided, encoded for the queue",
    Part.CLAIM: "claimed and queued",
    Part.ANSWER: "the answer written",
    Part.QUEUE_READ: "read from the queue, later settled",
    Part.COMMIT: "stored in a transaction",
}
_Pick = Callable[[Cost], float | None]
_SERIES: Final[dict[str, _Pick]] = {
    "compiled code": attrgetter("compiled_us"),
    "the rules alone": attrgetter("rules_us"),
    "either way": attrgetter("either_us"),
}
_HOW: Final = """\
us of processor time for each postback, of one process that does nothing else, in the product's own code; no sockets but
those to the engines, no metrics. Postbacks are recorded 64 at a time and written in batches as a writer makes them. The
rules alone decide where no compiled code was built; what compiled code leaves to them is in its own column. Parts that
are the same either way have one figure, from the rounds of both. The engine is the one that is waited for: all its
processes, on the other cores, with their fsyncs; Redis' share in fetching clicks was measured by itself, and taken off
what it took while postbacks were recorded."""


def parts_section(measured: PartCosts) -> list[str]:
    """Lines of Markdown; the drawing is a file beside them."""
    lines = ["## Cost of a postback by part", ""]
    rounds = f"{measured.rounds} interleaved rounds of {measured.postbacks:,} postbacks; medians, of engines means"
    noise = ", ".join(f"{name} {share}" for name, share in measured.noise.items())
    lines += [
        "Measured by `python -m benchmarks.parts`.",
        "",
        f"- run: seed {measured.seed}, {rounds}",
        f"- noise: {noise}",
    ]
    columns = {"compiled code": _compiled, "the rules alone": _ruled}
    if all(cost.compiled_us is None for cost in measured.costs):
        del columns["compiled code"]
    lines += ["", f"| part | | {' | '.join(columns)} | the engine |", f"|---|---|{'---|' * len(columns)}---|"]
    for cost in measured.costs:
        own = " | ".join(f"{pick(cost):.1f}" for pick in columns.values())
        engine = "" if cost.engine is None else f"{cost.engine} {cost.engine_us:.1f}"
        lines += [f"| {cost.part} | {_DONE[cost.part]} | {own} | {engine} |"]
    totals = [sum(map(pick, measured.costs)) for pick in (*columns.values(), _engine)]
    lines += [f"| together | | {' | '.join(f'{total:.1f}' for total in totals)} |"]
    return [*lines, "", f"![{PARTS_SVG.removesuffix('.svg')}]({PARTS_SVG})", "", _HOW]


def draw_parts(measured: PartCosts) -> str:
    """Bars for each part: two where compiled code does what the rules would, else one."""
    series = {name: pick for name, pick in _SERIES.items() if any(pick(cost) is not None for cost in measured.costs)}
    groups = [Bars(cost.part, [pick(cost) for pick in series.values()]) for cost in measured.costs]
    return bar_chart("Cost of a postback by part", "us of processor time", tuple(series), groups)


def _compiled(cost: Cost) -> float:
    return cost.compiled_us or cost.either_us or 0.0


def _ruled(cost: Cost) -> float:
    return cost.rules_us or cost.either_us or 0.0


def _engine(cost: Cost) -> float:
    return cost.engine_us
