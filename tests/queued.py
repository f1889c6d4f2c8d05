"""What tests see in the queue: rows, whatever the entries that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from storage.queue import Client, Entry, queue_key, read_backlog, read_entry
from storage.records import Kind, Record, encode, escape

Fields = dict[bytes, bytes]
_REPEATS = (Kind.DUPLICATE.encode(), Kind.CONFLICT.encode())


async def queued_entries(client: Client, partition: int = 0) -> list[Entry]:
    """The entries, in order."""
    found: Any = await client.xrange(queue_key(partition))
    return [read_entry(entry_id, fields) for entry_id, fields in found]


async def queued_rows(client: Client, partition: int = 0) -> list[Fields]:
    """Each row as {kind: line}, of a repeat with what was claimed first under `p`."""
    rows = [row for entry in await queued_entries(client, partition) for row in entry.split()]
    return [{row.kind: row.payload} | ({b"p": row.prior} if row.kind in _REPEATS else {}) for row in rows]


async def waiting(client: Client, partitions: int = 1) -> int:
    """Rows in the queue, as everybody is told."""
    return sum([(await read_backlog(client, partition)).waiting for partition in range(partitions)])


def line(record: Record, kind: Kind = Kind.CONVERSION, prior: str = "") -> bytes:
    """The record as it stands in a block."""
    return b"%b\t%b\t%b\n" % (kind.encode(), escape(prior).encode(), encode(record))


def block(lines: Sequence[bytes], conversions: int | None = None) -> dict[str, bytes]:
    """A stream entry of these lines, as receivers make them; all conversions, unless it is said."""
    counted = len(lines) if conversions is None else conversions
    return {"b1": b"".join(lines), "n": b"%d %d 0" % (len(lines), counted)}
