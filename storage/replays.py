"""Rejections in postback_log that are decided again, and what became of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast
from uuid import UUID

import orjson

from storage.export import TIMEOUT_S, ExportConnection, TimeRange
from storage.postgres import Connection, Row
from storage.sqlfiles import queries

CHUNK: Final = 256


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which rejections: by reason, by when they were received, and of a campaign, as far as theirs is known."""

    reasons: Sequence[str]
    when: TimeRange
    campaign_id: int | None = None


@dataclass(frozen=True, slots=True)
class LoggedRejection:
    """A row of postback_log. `received_us`: epoch us; `params`: all that has no column."""

    log_id: UUID
    received_us: int
    reason: str
    advertiser_id: int | None
    click_id: str | None
    goal_value: str | None
    txn_id: str | None
    remote_ip: str | None
    params: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Stored:
    """A conversion that is there: amount and currency as they were sent (`49.99USD`; empty: no amount), when its
    postback was received."""

    fact: str
    received_us: int


@dataclass(frozen=True, slots=True)
class Suspect:
    """A rejection whose like may have been sent again, and counted."""

    log_id: UUID
    click_id: str
    goal_id: int
    txn_id: str | None
    fact: str
    received_us: int


@dataclass(frozen=True, slots=True)
class NewReplay:
    """What became of a rejection."""

    log_id: UUID
    received_us: int
    outcome: str
    reason: str | None
    conversion_id: str | None


async def count_rejections(connection: Connection, wanted: Wanted) -> int:
    """How many there are."""
    count: int = await connection.fetchval(queries("replays")["count"], *_arguments(wanted))
    return count


async def stream_rejections(connection: Connection, wanted: Wanted) -> AsyncIterator[list[LoggedRejection]]:
    """Those that an earlier replay did not settle, in the order they came, as of now, up to 256 at a time."""
    streaming = cast("ExportConnection", connection)
    async with streaming.transaction(isolation="repeatable_read", readonly=True):
        statement = await streaming.prepare(queries("replays")["rejections"])
        cursor = await statement.cursor(*_arguments(wanted))
        while rows := await cursor.fetch(CHUNK, timeout=TIMEOUT_S):
            yield [_logged(row) for row in rows]


async def stored_conversions(connection: Connection, ids: Sequence[tuple[str, int]]) -> dict[str, Stored]:
    """Those of the conversions that are there, by id. Each is asked for by id and its click's time in epoch ms."""
    columns = [list(column) for column in zip(*ids, strict=True)] or [[], []]
    rows = await connection.fetch(queries("replays")["stored"], *columns)
    return {str(row[0]): Stored(row[1], row[2]) for row in rows}


async def sent_again(connection: Connection, suspects: Sequence[Suspect]) -> set[UUID]:
    """The log ids of those of which the like was counted later: same click, goal, txn_id and amount."""
    values = [(one.log_id, one.click_id, one.goal_id, one.txn_id, one.fact, one.received_us) for one in suspects]
    if not values:
        return set()
    rows = await connection.fetch(
        queries("replays")["sent_again"], *(list(column) for column in zip(*values, strict=True))
    )
    return {row[0] for row in rows}


async def add_replays(connection: Connection, replays: Sequence[NewReplay], made_by: str) -> None:
    """Remember what became of them."""
    values = [(one.log_id, one.received_us, one.outcome, one.reason, one.conversion_id) for one in replays]
    if values:
        columns = (list(column) for column in zip(*values, strict=True))
        await connection.execute(queries("replays")["insert"], *columns, made_by)


def _logged(row: Row) -> LoggedRejection:
    log_id, received_us, reason, advertiser_id, click_id, goal, txn_id, remote_ip, params = row
    return LoggedRejection(
        log_id, received_us, reason, advertiser_id, click_id, goal, txn_id, remote_ip, orjson.loads(params)
    )


def _arguments(wanted: Wanted) -> tuple[object, ...]:
    return list(wanted.reasons), wanted.when.since, wanted.when.until, wanted.campaign_id
