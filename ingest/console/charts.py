"""Columns over time, stacked, as numbers for an SVG. Pure.

A series' values may be negative: these go down from the zero line. Floats are coordinates; what is shown is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import ceil, floor, log10
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 220
LEFT: Final = 56
RIGHT: Final = 26
TOP: Final = 16
BOTTOM: Final = 32
_TICKS: Final = 4
_LABELS: Final = 8


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a column."""

    series: int
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Column:
    """One hour or day: its parts, and what is said of it."""

    at: datetime
    label: str
    values: tuple[int | Decimal, ...]
    bars: tuple[Bar, ...]
    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across, or a label below."""

    place: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """All of it. `is_empty`: there is nothing but zeros."""

    series: tuple[str, ...]
    columns: tuple[Column, ...]
    across: tuple[Tick, ...]
    below: tuple[Tick, ...]
    zero: float
    is_empty: bool
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    bottom: int = BOTTOM


def times(until: datetime, count: int, *, by_day: bool) -> list[datetime]:
    """The starts of the last `count` hours or days (UTC), the present one included."""
    start = until.replace(minute=0, second=0, microsecond=0)
    step = timedelta(hours=1)
    if by_day:
        start, step = start.replace(hour=0), timedelta(days=1)
    return [start - step * back for back in reversed(range(count))]


def chart(at: Sequence[datetime], series: Mapping[str, Mapping[datetime, int | Decimal]], *, by_day: bool) -> Chart:
    """A chart of these hours or days; what is missing is 0."""
    names = tuple(series)
    rows = [tuple(series[name].get(moment, 0) for name in names) for moment in at]
    high = max((float(sum(value for value in row if value > 0)) for row in rows), default=0.0)
    low = min((float(sum(value for value in row if value < 0)) for row in rows), default=0.0)
    step = _step(high - low)
    top, bottom = ceil(high / step) * step or step, floor(low / step) * step
    room = HEIGHT - TOP - BOTTOM

    def y_of(value: float) -> float:
        return round(TOP + (top - value) / (top - bottom) * room, 2)

    slot = (WIDTH - LEFT - RIGHT) / max(len(at), 1)
    columns = tuple(
        Column(
            moment,
            f"{moment:%a %d %b}" if by_day else f"{moment:%d %b %H:%M}",
            row,
            tuple(_bars(row, LEFT + index * slot + slot * 0.12, slot * 0.76, y_of)),
            round(LEFT + index * slot, 2),
            round(slot, 2),
        )
        for index, (moment, row) in enumerate(zip(at, rows, strict=True))
    )
    every = max(1, ceil(len(at) / _LABELS))
    lines = round((top - bottom) / step)
    return Chart(
        series=names,
        columns=columns,
        across=tuple(Tick(y_of(bottom + step * line), _label(bottom + step * line)) for line in range(lines + 1)),
        below=tuple(
            Tick(round(LEFT + (index + 0.5) * slot, 2), f"{moment:%d %b}" if by_day else f"{moment:%H:%M}")
            for index, moment in enumerate(at)
            if (len(at) - 1 - index) % every == 0
        ),
        zero=y_of(0.0),
        is_empty=not any(any(row) for row in rows),
    )


def _bars(row: Sequence[int | Decimal], x: float, width: float, y_of: Callable[[float], float]) -> list[Bar]:
    bars = []
    up = down = 0.0
    for index, value in enumerate(row):
        size = float(value)
        if size > 0:
            start, up = up, up + size
            above, below = y_of(up), y_of(start)
        elif size < 0:
            start, down = down, down + size
            above, below = y_of(start), y_of(down)
        else:
            continue
        bars.append(Bar(index, round(x, 2), above, round(width, 2), round(max(below - above, 0.5), 2)))
    return bars


def _step(span: float) -> float:
    """1, 2 or 5 times a power of ten: about _TICKS of them make the span."""
    if span <= 0:
        return 1.0
    rough = span / _TICKS
    power = 10.0 ** floor(log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _label(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{round(value, 6):g}"
