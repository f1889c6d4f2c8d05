"""Goal policies on repeated conversions: which claim field an event takes, and which id its conversion has."""

from __future__ import annotations

from enum import StrEnum
from hashlib import blake2b
from typing import Final, assert_never

import msgspec

_UUID: Final = "%08x-%04x-8%03x-%04x-%s"  # an f-string takes half as long again
IDENTITY: Final = blake2b(digest_size=10, person=b"postback.conv.1")


class TrackMultiple(StrEnum):
    """The panel's "track multiple conversions"."""

    NO = "no"
    YES = "yes"
    YES_WITH_TXN_ID = "yes_with_txn_id"


# Looked up once: a member costs ten times what a name does.
_NO: Final = TrackMultiple.NO
_YES: Final = TrackMultiple.YES
_YES_WITH_TXN_ID: Final = TrackMultiple.YES_WITH_TXN_ID


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What one event takes: a field in its click's hash (none: nothing to claim) and the id of its conversion, a UUID
    in its usual form."""

    field: str | None
    conversion_id: str


def claim_for(
    policy: TrackMultiple,
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
    if policy is _YES_WITH_TXN_ID:
        txn_id = txn_id or ""
        field, key = f"{goal_id}:{txn_id}", b"t" + txn_id.encode()
    elif policy is _NO:
        field, key = f"{goal_id}", b"n"
    elif policy is _YES:
        if not event_id:
            return Claim(None, conversion_id(click_id, clicked_ms, goal_id, b"u" + nonce))
        field, key = f"{goal_id}:{event_id}", b"e" + event_id.encode()
    else:
        assert_never(policy)
    return Claim(field, conversion_id(click_id, clicked_ms, goal_id, key))


def conversion_id(click_id: str, clicked_ms: int, goal_id: int, key: bytes) -> str:
    """UUID version 8 (RFC 9562): 48 bits of the click's time in ms, then 74 bits of BLAKE2b over the event's identity.

    `clicked_ms` must be within 0 .. 2**48 - 1.
    """
    click = click_id.encode()
    identity = IDENTITY.copy()
    identity.update(b"%d:%b%d:%b" % (len(click), click, goal_id, key))
    digits = identity.hexdigest()
    bits = int(digits, 16)
    return _UUID % (
        clicked_ms >> 16,
        clicked_ms & 0xFFFF,
        bits >> 62 & 0xFFF,
        0x8000 | bits >> 48 & 0x3FFF,
        digits[8:],
    )


def uuid_text(digits: str) -> str:
    """The usual form of a UUID's 32 hex digits, at a third of what `uuid.UUID` takes."""
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
