"""A month out of Postgres into a file: written, read again, compared, and only then dropped."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, Final, Literal

from storage.export import TIMEOUT_S, ExportConnection
from storage.postgres import Connection
from storage.retention import Partition, RetentionError, be_the_one, drop, waits_for_rollups
from storage.sqlfiles import queries

Archived = Literal["conversions", "postback_log", "outbound_messages"]
"""What can be archived. Conversions are written as they stand, with status and adjustments: as conversions_net."""

Digest = tuple[int, str]
"""How many rows, and a sum of hashes over all that stands in them."""

_WRITTEN_TO: Final = {"conversions": "adjustments, status_changes, conversions"}
"""What must stand still besides, while it is compared."""


async def write_month(connection: ExportConnection, table: Archived, month: Partition, file: BinaryIO) -> Digest:
    """Its rows as CSV with a header, compressed; what was written. The connection must not be in a transaction."""
    sql = queries("retention")
    with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:

        async def put(data: bytes) -> None:
            packed.write(data)

        async with connection.transaction(isolation="repeatable_read", readonly=True):
            await connection.execute("SET LOCAL timezone = 'UTC'")
            await connection.copy_from_query(
                sql[f"rows_of_{table}"], month.since, month.until, output=put, format="csv", header=True,
                timeout=TIMEOUT_S,
            )  # fmt: skip
            return await _digest(connection, table, month)


def rows_in(path: Path) -> int:
    """How many rows are in the file, its header left out: lines that end outside of quotes."""
    with gzip.open(path) as lines:
        return count_records(lines) - 1


def count_records(lines: Iterable[bytes]) -> int:
    """The records of a CSV file."""
    count = quotes = 0
    for line in lines:
        quotes += line.count(b'"')
        count += quotes % 2 == 0
    return count


async def drop_archived(
    connection: Connection,
    table: Archived,
    month: Partition,
    attached: Iterable[Partition],
    written: Digest,
    made_by: str,
) -> list[Partition]:
    """Drop the month if it still holds just what was written. Raises RetentionError where it does not, and then
    nothing was dropped. The connection must not be in a transaction."""
    sql = queries("retention")
    async with connection.transaction(isolation="read_committed"):
        if not await be_the_one(connection):
            raise RetentionError("another process drops partitions just now; run it again in a minute")
        await connection.execute("SET LOCAL timezone = 'UTC'")
        await connection.execute(sql["still"].format(tables=_WRITTEN_TO.get(table, table)))
        if await waits_for_rollups(connection, month):
            raise RetentionError(f"{month.name}: the rollups have yet to count changes in it; run it again in a minute")
        if await _digest(connection, table, month) != written:
            raise RetentionError(f"{month.name}: something in it changed while it was written; run it again")
        return await drop(connection, month, list(attached), made_by)


async def _digest(connection: Connection, table: Archived, month: Partition) -> Digest:
    block = queries("retention")[f"digest_{table}"]
    row = await connection.fetchrow(block, month.since, month.until, timeout=TIMEOUT_S)
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]
