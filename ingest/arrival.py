"""Postbacks as they came in, before anybody knows whose they are. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from ingest.bodies import Fault, Sent, read_lines, read_queries
from ingest.signatures import Signed


class Receipt(msgspec.Struct, frozen=True, gc=False):
    """When and where from a postback came. `postback_id`, the 16 bytes of a UUID, names it for good: its log id, its
    nonce."""

    postback_id: bytes
    received_us: int
    remote_ip: str | None = None


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A postback as it came in: when and where from, and its names and values. `fault`: why it has none. `signed`: what
    its request's signature header covers, if there was one. `proven_for`: the advertiser whose it was found to be when
    it came, by address, token and signature, which are not looked at again."""

    receipt: Receipt
    sent: Sent
    idempotency_key: str | None = None
    fault: Fault | None = None
    signed: Signed | None = None
    proven_for: int | None = None


class Unread(msgspec.Struct, frozen=True, gc=False):
    """A postback whose query, in visible ASCII, has not been read yet: that is cheaper with its batch."""

    receipt: Receipt
    query: str


class UnreadLine(msgspec.Struct, frozen=True, gc=False):
    """One whose line of NDJSON has not been read yet, and what else came with it: see Arrival."""

    receipt: Receipt
    line: bytes
    idempotency_key: str | None = None
    signed: Signed | None = None


Waiting = Arrival | Unread | UnreadLine
"""What waits for its turn."""


def read_all(waiting: Sequence[Waiting]) -> list[Arrival]:
    """The arrivals, in order."""
    queries = iter(read_queries([one.query for one in waiting if isinstance(one, Unread)]))
    items = iter(read_lines([one.line for one in waiting if isinstance(one, UnreadLine)]))
    return [
        Arrival(one.receipt, next(queries))
        if isinstance(one, Unread)
        else arrival_of(one.receipt, next(items), one.idempotency_key, one.signed)
        if isinstance(one, UnreadLine)
        else one
        for one in waiting
    ]


def arrival_of(receipt: Receipt, item: Sent | Fault, key: str | None, signed: Signed | None) -> Arrival:
    """An item of a bulk request."""
    if isinstance(item, Fault):
        return Arrival(receipt, [], key, item, signed)
    return Arrival(receipt, item, key, None, signed)
