"""How commands show things: colours and the terminal's width on a terminal, plain text of any width in a pipe."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

PIPE_WIDTH = 10_000
"""Where nobody's terminal sets a width, nothing is cut or wrapped."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

COLOURS = {
    "accepted": "green",
    "ready": "green",
    "duplicate": "yellow",
    "conflict": "magenta",
    "rejected": "red",
    "invalid": "red",
    "not ready": "red",
}
"""By verdict or state."""


def console(*, stderr: bool = False) -> Console:
    """For standard output, or standard error. Brackets in what is printed are brackets, not markup."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, width=width, markup=False, highlight=False, emoji=False)


def visible(text: str) -> str:
    """The text with its control characters as escapes, so that no data drives the terminal; line ends and tabs stay."""
    return _CONTROL.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def coloured(word: str) -> Text:
    """A verdict or state in its colour."""
    return Text(visible(word), COLOURS.get(word, ""))


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Iterable[str] = ()) -> Table:
    """A table without loss: what does not fit a terminal goes on in the next line. `right`: columns of numbers."""
    made = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold", justify="right" if column in set(right) else "left")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else visible(cell) for cell in row))
    return made


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and what they are, without a header."""
    made = Table.grid(padding=(0, 2))
    made.add_column(style="bold", no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(visible(name), value if isinstance(value, Text) else visible(value))
    return made
