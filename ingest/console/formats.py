"""Amounts, times, differences and margins as people read them. Pure, and without floats."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

NOTHING: Final = "—"
_CENTS: Final = 2


def money(value: Decimal | None) -> str:
    """1234.5 as 1,234.50: two decimals, more where there are more."""
    if value is None:
        return NOTHING
    decimals = -int(value.normalize().as_tuple().exponent) if value else 0
    return f"{value:,.{max(decimals, _CENTS)}f}"


def micros(value: int) -> str:
    """The same of millionths."""
    return money(Decimal(value).scaleb(-6))


def amount(text: str) -> str:
    """The same of an amount as the catalog has it, which is a text."""
    return money(Decimal(text))


def count(value: int) -> str:
    """12345 as 12,345."""
    return f"{value:,}"


def instant(value: datetime | None) -> str:
    """2026-11-23 22:11:14 UTC."""
    return NOTHING if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def machine_time(value: datetime) -> str:
    """For <time datetime>."""
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parameters(text: str) -> dict[str, str]:
    """A jsonb object as names and values."""
    found = json.loads(text, parse_float=str)
    return {str(name): value if isinstance(value, str) else json.dumps(value) for name, value in found.items()}


def margin_text(margin: Mapping[str, object], currency: str) -> str:
    """A margin as `ingest.margins.margin_document` has it: 0.60 USD + 5 % of the sale (30 % of the revenue)."""
    fixed, percent, share = (margin[key] for key in ("fixed", "percent", "share"))
    parts = []
    if fixed != "0" or percent == "0":
        parts.append(f"{amount(str(fixed))} {currency}")
    if percent != "0":
        parts.append(f"{percent} % of the sale")
    return " + ".join(parts) + ("" if share is None else f" ({share} % of the revenue)")


class Difference(NamedTuple):
    """One field that changed; None: it was not there."""

    field: str
    before: str | None
    after: str | None


def differences(before: object, after: object) -> list[Difference]:
    """What changed from one document to the next, field by field in their order."""
    old, new = dict(_flat(before)), dict(_flat(after))
    return [
        Difference(field, old.get(field), new.get(field))
        for field in dict.fromkeys((*old, *new))
        if old.get(field) != new.get(field)
    ]


def _flat(value: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Each plain value with its place, as `rates[0].payout.fixed`. A list of plain values is one."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for index, item in enumerate(value):
            yield from _flat(item, f"{place}[{index}]")
    elif isinstance(value, list):
        if value:
            yield place, ", ".join(map(str, value))
    elif value is not None:
        yield place, ("yes" if value else "no") if isinstance(value, bool) else str(value)
