"""The queue payload: one line in Postgres' COPY text format, so that the writer never encodes a row.

A receiver encodes each decided postback once. The writer puts two columns before the line (the entry's kind and, for
a repeat, what was claimed first) and copies it as it is into `incoming_v1`. The line serves both tables: the entry of a
repeated conversion becomes a `postback_log` row without being encoded anew.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final
from uuid import UUID

import msgspec
import orjson


class Kind(StrEnum):
    """What a queue entry is; the stream's field name, with the format's version."""

    CONVERSION = "c1"
    DUPLICATE = "d1"
    CONFLICT = "x1"
    REJECTION = "r1"


class Record(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A decided postback. Money in micros (1/1,000,000) of the currency unit; the fields stand in the line's order."""

    log_id: UUID
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
    conversion_id: UUID | None = None
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
    params: dict[str, object]


COLUMNS: Final = Record.__struct_fields__
"""The columns of a payload line, in order."""

_NULL: Final = "\\N"
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
    r = record
    line = (
        f"{r.log_id}\t{r.received_us}\t{_text(r.reason)}\t{_number(r.advertiser_id)}\t{_number(r.publisher_id)}\t"
        f"{_number(r.campaign_id)}\t{_number(r.goal_id)}\t{_text(r.goal_value)}\t{_number(r.goal_version)}\t"
        f"{_text(r.click_id)}\t{_number(r.clicked_ms)}\t{_text(r.txn_id)}\t{r.conversion_id or _NULL}\t"
        f"{_text(r.status)}\t{_text(r.country)}\t{_text(r.currency)}\t{_number(r.sale_micros)}\t"
        f"{_number(r.revenue_micros)}\t{_number(r.payout_micros)}\t{_number(r.original_micros)}\t"
        f"{_text(r.original_currency)}\t{_number(r.exchange_rate_nanos)}\t{_number(r.event_ms)}\t"
        f"{_text(r.remote_ip)}\t{_text(orjson.dumps(r.params).decode())}"
    )
    if "\n" in line or "\r" in line or line.count("\t") != _TABS:
        return _encode_any(record)
    return line.encode()


def _text(value: str | None) -> str:
    """Only the backslash is looked for in each column: what else needs escaping is rare and seen on the whole line."""
    if value is None:
        return _NULL
    if "\\" in value:
        return value.replace("\\", "\\\\")
    return value


def _number(value: int | None) -> int | str:
    return _NULL if value is None else value


def _encode_any(record: Record) -> bytes:
    return "\t".join(_column(getattr(record, name)) for name in COLUMNS).encode()


def _column(value: object) -> str:
    if value is None:
        return _NULL
    if isinstance(value, dict):
        return escape(orjson.dumps(value).decode())
    return escape(str(value))
