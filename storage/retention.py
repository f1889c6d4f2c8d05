"""What is old enough goes: whole monthly partitions, and clicks in small steps. Rollups keep what they have counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, cast

from storage.partitions import Table
from storage.postgres import Connection, rows_of
from storage.sqlfiles import queries

MAX_CLICKS: Final = 2_000
"""Clicks that are deleted in one transaction."""

TABLES: Final[tuple[Table, ...]] = ("conversions", "status_changes", "outbound_messages", "postback_log")
"""In the order in which they are dropped: what hangs on conversions goes with them."""

_COMPANIONS: Final[Mapping[Table, tuple[Table, ...]]] = MappingProxyType(
    {"conversions": ("status_changes", "outbound_messages")}
)
_CUTS: Final[Mapping[Table, tuple[str, ...]]] = MappingProxyType(
    {"conversions": ("cut_counted", "cut_adjustments", "cut_holds"), "postback_log": ("cut_replays",)}
)


@dataclass(frozen=True, slots=True)
class Keep:
    """How long rows are kept, ms; 0: for ever. `conversions_ms` and `outbound_ms` run from the end of the longest
    attribution window, `clicks_ms` from the end of the click's own, `log_ms` from receipt. `window_ms`: the configured
    window, for campaigns without one."""

    log_ms: int
    clicks_ms: int
    conversions_ms: int
    outbound_ms: int
    window_ms: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One that is attached: what lies in it, `since` up to and without `until`. `rows`: about, None where that is not
    known yet; `due` None: it stays. `is_due` by the server's time."""

    table: Table
    name: str
    since: datetime
    until: datetime
    rows: int | None
    size_bytes: int
    due: datetime | None
    is_due: bool
    is_past: bool


class RetentionError(Exception):
    """A partition is not dropped; the message says why and what to do."""


async def list_partitions(connection: Connection, keep: Keep) -> list[Partition]:
    """All there are, by month."""
    sql = queries("retention")
    row = await connection.fetchrow(sql["now_and_window"], keep.window_ms)
    assert row is not None, "an aggregate has a row"
    now, window_ms = row
    found = []
    for table, name, since, until, rows, size in await connection.fetch(sql["partitions"], list(TABLES)):
        due = due_at(cast("Table", table), until, keep, window_ms)
        is_past = last_at(cast("Table", table), until, window_ms) <= now
        found.append(Partition(table, name, since, until, rows, size, due, due is not None and due <= now, is_past))
    return found


def last_at(table: Table, until: datetime, window_ms: int) -> datetime:
    """When nothing comes any more for a partition: rows by click time come for as long as a click converts."""
    return until.astimezone(UTC) + timedelta(milliseconds=0 if table == "postback_log" else window_ms)


def due_at(table: Table, until: datetime, keep: Keep, window_ms: int) -> datetime | None:
    """When a partition that ends at `until` is dropped; None: it stays."""
    kept = {"postback_log": (keep.log_ms,), "outbound_messages": (keep.outbound_ms, keep.conversions_ms)}
    limits = [ms for ms in kept.get(table, (keep.conversions_ms,)) if ms]
    return last_at(table, until, window_ms) + timedelta(milliseconds=min(limits)) if limits else None


async def drop_expired(
    connection: Connection, keep: Keep, made_by: str, tell: Callable[[Sequence[Partition]], object]
) -> bool:
    """Drop what is due, each month in a transaction of its own; `tell` is told what each dropped. False: another
    process is at it.

    The connection must not be in a transaction. A month whose conversions the rollups have yet to count is left for the
    next time. Raises what Postgres answers, where somebody holds a lock too.
    """
    due = [partition for partition in await list_partitions(connection, keep) if partition.is_due]
    for partition in sorted(due, key=lambda one: TABLES.index(one.table)):
        dropped: Sequence[Partition] = ()
        async with connection.transaction(isolation="read_committed"):
            if not await be_the_one(connection):
                return False
            # Looked at again under the lock: it may be gone, or the rules may keep it now.
            attached = await list_partitions(connection, keep)
            is_there = any(one.name == partition.name and one.is_due for one in attached)
            if is_there and not await waits_for_rollups(connection, partition):
                dropped = await drop(connection, partition, attached, made_by)
        if dropped:
            tell(dropped)
    return True


async def be_the_one(connection: Connection) -> bool:
    """Whether nobody else drops partitions, until the transaction ends."""
    is_ours: bool = await connection.fetchval(queries("retention")["lock"])
    if is_ours:
        await connection.execute(queries("partitions")["lock"])
    return is_ours


async def waits_for_rollups(connection: Connection, partition: Partition) -> bool:
    """Whether rollups would lose a change of one of its conversions."""
    if partition.table not in {"conversions", "status_changes"}:
        return False
    waits: bool = await connection.fetchval(queries("retention")["waits_for_rollups"], partition.since, partition.until)
    return waits


async def drop(
    connection: Connection, partition: Partition, attached: Sequence[Partition], made_by: str
) -> list[Partition]:
    """Drop it with all that hangs on its rows, within the transaction; what was dropped. Raises RetentionError for one
    for which rows may still come."""
    if not partition.is_past:
        raise RetentionError(f"{partition.name}: rows may still come for that month; nothing was dropped")
    sql = queries("retention")
    await connection.fetch(sql["uncounted"])
    for cut in _CUTS.get(partition.table, ()):
        await connection.execute(sql[cut], partition.since, partition.until)
    tables = (partition.table, *_COMPANIONS.get(partition.table, ()))
    gone = [one for one in attached if one.table in tables and one.since == partition.since]
    for one in sorted(gone, key=lambda one: TABLES.index(one.table)):
        await connection.execute(sql["drop"].format(table=one.table, partition=one.name))
        await connection.execute(sql["note"], one.table, one.since, made_by)
    return gone


async def delete_old_clicks(connection: Connection, keep: Keep) -> int | None:
    """Delete up to 2,000 clicks whose window is over for so long; how many. None: another process is at it. The
    connection must not be in a transaction."""
    if not keep.clicks_ms:
        return 0
    sql = queries("retention")
    async with connection.transaction(isolation="read_committed"):
        if not await connection.fetchval(sql["lock"]):
            return None
        await connection.fetch(sql["uncounted"])
        done = await connection.execute(sql["delete_clicks"], keep.window_ms, keep.clicks_ms, MAX_CLICKS)
    return rows_of(done)
