"""Bounds on what is under way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.batching import OverloadedError
from ingest.limits import ByteBudget, RateLimiter


def test_the_budget_refuses_before_it_is_overdrawn_and_gives_back() -> None:
    budget = ByteBudget(100)
    with budget.hold(60):
        with pytest.raises(OverloadedError), budget.hold(41):
            pass
        with budget.hold(40), pytest.raises(OverloadedError), budget.hold(1):
            pass
    with budget.hold(100):
        pass


def test_one_body_alone_always_fits() -> None:
    budget = ByteBudget(100)
    with budget.hold(1000), pytest.raises(OverloadedError), budget.hold(1):
        pass


def test_a_failure_gives_back_too() -> None:
    budget = ByteBudget(10)
    with pytest.raises(ValueError, match="boom"), budget.hold(10):
        raise ValueError("boom")
    with budget.hold(10):
        pass


def test_one_advertiser_does_not_starve_another() -> None:
    limiter = RateLimiter()
    assert sum(limiter.admit(1, 5, 0) for _ in range(100)) == 5
    assert limiter.admit(2, 5, 0)
    assert not limiter.admit(1, 5, 199_999)
    assert limiter.admit(1, 5, 200_000)


@given(
    rate=st.integers(1, 1000),
    gaps_us=st.lists(st.integers(0, 3_000_000), min_size=1, max_size=200),
)
def test_never_more_than_the_rate_and_one_burst(rate: int, gaps_us: list[int]) -> None:
    limiter, now_us, admitted = RateLimiter(), 0, 0
    for gap_us in gaps_us:
        now_us += gap_us
        admitted += limiter.admit(1, rate, now_us)
    assert admitted <= rate + now_us * rate / 1_000_000 + 1e-6
    assert admitted >= 1


def test_a_clock_that_goes_back_gives_nothing() -> None:
    limiter = RateLimiter()
    assert limiter.admit(1, 1, 10_000_000)
    assert not limiter.admit(1, 1, 0)
    assert not limiter.admit(1, 1, 10_500_000)
    assert limiter.admit(1, 1, 11_000_000)
