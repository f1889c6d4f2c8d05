"""What a goal's approval says of a postback that gives no status, and of one that does."""

from __future__ import annotations

import pytest

from ingest.catalog_rows import build_goal
from ingest.decide import Rules, decide
from ingest.wire import interpret
from storage.rows import GoalRow, RateRow
from tests.catalogs import DAY_MS, campaign, click, receipt, snapshot


@pytest.mark.parametrize(
    ("approval", "hold_ms", "given", "expected"),
    [
        ("auto", None, None, "approved"),
        ("manual", None, None, "pending"),
        ("manual", 0, None, "pending"),
        ("manual", 7 * DAY_MS, None, "held=604800000"),
        ("auto", None, "pending", "=pending"),
        ("manual", 7 * DAY_MS, "Approved", "=approved"),
    ],
)
def test_the_status_of_a_line(approval: str, hold_ms: int | None, given: str | None, expected: str) -> None:
    row = GoalRow(1000, 100, "Install", "install", approval=approval, hold_ms=hold_ms, rates=(RateRow(),))
    catalog = snapshot(campaign(build_goal(row)))
    pairs = [("click_id", "click-1"), ("goal", "install"), *([("status", given)] if given else [])]
    decision = decide(receipt(), interpret(pairs), click(), catalog, Rules(window_ms=90 * DAY_MS))
    assert decision.refusal is None
    assert decision.record.status == expected
