"""Claim fields and conversion ids. The pinned ids are a promise: stored conversions carry them."""

from __future__ import annotations

from uuid import RFC_4122, UUID

import pytest

from dedup.policy import Claim, TrackMultiple, claim_for, conversion_id

NO, TXN, YES = TrackMultiple.NO, TrackMultiple.YES_WITH_TXN_ID, TrackMultiple.YES
CLICK_ID = "5f0c1a52-7d1c-4b62-9f5e-0d8a4c2b9e71"
CLICKED_MS = 1_790_000_000_123
NONCE = UUID("01900000-0000-7000-8000-000000000001").bytes


def claim(
    policy: TrackMultiple,
    *,
    click_id: str = CLICK_ID,
    clicked_ms: int = CLICKED_MS,
    goal_id: int = 1000,
    txn_id: str | None = None,
    event_id: str | None = None,
    nonce: bytes = NONCE,
) -> Claim:
    return claim_for(
        policy,
        click_id=click_id,
        clicked_ms=clicked_ms,
        goal_id=goal_id,
        txn_id=txn_id,
        event_id=event_id,
        nonce=nonce,
    )


PINNED = [
    (NO, None, None, "1000", "01a0c450-6c7b-8c20-bfcd-e6022a549a07"),
    (NO, "order-1", "event-1", "1000", "01a0c450-6c7b-8c20-bfcd-e6022a549a07"),
    (TXN, None, None, "1000:", "01a0c450-6c7b-8108-8893-4c773b70bd50"),
    (TXN, "", "event-1", "1000:", "01a0c450-6c7b-8108-8893-4c773b70bd50"),
    (TXN, "order-1", None, "1000:order-1", "01a0c450-6c7b-82e1-8aaa-4817685465ca"),
    (TXN, "Order-1", None, "1000:Order-1", "01a0c450-6c7b-8b87-b657-961c2921b8a1"),
    (TXN, "зака:з{1}", None, "1000:зака:з{1}", "01a0c450-6c7b-8750-8711-e4b76de376bd"),
    (YES, None, "event-1", "1000:event-1", "01a0c450-6c7b-87a9-b845-a8c40e667670"),
    (YES, "order-1", "event-1", "1000:event-1", "01a0c450-6c7b-87a9-b845-a8c40e667670"),
    (YES, None, None, None, "01a0c450-6c7b-8025-adf3-18846ec806c5"),
    (YES, "order-1", "", None, "01a0c450-6c7b-8025-adf3-18846ec806c5"),
]


@pytest.mark.parametrize(("policy", "txn_id", "event_id", "field", "expected"), PINNED)
def test_pinned_claims(
    policy: TrackMultiple, txn_id: str | None, event_id: str | None, field: str | None, expected: str
) -> None:
    assert claim(policy, txn_id=txn_id, event_id=event_id) == Claim(field, expected)


def test_pinned_id_of_other_click_and_goal() -> None:
    assert claim(NO, click_id="клик", clicked_ms=0, goal_id=2**63 - 1).conversion_id == (
        "00000000-0000-82d8-b9db-dd8014581edc"
    )


def test_different_events_have_different_ids() -> None:
    ids = [
        claim(NO),
        claim(TXN),
        claim(TXN, txn_id="a"),
        claim(TXN, txn_id="n"),
        claim(YES, event_id="a"),
        claim(YES),
        claim(YES, nonce=UUID(int=2).bytes),
        claim(NO, goal_id=1001),
        claim(NO, goal_id=100),
        claim(TXN, goal_id=100, txn_id="0:a"),
        claim(NO, click_id="click"),
        claim(NO, clicked_ms=CLICKED_MS + 1),
        # The same characters, cut at other places.
        claim(TXN, click_id="c1", goal_id=2, txn_id="x"),
        claim(TXN, click_id="c", goal_id=12, txn_id="x"),
        claim(TXN, click_id="c", goal_id=1, txn_id="2:x"),
        claim(TXN, click_id="c12:tx", goal_id=1, txn_id=""),
    ]
    assert len({one.conversion_id for one in ids}) == len(ids)


@pytest.mark.parametrize("clicked_ms", [0, 1, CLICKED_MS, 2**48 - 1])
def test_ids_are_uuid_version_8_in_order_of_click_time(clicked_ms: int) -> None:
    made = UUID(conversion_id("click", clicked_ms, 1, b"n"))
    assert str(made) == conversion_id("click", clicked_ms, 1, b"n")
    assert made.version == 8
    assert made.variant == RFC_4122
    assert made.int >> 80 == clicked_ms
    if clicked_ms:
        assert made > UUID(conversion_id("other", clicked_ms - 1, 1, b"n"))


def test_ids_use_all_their_bits() -> None:
    """74 bits of hash: each is set in some ids and clear in others."""
    made = [UUID(conversion_id(f"click-{number}", 0, 1, b"n")).int for number in range(200)]
    all_set, all_clear = 0, 0
    for one in made:
        all_set |= one
        all_clear |= ~one
    fixed = (0xFFFF_FFFF_FFFF << 80) | (0xF << 76) | (0x3 << 62)
    assert all_set & ~fixed == ~fixed & (2**128 - 1)
    assert all_clear & ~fixed & (2**128 - 1) == ~fixed & (2**128 - 1)
