"""Files of rows: CSV with a header, read line by line, no line longer than 64 KiB."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

MAX_LINE_BYTES: Final = 65_536
TOO_LONG: Final = "longer than 64 KiB"

Row = tuple[int, dict[str, str] | str]
"""(number of the line, from 1; its values by name, or what is wrong with it)"""


class RowFileError(Exception):
    """The file as a whole cannot be read; the message says why and what to do."""


def open_file(path: Path) -> BinaryIO:
    """Raises RowFileError."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        raise RowFileError(f"{path}: no such file") from None
    except OSError as error:
        raise RowFileError(f"{path}: cannot be read: {error.strerror}") from None


def read_csv(
    path: Path, file: BinaryIO, required: Sequence[str] = (), known: Sequence[str] | None = None
) -> Iterator[Row]:
    """The rows under the header's names, blank lines left out. Bytes that are no UTF-8 come as surrogates.

    Raises RowFileError, when the first row is asked for, where the header lacks one of `required`, or has one that is
    not `known` (None: every name is).
    """
    lines = Lines(file)
    rows = csv.reader(line.decode("utf-8", "surrogateescape") for line in lines)
    header = _header(path, rows, required)
    unknown = [] if known is None else sorted(set(header) - set(known))
    if unknown:
        raise RowFileError(f"{path}: the first line names {', '.join(unknown)}; known are: {', '.join(known or ())}")
    while True:
        lines.cut = False
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield rows.line_num, f"not valid CSV: {error}"
            continue
        if lines.cut:
            yield rows.line_num, TOO_LONG
        elif len(row) == len(header):
            yield rows.line_num, dict(zip(header, row, strict=True))
        elif row:
            yield rows.line_num, f"has {len(row)} columns, the header has {len(header)}"


def _header(path: Path, rows: Iterator[list[str]], required: Sequence[str]) -> list[str]:
    try:
        header = [name.removeprefix("\ufeff").strip() for name in next(rows, [])]
    except csv.Error as error:
        raise RowFileError(f"{path}: the header is not valid CSV: {error}") from None
    missing = [name for name in required if name not in header]
    if missing:
        raise RowFileError(
            f"{path}: the first line must name the columns, with commas between them; missing: {', '.join(missing)}"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise RowFileError(f"{path}: the first line names a column twice: {', '.join(twice)}")
    return header


class Lines:
    """The lines of a file. What is longer than 64 KiB comes out empty and sets `cut`: no line fills the memory."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.cut = False

    def __iter__(self) -> Iterator[bytes]:
        while line := self._file.readline(MAX_LINE_BYTES):
            if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
                yield line
                continue
            while line and not line.endswith(b"\n"):
                line = self._file.readline(MAX_LINE_BYTES)
            self.cut = True
            yield b""
