"""An advertiser's own list of transactions, and how one of it is compared with what is stored here. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final
from uuid import UUID

from ingest.money import AmountError, parse_amount
from ingest.text import BLANKS, problem
from ingest.times import parse_time_ms

MAX_TEXT_BYTES: Final = 255
"""What is longer cannot be stored here, so it is not looked for."""

_STATUSES: Final = {
    "approved": "approved confirmed accepted paid locked valid",
    "pending": "pending open hold new",
    "cancelled": "cancelled canceled reversed refunded void",
    "rejected": "rejected declined denied invalid",
}
STATUS_WORDS: Final = {word: status for status, words in _STATUSES.items() for word in words.split()}
"""What lists call a status, and what it is here."""

_LIVE: Final = frozenset({"approved", "pending"})
"""A conversion of another status is owed by nobody."""


class Verdict(StrEnum):
    """What the comparison of one transaction comes to."""

    MATCHED = "matched"
    MISSING_HERE = "missing here"
    MISSING_THERE = "missing there"
    AMOUNT_DIFFERS = "amount differs"
    CURRENCY_DIFFERS = "currency differs"
    STATUS_DIFFERS = "status differs"
    NOT_OWED = "not owed"
    """Only one side has it, and that side says that it does not count."""


class LineError(ValueError):
    """A line of the list cannot be read; the message says why."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What the list calls its columns; None: it has no such column."""

    click_id: str | None = None
    txn_id: str | None = None
    goal: str | None = None
    amount: str | None = None
    currency: str | None = None
    status: str | None = None
    time: str | None = None

    @property
    def names(self) -> list[str]:
        """Those it has."""
        return [name for field in fields(self) if (name := getattr(self, field.name)) is not None]


@dataclass(frozen=True, slots=True)
class Listed:
    """A transaction of the list. None: the list does not say."""

    click_id: str = ""
    txn_id: str = ""
    goal: str = ""
    amount_micros: int | None = None
    currency: str | None = None
    status: str | None = None
    at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Stored:
    """A conversion as it stands now. `is_expected`: it was received in the time that the list is about."""

    conversion_id: UUID
    click_id: str
    txn_id: str
    goal: str
    amount_micros: int
    currency: str
    status: str
    is_expected: bool


def read_listed(values: Mapping[str, object], columns: Columns) -> Listed:
    """A transaction from the values of a line. Raises LineError."""

    def text(name: str | None) -> str:
        value = None if name is None else values.get(name)
        if value is None or isinstance(value, bool | dict | list):
            return ""
        said = str(value).strip(BLANKS)
        fault = problem(said, MAX_TEXT_BYTES)
        if fault is not None:
            raise LineError(f"{name}: {fault}")
        return said

    click_id, txn_id = text(columns.click_id), text(columns.txn_id)
    if not click_id and not txn_id:
        raise LineError(f"names nothing to find it by: {columns.click_id or columns.txn_id} is empty")
    status = text(columns.status)
    if status and status.lower() not in STATUS_WORDS:
        raise LineError(f"{columns.status}: {status!r} is no status that is known: {', '.join(STATUS_WORDS)}")
    return Listed(
        click_id,
        txn_id,
        text(columns.goal).lower(),
        _amount(columns.amount, text(columns.amount)),
        text(columns.currency).upper() or None,
        STATUS_WORDS[status.lower()] if status else None,
        _time_ms(columns.time, text(columns.time)),
    )


def _amount(name: str | None, text: str) -> int | None:
    if not text:
        return None
    try:
        return parse_amount(text)
    except AmountError as error:
        raise LineError(f"{name}: {text!r}: {error}") from None


def _time_ms(name: str | None, text: str) -> int | None:
    if not text:
        return None
    at_ms = parse_time_ms(text)
    if at_ms is None:
        raise LineError(f"{name}: {text!r}: expected RFC 3339, epoch seconds or epoch milliseconds")
    return at_ms


def judge(listed: Listed | None, stored: Stored | None, tolerance_micros: int = 0) -> Verdict:
    """What a pair comes to; one of the two may be missing. A list that does not give statuses holds what is owed."""
    if listed is not None and stored is not None:
        return _judge_both(listed, stored, tolerance_micros)
    if listed is not None:
        return Verdict.MISSING_HERE if listed.status is None or listed.status in _LIVE else Verdict.NOT_OWED
    if stored is not None:
        return Verdict.MISSING_THERE if stored.is_expected and stored.status in _LIVE else Verdict.NOT_OWED
    raise ValueError("a pair of nothing")


def _judge_both(listed: Listed, stored: Stored, tolerance_micros: int) -> Verdict:
    if listed.status is None:
        if stored.status not in _LIVE:
            return Verdict.STATUS_DIFFERS
    elif listed.status != stored.status:
        return Verdict.STATUS_DIFFERS
    if listed.currency is not None and listed.currency != stored.currency:
        return Verdict.CURRENCY_DIFFERS
    if listed.amount_micros is not None and abs(listed.amount_micros - stored.amount_micros) > tolerance_micros:
        return Verdict.AMOUNT_DIFFERS
    return Verdict.MATCHED
