"""A record as the row that it becomes, for people to read. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from ingest import money
from storage.records import Record
from storage.statuses import CAPPED, GIVEN, HELD, PENDING

_COLUMNS: Final = {
    "received_us": "received_at",
    "clicked_ms": "clicked_at",
    "event_ms": "event_at",
    "sale_micros": "sale_amount",
    "revenue_micros": "revenue",
    "payout_micros": "payout",
    "original_micros": "original_amount",
    "exchange_rate_nanos": "exchange_rate",
}
"""What a record's fields are called in the tables."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def record_columns(record: Record) -> dict[str, object]:
    """The record as a row: names of the tables' columns, amounts as decimals, times as RFC 3339."""
    columns = {
        _COLUMNS.get(name, name): column(name, value)
        for name, value in msgspec.structs.asdict(record).items()
        if name not in {"log_id", "remote_ip"}
    }
    return columns | {"status": status_of(record)}


def column(name: str, value: object) -> object:
    """One field's value as a person reads it; the unit is in the field's name."""
    if isinstance(value, int):
        if name.endswith("_micros"):
            return money.format_micros(value)
        if name.endswith("_nanos"):
            return money.format_rate_nanos(value)
        if name.endswith("_us"):
            return (_EPOCH + timedelta(microseconds=value)).isoformat()
        if name.endswith("_ms"):
            return (_EPOCH + timedelta(milliseconds=value)).isoformat(timespec="milliseconds")
        return value
    return value if value is None or isinstance(value, dict) else str(value)


def status_of(record: Record) -> str | None:
    """The status that the conversion would have."""
    status = record.status
    if status is not None and status.startswith(HELD):
        return PENDING
    return status and status.removeprefix(GIVEN).rpartition(CAPPED)[2]
