"""A rejection in the log says all that its postback said, but for secrets: it can be decided again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.arrival import Arrival
from ingest.catalog import Snapshot, Status
from ingest.clicks import Click
from ingest.decide import Decision, Rules, decide
from ingest.reasons import Reason
from ingest.recorder import read_postback
from ingest.replay import PROVEN, UNPROVEN, arrival_of, is_whole
from ingest.wire import COUNTS, STANDARD_ALIASES, Pairs, Postback
from storage.replays import LoggedRejection
from tests.catalogs import DAY_MS, advertiser, campaign, click, receipt, snapshot

RULES = Rules(90 * DAY_MS)
ALIASES = {"order": "txn_id", "total": "sale_amount", "state": "status", "shop_key": "security_token", "ev": "event_id"}
OWNER = advertiser(tokens=["right"], aliases=ALIASES)
PAUSED = snapshot(campaign(of=OWNER, status=Status.PAUSED))
ACTIVE = snapshot(campaign(of=OWNER))
NAMES = st.sampled_from([*STANDARD_ALIASES, *ALIASES, "sub1", "sub2", "utm"])
VALUES = st.sampled_from(
    [
        "1",
        "10.50",
        "USD",
        "install",
        "approved",
        "{macro}",
        "",
        " padded ",
        "2026-11-01T00:00:00Z",
        "soon",
        "é",
        "x" * 300,
    ]
) | st.text(max_size=12)


def logged(decision: Decision) -> LoggedRejection:
    """The decision's row of postback_log."""
    record = decision.record
    return LoggedRejection(
        UUID(record.log_id),
        record.received_us,
        str(record.reason),
        record.advertiser_id,
        record.click_id,
        record.goal_value,
        record.txn_id,
        record.remote_ip,
        msgspec.json.decode(msgspec.json.encode(record.params)),
    )


def read(arrival: Arrival, catalog: Snapshot, of: Click | None) -> Postback:
    click_id, _ = catalog.reading(None).click_ids(arrival.sent)
    return read_postback(arrival, click_id, of, catalog)


def rejected(arrival: Arrival, catalog: Snapshot, of: Click | None) -> tuple[Postback, Decision]:
    postback = read(arrival, catalog, of)
    return postback, decide(arrival.receipt, postback, of, catalog, RULES)


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=8, unique_by=lambda pair: pair[0]),
    st.none() | st.just("key:1"),
    st.booleans(),
)
def test_what_is_read_from_the_log_is_what_was_read_from_the_sender(
    pairs: list[tuple[str, str]], key: str | None, is_known: bool
) -> None:
    """Whether its advertiser was known when it was logged or is known only now. Of a name that is given twice and was
    not known to count, the log has the first value alone."""
    arrival = Arrival(receipt(), cast("Pairs", [("click_id", "c"), ("security_token", "right"), *pairs]), key)
    sent, decision = rejected(arrival, PAUSED, click() if is_known else None)
    if sent.fault is not None:
        return  # not replayed: what was wrong is not stored
    expected = read(arrival, ACTIVE, click())
    if expected.fault is not None:
        return
    row = logged(decision)
    known = decide(arrival.receipt, expected, click(), ACTIVE, RULES)
    if not is_whole(row, known, ACTIVE):
        return
    again = read(arrival_of(row), ACTIVE, click())
    own = {"security_token", "params"}
    assert _fields(again, own) == _fields(expected, own)
    # What made way for one of the advertiser's own names counts for nothing; it may be missing among the params.
    of_no_account = {*STANDARD_ALIASES, *COUNTS}
    assert {name: value for name, value in expected.params.items() if name not in of_no_account} == {
        name: value for name, value in again.params.items() if name not in of_no_account
    }
    assert "right" not in str(row.params)


def _fields(postback: Postback, without: set[str]) -> dict[str, Any]:
    return {name: value for name, value in msgspec.structs.asdict(postback).items() if name not in without}


@pytest.mark.parametrize("reason", sorted(PROVEN))
def test_who_proved_to_be_the_advertiser_is_not_asked_again(reason: Reason) -> None:
    sent: Pairs = [("click_id", "c"), ("goal", "install"), ("security_token", "right")]
    row = replace(logged(rejected(Arrival(receipt(), sent), PAUSED, click())[1]), reason=reason)
    arrival = arrival_of(row)
    assert arrival.proven_for == OWNER.id
    again = decide(arrival.receipt, read(arrival, ACTIVE, click()), click(), ACTIVE, RULES, proven_for=OWNER.id)
    assert again.refusal is None
    stranger = snapshot(campaign(of=advertiser(tokens=["right"], advertiser_id=2)))
    again = decide(arrival.receipt, read(arrival, stranger, click()), click(), stranger, RULES, proven_for=OWNER.id)
    assert again.refusal is not None
    assert again.refusal.reason is Reason.BAD_TOKEN, "the campaign is another's by now"


@pytest.mark.parametrize("reason", sorted(UNPROVEN))
def test_who_did_not_is(reason: Reason) -> None:
    row = replace(logged(rejected(Arrival(receipt(), [("click_id", "c")]), PAUSED, click())[1]), reason=reason)
    assert arrival_of(row).proven_for is None


def test_reasons_before_and_after_the_proof_are_all_that_can_be_replayed() -> None:
    never = {Reason.BAD_TOKEN, Reason.BAD_SIGNATURE, Reason.BAD_PARAMETER}
    no_rejections = {Reason.OVER_CAP, Reason.GOAL_NOT_ASSIGNED}
    assert PROVEN | UNPROVEN | never | no_rejections == set(Reason)
    assert not PROVEN & UNPROVEN


def test_it_keeps_its_id_and_its_time() -> None:
    arrival = Arrival(receipt(7, after_ms=5), [("click_id", "c")])
    assert arrival_of(logged(rejected(arrival, PAUSED, click())[1])).receipt == arrival.receipt


@pytest.mark.parametrize(
    ("params", "was_known", "expected"),
    [
        ({}, False, True),
        ({"_dropped": 1}, False, False),
        ({"_dropped": 1}, True, True),
        ({"_cut": 1}, False, True),
        ({"order": "\ufffd"}, False, False),
        ({"utm": "\ufffd"}, False, True),
    ],
)
def test_what_was_left_out_may_count_while_nobody_knows_whose_it_is(
    params: dict[str, object], was_known: bool, expected: bool
) -> None:
    _, decision = rejected(Arrival(receipt(), [("click_id", "c"), ("security_token", "right")]), ACTIVE, click())
    row = replace(logged(decision), params=params, advertiser_id=1 if was_known else None)
    assert is_whole(row, decision, ACTIVE) is expected


def test_a_name_that_is_another_advertisers_token_was_not_logged() -> None:
    other = advertiser(aliases={"order": "security_token"}, advertiser_id=2)
    both = snapshot(campaign(of=OWNER), campaign(campaign_id=200, of=other))
    _, decision = rejected(Arrival(receipt(), [("click_id", "c"), ("security_token", "right")]), both, click())
    assert not is_whole(replace(logged(decision), advertiser_id=None), decision, both)
    assert is_whole(logged(decision), decision, both)
