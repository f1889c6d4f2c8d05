"""Line and bar charts as SVG, without a library."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
HEIGHT: Final = 420
LEFT: Final = 80
RIGHT: Final = 190
TOP: Final = 40
BOTTOM: Final = 56
BAR: Final = 16
GAP: Final = 12
"""Between the bars of two groups."""
_COLOURS: Final = ("#0b6e99", "#d9480f", "#2b8a3e", "#862e9c", "#e67700", "#495057")


@dataclass(frozen=True, slots=True)
class Line:
    """One line: its name and its points, from left to right."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Bars:
    """A group of bars: its name, and a value for each of the chart's series; None: it has no such bar."""

    name: str
    values: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Axis:
    """From values to places between `start` and `end`."""

    ticks: tuple[float, ...]
    start: float
    end: float
    is_log: bool

    def place(self, value: float) -> float:
        """Where a value stands."""
        low, high, at = self.ticks[0], self.ticks[-1], value
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(max(value, self.ticks[0]))
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def line_chart(
    title: str, x_label: str, y_label: str, lines: Sequence[Line], *, is_log_x: bool = False, is_log_y: bool = False
) -> str:
    """The drawing. A logarithmic axis has a tick for each power of ten (of two on the x axis)."""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for _, y in line.points]
    x_axis = Axis(_ticks(xs, base=2 if is_log_x else None), LEFT, WIDTH - RIGHT, is_log_x)
    y_axis = Axis(_ticks(ys, base=10 if is_log_y else None), HEIGHT - BOTTOM, TOP, is_log_y)
    middle_y = (TOP + HEIGHT - BOTTOM) / 2
    parts = [
        *_columns(x_axis, HEIGHT - BOTTOM),
        *_rows(y_axis),
        f'<text transform="translate(16 {middle_y}) rotate(-90)" text-anchor="middle">{escape(y_label)}</text>',
        *(part for number, line in enumerate(lines) for part in _line(number, line, x_axis.place, y_axis.place)),
    ]
    return _drawing(title, x_label, HEIGHT, parts)


def bar_chart(title: str, x_label: str, series: Sequence[str], groups: Sequence[Bars]) -> str:
    """The drawing: horizontal bars from 0, those of a group below each other in the order of the series."""
    bars = [[(number, value) for number, value in enumerate(group.values) if value is not None] for group in groups]
    x_axis = Axis(_ticks([value for mine in bars for _, value in mine], base=None), LEFT, WIDTH - RIGHT, is_log=False)
    bottom = TOP + sum(len(mine) * BAR + GAP for mine in bars)
    parts = list(_columns(x_axis, bottom))
    y = TOP + GAP / 2
    for group, mine in zip(groups, bars, strict=True):
        middle = y + len(mine) * BAR / 2
        parts.append(f'<text x="{LEFT - 8}" y="{middle + 4:g}" text-anchor="end">{escape(group.name)}</text>')
        for number, value in mine:
            parts += _bar(number, y, value, x_axis)
            y += BAR
        y += GAP
    parts += [part for number, name in enumerate(series) for part in _swatch(number, name)]
    return _drawing(title, x_label, bottom + BOTTOM, parts)


def _drawing(title: str, x_label: str, height: int, parts: Iterable[str]) -> str:
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    middle_x = (LEFT + WIDTH - RIGHT) / 2
    return "\n".join(
        [
            f'{svg} font-family="sans-serif" font-size="12" fill="#343a40">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="{LEFT}" y="22" font-size="15">{escape(title)}</text>',
            f'<text x="{middle_x}" y="{height - 12}" text-anchor="middle">{escape(x_label)}</text>',
            *parts,
            "</svg>",
            "",
        ]
    )


def _columns(x_axis: Axis, bottom: int) -> Iterator[str]:
    for tick in x_axis.ticks:
        x = x_axis.place(tick)
        yield f'<path d="M{x:.1f} {TOP}V{bottom}" stroke="#e9ecef"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{_short(tick)}</text>'


def _rows(y_axis: Axis) -> Iterator[str]:
    for tick in y_axis.ticks:
        y = y_axis.place(tick)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e9ecef"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>'


def _line(
    number: int, line: Line, place_x: Callable[[float], float], place_y: Callable[[float], float]
) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    places = [(place_x(x), place_y(y)) for x, y in line.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
    yield from (f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places)
    y = TOP + 14 + 20 * number
    yield f'<path d="M{WIDTH - RIGHT + 14} {y - 4}h18" stroke="{colour}" stroke-width="2"/>'
    yield f'<text x="{WIDTH - RIGHT + 38}" y="{y}">{escape(line.name)}</text>'


def _bar(number: int, y: float, value: float, x_axis: Axis) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    end = x_axis.place(value)
    yield f'<rect x="{LEFT}" y="{y:g}" width="{end - LEFT:.1f}" height="{BAR - 2}" fill="{colour}"/>'
    yield f'<text x="{end + 4:.1f}" y="{y + BAR - 5:g}" font-size="11">{value:.1f}</text>'


def _swatch(number: int, name: str) -> Iterator[str]:
    colour = _COLOURS[number % len(_COLOURS)]
    y = TOP + 14 + 20 * number
    yield f'<path d="M{WIDTH - RIGHT + 14} {y - 4}h18" stroke="{colour}" stroke-width="10"/>'
    yield f'<text x="{WIDTH - RIGHT + 38}" y="{y}">{escape(name)}</text>'


def _ticks(values: Iterable[float], *, base: int | None) -> tuple[float, ...]:
    """Round numbers around the values: powers of `base`, or from 0 in about five steps of 1, 2 or 5."""
    low, high = _extent(values)
    if base is not None:
        first, last = math.floor(math.log(low, base) + 1e-9), math.ceil(math.log(high, base) - 1e-9)
        return tuple(float(base) ** power for power in range(first, max(last, first + 1) + 1))
    magnitude = 10.0 ** math.floor(math.log10(high / 5))
    step = next(factor * magnitude for factor in (1, 2, 5, 10) if factor * magnitude * 5 >= high)
    return tuple(step * number for number in range(math.ceil(high / step) + 1))


def _extent(values: Iterable[float]) -> tuple[float, float]:
    known = [value for value in values if value > 0] or [1.0]
    return min(known), max(known)


def _short(value: float) -> str:
    if value >= 1000 and value % 100 == 0:
        return f"{value / 1000:g}k"
    return f"{value:g}"
