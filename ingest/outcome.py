"""What is said of a postback, whoever asks: the HTTP answer, a bulk verdict, a trace."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ingest.catalog import Profile
from ingest.reasons import Reason


class Result(StrEnum):
    """The `status` of an answer."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    REJECTED = "rejected"
    SPOOLED = "spooled"
    PARKED = "parked"
    INVALID = "invalid"
    UNAVAILABLE = "unavailable"


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """What became of one postback. `profile` is the shape of answer that its advertiser asks for."""

    result: Result
    conversion_id: str | None = None
    reason: Reason | None = None
    detail: str | None = None
    profile: Profile = Profile.JSON


UNAVAILABLE = Outcome(Result.UNAVAILABLE)
"""Nothing is stored: there is no room."""
SPOOLED = Outcome(Result.SPOOLED)
"""In the local spool, on disk."""
PARKED = Outcome(Result.PARKED, reason=Reason.UNKNOWN_CLICK)
"""Stored, to be decided when its click is known."""
AWAY = Outcome(Result.UNAVAILABLE, detail="an engine is away")
"""Not decided, for Redis or Postgres did not answer: nothing is stored yet. Never leaves the intake."""
