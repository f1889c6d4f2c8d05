"""Click files: CSV with a header, or NDJSON, read in chunks and registered."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from ingest.clicks import ClickError, read_click
from ingest.row_file import TOO_LONG, Lines, RowFileError, open_file, read_csv
from storage.clicks import register_clicks
from storage.postgres import Pool
from storage.rows import NewClick, Registration

CHUNK: Final = 5000
MAX_ERRORS: Final = 1000
"""How many bad lines are kept for the report; all are counted."""

REQUIRED: Final = ("click_id", "campaign_id", "publisher_id", "clicked_at")
_NDJSON: Final = (".ndjson", ".jsonl")

Line = tuple[int, NewClick | ClickError]
"""(number of the line, from 1; its click or what is wrong with it)"""

OnProgress = Callable[[int, int], None]
"""Told (bytes done, bytes in all)."""

OnRegistered = Callable[[Sequence[Registration]], Awaitable[None]]
"""Given each chunk as it stands in Postgres now."""


@dataclass(slots=True)
class ImportResult:
    """What an import did. `errors`: the first 1000 bad lines, (number, what is wrong); `error_count` counts all."""

    registered: int = 0
    known: int = 0
    error_count: int = 0
    errors: list[tuple[int, str]] = field(default_factory=list)


async def import_clicks(
    path: Path,
    pool: Pool,
    on_progress: OnProgress | None = None,
    on_registered: OnRegistered | None = None,
    *,
    clock_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
) -> ImportResult:
    """Register the clicks of a file; a bad line is skipped and reported. Idempotent: run it again after a failure.

    Raises RowFileError, and what Postgres answers.
    """
    result = ImportResult()
    with await asyncio.to_thread(open_file, path) as file:
        total = await asyncio.to_thread(lambda: path.stat().st_size)
        lines = read_file(path, file, clock_ms())
        while chunk := await asyncio.to_thread(lambda: list(islice(lines, CHUNK))):
            await _register(chunk, pool, on_registered, result)
            if on_progress is not None:
                on_progress(file.tell(), total)
    return result


async def _register(
    chunk: Sequence[Line], pool: Pool, on_registered: OnRegistered | None, result: ImportResult
) -> None:
    clicks = []
    for number, item in chunk:
        if isinstance(item, ClickError):
            result.error_count += 1
            if len(result.errors) < MAX_ERRORS:
                result.errors.append((number, str(item)))
        else:
            clicks.append(item)
    if clicks:
        registrations = await register_clicks(pool, clicks)
        new = sum(registration.is_new for registration in registrations)
        result.registered += new
        result.known += len(registrations) - new
        if on_registered is not None:
            await on_registered(registrations)


def read_file(path: Path, file: BinaryIO, now_ms: int) -> Iterator[Line]:
    """The file's clicks, line by line; blank lines are left out. The name's ending says what it is.

    Raises RowFileError, some of it only when the first line is asked for.
    """
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, file, now_ms)
    if suffix in _NDJSON:
        return _read_ndjson(file, now_ms)
    raise RowFileError(f"{path}: the name must end in .csv, .ndjson or .jsonl, which says what is in it")


def _read_csv(path: Path, file: BinaryIO, now_ms: int) -> Iterator[Line]:
    # Bytes that are no UTF-8 get through as surrogates: a click_id with one is refused, in params they are replaced.
    for number, row in read_csv(path, file, REQUIRED):
        yield number, ClickError(row) if isinstance(row, str) else _click(row, now_ms)


def _read_ndjson(file: BinaryIO, now_ms: int) -> Iterator[Line]:
    lines = Lines(file)
    for number, line in enumerate(lines, 1):
        if lines.cut:
            lines.cut = False
            yield number, ClickError(TOO_LONG)
            continue
        if not line.strip():
            continue
        try:
            fields = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            yield number, ClickError(f"not valid JSON: {error.msg}")
            continue
        if isinstance(fields, dict):
            yield number, _click(fields, now_ms)
        else:
            yield number, ClickError("expected a JSON object")


def _click(fields: Mapping[str, object], now_ms: int) -> NewClick | ClickError:
    try:
        return read_click(fields, now_ms)
    except ClickError as error:
        return error
