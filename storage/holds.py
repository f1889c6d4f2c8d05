"""Holds: pending conversions that are approved when their goal's hold has passed."""

from __future__ import annotations

from typing import Final

from storage.postgres import Connection
from storage.sqlfiles import queries

MAX_RELEASED: Final = 1_000
"""Holds released in one transaction."""


async def release_holds(connection: Connection) -> int | None:
    """Approve those that are due, unless they were given a status; how many. None: another does it just now.

    The connection must not be in a transaction.
    """
    sql = queries("holds")
    approved = 0
    while True:
        async with connection.transaction():
            if not await connection.fetchval(sql["lock"]):
                return None
            row = await connection.fetchrow(sql["release"], MAX_RELEASED)
        due, released = row or (0, 0)
        approved += released
        if due < MAX_RELEASED:
            return approved
