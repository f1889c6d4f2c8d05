"""The model of a day."""

from __future__ import annotations

import pytest

from benchmarks.scaling import DAY_S, Costs, arrivals_per_s, report, simulate


def test_a_days_curve_sums_up_to_its_postbacks() -> None:
    total = sum(arrivals_per_s(1e6, 2.0, second) for second in range(DAY_S))
    assert total == pytest.approx(1e6)
    assert max(arrivals_per_s(1e6, 1.5, second) for second in range(DAY_S)) == pytest.approx(1.5e6 / DAY_S)


def test_an_outage_at_the_peak_is_written_off_by_what_is_spare() -> None:
    """Flat arrivals of 10 a second, 20 written: what 100 s brought takes 100 s more."""
    day = simulate(10 * DAY_S, 1.0, 20.0, 100)
    assert day.longest_backlog == pytest.approx(1000)
    assert day.catch_up_s == pytest.approx(100, abs=2)


def test_the_table_has_what_was_asked_for() -> None:
    lines = report(86_400.0, 1.0, 60, 1, 0.0, Costs(receiver_us=1e6, redis_us=1.0, writer_us=1.0, postgres_us=1.0))
    assert "| cores of receivers | 2 |" in lines
