"""Clicks: the packed form in the cache, and reading one that a tracker gives. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec
import orjson

from ingest.iso import COUNTRIES
from ingest.text import BLANKS, clean, problem
from ingest.times import parse_time_ms
from storage.rows import NewClick

MAX_CLICK_ID_BYTES: Final = 255
MAX_PARAMS: Final = 32
MAX_PARAM_NAME_BYTES: Final = 64
MAX_PARAM_BYTES: Final = 1024
MAX_AHEAD_MS: Final = 5 * 60_000
"""How far in the future a click's time may be: trackers' clocks differ."""

_ID: Final = re.compile(r"[0-9]{1,19}")
_MAX_ID: Final = 2**63 - 1
_FIELDS: Final = frozenset({"click_id", "campaign_id", "publisher_id", "clicked_at", "country"})


class ClickError(ValueError):
    """A click that cannot be registered; the message begins with the field's name."""


class Click(msgspec.Struct, frozen=True, gc=False):
    """What a decision needs of a click. `country` is ISO 3166-1 alpha-2, None where it is not known."""

    campaign_id: int
    publisher_id: int
    clicked_ms: int
    country: str | None


def pack_click(campaign_id: int, publisher_id: int, clicked_ms: int, country: str | None) -> bytes:
    """The click in the cache: `100,10,1790000000000,US`."""
    return b"%d,%d,%d,%b" % (campaign_id, publisher_id, clicked_ms, country.encode() if country else b"")


def unpack_click(packed: bytes) -> Click:
    """The click that `pack_click` packed; ValueError for anything else."""
    campaign_id, publisher_id, clicked_ms, country = packed.split(b",")
    return Click(int(campaign_id), int(publisher_id), int(clicked_ms), country.decode() or None)


def read_click(fields: Mapping[str, object], now_ms: int) -> NewClick:
    """The click in a row of a file or an object of a request. Raises ClickError.

    Its own fields are checked; all others are kept as texts, as far as the bounds allow (32 of 1 KiB each).
    """
    return NewClick(
        click_id=_click_id(_text(fields, "click_id")),
        campaign_id=_number("campaign_id", _text(fields, "campaign_id")),
        publisher_id=_number("publisher_id", _text(fields, "publisher_id")),
        clicked_ms=_clicked_ms(_text(fields, "clicked_at"), now_ms),
        country=_country(_text(fields, "country")),
        params=_params(fields),
    )


def _text(fields: Mapping[str, object], name: str) -> str:
    """The field's text without blanks around it; empty where it is absent."""
    value = fields.get(name)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ClickError(f"{name}: expected a text or a number")
    return str(value).strip(BLANKS)


def _click_id(text: str) -> str:
    if not text:
        raise ClickError("click_id: missing")
    wrong = problem(text, MAX_CLICK_ID_BYTES)
    if wrong is not None:
        raise ClickError(f"click_id: {wrong}")
    return text


def _number(name: str, text: str) -> int:
    if not text:
        raise ClickError(f"{name}: missing")
    number = int(text) if _ID.fullmatch(text) else 0
    if not 0 < number <= _MAX_ID:
        raise ClickError(f"{name}: expected a whole number from 1 up, got {_shown(text)}")
    return number


def _clicked_ms(text: str, now_ms: int) -> int:
    if not text:
        raise ClickError("clicked_at: missing")
    clicked_ms = parse_time_ms(text)
    if clicked_ms is None:
        raise ClickError(
            "clicked_at: expected a time from the year 2000 on, such as 2026-11-01T12:00:00Z, or epoch seconds or"
            f" milliseconds, got {_shown(text)}"
        )
    if clicked_ms > now_ms + MAX_AHEAD_MS:
        raise ClickError("clicked_at: in the future by more than 5 minutes; are the clock and the time zone right?")
    return clicked_ms


def _country(text: str) -> str | None:
    if not text:
        return None
    country = text.upper()
    if country not in COUNTRIES:
        raise ClickError(
            "country: expected two letters of ISO 3166-1 such as US, or nothing where it is not known,"
            f" got {_shown(text)}"
        )
    return country


def _params(fields: Mapping[str, object]) -> dict[str, str]:
    """The fields that are not the click's own. Nothing in them refuses a click: what is too long is cut."""
    params: dict[str, str] = {}
    for name, value in fields.items():
        if name in _FIELDS or value is None or value == "":
            continue
        if len(params) == MAX_PARAMS:
            break
        text = value if isinstance(value, str) else orjson.dumps(value).decode()
        params[clean(name, MAX_PARAM_NAME_BYTES)[0]] = clean(text, MAX_PARAM_BYTES)[0]
    return params


def _shown(text: str) -> str:
    """The text as an error shows it."""
    return ascii(text if len(text) <= 40 else text[:40] + "...")
