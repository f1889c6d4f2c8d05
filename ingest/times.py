"""Times as senders write them."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from ingest.text import BLANKS

EARLIEST_MS: Final = 946_684_800_000
"""2000-01-01T00:00:00Z"""
END_MS: Final = 4_133_980_800_000
"""2101-01-01T00:00:00Z: every time is before it."""

_EPOCH = re.compile(r"([0-9]{1,15})(?:\.([0-9]{0,18}))?")
# A '+' that was not percent-encoded in a query is read as a blank: hence " 02:00" is an offset too.
_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,18}))?"
    r" ?(?:[Zz]|([-+ ]?)([0-9]{2}):?([0-9]{2}))?"
)
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
# Epoch seconds stay below this until the year 5138; epoch milliseconds have been above it since 1973.
LEAST_MILLISECONDS = 10**11


def parse_time_ms(text: str) -> int | None:
    """Epoch milliseconds of RFC 3339 (no offset: UTC), epoch seconds (decimals allowed) or epoch milliseconds.

    Finer digits are cut. None where the text is unreadable or outside the years 2000 to 2100.
    """
    if len(text) == 10 and text.isascii() and text.isdigit():
        return _within(int(text) * 1000)
    text = text.strip(BLANKS)
    ms = _rfc_3339_ms(text) if "-" in text else _epoch_ms(text)
    return _within(ms) if ms is not None else None


def _within(ms: int) -> int | None:
    return ms if EARLIEST_MS <= ms < END_MS else None


def _epoch_ms(text: str) -> int | None:
    match = _EPOCH.fullmatch(text)
    if match is None:
        return None
    number = int(match[1])
    return number if number >= LEAST_MILLISECONDS else number * 1000 + _thousandths(match[2])


def _rfc_3339_ms(text: str) -> int | None:
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    if hour > "23" or minute > "59" or second > "60":  # 60: a leap second
        return None
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH_ORDINAL
    except ValueError:
        return None
    minutes = (days * 24 + int(hour)) * 60 + int(minute)
    if offset_hours is not None:
        if offset_hours > "23" or offset_minutes > "59":
            return None
        offset = int(offset_hours) * 60 + int(offset_minutes)
        minutes += offset if sign == "-" else -offset
    return (minutes * 60 + int(second)) * 1000 + _thousandths(fraction)


def _thousandths(fraction: str | None) -> int:
    return int(fraction[:3].ljust(3, "0")) if fraction else 0
