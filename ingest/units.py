"""Durations and sizes as people write them. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

_DURATION: Final = re.compile(r"(\d+)\s*(ms|s|m|h|d)", re.ASCII)
_DURATION_MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE: Final = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB)", re.ASCII)
_SIZE_BYTES: Final = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


class Duration(int):
    """Milliseconds, written as "250ms", "5s", "10m", "2h" or "90d"."""


class Size(int):
    """Bytes, written as "512B", "64KiB", "16MiB" or "2GiB"."""


def _duration(text: object) -> Duration:
    match = _DURATION.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a duration such as "250ms", "5s", "10m", "2h" or "90d"')
    return Duration(int(match[1]) * _DURATION_MS[match[2]])


def _size(text: object) -> Size:
    match = _SIZE.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ValueError('expected a size such as "512B", "64KiB", "16MiB" or "2GiB"')
    return Size(int(match[1]) * _SIZE_BYTES[match[2]])


def parse_duration_ms(text: str) -> int:
    """Milliseconds of "30d" and the like; ValueError for anything else."""
    return _duration(text)


def format_duration(ms: int) -> str:
    """The shortest exact spelling: 5400000 is "90m"."""
    for unit in ("d", "h", "m", "s"):
        if ms and ms % _DURATION_MS[unit] == 0:
            return f"{ms // _DURATION_MS[unit]}{unit}"
    return f"{ms}ms" if ms else "0s"


def decode_text(kind: type, value: Any) -> Any:
    """A Duration or a Size from its text: msgspec's `dec_hook`. ValueError for anything else."""
    if kind is Duration:
        return _duration(value)
    if kind is Size:
        return _size(value)
    raise NotImplementedError(kind)


def decode_number(kind: type, value: int) -> int:
    """A Duration or a Size from the number that msgspec's `enc_hook=int` made of it."""
    number: int = kind(value)
    return number
