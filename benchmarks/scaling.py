"""`python -m benchmarks.scaling`: what a day of so many postbacks needs, from measured costs.

The costs are arguments: take them from `make bench` on your machine. A day is simulated second by second, with a daily
curve of arrivals, Postgres away at the peak for a while, and the backlog that grows and is drained meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, cos, pi
from typing import Annotated, Final

import typer

DAY_S: Final = 86_400
BUSY: Final = 0.6
"""The share of a core that is planned for: the rest is for bursts, restarts and what else runs."""
GIB: Final = 1 << 30


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured. Microseconds of one core for each postback; bytes as docs/scale.md has them."""

    receiver_us: float
    redis_us: float
    writer_us: float
    postgres_us: float
    click_bytes: int = 183
    entry_bytes: int = 400
    row_bytes: int = 565


@dataclass(frozen=True, slots=True)
class Day:
    """What a simulated day came to."""

    peak_per_s: float
    longest_backlog: float
    catch_up_s: int


def arrivals_per_s(postbacks: float, peak: float, second: int) -> float:
    """A daily curve whose highest value is `peak` times its mean; at most 2."""
    return postbacks / DAY_S * (1 - (peak - 1) * cos(2 * pi * second / DAY_S))


def simulate(postbacks: float, peak: float, written_per_s: float, outage_s: int) -> Day:
    """A day with Postgres away for `outage_s` from noon, the peak, on."""
    began = DAY_S // 2
    backlog = longest = 0.0
    caught_up = 0
    for second in range(2 * DAY_S):
        arrived = arrivals_per_s(postbacks, peak, second % DAY_S)
        is_away = began <= second < began + outage_s
        backlog = max(0.0, backlog + arrived - (0.0 if is_away else written_per_s))
        if backlog > longest:
            longest = backlog
        if second >= began + outage_s and backlog <= 0 and not caught_up:
            caught_up = second - began - outage_s
    return Day(arrivals_per_s(postbacks, peak, began), longest, caught_up)


def cores(per_s: float, cost_us: float) -> int:
    """Cores that so many a second take, each busy for its share."""
    return ceil(per_s * cost_us / 1e6 / BUSY)


def report(postbacks: float, peak: float, outage_s: int, window_days: int, clicks: float, costs: Costs) -> list[str]:
    """The lines of a table in Markdown."""
    highest = arrivals_per_s(postbacks, peak, DAY_S // 2)
    writers, postgres = cores(highest, costs.writer_us), cores(highest, costs.postgres_us)
    written = min(writers / costs.writer_us, postgres / costs.postgres_us) * 1e6 * BUSY
    spare = min(writers / costs.writer_us, postgres / costs.postgres_us) * 1e6
    day = simulate(postbacks, peak, spare, outage_s)
    memory = clicks * window_days * costs.click_bytes + day.longest_backlog * costs.entry_bytes
    rows = [
        ("postbacks a second, mean and peak", f"{postbacks / DAY_S:,.0f}, {day.peak_per_s:,.0f}"),
        ("cores of receivers", f"{cores(highest, costs.receiver_us):,}"),
        ("Redis primaries, a core each", f"{cores(highest, costs.redis_us):,}"),
        ("cores of writers", f"{writers:,}"),
        ("cores of PostgreSQL", f"{postgres:,}"),
        ("written a second, as planned and at most", f"{written:,.0f}, {spare:,.0f}"),
        (
            f"backlog after {outage_s // 60} minutes without PostgreSQL at the peak",
            f"{day.longest_backlog / 1e6:,.0f} M",
        ),
        ("written off after", f"{day.catch_up_s / 60:,.0f} minutes"),
        (f"Redis' memory: clicks of {window_days} days and that backlog", f"{memory / GIB:,.0f} GiB"),
        ("rows of a day in PostgreSQL", f"{postbacks * costs.row_bytes / GIB:,.0f} GiB"),
    ]
    return ["| | |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows)]


def main(
    receiver_us: Annotated[float, typer.Option(help="Of a core, for each postback: a receiver.")],
    redis_us: Annotated[float, typer.Option(help="Redis, click and claim together.")],
    writer_us: Annotated[float, typer.Option(help="A writer.")],
    postgres_us: Annotated[float, typer.Option(help="PostgreSQL's own processes.")],
    postbacks: Annotated[float, typer.Option(help="A day.")] = 1e9,
    peak: Annotated[float, typer.Option(min=1, max=2, help="The busiest second by the mean.")] = 2.0,
    outage_minutes: Annotated[int, typer.Option(help="How long PostgreSQL is away.")] = 30,
    window_days: Annotated[int, typer.Option(help="How long a click stays in Redis.")] = 30,
    clicks: Annotated[float, typer.Option(help="Clicks registered a day.")] = 2e8,
) -> None:
    """Print what a day needs."""
    costs = Costs(receiver_us, redis_us, writer_us, postgres_us)
    typer.echo("\n".join(report(postbacks, peak, outage_minutes * 60, window_days, clicks, costs)))


if __name__ == "__main__":
    typer.run(main)
