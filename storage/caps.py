"""What was counted under caps: conversions that are stored, and those on their way, in the queue or in dead_letters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from storage.dead_letters import read_dead_letter
from storage.postgres import Connection, Pool, Row, borrowed
from storage.queue import Client, Entry, queue_key, read_entry
from storage.records import COLUMNS, Kind
from storage.sqlfiles import queries

MAX_READ: Final = 500
"""Queue entries in one read: 8 MiB, as blocks are made."""
MAX_ROWS: Final = 1_000
"""Rows that are looked at before others have their turn."""
MAX_IDS: Final = 5_000
"""Conversions in one look-up."""

_CONVERSION: Final = Kind.CONVERSION.encode()
_PLACES: Final = tuple(
    COLUMNS.index(name)
    for name in (
        "campaign_id",
        "goal_id",
        "publisher_id",
        "received_us",
        "conversion_id",
        "reason",
        "revenue_micros",
        "payout_micros",
    )
)
_LAST: Final = max(_PLACES)


class CapRow(msgspec.Struct, frozen=True, gc=False):
    """What a cap counts, with its campaign's time zone; see the table `caps`."""

    campaign_id: int
    timezone: str
    goal_id: int | None
    publisher_id: int | None
    each_publisher: bool
    measure: str
    period: str


class Queued(msgspec.Struct, frozen=True, gc=False):
    """A conversion that may not be stored yet."""

    campaign_id: int
    goal_id: int
    publisher_id: int
    received_us: int
    conversion_id: str
    reason: str | None
    revenue_micros: int
    payout_micros: int


class Stored(msgspec.Struct, frozen=True, gc=False):
    """What Postgres has at one moment. `tallies`: place of the period, goal, publisher, conversions, micros of revenue
    and payout. `known`: (conversion, when its postback was received, epoch µs) of those that were asked for."""

    tallies: list[tuple[int, int, int, int, int, int]]
    known: set[tuple[str, int]]
    dead: list[Queued]


async def read_caps(connection: Connection) -> list[CapRow]:
    """What is counted for any campaign that is not archived."""
    return [CapRow(*row) for row in await connection.fetch(queries("caps")["caps"])]


async def queued_conversions(client: Client, partitions: int, campaigns: Collection[int]) -> list[Queued]:
    """The conversions of these campaigns that were in the queue when this began, and are not settled. Raises
    RedisError, OSError."""
    found: dict[str, Queued] = {}
    for partition in range(partitions):
        async for entry in _entries(client, queue_key(partition)):
            for one in _conversions(entry):
                if one.campaign_id in campaigns:
                    found.setdefault(one.conversion_id, one)
    return list(found.values())


def _conversions(entry: Entry) -> Iterator[Queued]:
    for row in entry.split():
        if row.kind == _CONVERSION and (one := read_conversion(row.payload)) is not None:
            yield one


async def _entries(client: Client, key: str) -> AsyncIterator[Entry]:
    after, looked_at = "-", 0
    newest: Any = await client.xrevrange(key, count=1)
    if not newest:
        return
    last = newest[0][0].decode()
    while True:
        part: Any = await client.xrange(key, min=after, max=last, count=MAX_READ)
        for entry_id, fields in part:
            entry = read_entry(entry_id, fields)
            yield entry
            looked_at += entry.rows
            if looked_at >= MAX_ROWS:
                looked_at = 0
                await asyncio.sleep(0)
        if len(part) < MAX_READ:
            return
        after = f"({part[-1][0].decode()}"


def read_conversion(payload: bytes) -> Queued | None:
    """What a payload says; None of one that is none."""
    columns = payload.split(b"\t", _LAST + 1)
    try:
        campaign, goal, publisher, received, conversion, reason, revenue, payout = (columns[i] for i in _PLACES)
        return Queued(
            int(campaign),
            int(goal),
            int(publisher),
            int(received),
            conversion.decode(),
            None if reason == b"\\N" else reason.decode(),
            int(revenue),
            int(payout),
        )
    except (IndexError, ValueError):
        return None


async def stored_tallies(
    pool: Pool, campaign_id: int, periods: Sequence[tuple[int, int]], conversions: Iterable[str], limit_s: float
) -> Stored:
    """What is stored of a campaign in `periods` (from, until; epoch µs), which of `conversions` are, and what is dead.
    Raises what `storage.postgres` names."""
    sql = queries("caps")
    wanted = list(conversions)
    known: set[tuple[str, int]] = set()
    async with (
        borrowed(pool, limit_s) as connection,
        connection.transaction(isolation="repeatable_read", readonly=True),
    ):
        rows = await connection.fetch(
            sql["tallies"], campaign_id, [start for start, _ in periods], [end for _, end in periods]
        )
        for start in range(0, len(wanted), MAX_IDS):
            part = wanted[start : start + MAX_IDS]
            found = await connection.fetch(sql["stored"], part, [_clicked_ms(one) for one in part])
            known.update((row[0], row[1]) for row in found)
        dead = await connection.fetch(sql["dead"])
    letters = [
        one for row in dead for one in _conversions(read_dead_letter(row).entry) if one.campaign_id == campaign_id
    ]
    return Stored([_tally(row) for row in rows], known, letters)


def _tally(row: Row) -> tuple[int, int, int, int, int, int]:
    place, goal_id, publisher_id, conversions, revenue, payout = row
    return place - 1, goal_id, publisher_id, conversions, int(revenue), int(payout)


def _clicked_ms(conversion_id: str) -> int:
    """The time of its click is the first 48 bits of a conversion's id."""
    return int(conversion_id.replace("-", "")[:12], 16)
