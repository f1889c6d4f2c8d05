"""Goal policies on repeated conversions: which claim field an event takes, and which id its conversion has."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Final, assert_never

import msgspec

_VARIANT: Final = 0x2 << 62
_IDENTITY: Final = blake2b(digest_size=10, person=b"postback.conv.1")


class TrackMultiple(StrEnum):
    """The panel's "track multiple conversions"."""

    NO = "no"
    YES = "yes"
    YES_WITH_TXN_ID = "yes_with_txn_id"


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one event takes: a field in its click's hash (none: nothing to claim) and the id of its conversion, a UUID
    in its usual form."""

    field: str | None
    conversion_id: str


def claim_for(
    policy: TrackMultiple,
    *,
    click_id: str,
    clicked_ms: int,
    goal_id: int,
    txn_id: str | None,
    event_id: str | None,
    nonce: bytes,
) -> Claim:
    """The claim of an event under the goal's policy.

    A missing txn_id is the empty txn. `nonce` (the postback's own id) only counts under `yes` without an event_id.
    """
    match policy:
        case TrackMultiple.NO:
            field, key = f"{goal_id}", b"n"
        case TrackMultiple.YES_WITH_TXN_ID:
            field, key = f"{goal_id}:{txn_id or ''}", b"t" + (txn_id or "").encode()
        case TrackMultiple.YES if event_id:
            field, key = f"{goal_id}:{event_id}", b"e" + event_id.encode()
        case TrackMultiple.YES:
            return Claim(None, conversion_id(click_id, clicked_ms, goal_id, b"u" + nonce))
        case _:
            assert_never(policy)
    return Claim(field, conversion_id(click_id, clicked_ms, goal_id, key))


def conversion_id(click_id: str, clicked_ms: int, goal_id: int, key: bytes) -> str:
    """UUID version 8 (RFC 9562): 48 bits of the click's time in ms, then 74 bits of BLAKE2b over the event's identity.

    `clicked_ms` must be within 0 .. 2**48 - 1.
    """
    click = click_id.encode()
    identity = _IDENTITY.copy()
    identity.update(b"%d:%b%d:%b" % (len(click), click, goal_id, key))
    bits = int.from_bytes(identity.digest(), "big")
    return uuid_text(f"{clicked_ms:012x}8{bits >> 62 & 0xFFF:03x}{_VARIANT | bits & 0x3FFF_FFFF_FFFF_FFFF:016x}")


def uuid_text(digits: str) -> str:
    """The usual form of a UUID's 32 hex digits, at a third of what `uuid.UUID` takes."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
