"""Monthly partitions (UTC) of `conversions` and `status_changes` (by clicked_at) and `postback_log` (by received_at),
made ahead; of `outbound_messages` (by clicked_at), made when they are needed."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final, Literal

from storage.postgres import Connection
from storage.sqlfiles import queries

Table = Literal["conversions", "outbound_messages", "postback_log", "status_changes"]

KEPT_MONTHS: Final = 13
"""How far back conversions have partitions at least: clicks of a year and a month ago."""

FIRST_DAY: Final = date(2000, 1, 1)
"""No click is older: `ingest.clicks` refuses it."""


def month_of(at_ms: int) -> date:
    """The first day of the UTC month of an epoch time in ms."""
    day = datetime.fromtimestamp(at_ms // 1000, UTC).date()
    return day.replace(day=1)


def months_between(first: date, last: date) -> list[date]:
    """The first day of each month from `first`'s to `last`'s, both counted."""
    start, end = first.year * 12 + first.month - 1, last.year * 12 + last.month - 1
    return [_month(number) for number in range(start, end + 1)]


def _month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _next(month: date) -> date:
    return _month(month.year * 12 + month.month)


def partition_name(table: Table, month: date) -> str:
    """`conversions_2026_11`"""
    return f"{table}_{month:%Y_%m}"


async def ensure_months(connection: Connection, table: Table, months: Iterable[date]) -> list[str]:
    """Make and attach the partitions that are missing; the names of those made. Safe to run many at once.

    The connection must not be in a transaction. One month a transaction, so that nobody waits for long.
    """
    sql = queries("partitions")
    wanted = {partition_name(table, month): month.replace(day=1) for month in months}
    made = []
    for name in await _missing(connection, table, wanted):
        async with connection.transaction():
            await connection.execute(sql["lock"])
            if not await _missing(connection, table, [name]):
                continue
            month = wanted[name]
            await connection.execute(sql["create"].format(table=table, partition=name))
            await connection.execute(sql["attach"].format(table=table, partition=name, since=month, until=_next(month)))
            made.append(name)
    return made


async def _missing(connection: Connection, table: Table, names: Iterable[str]) -> list[str]:
    attached = {row[0] for row in await connection.fetch(queries("partitions")["attached"], table)}
    return [name for name in names if name not in attached]


async def ensure_ahead(connection: Connection, now: datetime, window_ms: int) -> list[str]:
    """The partitions that are needed now and until the end of next month; the names of those made. Months that were
    dropped are not: should a row come for one after all, it is made then.

    `window_ms` is the longest attribution window.
    """
    today = now.astimezone(UTC).date()
    dropped = {row[0] for row in await connection.fetch(queries("retention")["dropped"], "conversions")}
    clicked = [month for month in conversion_months(today, window_ms) if month not in dropped]
    return [
        *await ensure_months(connection, "conversions", clicked),
        *await ensure_months(connection, "status_changes", clicked),
        *await ensure_months(connection, "postback_log", months_between(today, _next(today))),
    ]


def ahead_until(now: datetime) -> datetime:
    """The end of what `ensure_ahead` makes: each table has partitions for all that comes before."""
    end = _next(_next(now.astimezone(UTC).date()))
    return datetime(end.year, end.month, end.day, tzinfo=UTC)


def conversion_months(today: date, window_ms: int) -> list[date]:
    """Next month, and as far back as a click still counts: 13 months at least."""
    window_days = min(window_ms // 86_400_000 + 1, (today - FIRST_DAY).days)
    least = _month(today.year * 12 + today.month - 1 - KEPT_MONTHS)
    return months_between(min(least, today - timedelta(days=window_days)), _next(today))
