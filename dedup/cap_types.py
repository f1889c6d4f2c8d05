"""What is taken under caps, as plain types."""

from __future__ import annotations

from enum import Enum

import msgspec


class Charge(msgspec.Struct, frozen=True, gc=False):
    """What one conversion takes of one cap: `amount` conversions or micros of `counter`, which must not exceed `limit`.
    `scope` and `start_ms`, when the counter's period began, say what must be known for it."""

    counter: str
    scope: str
    start_ms: int
    amount: int
    limit: int


class Hold(msgspec.Struct, frozen=True, gc=False):
    """What a postback (its own id, 16 bytes) takes for a conversion of a campaign: all of it or nothing."""

    campaign_id: int
    postback_id: bytes
    conversion_id: str
    received_us: int
    charges: tuple[Charge, ...]


class End(Enum):
    """How a hold ends: its conversion was counted; it was not, by any attempt; it was not by this one."""

    COUNTED = b"k"
    GIVEN_BACK = b"b"
    UNCOUNTED = b"u"


class Open(msgspec.Struct, frozen=True, gc=False):
    """What a postback holds that is not settled yet."""

    conversion_id: str
    received_us: int
    amounts: dict[str, int]


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A campaign's counters as a count begins. `age_ms`: since when Redis has them, not less; `known`: since when the
    scopes are known, epoch ms."""

    now_ms: int
    age_ms: int
    counters: dict[str, int]
    known: dict[str, int]
    open: list[Open]
