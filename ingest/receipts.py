"""Receipts: when and where from a postback came, and the id that names it from then on."""

from __future__ import annotations

import random
import time
from typing import Final

from ingest.arrival import Receipt

_RANDOM: Final = random.Random()  # noqa: S311  ids must differ, not be secret; it is seeded by the system
_VERSION_7: Final = 0x7 << 76 | 0x2 << 62
_TAIL: Final = ~(0xF << 76 | 0x3 << 62)


def new_receipt(remote_ip: str | None) -> Receipt:
    """A receipt as of now. Its id is in order of time: UUID version 7 (RFC 9562)."""
    now_us = time.time_ns() // 1000
    tail = _RANDOM.getrandbits(80) & _TAIL | _VERSION_7
    return Receipt((now_us // 1000 << 80 | tail).to_bytes(16, "big"), now_us, remote_ip)
