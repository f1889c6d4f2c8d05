"""`postback partitions`: the months there are, dropped when it is time, or archived and dropped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast, get_args

from ingest.app import keep_of
from ingest.commands.output import console, table
from ingest.commands.session import CommandError, login_name, open_database
from ingest.config import Config
from ingest.whole_file import whole_file
from storage.archive import Archived, drop_archived, rows_in, write_month
from storage.export import ExportConnection
from storage.retention import Partition, RetentionError, drop_expired, list_partitions

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


async def show_partitions(config: Config, *, as_json: bool) -> None:
    """Print them all, with when each is dropped."""
    async with open_database(config) as connection:
        found = await list_partitions(connection, keep_of(config))
    if as_json:
        console().print(json.dumps([_facts(one) for one in found]), soft_wrap=True)
        return
    rows = [
        (
            one.table,
            _month(one),
            "" if one.rows is None else f"{one.rows:,}",
            size_text(one.size_bytes),
            "due" if one.is_due else f"{one.due:%Y-%m-%d}" if one.due else "kept",
        )
        for one in found
    ]
    console().print(table(("table", "month", "rows, about", "size", "dropped"), rows, right=("rows, about", "size")))


async def drop_due(config: Config, *, dry_run: bool) -> int:
    """Drop what is due, as writers do each hour, or say what would be. The exit status: 1 if something is left."""
    keep = keep_of(config)
    async with open_database(config) as connection:
        if dry_run:
            due = [one for one in await list_partitions(connection, keep) if one.is_due]
            _say(due, "would be dropped")
            return 0
        dropped: list[Partition] = []
        is_ours = await drop_expired(connection, keep, login_name(), dropped.extend)
        left = [one for one in await list_partitions(connection, keep) if one.is_due]
    _say(dropped, "dropped")
    if not is_ours:
        raise CommandError("a writer drops partitions just now; run it again in a minute")
    if left:
        names = ", ".join(one.name for one in left)
        console(stderr=True).print(f"left for now, the rollups have yet to count changes: {names}", soft_wrap=True)
    return 1 if left else 0


async def archive_month(config: Config, table_name: str, month: str, path: Path, *, dry_run: bool) -> None:
    """Write a month to `path`, compare, and drop it. Raises CommandError; then the month is as it was."""
    if table_name not in get_args(Archived):
        raise CommandError(f"{table_name}: expected one of {', '.join(get_args(Archived))}")
    if not path.name.endswith(".csv.gz"):
        raise CommandError(f"{path}: the name must end in .csv.gz")
    _require_new(path)
    archived = cast("Archived", table_name)
    wanted = _since(month)
    async with open_database(config) as connection:
        attached = await list_partitions(connection, keep_of(config))
        chosen = next((one for one in attached if one.table == archived and one.since == wanted), None)
        if chosen is None:
            raise CommandError(f"{table_name} has no partition of {month}: `postback partitions` lists them")
        if not chosen.is_past:
            raise CommandError(f"{chosen.name}: rows may still come for that month; nothing was written")
        if dry_run:
            _say([chosen], "would be archived and dropped")
            return
        with whole_file(path) as file:
            written = await write_month(cast("ExportConnection", connection), archived, chosen, file)
        # Counted from the file, as it is on the disk: what was sent to it is not what matters.
        if (count := rows_in(path)) != written[0]:
            raise CommandError(f"{path}: has {count:,} rows, {written[0]:,} were expected; nothing was dropped")
        try:
            dropped = await drop_archived(connection, archived, chosen, attached, written, login_name())
        except RetentionError as error:
            _remove(path)
            raise CommandError(str(error)) from None
    console().print(f"{written[0]:,} rows in {path}", soft_wrap=True)
    _say(dropped, "dropped")


def _require_new(path: Path) -> None:
    if path.exists():
        raise CommandError(f"{path}: is there already; choose another name")


def _remove(path: Path) -> None:
    path.unlink()


def size_text(size_bytes: int) -> str:
    """`1.5 GiB`"""
    size, unit = float(size_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{size:.1f} {_UNITS[unit]}" if unit else f"{size_bytes} B"


def _say(partitions: Sequence[Partition], what: str) -> None:
    for one in partitions:
        console().print(f"{what}: {one.table} {_month(one)} ({size_text(one.size_bytes)})", soft_wrap=True)
    if not partitions:
        console().print("nothing is due")


def _month(partition: Partition) -> str:
    return f"{partition.since.astimezone(UTC):%Y-%m}"


def _since(month: str) -> datetime:
    try:
        return datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"{month}: expected a month such as 2026-11") from None


def _facts(one: Partition) -> dict[str, object]:
    return {
        "table": one.table,
        "month": _month(one),
        "partition": one.name,
        "rows": one.rows,
        "bytes": one.size_bytes,
        "due": one.due.isoformat() if one.due else None,
        "is_due": one.is_due,
    }
