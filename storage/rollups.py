"""Rollups by hour and day, kept up to date: what triggers queued is folded in, by one process at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from storage.postgres import Connection
from storage.sqlfiles import queries

MAX_ROWS: Final = 5_000
"""Rows of a queue, or changed conversions, in one transaction: less than a second's work."""

_BLOCKS: Final = ("count_anew", "fold_conversions", "fold_clicks", "fold_log")


@dataclass(frozen=True, slots=True)
class Folded:
    """What a call did. `is_all`: nothing that it saw is left. `lag_s`: how long the oldest of it had waited."""

    rows: int
    is_all: bool
    lag_s: float


async def fold(connection: Connection, max_rows: int = MAX_ROWS) -> Folded | None:
    """One transaction's worth of what is queued, into the rollups; None where another process is at it.

    The connection must not be in a transaction. Raises what Postgres answers; then nothing was changed.
    """
    sql = queries("rollups")
    async with connection.transaction(isolation="read_committed"):
        if not await connection.fetchval(sql["lock"]):
            return None
        taken = [await connection.fetchrow(sql[block], max_rows) for block in _BLOCKS]
    rows, waited_s = zip(*(row for row in taken if row is not None), strict=True)
    return Folded(sum(rows), max(rows) < max_rows, max(waited_s))


async def fold_all(connection: Connection) -> Folded | None:
    """The same, until nothing is left of what was queued when it began, or another process is at it."""
    rows, lag_s = 0, 0.0
    while (folded := await fold(connection)) is not None:
        rows, lag_s = rows + folded.rows, max(lag_s, folded.lag_s)
        if folded.is_all:
            return Folded(rows, True, lag_s)
    return None
