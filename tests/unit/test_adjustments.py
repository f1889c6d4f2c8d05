"""What an adjustment comes to: shares of the price, exact; what is refused; requests as they are written."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import money
from ingest.adjustment_file import read_request
from ingest.adjustments import Adjust, AdjustmentError, AdjustmentKind, Delta, SetStatus, Target, delta_of, is_same
from ingest.catalog import PayoutOf, Rate, Terms
from storage.adjustments import Balance

MIXED = Rate(Terms(2_000_000, 10_000_000), Terms(1_000_000, 50_000_000), PayoutOf.REVENUE)
"""Revenue 2 + 10 % of the sale, payout 1 + 50 % of the revenue."""
PERCENT = Rate(Terms(0, 20_000_000), Terms(0, 14_000_000))
ID = UUID("019b7c01-047b-8643-aff3-84900bbae545")
FIELDS = {"conversion_id": str(ID), "kind": "refund", "reference": "R-1"}


def counted(rate: Rate, sale_micros: int | None) -> Balance:
    """A conversion at the rate, with nothing taken back yet."""
    revenue_micros, payout_micros = money.amounts(rate, sale_micros or 0)
    amounts = (sale_micros, revenue_micros, payout_micros)
    return Balance(ID, ID.int >> 80, 1000, 3, 10, "US", "USD", "approved", False, *amounts, *amounts)


def after(balance: Balance, delta: Delta) -> Balance:
    return replace(
        balance,
        net_sale_micros=None if balance.net_sale_micros is None else balance.net_sale_micros + delta.sale_micros,
        net_revenue_micros=balance.net_revenue_micros + delta.revenue_micros,
        net_payout_micros=balance.net_payout_micros + delta.payout_micros,
    )


def asked(**fields: str) -> Adjust:
    request = read_request(FIELDS | fields)
    assert isinstance(request, Adjust)
    return request


def test_a_part_takes_its_share_of_what_is_percent_and_leaves_what_is_fixed() -> None:
    balance = counted(MIXED, 100_000_000)
    assert (balance.revenue_micros, balance.payout_micros) == (12_000_000, 7_000_000)
    assert delta_of(asked(percent="30"), balance, MIXED) == (-30_000_000, -3_000_000, -1_500_000)
    assert delta_of(asked(sale_amount="30"), balance, MIXED) == (-30_000_000, -3_000_000, -1_500_000)


@pytest.mark.parametrize("fields", [{}, {"sale_amount": "100"}, {"percent": "100%"}])
def test_the_whole_takes_everything(fields: dict[str, str]) -> None:
    assert delta_of(asked(**fields), counted(MIXED, 100_000_000), None) == (-100_000_000, -12_000_000, -7_000_000)


def test_a_price_without_a_sale_is_taken_back_whole() -> None:
    fixed = Rate(Terms(2_000_000), Terms(1_400_000))
    assert delta_of(asked(), counted(fixed, None), fixed) == (0, -2_000_000, -1_400_000)
    with pytest.raises(AdjustmentError, match="sale_amount: the conversion has none; leave it out"):
        delta_of(asked(percent="30"), counted(fixed, None), fixed)


def test_what_is_named_is_taken_back() -> None:
    balance = counted(MIXED, 100_000_000)
    assert delta_of(asked(payout="0", sale_amount="30"), balance, MIXED) == (-30_000_000, -3_000_000, 0)
    assert delta_of(asked(revenue="1.5"), balance, None) == (0, -1_500_000, 0)
    given = asked(sale_amount="30", revenue="3", payout="2")
    assert delta_of(given, balance, None) == (-30_000_000, -3_000_000, -2_000_000)
    correction = asked(kind="correction", revenue="-1", payout="0.5")
    assert delta_of(correction, balance, None) == (0, -1_000_000, 500_000)


def test_who_was_paid_nothing_pays_nothing_back() -> None:
    balance = replace(counted(PERCENT, 100_000_000), payout_micros=0, net_payout_micros=0)
    assert delta_of(asked(percent="30"), balance, PERCENT) == (-30_000_000, -6_000_000, 0)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"sale_amount": "100.000001"}, "sale_amount: 100.000001 is more than what is left of the sale, 100"),
        ({"revenue": "12.000001"}, "revenue: 12.000001 is more than what is left, 12"),
        ({"sale_amount": "100", "payout": "8"}, "payout: 8 is more than what is left, 7"),
        ({"kind": "correction", "payout": "-8"}, "payout: 8 is more than what is left, 7"),
        ({"kind": "correction", "revenue": "999999999999"}, r"revenue: 10\^12 or more"),
        ({"kind": "correction"}, "revenue: a correction gives"),
        ({"kind": "correction", "percent": "30", "revenue": "1"}, "percent: a correction gives amounts"),
        ({"sale_amount": "0"}, "sale_amount: nothing would be taken back"),
        ({"percent": "30", "currency": "eur"}, "currency: the conversion's amounts are in USD"),
    ],
)
def test_what_cannot_be_is_refused(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(AdjustmentError, match=problem):
        delta_of(asked(**fields), counted(MIXED, 100_000_000), MIXED)


@pytest.mark.parametrize("rate", [None, PERCENT])
def test_a_part_is_not_guessed_where_the_price_is_not_known(rate: Rate | None) -> None:
    with pytest.raises(AdjustmentError, match="version 3 of goal 1000 cost is not known any more; give revenue and"):
        delta_of(asked(percent="30"), counted(MIXED, 100_000_000), rate)


def test_nothing_is_left_after_the_whole() -> None:
    balance = counted(MIXED, 100_000_000)
    gone = after(balance, delta_of(asked(), balance, MIXED))
    with pytest.raises(AdjustmentError, match="kind: nothing is left to be taken back"):
        delta_of(asked(), gone, MIXED)


TERMS = st.builds(Terms, st.integers(0, 10**9), st.integers(0, 200 * 10**6))
RATES = st.builds(Rate, TERMS, TERMS, st.sampled_from(PayoutOf))


@given(rate=RATES, sale=st.integers(1, 10**12), cuts=st.lists(st.integers(1, 10**12), max_size=5))
def test_parts_add_up(rate: Rate, sale: int, cuts: list[int]) -> None:
    """Whatever the parts: what is left is the price of what is left of the sale, and at its end nothing is."""
    balance = counted(rate, sale)
    for cut in cuts:
        left = balance.net_sale_micros or 0
        request = Adjust(Target(ID), AdjustmentKind.REFUND, "R", sale_micros=cut)
        if cut > left or not left:
            with pytest.raises(AdjustmentError):
                delta_of(request, balance, rate)
            continue
        balance = after(balance, delta_of(request, balance, rate))
        expected = (0, 0) if cut == left else money.amounts(rate, left - cut)
        paid = expected[1] if balance.payout_micros else 0
        assert (balance.net_revenue_micros, balance.net_payout_micros) == (expected[0], paid)
    if (balance.net_sale_micros or 0) + balance.net_revenue_micros + balance.net_payout_micros > 0:
        balance = after(balance, delta_of(Adjust(Target(ID), AdjustmentKind.CHARGEBACK, "C"), balance, rate))
    assert (balance.net_sale_micros, balance.net_revenue_micros, balance.net_payout_micros) == (0, 0, 0)


def test_the_same_request_is_known_again() -> None:
    balance = counted(MIXED, 100_000_000)
    delta = delta_of(asked(percent="30"), balance, MIXED)
    now = after(balance, delta)
    for fields in ({"percent": "30"}, {"sale_amount": "30"}, {"revenue": "3"}, {}):
        assert is_same(asked(**fields), "refund", delta, now)
    for fields in ({"percent": "31"}, {"sale_amount": "29"}, {"payout": "3"}, {"kind": "chargeback"}):
        assert not is_same(asked(**fields), "refund", delta, now)
    assert is_same(asked(kind="correction", payout="-2"), "correction", Delta(0, 0, -2_000_000), now)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"conversion_id": "7"}, "conversion_id: expected a UUID"),
        ({"conversion_id": ""}, "conversion_id: missing; give it, or click_id"),
        ({"click_id": "c"}, "click_id: give either conversion_id or"),
        ({"kind": "gift"}, "kind: expected refund, chargeback or correction"),
        ({"kind": ""}, "kind: expected either kind .* or status"),
        ({"status": "approved"}, "kind: expected either kind .* or status"),
        ({"kind": "", "status": "paid"}, "status: expected approved, pending, rejected or cancelled"),
        ({"kind": "", "status": "approved", "revenue": "1"}, "revenue: a status moves no money"),
        ({"reference": " "}, "reference: missing"),
        ({"reference": "x" * 256}, "reference: longer than 255 bytes"),
        ({"reason": "a\x07b"}, "reason: holds a control character"),
        ({"sale_amount": "-3"}, "sale_amount: negative; what is taken back has no sign"),
        ({"kind": "correction", "payout": "--3"}, "payout: negative"),
        ({"sale_amount": "3", "percent": "3"}, "percent: give either"),
        ({"percent": "0"}, "percent: expected more than 0 and at most 100"),
        ({"percent": "100.1"}, "percent: expected more than 0 and at most 100"),
        ({"percent": "1e1"}, "percent: expected a plain decimal"),
        ({"amount": "3"}, "amount: is not known; known are: conversion_id,"),
    ],
)
def test_a_request_that_cannot_be_read_is_told(fields: dict[str, str], problem: str) -> None:
    with pytest.raises(AdjustmentError, match=f"^{problem}"):
        read_request(FIELDS | fields)


def test_requests_are_read() -> None:
    by_click = {"click_id": " c ", "goal": "Purchase", "txn_id": "", "status": "Approved", "reason": "list of May"}
    assert read_request(by_click) == SetStatus(Target(None, "c", "Purchase", None), "approved", None, "list of May")
    assert asked(percent="12.5 %".replace(" ", ""), currency="usd") == Adjust(
        Target(ID), AdjustmentKind.REFUND, "R-1", micro_percent=12_500_000, currency="USD"
    )
