"""An advertiser's list beside what is stored: joined by Postgres, so that memory does not grow with either."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final, cast

from storage.export import CHUNK, TIMEOUT_S, ExportConnection, TimeRange
from storage.postgres import Connection, Row, rows_of
from storage.sqlfiles import queries

SLACK: Final = "3 days"
"""How far from the time range a conversion may be that stands in the list: clocks differ, senders retry for a day."""

Line = tuple[int, str, str, str, int | None, str | None, str | None, int | None]
"""(line, click_id, txn_id, goal, amount_micros, currency, status, at_ms)"""


async def create_list(connection: Connection) -> None:
    """An empty list; it lives as long as the transaction."""
    await connection.execute(queries("reconcile")["create_listed"])


async def add_lines(connection: Connection, lines: Iterable[Line]) -> None:
    """More lines of the list."""
    await connection.copy_records_to_table("listed", records=lines)


async def times_of_list(connection: Connection) -> tuple[datetime | None, datetime | None]:
    """The first and the last time in the list."""
    row = await connection.fetchrow(queries("reconcile")["times"])
    assert row is not None, "an aggregate has a row"
    return row[0], row[1]


async def leave_out(connection: Connection, when: TimeRange) -> int:
    """Drop the lines whose time is not in the range; how many."""
    done = await connection.execute(queries("reconcile")["leave_out"], when.since, when.until)
    return rows_of(done)


async def campaigns_of(connection: Connection, advertiser_id: int) -> list[int]:
    """The ids of an advertiser's campaigns."""
    return [row[0] for row in await connection.fetch(queries("reconcile")["campaigns"], advertiser_id)]


async def stream_pairs(
    connection: Connection, campaigns: Sequence[int], when: TimeRange, key: Sequence[str], *, of_sales: bool
) -> AsyncIterator[list[Row]]:
    """The pairs, those of the list first: the columns of Line, then the stored conversion's (conversion_id, click_id,
    txn_id, goal, amount_micros, currency, status, is_expected), then what the log says. Either side may be null.

    `key`: which of click_id, txn_id, goal pairs are found by.
    """
    sql = queries("reconcile")
    parts = {name: "true" if name in key else "false" for name in ("click_id", "txn_id", "goal")}
    values = {
        "campaigns": ", ".join(str(number) for number in campaigns),
        "since": _literal(when.since),
        "until": _literal(when.until),
        "slack": SLACK,
        "is_sale": "true" if of_sales else "false",
    }
    await connection.execute(sql["create_stored"].format(**values), timeout=TIMEOUT_S)
    await connection.execute(sql["analyze"], timeout=TIMEOUT_S)
    statement = await cast("ExportConnection", connection).prepare(sql["pairs"].format(**parts))
    cursor = await statement.cursor()
    while rows := await cursor.fetch(CHUNK, timeout=TIMEOUT_S):
        yield rows


def _literal(at: datetime) -> str:
    return f"timestamptz '{at.astimezone(UTC).isoformat()}'"
