"""The queue payload: one line in Postgres' COPY text format, so that the writer never encodes a row.

A receiver encodes each decided postback once. The writer puts two columns before the line (the entry's kind and, for
a repeat, what was claimed first) and copies it as it is into `incoming_v1`. The line serves both tables: the entry of a
repeated conversion becomes a `postback_log` row without being encoded anew.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec
import orjson
from msgspec.structs import astuple


class Kind(StrEnum):
    """What a queue entry is; the stream's field name, with the format's version."""

    CONVERSION = "c1"
    DUPLICATE = "d1"
    CONFLICT = "x1"
    REJECTION = "r1"
    PARKED = "p1"


class Record(msgspec.Struct, frozen=True, gc=False):
    """A decided postback. Money in micros (1/1,000,000) of the currency unit; the fields stand in the line's order. Ids
    are UUIDs in their usual form."""

    log_id: str
    received_us: int
    reason: str | None = None
    advertiser_id: int | None = None
    publisher_id: int | None = None
    campaign_id: int | None = None
    goal_id: int | None = None
    goal_value: str | None = None
    goal_version: int | None = None
    click_id: str | None = None
    clicked_ms: int | None = None
    txn_id: str | None = None
    conversion_id: str | None = None
    status: str | None = None
    country: str | None = None
    currency: str | None = None
    sale_micros: int | None = None
    revenue_micros: int | None = None
    payout_micros: int | None = None
    original_micros: int | None = None
    original_currency: str | None = None
    exchange_rate_nanos: int | None = None
    event_ms: int | None = None
    remote_ip: str | None = None
    params: dict[str, object] = {}


COLUMNS: Final = Record.__struct_fields__
"""The columns of a payload line, in order."""

_NULL: Final = "\\N"
_LINE: Final = "\t".join(["%s"] * len(COLUMNS))
_TABS: Final = len(COLUMNS) - 1
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})


def escape(text: str) -> str:
    """Any text as one column of a line. https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"."""
    return text.translate(_ESCAPES)


def encode(record: Record) -> bytes:
    """The record as one line, without the newline.

    Postgres has no U+0000 in text, so a line that holds one is refused by it later. Raises UnicodeEncodeError (or
    orjson.JSONEncodeError, for `params`) on a lone surrogate, which UTF-8 cannot carry.
    """
    values = astuple(record)
    columns = [_NULL if value is None else value for value in values]
    columns[-1] = orjson.dumps(record.params).decode()
    line = _LINE % tuple(columns)
    # What needs escaping is rare, and shows on the whole line.
    if line.count("\\") != values.count(None) or line.count("\t") != _TABS or "\n" in line or "\r" in line:
        escaped = [
            column if value is None else escape(str(column)) for value, column in zip(values, columns, strict=True)
        ]
        return "\t".join(escaped).encode()
    return line.encode()
