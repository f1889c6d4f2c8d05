"""Outcomes as HTTP answers: one exhaustive table. Pure."""

from __future__ import annotations

from base64 import b64decode
from typing import Final, assert_never

import msgspec
import orjson

from ingest.catalog import Profile
from ingest.outcome import Outcome, Result
from ingest.wire import Fault

RETRY_AFTER_S: Final = 5
"""What a sender is told to wait, at the least."""

STATUSES: Final = {
    Result.ACCEPTED: 200,
    Result.DUPLICATE: 200,
    Result.CONFLICT: 200,
    Result.REJECTED: 200,
    Result.SPOOLED: 202,
    Result.PARKED: 202,
    Result.INVALID: 403,
    Result.UNAVAILABLE: 503,
}

_BY_DEFAULT: Final = Profile.JSON
_JSON: Final = "application/json"
_PIXEL: Final = b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """Status, media type and body."""

    status: int
    content_type: str
    body: bytes


def answer(outcome: Outcome) -> Answer:
    """The answer in the shape that the advertiser asks for; in JSON where the advertiser is not known yet."""
    status = STATUSES[outcome.result]
    if outcome.profile is _BY_DEFAULT:
        return Answer(status, _JSON, verdict_json(outcome))
    match outcome.profile:
        case Profile.TEXT:
            return Answer(status, "text/plain", _text(outcome))
        case Profile.PIXEL:
            return Answer(status, "image/gif", _PIXEL)
        case Profile.EMPTY:
            return Answer(204 if status == 200 else status, "text/plain", b"")
        case _:
            assert_never(outcome.profile)


def verdict_json(outcome: Outcome) -> bytes:
    """`verdict` as JSON text."""
    if outcome.reason is None and outcome.conversion_id is not None:  # most, and this takes a third of the time
        said = f'{{"status":"{outcome.result._value_}","conversion_id":"{outcome.conversion_id}"}}'
        return said.encode()
    return orjson.dumps(verdict(outcome))


def verdict(outcome: Outcome) -> dict[str, str]:
    """The JSON object that says it."""
    said = {"status": outcome.result.value}
    if outcome.conversion_id is not None:
        said["conversion_id"] = outcome.conversion_id
    if outcome.reason is not None:
        said["reason"] = outcome.reason.value
    if outcome.detail is not None:
        said["detail"] = outcome.detail
    return said


def invalid(fault: Fault) -> dict[str, str]:
    """The JSON object for what cannot be read as a postback."""
    return {"status": Result.INVALID.value, "reason": fault.reason.value, "detail": fault.detail}


def unreadable(status: int, fault: Fault) -> Answer:
    """The answer to what cannot be read as a postback: 400, 408, 413, 415 or 501."""
    return Answer(status, _JSON, orjson.dumps(invalid(fault)))


def _text(outcome: Outcome) -> bytes:
    if outcome.result is Result.UNAVAILABLE:
        return b"success=false; err_msg=unavailable"
    if outcome.reason is None or outcome.result is Result.PARKED:
        return b"success=true;"
    return f"success=false; err_msg={outcome.reason}".encode()
