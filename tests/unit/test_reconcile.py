"""How one transaction of an advertiser's list is read, and compared with what is stored."""

from __future__ import annotations

from uuid import UUID

import pytest

from ingest.reconciling import Columns, LineError, Listed, Stored, Verdict, judge, read_listed

COLUMNS = Columns("click", "order", "event", "total", "cur", "state", "at")


def stored(
    amount: int = 10_000_000, currency: str = "USD", status: str = "approved", *, expected: bool = True
) -> Stored:
    return Stored(UUID(int=1), "c1", "t1", "purchase", amount, currency, status, expected)


@pytest.mark.parametrize(
    ("listed", "here", "verdict"),
    [
        (Listed("c1", amount_micros=10_000_000, currency="USD", status="approved"), stored(), Verdict.MATCHED),
        (Listed("c1"), stored(status="pending"), Verdict.MATCHED),
        (Listed("c1", amount_micros=9_990_000), stored(), Verdict.AMOUNT_DIFFERS),
        (Listed("c1", amount_micros=0), stored(amount=0), Verdict.MATCHED),
        (Listed("c1", amount_micros=9_000_000, currency="EUR"), stored(), Verdict.CURRENCY_DIFFERS),
        (Listed("c1", amount_micros=9_000_000, status="rejected"), stored(), Verdict.STATUS_DIFFERS),
        (Listed("c1", status="approved"), stored(status="pending"), Verdict.STATUS_DIFFERS),
        (Listed("c1"), stored(status="cancelled"), Verdict.STATUS_DIFFERS),
        (Listed("c1", status="cancelled"), stored(status="cancelled"), Verdict.MATCHED),
        (Listed("c1"), None, Verdict.MISSING_HERE),
        (Listed("c1", status="pending"), None, Verdict.MISSING_HERE),
        (Listed("c1", status="rejected"), None, Verdict.NOT_OWED),
        (None, stored(), Verdict.MISSING_THERE),
        (None, stored(status="cancelled"), Verdict.NOT_OWED),
        (None, stored(expected=False), Verdict.NOT_OWED),
    ],
)
def test_verdicts(listed: Listed | None, here: Stored | None, verdict: Verdict) -> None:
    assert judge(listed, here) is verdict


def test_a_small_difference_is_none() -> None:
    listed = Listed("c1", amount_micros=9_995_000)
    assert judge(listed, stored(), 5_000) is Verdict.MATCHED
    assert judge(listed, stored(), 4_999) is Verdict.AMOUNT_DIFFERS


def test_a_pair_of_nothing_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="nothing"):
        judge(None, None)


def test_a_line_is_read_by_the_list_s_own_names() -> None:
    line = {"click": " c1 ", "order": "A-1", "event": "Purchase", "total": "12.50", "cur": "usd", "state": "Confirmed",
            "at": "2026-11-03T00:00:00Z", "more": "x"}  # fmt: skip
    assert read_listed(line, COLUMNS) == Listed(
        "c1", "A-1", "purchase", 12_500_000, "USD", "approved", 1_793_664_000_000
    )
    assert read_listed({"order": 17, "total": 5}, COLUMNS) == Listed(txn_id="17", amount_micros=5_000_000)
    assert read_listed({"id": "x", "total": "1"}, Columns(txn_id="id")) == Listed(txn_id="x"), "what is not named"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ({"click": "", "order": None}, "names nothing to find it by: click is empty"),
        ({"click": "c", "total": "1,50"}, "total: '1,50': use a point"),
        ({"click": "c", "total": "-1"}, "total: '-1': negative"),
        ({"click": "c", "state": "maybe"}, "state: 'maybe' is no status that is known: approved, confirmed"),
        ({"click": "c", "at": "yesterday"}, "at: 'yesterday': expected RFC 3339"),
        ({"click": "c\0"}, "click: holds a control character"),
        ({"click": "c" * 256}, "click: longer than 255 bytes"),
        ({"click": "c\udcff"}, "click: not valid UTF-8"),
    ],
)
def test_what_cannot_be_read_is_told(line: dict[str, object], problem: str) -> None:
    with pytest.raises(LineError) as raised:
        read_listed(line, COLUMNS)
    assert str(raised.value).startswith(problem)
