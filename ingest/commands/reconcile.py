"""`postback reconcile`: an advertiser's own list of transactions against what is stored here."""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from ingest.commands.output import console, table, visible
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from ingest.money import format_micros
from ingest.reconciling import Columns, LineError, Listed, Stored, Verdict, judge, read_listed
from ingest.row_file import TOO_LONG, Lines, RowFileError, open_file, read_csv
from ingest.whole_file import whole_file
from storage.export import TimeRange
from storage.postgres import Connection, Row
from storage.reconcile import (
    Line,
    add_lines,
    campaigns_of,
    create_list,
    leave_out,
    stream_pairs,
    times_of_list,
)

CHUNK: Final = 5_000
MAX_SHOWN: Final = 20
_NDJSON: Final = (".ndjson", ".jsonl")
_HEADER: Final = (
    "verdict", "line", "click_id", "txn_id", "goal", "listed_amount", "listed_currency", "listed_status", "listed_at",
    "conversion_id", "stored_amount", "stored_currency", "stored_status", "log",
)  # fmt: skip
_AGREED: Final = frozenset({Verdict.MATCHED, Verdict.NOT_OWED})


@dataclass(frozen=True, slots=True)
class Asked:
    """What to compare: a campaign or all of an advertiser's; the time that the list is about (None: as its times say);
    sales, or revenue; amounts that differ by no more than `tolerance_micros` are equal."""

    columns: Columns
    campaign: int | None
    advertiser: int | None
    since: datetime | None
    until: datetime | None
    of_sales: bool
    tolerance_micros: int


class _Report:
    """Counts verdicts, keeps the first that differ, and writes them all to a CSV file."""

    def __init__(self, file: BinaryIO | None) -> None:
        self.counts: Counter[tuple[Verdict, str]] = Counter()
        self.listed_micros: Counter[tuple[Verdict, str]] = Counter()
        self.stored_micros: Counter[tuple[Verdict, str]] = Counter()
        self.shown: list[list[str]] = []
        self._text = None if file is None else io.TextIOWrapper(file, "utf-8", newline="", write_through=True)
        self._csv = None if self._text is None else csv.writer(self._text, lineterminator="\n")
        if self._csv is not None:
            self._csv.writerow(_HEADER)

    @property
    def differing(self) -> int:
        """How many pairs differ."""
        return sum(count for (verdict, _), count in self.counts.items() if verdict not in _AGREED)

    def add(self, verdict: Verdict, line: int | None, listed: Listed | None, stored: Stored | None, log: str) -> None:
        currency = (stored.currency if stored else None) or (listed.currency if listed else None) or ""
        self.counts[verdict, currency] += 1
        self.listed_micros[verdict, currency] += (listed.amount_micros if listed else None) or 0
        self.stored_micros[verdict, currency] += stored.amount_micros if stored else 0
        if verdict in _AGREED:
            return
        cells = _cells(verdict, line, listed, stored, log)
        if len(self.shown) < MAX_SHOWN:
            self.shown.append(cells)
        if self._csv is not None:
            self._csv.writerow(cells)

    def close(self) -> None:
        """The file is the caller's."""
        if self._text is not None:
            self._text.detach()


