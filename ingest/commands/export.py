"""`postback export`: rows of a time range as a Parquet or CSV file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, cast

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ingest.commands.output import console
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from ingest.parquet_file import ParquetFile, require_parquet
from ingest.whole_file import whole_file
from storage.export import ExportConnection, Exported, TimeRange, about_rows, stream_csv, stream_rows


class FileFormat(StrEnum):
    """What the file is."""

    PARQUET = "parquet"
    CSV = "csv"


def format_of(path: Path) -> FileFormat:
    """As the name's ending says. Raises CommandError."""
    try:
        return FileFormat(path.suffix.lower().removeprefix("."))
    except ValueError:
        raise CommandError(f"{path}: the name must end in .parquet or .csv, or --format say which") from None


async def export_rows(config: Config, path: Path, table: Exported, when: TimeRange, form: FileFormat) -> None:
    """Write the file; it is there when it is whole."""
    if when.since >= when.until:
        raise CommandError("--from must be before --to")
    if form is FileFormat.PARQUET:
        require_parquet()
    err = console(stderr=True)
    progress = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        console=err, disable=not err.is_terminal,
    )  # fmt: skip
    async with open_database(config) as connection:
        streaming = cast("ExportConnection", connection)
        total = await about_rows(connection, table, when)
        with whole_file(path) as file, progress:
            task = progress.add_task(table, total=total or None)
            write = stream_csv if form is FileFormat.CSV else _write_parquet
            count = await write(streaming, table, when, file, lambda rows: progress.advance(task, rows))
            progress.update(task, total=count, completed=count)
    console().print(f"{count:,} rows of {table} in {path}", soft_wrap=True)


async def _write_parquet(
    connection: ExportConnection, table: Exported, when: TimeRange, file: BinaryIO, on_rows: Callable[[int], None]
) -> int:
    count = 0
    with ExitStack() as stack:
        parquet: ParquetFile | None = None
        async for columns, rows in stream_rows(connection, table, when):
            if parquet is None:
                is_sums = table in {Exported.HOURS, Exported.DAYS}
                parquet = stack.enter_context(ParquetFile(file, columns, is_sums=is_sums))
            await asyncio.to_thread(parquet.write, rows)
            count += len(rows)
            on_rows(len(rows))
    return count
