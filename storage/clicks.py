"""Clicks in Postgres. A click is immutable: the first registration wins."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import orjson

from storage.postgres import COMMAND_TIMEOUT_S, Connection, Pool, borrowed
from storage.rows import NewClick, Registration, StoredClick
from storage.sqlfiles import queries

COPY_FROM: Final = 500
"""Batches of this size and above go by COPY: nearly twice as fast there, slower for a few."""


async def fetch_clicks(
    pool: Pool, click_ids: Sequence[str], *, limit_s: float = COMMAND_TIMEOUT_S
) -> list[StoredClick]:
    """The clicks that are known, in no order, by one query within `limit_s`. Raises what `storage.postgres` names."""
    async with borrowed(pool, limit_s) as connection:
        return await _fetch(connection, click_ids)


async def register_clicks(
    pool: Pool, clicks: Sequence[NewClick], *, limit_s: float = COMMAND_TIMEOUT_S
) -> list[Registration]:
    """Register a batch within `limit_s`; idempotent. One Registration for each click, in order: what now stands under
    its id. Of two clicks with one id the first is taken. Raises what `storage.postgres` names.
    """
    async with borrowed(pool, limit_s) as connection:
        return await _register(connection, clicks)


async def _fetch(connection: Connection, click_ids: Sequence[str]) -> list[StoredClick]:
    rows = await connection.fetch(queries("clicks")["fetch"], list(click_ids))
    return [StoredClick(*row) for row in rows]


async def _register(connection: Connection, clicks: Sequence[NewClick]) -> list[Registration]:
    pending: dict[str, NewClick] = {}
    for click in clicks:
        pending.setdefault(click.click_id, click)
    done: dict[str, Registration] = {}
    while pending:
        added = await _insert(connection, pending.values())
        for click_id in added:
            done[click_id] = Registration(_stored(pending.pop(click_id)), is_new=True)
        # What was there already is read in a statement of its own: the one above cannot see rows that were committed
        # while it ran. A click that is gone again (retention) goes through the loop once more.
        for stored in await _fetch(connection, list(pending)) if pending else ():
            done[stored.click_id] = Registration(stored, is_new=False)
            del pending[stored.click_id]
    seen: set[str] = set()
    return [_once(done[click.click_id], seen) for click in clicks]


def _once(registration: Registration, seen: set[str]) -> Registration:
    """The registration, as known where its id was met before in the batch."""
    click_id = registration.click.click_id
    if click_id in seen:
        return Registration(registration.click, is_new=False)
    seen.add(click_id)
    return registration


async def _insert(connection: Connection, clicks: Iterable[NewClick]) -> list[str]:
    """The ids that were new."""
    sql = queries("clicks")
    records = [
        (c.click_id, c.campaign_id, c.publisher_id, c.clicked_ms, c.country, orjson.dumps(dict(c.params)).decode())
        for c in clicks
    ]
    if len(records) < COPY_FROM:
        rows = await connection.fetch(sql["register"], *(list(column) for column in zip(*records, strict=True)))
    else:
        async with connection.transaction():
            await connection.execute(sql["staging"])
            await connection.copy_records_to_table("incoming_clicks", records=records)
            rows = await connection.fetch(sql["register_staged"])
    return [row[0] for row in rows]


def _stored(click: NewClick) -> StoredClick:
    return StoredClick(click.click_id, click.campaign_id, click.publisher_id, click.clicked_ms, click.country)