class _Problems:
    """The lines that cannot be read: all counted, the first kept."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.first) < MAX_SHOWN:
            self.first.append(text)


def _cells(verdict: Verdict, line: int | None, listed: Listed | None, stored: Stored | None, log: str) -> list[str]:
    of = listed or stored
    assert of is not None, "a pair has a side"
    at_ms = listed.at_ms if listed else None
    return [
        verdict,
        "" if line is None else str(line),
        of.click_id or (stored.click_id if stored else ""),
        of.txn_id or (stored.txn_id if stored else ""),
        of.goal or (stored.goal if stored else ""),
        _money(listed.amount_micros if listed else None),
        (listed.currency if listed else None) or "",
        (listed.status if listed else None) or "",
        "" if at_ms is None else datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(),
        str(stored.conversion_id) if stored else "",
        _money(stored.amount_micros if stored else None),
        stored.currency if stored else "",
        stored.status if stored else "",
        log,
    ]


def _money(micros: int | None) -> str:
    if micros is None:
        return ""
    return f"-{format_micros(-micros)}" if micros < 0 else format_micros(micros)


async def reconcile(config: Config, path: Path, asked: Asked, out: Path | None) -> int:
    """Compare, and tell. The exit status: 1 if anything differs or a line cannot be read."""
    _check(asked)
    problems = _Problems()
    with ExitStack() as stack:
        file = stack.enter_context(open_file(path))
        target = None if out is None else stack.enter_context(whole_file(out))
        report = _Report(target)
        stack.callback(report.close)
        async with open_database(config) as connection, connection.transaction(isolation="repeatable_read"):
            await _load(connection, path, file, asked.columns, problems)
            when = await _when(connection, asked)
            left_out = await leave_out(connection, when)
            campaigns = await _campaigns(connection, asked)
            key = [name for name in ("click_id", "txn_id", "goal") if getattr(asked.columns, name) is not None]
            async for rows in stream_pairs(connection, campaigns, when, key, of_sales=asked.of_sales):
                for row in rows:
                    line, listed, stored, log = _pair(row)
                    report.add(judge(listed, stored, asked.tolerance_micros), line, listed, stored, log)
    _tell(report, problems, when, left_out, out)
    return 1 if report.differing or problems.count else 0


def _check(asked: Asked) -> None:
    if (asked.campaign is None) is (asked.advertiser is None):
        raise CommandError("name one: --campaign ID or --advertiser ID")
    if asked.columns.click_id is None and asked.columns.txn_id is None:
        raise CommandError("name the column that transactions are found by: --click-id NAME, --txn-id NAME, or both")
    if (asked.since is None or asked.until is None) and asked.columns.time is None:
        raise CommandError("say what time the list is about: --from and --to, or its column of times with --time NAME")


async def _load(connection: Connection, path: Path, file: BinaryIO, columns: Columns, problems: _Problems) -> None:
    await create_list(connection)
    lines = _lines(path, file, columns, problems)
    while chunk := await asyncio.to_thread(lambda: list(islice(lines, CHUNK))):
        await add_lines(connection, chunk)


def _lines(path: Path, file: BinaryIO, columns: Columns, problems: _Problems) -> Iterator[Line]:
    for number, values in _rows(path, file, columns):
        try:
            if isinstance(values, str):
                raise LineError(values)
            listed = read_listed(values, columns)
        except LineError as error:
            problems.add(f"line {number}: {error}")
            continue
        yield (
            number, listed.click_id, listed.txn_id, listed.goal, listed.amount_micros, listed.currency, listed.status,
            listed.at_ms,
        )  # fmt: skip


def _rows(path: Path, file: BinaryIO, columns: Columns) -> Iterator[tuple[int, Mapping[str, object] | str]]:
    match path.suffix.lower():
        case ".csv":
            yield from read_csv(path, file, required=columns.names)
        case suffix if suffix in _NDJSON:
            lines = Lines(file)
            for number, line in enumerate(lines, 1):
                if lines.cut:
                    lines.cut = False
                    yield number, TOO_LONG
                elif line.strip():
                    yield number, _object(line)
        case _:
            raise RowFileError(f"{path}: the name must end in .csv, .ndjson or .jsonl, which says what is in it")


def _object(line: bytes) -> Mapping[str, object] | str:
    try:
        values = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"not valid JSON: {error.msg}"
    return values if isinstance(values, dict) else "expected a JSON object"


async def _when(connection: Connection, asked: Asked) -> TimeRange:
    first, last = await times_of_list(connection)
    since = asked.since or first
    until = asked.until or (last + timedelta(milliseconds=1) if last is not None else None)
    if since is None or until is None:
        raise CommandError("no line of the list has a time: say what time it is about with --from and --to")
    if since >= until:
        raise CommandError("--from must be before --to")
    return TimeRange(since, until)


async def _campaigns(connection: Connection, asked: Asked) -> list[int]:
    if asked.campaign is not None:
        return [asked.campaign]
    assert asked.advertiser is not None, "_check has seen to it"
    campaigns = await campaigns_of(connection, asked.advertiser)
    if not campaigns:
        raise CommandError(f"advertiser {asked.advertiser} has no campaigns")
    return campaigns


def _pair(row: Row) -> tuple[int | None, Listed | None, Stored | None, str]:
    values = list(row)
    line = values[0]
    listed = None if line is None else Listed(*values[1:8])
    stored = None if values[8] is None else Stored(*values[8:16])
    return line, listed, stored, values[16] or ""


def _tell(report: _Report, problems: _Problems, when: TimeRange, left_out: int, out: Path | None) -> None:
    err = console(stderr=True)
    for said in problems.first:
        err.print(visible(said), soft_wrap=True)
    if problems.count > MAX_SHOWN:
        err.print(f"and {problems.count - MAX_SHOWN:,} more lines like these")
    order = {verdict: place for place, verdict in enumerate(Verdict)}
    rows = [
        (
            verdict,
            currency,
            f"{count:,}",
            _money(report.listed_micros[verdict, currency]),
            _money(report.stored_micros[verdict, currency]),
        )
        for (verdict, currency), count in sorted(report.counts.items(), key=lambda item: (order[item[0][0]], item[0]))
    ]
    numbers = ("transactions", "in the list", "here")
    console().print(f"{when.since:%Y-%m-%d %H:%M} to {when.until:%Y-%m-%d %H:%M}")
    console().print(table(("", "currency", *numbers), rows, right=numbers))
    if report.shown:
        used = [place for place in range(len(_HEADER)) if any(cells[place] for cells in report.shown)]
        shown = [[cells[place] for place in used] for cells in report.shown]
        console().print(table([_HEADER[place].replace("_", " ") for place in used], shown))
    if report.differing > len(report.shown) and out is None:
        console().print(f"and {report.differing - len(report.shown):,} more: --csv FILE writes them all")
    if left_out:
        console().print(f"{left_out:,} lines of other times were left out")
    if out is not None:
        console().print(f"{report.differing:,} lines in {out}", soft_wrap=True)
