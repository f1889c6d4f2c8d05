"""Flame graphs as SVG, and what stacks say by function."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Final
from zlib import crc32

WIDTH: Final = 1400
ROW: Final = 17
LEAST: Final = 0.6
"""Narrower boxes are left out, px."""
_CHARACTER: Final = 6.6


@dataclass(slots=True)
class Node:
    """A function on a stack; `count` samples in it and below."""

    name: str
    count: int = 0
    below: dict[str, Node] = field(default_factory=dict)


def by_function(stacks: Mapping[str, int]) -> tuple[Counter[str], Counter[str]]:
    """(samples in the function itself, samples in it or below) by function."""
    own: Counter[str] = Counter()
    with_below: Counter[str] = Counter()
    for stack, count in stacks.items():
        names = stack.split(";")
        own[names[-1]] += count
        for name in set(names):
            with_below[name] += count
    return own, with_below


def by_part(stacks: Mapping[str, int], parts: Mapping[str, str]) -> Counter[str]:
    """Samples by part of the work: `parts` maps the beginnings of function names to parts, the innermost function that
    is in one decides."""
    found: Counter[str] = Counter()
    for stack, count in stacks.items():
        for name in reversed(stack.split(";")):
            part = next((part for start, part in parts.items() if name.startswith(start)), None)
            if part is not None:
                found[part] += count
                break
        else:
            found["the rest"] += count
    return found


def flame_graph(title: str, stacks: Mapping[str, int]) -> str:
    """The drawing: outermost functions at the bottom, widths are shares of the samples; hover for figures."""
    root = Node("all")
    depth = 1
    for stack, count in stacks.items():
        names = stack.split(";")
        depth = max(depth, len(names) + 1)
        node = root
        node.count += count
        for name in names:
            node = node.below.setdefault(name, Node(name))
            node.count += count
    height = (depth + 2) * ROW
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace"',
            ' font-size="11">',
            f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
            f'<text x="4" y="12">{escape(title)}: {root.count} samples</text>',
            *_boxes(root, 0.0, height - ROW, WIDTH / max(1, root.count), root.count),
            "</svg>",
            "",
        ]
    )


def _boxes(node: Node, x: float, y: int, scale: float, total: int) -> Iterator[str]:
    width = node.count * scale
    if width < LEAST:
        return
    share = f"{node.name}: {node.count} samples, {node.count / total:.1%}"
    hue = 15 + crc32(node.name.partition(":")[0].encode()) % 45
    yield f'<g><title>{escape(share)}</title><rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"'
    yield f' fill="hsl({hue} 85% 65%)"/>'
    room = int((width - 4) / _CHARACTER)
    if room > 3:
        yield f'<text x="{x + 2:.1f}" y="{y + 12}">{escape(node.name.rpartition(":")[2][:room])}</text>'
    yield "</g>"
    for child in sorted(node.below.values(), key=lambda child: child.name):
        yield from _boxes(child, x, y - ROW, scale, total)
        x += child.count * scale
