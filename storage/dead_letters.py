"""Dead letters: rows of the queue that Postgres refused for their data, kept as they were, for a person to look at. One
may be a whole block: a writer that did not know blocks put it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from storage.postgres import Connection, Row
from storage.queue import Entry, read_letter
from storage.records import COLUMNS, unescape
from storage.sqlfiles import queries

_NULL: Final = "\\N"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One of them. `error`: why Postgres refused it."""

    id: int
    failed_at: datetime
    entry: Entry
    error: str

    def column(self, name: str) -> str | None:
        """What stands in a column of the payload; None where that is null, or the payload has no such column: a block
        has columns of many."""
        if self.entry.is_block:
            return None
        columns = self.entry.payload.decode(errors="backslashreplace").split("\t")
        place = COLUMNS.index(name)
        if place >= len(columns) or columns[place] == _NULL:
            return None
        return unescape(columns[place])


async def newest_dead_letters(connection: Connection, limit: int) -> tuple[list[DeadLetter], int]:
    """The newest `limit`, in the order they came, and how many there are in all."""
    sql = queries("dead_letters")
    rows = await connection.fetch(sql["newest"], limit)
    return [read_dead_letter(row) for row in rows], await connection.fetchval(sql["count"])


async def dead_letter_ids(connection: Connection) -> list[int]:
    """All there are, oldest first."""
    return [row[0] for row in await connection.fetch(queries("dead_letters")["ids"])]


async def fetch_dead_letter(connection: Connection, dead_letter_id: int) -> DeadLetter | None:
    """One by its id."""
    row = await connection.fetchrow(queries("dead_letters")["one"], dead_letter_id)
    return read_dead_letter(row) if row else None


async def discard_dead_letters(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Delete them for good; those that were there."""
    return {row[0] for row in await connection.fetch(queries("dead_letters")["discard"], list(ids))}


def read_dead_letter(row: Row) -> DeadLetter:
    """One as its row has it."""
    entry = read_letter(row["entry_id"].encode(), row["kind"].encode(), row["payload"], row["prior"])
    return DeadLetter(row["dead_letter_id"], row["failed_at"], entry, row["error"])
