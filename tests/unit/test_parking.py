"""What is parked: sealed so that it comes out as it came in, and only where the key is."""

from __future__ import annotations

import os
from base64 import b64decode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.port import Verdict
from ingest.arrival import Arrival
from ingest.bodies import Nested
from ingest.decide import Decision, Rules, decide
from ingest.outcome import PARKED
from ingest.parking import MAX_ARRIVAL_BYTES, Parking
from ingest.reasons import Reason
from ingest.recorder import outcome_of
from ingest.signatures import Signed
from ingest.vault import KEY_BYTES, Vault, VaultError
from ingest.wire import Fault, Pairs, interpret, pairs_of, plain
from storage.parked import ParkedPostback
from storage.records import Kind, encode
from tests.catalogs import CLICKED_MS, DAY_MS, campaign, receipt, snapshot

KEY, OTHER_KEY = os.urandom(KEY_BYTES), os.urandom(KEY_BYTES)
HOUR_MS = 3_600_000
RULES = Rules(90 * DAY_MS, park_unknown_ms=HOUR_MS)
PAIRS: Pairs = [("click_id", "late"), ("security_token", "very-secret"), ("sub1", "x")]


def decided(arrival: Arrival, rules: Rules = RULES) -> Decision:
    return decide(arrival.receipt, interpret(arrival.sent), None, snapshot(campaign()), rules)


def row_of(decision: Decision) -> ParkedPostback:
    """What becomes of a parked decision in the table."""
    envelope: dict[str, Any] = decision.record.params
    return ParkedPostback(
        decision.receipt.postback_id, envelope["key_id"], b64decode(envelope["sealed"]), tuple(envelope["click_ids"])
    )


TEXTS = st.text(st.characters(), max_size=20)  # lone surrogates too
VALID = st.text(st.characters(codec="utf-8"), max_size=20)  # keys and what is said of faults are checked before
ARRIVALS = st.builds(
    Arrival,
    st.builds(receipt, st.integers(1, 1 << 40), remote_ip=st.sampled_from([None, "192.0.2.1", "2001:db8::1"])),
    st.lists(st.tuples(TEXTS, TEXTS | TEXTS.map(Nested)), max_size=5).map(plain),
    st.none() | VALID,
    st.none() | st.builds(Fault, st.sampled_from(Reason), VALID),
    st.none() | st.builds(Signed, st.binary(), st.lists(st.binary()).map(tuple), st.integers(0, 1 << 40)),
)


@given(ARRIVALS)
def test_what_is_opened_is_what_came(arrival: Arrival) -> None:
    parking = Parking(Vault([KEY]), HOUR_MS)
    parked = parking.park(arrival, decided(arrival), ["late"])
    opened = parking.open(row_of(parked))
    assert opened == arrival
    assert [type(value) for _, value in pairs_of(opened.sent)] == [type(value) for _, value in pairs_of(arrival.sent)]


def test_a_postback_of_an_unknown_click_is_parked_with_its_secrets_sealed() -> None:
    arrival = Arrival(receipt(), plain([*PAIRS]))
    decision = decided(arrival)
    assert (decision.kind, decision.claim) == (Kind.PARKED, None)
    parked = Parking(Vault([KEY, OTHER_KEY]), HOUR_MS).park(arrival, decision, ["own", "late", "own"])
    envelope = parked.record.params
    assert envelope["until_us"] == (CLICKED_MS + 60_000 + HOUR_MS) * 1000
    assert envelope["click_ids"] == ["own", "late"]
    assert envelope["sent"] == {"sub1": "x", "_detail": "click_id: no such click"}
    assert b"very-secret" not in encode(parked.record)
    assert outcome_of(parked, Verdict.ACCEPTED) == PARKED
    assert decided(arrival, Rules(90 * DAY_MS)).kind is Kind.REJECTION, "unless it is configured"


def test_what_is_wrong_with_itself_is_not_parked() -> None:
    for pairs in ([("goal", "install")], [("click_id", "a"), ("cid", "b")]):
        assert decided(Arrival(receipt(), list(pairs))).kind is Kind.REJECTION


def test_a_key_that_was_replaced_still_opens_and_another_does_not() -> None:
    arrival = Arrival(receipt(), plain([*PAIRS]))
    row = row_of(Parking(Vault([KEY]), HOUR_MS).park(arrival, decided(arrival), ["late"]))
    replaced = Parking(Vault([OTHER_KEY, KEY]), HOUR_MS)
    assert row.key_id in replaced.key_ids
    assert replaced.open(row) == arrival
    stranger = Parking(Vault([OTHER_KEY]), HOUR_MS)
    assert row.key_id not in stranger.key_ids
    with pytest.raises(VaultError, match="another key"):
        stranger.open(row)


def test_what_was_sealed_is_bound_to_its_postback() -> None:
    arrival = Arrival(receipt(), plain([*PAIRS]))
    parking = Parking(Vault([KEY]), HOUR_MS)
    row = row_of(parking.park(arrival, decided(arrival), ["late"]))
    swapped = ParkedPostback(receipt(2).postback_id, row.key_id, row.sealed, row.click_ids)
    with pytest.raises(VaultError, match="damaged"):
        parking.open(swapped)
    with pytest.raises(VaultError, match="damaged"):
        parking.open(ParkedPostback(row.postback_id, row.key_id, row.sealed[:-1], row.click_ids))


def test_without_room_it_is_rejected_as_ever() -> None:
    parking = Parking(Vault([KEY]), HOUR_MS)
    large = Arrival(receipt(), [*PAIRS, ("sub2", "x" * MAX_ARRIVAL_BYTES)])
    assert parking.park(large, decided(large), ["late"]).kind is Kind.REJECTION
    small = Arrival(receipt(), plain([*PAIRS]))
    parking.is_full = True
    rejected = parking.park(small, decided(small), ["late"])
    assert (rejected.kind, rejected.record) == (Kind.REJECTION, decided(small, Rules(90 * DAY_MS)).record)
