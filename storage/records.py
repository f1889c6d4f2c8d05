"""The queue payload: one line in Postgres' COPY text format, so that the writer never encodes a row.

A receiver encodes each decided postback once. `claim.lua` puts two columns before the line (the kind and, for a
repeat, what was claimed first) and queues blocks of such lines, which the writer copies as they are into `incoming_v1`.
The line serves both tables: that of a repeated conversion becomes a `postback_log` row without being encoded anew.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Final

import msgspec
import orjson
from msgspec.structs import astuple


class Kind(StrEnum):
    """What a row is: the first column of its line in a block, with the format's version."""

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

NULL: Final = "\\N"
_ESCAPES: Final = str.maketrans({"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"})
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_MEANT: Final = {"t": "\t", "n": "\n", "r": "\r"}


def escape(text: str) -> str:
    """Any text as one column of a line. https://www.postgresql.org/docs/current/sql-copy.html, "Text Format"."""
    return text.translate(_ESCAPES)


def unescape(column: str) -> str:
    """The text that `escape` made a column of."""
    return _ESCAPED.sub(lambda match: _MEANT.get(match[1], match[1]), column)


def encode(record: Record) -> bytes:
    """The record as one line, without the newline.

    Postgres has no U+0000 in text, so a line that holds one is refused by it later. Raises UnicodeEncodeError (or
    orjson.JSONEncodeError, for `params`) on a lone surrogate, which UTF-8 cannot carry.
    """
    (
        log_id,
        received_us,
        reason,
        advertiser_id,
        publisher_id,
        campaign_id,
        goal_id,
        goal_value,
        goal_version,
        click_id,
        clicked_ms,
        txn_id,
        conversion_id,
        status,
        country,
        currency,
        sale_micros,
        revenue_micros,
        payout_micros,
        original_micros,
        original_currency,
        exchange_rate_nanos,
        event_ms,
        remote_ip,
        params,
    ) = astuple(record)
    sent = orjson.dumps(params).decode()
    texts = (
        f"{log_id}{reason}{goal_value}{click_id}{txn_id}{conversion_id}{status}{country}{currency}{original_currency}"
        f"{remote_ip}"
    )
    if "\\" in sent or "\\" in texts or not texts.isprintable():
        return _escaped(record, sent)
    # Spelt out: a loop over the columns takes twice as long.
    return (
        f"{log_id}\t{received_us}\t{NULL if reason is None else reason}"
        f"\t{NULL if advertiser_id is None else advertiser_id}\t{NULL if publisher_id is None else publisher_id}"
        f"\t{NULL if campaign_id is None else campaign_id}\t{NULL if goal_id is None else goal_id}"
        f"\t{NULL if goal_value is None else goal_value}\t{NULL if goal_version is None else goal_version}"
        f"\t{NULL if click_id is None else click_id}\t{NULL if clicked_ms is None else clicked_ms}"
        f"\t{NULL if txn_id is None else txn_id}\t{NULL if conversion_id is None else conversion_id}"
        f"\t{NULL if status is None else status}\t{NULL if country is None else country}"
        f"\t{NULL if currency is None else currency}\t{NULL if sale_micros is None else sale_micros}"
        f"\t{NULL if revenue_micros is None else revenue_micros}"
        f"\t{NULL if payout_micros is None else payout_micros}"
        f"\t{NULL if original_micros is None else original_micros}"
        f"\t{NULL if original_currency is None else original_currency}"
        f"\t{NULL if exchange_rate_nanos is None else exchange_rate_nanos}"
        f"\t{NULL if event_ms is None else event_ms}\t{NULL if remote_ip is None else remote_ip}\t{sent}"
    ).encode()


def _escaped(record: Record, sent: str) -> bytes:
    values = astuple(record)[:-1]
    return "\t".join([*[NULL if value is None else escape(str(value)) for value in values], escape(sent)]).encode()
