"""The outbox: what publishers are to be told, written with what it is about; taken under a lease, settled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

import orjson

from storage.faults import Fault, classify
from storage.partitions import ensure_months
from storage.postgres import Connection, Row, rows_of
from storage.sqlfiles import queries

MAX_TOUCHED: Final = 1_000
"""Conversions that are looked at in one transaction."""
MAX_LOGGED: Final = 20
"""Attempts of a message that are kept: the first one and the latest."""
MAX_GIVEN_UP: Final = 1_000
"""Messages that are given up at once because nobody answers."""

State = Literal["waiting", "sent", "given_up", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Looked:
    """What came of `count` touched conversions: messages `made` or waiting again, and messages `withdrawn`."""

    count: int
    made: int
    withdrawn: int


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message to be sent, with its template and what the template is filled with. `left_ms`: how long it is tried
    yet; `sealed_secret` None: nothing is signed; `click_params`: what else came with the click."""

    conversion_id: str
    clicked_at: datetime
    attempts: int
    left_ms: int
    publisher_id: int
    url: str
    host: str
    method: str
    sealed_secret: str | None
    click_id: str
    goal_value: str
    goal_id: int
    txn_id: str
    country: str
    currency: str
    payout_micros: int
    event_at: datetime
    click_params: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt: when it began, how long it took, the HTTP status if there was an answer, and what went wrong in a
    word; None: it was delivered."""

    at: datetime
    took_ms: int
    status: int | None
    error: str | None


@dataclass(frozen=True, slots=True)
class Settled:
    """What an attempt comes to. `due_ms`: when a message that waits is tried again, from now."""

    message: DueMessage
    attempt: Attempt
    state: State
    due_ms: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message as people look at it; `goal_id` None: its template is for all goals; `log`: the first attempt and the
    latest 19."""

    conversion_id: str
    clicked_at: datetime
    publisher_id: int
    goal_id: int | None
    host: str
    state: State
    payout_micros: int
    created_at: datetime
    due_at: datetime
    until: datetime
    done_at: datetime | None
    attempts: int
    log: tuple[Attempt, ...]


async def is_used(connection: Connection) -> bool:
    """Whether there is anything to be done, now or later."""
    used: bool = await connection.fetchval(queries("outbox")["is_used"])
    return used


async def look_at_touched(connection: Connection, give_up_ms: int) -> Looked | None:
    """Up to 1,000 touched conversions into messages. None: another does it just now. The connection must not be in a
    transaction."""
    try:
        return await _look(connection, give_up_ms)
    except Exception as error:
        if classify(error) is not Fault.PARTITION:
            raise
    months = await connection.fetch(queries("outbox")["months"])
    await ensure_months(connection, "outbound_messages", [row[0] for row in months])
    return await _look(connection, give_up_ms)


async def _look(connection: Connection, give_up_ms: int) -> Looked | None:
    sql = queries("outbox")
    async with connection.transaction(isolation="read_committed"):
        if not await connection.fetchval(sql["lock"]):
            return None
        row = await connection.fetchrow(sql["take_touched"], MAX_TOUCHED, give_up_ms)
    assert row is not None, "an aggregate has a row"
    return Looked(*row)


async def take_due(
    connection: Connection, room: Mapping[str, int], *, others: int, limit: int, lease_ms: int
) -> list[DueMessage]:
    """Messages that are due: for each host of `room` so many, for every other host `others`, `limit` together. They are
    ours for `lease_ms`."""
    rows = await connection.fetch(
        queries("outbox")["take_due"], list(room), list(room.values()), others, limit, lease_ms
    )
    return [_due(*row) for row in rows]


def _due(*columns: Any) -> DueMessage:
    *others, click_params = columns
    return DueMessage(*(*others, orjson.loads(click_params)))


async def settle(connection: Connection, ended: Sequence[Settled]) -> None:
    """Attempts that have ended, all in one step; at most one of a message. What was withdrawn meanwhile stays so,
    unless it was delivered."""
    ended = sorted(ended, key=lambda one: one.message.conversion_id)
    await connection.execute(
        queries("outbox")["settle"],
        [one.message.conversion_id for one in ended],
        [one.message.clicked_at for one in ended],
        [_log_entry(one.attempt) for one in ended],
        [one.state for one in ended],
        [one.due_ms for one in ended],
        MAX_LOGGED,
    )


async def give_up(connection: Connection, hosts: Sequence[str]) -> int:
    """Messages to hosts that do not answer, whose time is over; how many."""
    status = await connection.execute(queries("outbox")["give_up"], list(hosts), MAX_GIVEN_UP)
    return rows_of(status)


async def count_waiting(connection: Connection) -> int:
    """How many wait."""
    count: int = await connection.fetchval(queries("outbox")["count_waiting"])
    return count


async def list_messages(
    connection: Connection,
    *,
    state: State | None = None,
    publisher_id: int | None = None,
    conversion_id: str | None = None,
    limit: int = 100,
) -> list[Message]:
    """The latest first."""
    rows = await connection.fetch(queries("outbox")["messages"], state, publisher_id, conversion_id, limit)
    return [_message(row) for row in rows]


async def messages_of(
    connection: Connection, conversions: Sequence[UUID], clicked_at: Sequence[datetime], limit: int
) -> list[Message]:
    """Those about some conversions, which have these times of their clicks."""
    rows = await connection.fetch(queries("outbox")["messages_of"], conversions, clicked_at, limit)
    return [_message(row) for row in rows]


async def retry_given_up(connection: Connection, publisher_id: int, give_up_ms: int) -> int:
    """What was given up of a publisher is tried anew; how many."""
    status = await connection.execute(queries("outbox")["retry"], publisher_id, give_up_ms)
    return rows_of(status)


def _log_entry(attempt: Attempt) -> str:
    return orjson.dumps(
        {"at": attempt.at, "ms": attempt.took_ms, "status": attempt.status, "error": attempt.error}
    ).decode()


def _message(row: Row) -> Message:
    log = tuple(
        Attempt(datetime.fromisoformat(one["at"]), one["ms"], one["status"], one["error"])
        for one in orjson.loads(row[12])
    )
    return Message(*(*tuple(row)[:-1], log))
