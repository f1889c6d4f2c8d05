"""The catalog and its history a page at a time, each page after the last one's key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import orjson

from storage.postgres import Connection
from storage.rows import HistoryRow
from storage.sqlfiles import queries

FIRST_RATE = ("", "", date.min)
"""Before every exchange rate."""
NEWEST = 2**63 - 1
"""Before the newest of the history, which is read backwards."""


async def page_of_ids(
    connection: Connection, plural: str, after: int, limit: int, filters: Sequence[object]
) -> list[int]:
    """Ids of advertisers, publishers, campaigns or goals, upwards; the filters as storage/sql/catalog_pages.sql has
    them."""
    return [row[0] for row in await connection.fetch(queries("catalog_pages")[plural], after, limit, *filters)]


async def page_of_exchange_rates(
    connection: Connection, after: tuple[str, str, date], limit: int, filters: Sequence[object]
) -> list[tuple[str, str, date]]:
    """(from, to, day) of exchange rates, upwards."""
    source, *rest = after
    rows = await connection.fetch(queries("catalog_pages")["exchange_rates"], source, limit, *rest, *filters)
    return [(row[0], row[1], row[2]) for row in rows]


async def page_of_history(
    connection: Connection, before: int, limit: int, filters: Sequence[object]
) -> list[HistoryRow]:
    """Changes, newest first."""
    rows = await connection.fetch(queries("catalog_pages")["history"], before, limit, *filters)
    return [
        HistoryRow(
            id=row["history_id"],
            changed_at=row["changed_at"],
            changed_by=row["changed_by"],
            kind=row["kind"],
            entity_id=row["entity_id"],
            campaign_id=row["campaign_id"],
            version=row["version"],
            before=None if row["before"] is None else orjson.loads(row["before"]),
            after=orjson.loads(row["after"]),
        )
        for row in rows
    ]
