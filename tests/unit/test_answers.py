"""The table of answers: every result in every profile."""

from __future__ import annotations

import orjson
import pytest

from ingest.answers import RETRY_AFTER_S, STATUSES, Answer, answer, invalid, unreadable, verdict
from ingest.catalog import Profile
from ingest.outcome import AWAY, SPOOLED, UNAVAILABLE, Outcome, Result
from ingest.reasons import Reason
from ingest.wire import Fault

ID = "6507a5c0-f400-8abc-8000-000000000001"
WITH_ID: dict[str, object] = {"conversion_id": ID}
REFUSED: dict[str, object] = {"reason": Reason.BAD_AMOUNT, "detail": "sale_amount: negative"}
FORBIDDEN: dict[str, object] = {"reason": Reason.BAD_TOKEN, "detail": "security_token: missing"}

# result: what comes with it, status, JSON, text, status in the empty profile
TABLE: dict[Result, tuple[dict[str, object], int, dict[str, str], bytes, int]] = {
    Result.ACCEPTED: (WITH_ID, 200, {"status": "accepted", "conversion_id": str(ID)}, b"success=true;", 204),
    Result.DUPLICATE: (WITH_ID, 200, {"status": "duplicate", "conversion_id": str(ID)}, b"success=true;", 204),
    Result.CONFLICT: (WITH_ID, 200, {"status": "conflict", "conversion_id": str(ID)}, b"success=true;", 204),
    Result.REJECTED: (
        REFUSED,
        200,
        {"status": "rejected", "reason": "bad_amount", "detail": "sale_amount: negative"},
        b"success=false; err_msg=bad_amount",
        204,
    ),
    Result.INVALID: (
        FORBIDDEN,
        403,
        {"status": "invalid", "reason": "bad_token", "detail": "security_token: missing"},
        b"success=false; err_msg=bad_token",
        403,
    ),
    Result.PARKED: (
        {"reason": Reason.UNKNOWN_CLICK},
        202,
        {"status": "parked", "reason": "unknown_click"},
        b"success=true;",
        202,
    ),
    Result.SPOOLED: ({}, 202, {"status": "spooled"}, b"success=true;", 202),
}
RESULTS = list(TABLE)


def outcome(result: Result, profile: Profile) -> Outcome:
    return Outcome(result, profile=profile, **TABLE[result][0])  # type: ignore[arg-type]  # as the table has them


def test_the_table_is_whole() -> None:
    assert STATUSES.keys() == set(Result)
    assert {*TABLE, Result.UNAVAILABLE} == set(Result)


@pytest.mark.parametrize("result", RESULTS)
def test_json(result: Result) -> None:
    said = answer(outcome(result, Profile.JSON))
    _, status, body, _, _ = TABLE[result]
    assert (said.status, said.content_type, orjson.loads(said.body)) == (status, "application/json", body)
    assert verdict(outcome(result, Profile.JSON)) == body


@pytest.mark.parametrize("result", RESULTS)
def test_text(result: Result) -> None:
    _, status, _, text, _ = TABLE[result]
    assert answer(outcome(result, Profile.TEXT)) == Answer(status, "text/plain", text)


@pytest.mark.parametrize("result", RESULTS)
def test_pixel(result: Result) -> None:
    said = answer(outcome(result, Profile.PIXEL))
    assert (said.status, said.content_type) == (TABLE[result][1], "image/gif")
    # GIF89a, 1 x 1, ends with the trailer.
    assert said.body[:10] == b"GIF89a\x01\x00\x01\x00"
    assert said.body[-1:] == b";"


@pytest.mark.parametrize("result", RESULTS)
def test_empty(result: Result) -> None:
    said = answer(outcome(result, Profile.EMPTY))
    assert (said.status, said.body) == (TABLE[result][4], b"")


@pytest.mark.parametrize("profile", list(Profile))
@pytest.mark.parametrize("result", RESULTS)
def test_only_json_tells_more_than_yes_or_no(result: Result, profile: Profile) -> None:
    body = answer(outcome(result, profile)).body
    assert (str(ID).encode() in body) == (profile is Profile.JSON and "conversion_id" in TABLE[result][0])
    assert (b"detail" in body) == (profile is Profile.JSON and "detail" in TABLE[result][0])


def test_what_nobody_decided_is_answered_in_json() -> None:
    assert answer(UNAVAILABLE) == Answer(503, "application/json", b'{"status":"unavailable"}')
    assert answer(SPOOLED) == Answer(202, "application/json", b'{"status":"spooled"}')


@pytest.mark.parametrize("profile", list(Profile))
def test_no_answer_says_yes_to_what_was_not_stored(profile: Profile) -> None:
    said = answer(Outcome(Result.UNAVAILABLE, profile=profile))
    assert said.status == 503
    assert b"true" not in said.body


def test_away_is_not_unavailable() -> None:
    """The intake tells them apart: one may go to the spool, the other must not."""
    assert AWAY is not UNAVAILABLE
    assert AWAY != UNAVAILABLE


@pytest.mark.parametrize("status", [400, 408, 413, 415])
def test_unreadable(status: int) -> None:
    fault = Fault(Reason.BAD_PARAMETER, 'body: "quoted" über')
    body = {"status": "invalid", "reason": "bad_parameter", "detail": 'body: "quoted" über'}
    assert invalid(fault) == body
    said = unreadable(status, fault)
    assert (said.status, said.content_type, orjson.loads(said.body)) == (status, "application/json", body)


def test_senders_are_told_to_wait() -> None:
    assert RETRY_AFTER_S >= 1
