"""Postbacks whose click is not known yet: those that are due, those that are decided, those whose time is over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from storage.faults import Fault, classify
from storage.partitions import ensure_months
from storage.postgres import Connection
from storage.sqlfiles import queries

MAX_TAKEN: Final = 256
"""Postbacks that are taken at once."""
MAX_EXPIRED: Final = 1_000
"""Postbacks that go into the log in one transaction."""
LEASE_MS: Final = 3_000
"""How long others leave alone what was taken."""
ABANDONED_MS: Final = 3_600_000
"""How long after its time one is left to be decided whose click came in time: nobody who runs has its key."""


@dataclass(frozen=True, slots=True)
class ParkedPostback:
    """One whose click is there: `postback_id` as 16 bytes, what came, sealed with the key of that id, and the clicks
    that it may be about."""

    postback_id: bytes
    key_id: str
    sealed: bytes
    click_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Expired:
    """How many went into the log, `abandoned` of them although their click had come in time."""

    count: int
    abandoned: int


async def take_parked(connection: Connection, key_ids: Sequence[str]) -> list[ParkedPostback]:
    """Up to 256 that are due, whose click is there and that these keys open, in the order they came. They are ours for
    three seconds; who takes one twice does no harm."""
    rows = await connection.fetch(queries("parked")["take"], list(key_ids), MAX_TAKEN, LEASE_MS)
    return [ParkedPostback(row[0].bytes, row[1], row[2], tuple(row[3])) for row in rows]


async def drop_parked(connection: Connection, postback_ids: Sequence[bytes]) -> None:
    """Those that are recorded elsewhere."""
    await connection.execute(queries("parked")["drop"], [UUID(bytes=postback_id) for postback_id in postback_ids])


async def expire_parked(connection: Connection) -> Expired:
    """Up to 1,000 whose time is over into postback_log, in one step. The connection must not be in a transaction."""
    try:
        return await _expire(connection)
    except Exception as error:
        if classify(error) is not Fault.PARTITION:
            raise
    months = await connection.fetch(queries("parked")["months"])
    await ensure_months(connection, "postback_log", [row[0] for row in months])
    return await _expire(connection)


async def count_parked(connection: Connection) -> int:
    """How many are parked."""
    count: int = await connection.fetchval(queries("parked")["count"])
    return count


async def _expire(connection: Connection) -> Expired:
    row = await connection.fetchrow(queries("parked")["expire"], MAX_EXPIRED, ABANDONED_MS)
    assert row is not None, "an aggregate has a row"
    return Expired(row[0], row[1])
