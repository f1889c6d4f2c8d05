"""Rows of a time range out of Postgres, streamed: memory does not grow with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, BinaryIO, Final, Protocol

from storage.postgres import Connection, Row, rows_of
from storage.sqlfiles import queries

CHUNK: Final = 20_000
"""Rows in memory at once."""
TIMEOUT_S: Final = 3600.0
"""How long Postgres may look for the next rows."""


class Exported(StrEnum):
    """What can be exported; a block of storage/sql/export.sql each."""

    CONVERSIONS = "conversions"
    LOG = "log"
    CLICKS = "clicks"
    HOURS = "hours"
    DAYS = "days"


@dataclass(frozen=True, slots=True)
class TimeRange:
    """From `since`, up to and without `until`."""

    since: datetime
    until: datetime


class _Cursor(Protocol):
    async def fetch(self, n: int, *, timeout: float) -> list[Row]: ...  # noqa: ASYNC109  the driver's


class ExportConnection(Connection, Protocol):
    """What streaming takes besides."""

    async def prepare(self, query: str) -> Any: ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...

    async def copy_from_query(
        self,
        query: str,
        *args: object,
        output: Callable[[bytes], Any],
        format: str,  # noqa: A002
        header: bool,
        timeout: float,  # noqa: ASYNC109  the driver's
    ) -> str: ...


async def about_rows(connection: Connection, table: Exported, when: TimeRange) -> int:
    """About how many rows there are: the rollups say it, whole hours counted."""
    count: int = await connection.fetchval(queries("export")[f"rows_of_{table}"], when.since, when.until)
    return count


async def stream_csv(
    connection: ExportConnection, table: Exported, when: TimeRange, file: BinaryIO, on_rows: Callable[[int], None]
) -> int:
    """Write CSV with a header, as Postgres' COPY does; how many rows. `on_rows` is told how many came, about."""

    async def put(data: bytes) -> None:
        file.write(data)
        on_rows(data.count(b"\n"))

    async with connection.transaction(isolation="repeatable_read", readonly=True):
        await connection.execute("SET LOCAL timezone = 'UTC'")
        done = await connection.copy_from_query(
            queries("export")[table], when.since, when.until, output=put, format="csv", header=True, timeout=TIMEOUT_S
        )
    return rows_of(done)


async def stream_rows(
    connection: ExportConnection, table: Exported, when: TimeRange
) -> AsyncIterator[tuple[list[tuple[str, str]], list[Row]]]:
    """The columns, as names and Postgres' types, with up to 20,000 rows at a time; once at least."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        statement = await connection.prepare(queries("export")[table])
        columns = [(attribute.name, attribute.type.name) for attribute in statement.get_attributes()]
        cursor: _Cursor = await statement.cursor(when.since, when.until)
        rows = await cursor.fetch(CHUNK, timeout=TIMEOUT_S)
        yield columns, rows
        while len(rows) == CHUNK:
            rows = await cursor.fetch(CHUNK, timeout=TIMEOUT_S)
            yield columns, rows
