"""The benchmark of scale, as far as nothing is started."""

from __future__ import annotations

from random import Random

import msgspec
import pytest

from benchmarks.report import Round
from benchmarks.rows import Sample
from benchmarks.scale import rotated
from benchmarks.scale_backlog import Drained, renewals
from benchmarks.scale_report import EMPTY, FULL, Measured, as_data, drawings_of, markdown
from benchmarks.scale_stored import MOST, SPAN_MS, Loaded, Times, click_id_of
from benchmarks.workload import DAY_MS, YOUNGEST_MS
from storage.records import COLUMNS, Record, encode

NOW_MS = 1_790_000_000_000
RECORD = Record(
    log_id="01890000-0000-7000-8000-000000000001",
    received_us=NOW_MS * 1000,
    campaign_id=100,
    click_id="0" * 32,
    clicked_ms=NOW_MS,
    txn_id="GPA.1",
    conversion_id="01a0f632-24c7-8b2d-ab7c-9e8d08b43969",
    status="approved",
    params={"city": "München\tSüd"},
)


def sample(per_s: float, *problems: str) -> Sample:
    return Sample(int(per_s), 1.0, 1e6 / per_s, parts={"writer": 10.0, "redis": 0.0}, problems=problems)


def test_each_number_has_a_click_of_its_own() -> None:
    numbers = [*range(1, 5_000), *range(MOST - 5_000, MOST + 1)]
    ids = {click_id_of(number) for number in numbers}
    assert len(ids) == len(numbers)
    assert {len(click_id) for click_id in ids} == {32}


@pytest.mark.parametrize(("first", "last"), [(1, 1), (1, 1_000), (3_000_001, 10_000_000)])
def test_clicks_are_spread_over_the_span(first: int, last: int) -> None:
    times = Times.spread(first, last, NOW_MS)
    oldest, youngest = (times.zero_ms + number * times.step_ms for number in (first, last))
    assert youngest == NOW_MS - YOUNGEST_MS
    assert youngest - SPAN_MS <= oldest <= youngest
    assert first == last or oldest < youngest - SPAN_MS * 0.99


def test_renewed_entries_differ_by_click_and_ids_and_in_nothing_else() -> None:
    lines = [
        encode(RECORD),
        encode(msgspec.structs.replace(RECORD, conversion_id="01a0f632-24c8-8b2d-ab7c-9e8d08b43969")),
    ]
    rows = [dict(zip(COLUMNS, line.decode().split("\t"), strict=True)) for line in renewals(lines, 1_000, Random(1))]
    before = dict(zip(COLUMNS, lines[0].decode().split("\t"), strict=True))
    own = {"log_id", "click_id", "clicked_ms", "conversion_id"}
    for name in own - {"clicked_ms"}:
        assert len({row[name] for row in rows}) == 1_000
    for row in rows:
        assert {name for name in COLUMNS if row[name] != before[name]} <= own
        assert NOW_MS - DAY_MS < int(row["clicked_ms"]) <= NOW_MS
        assert row["conversion_id"].replace("-", "").startswith(f"{int(row['clicked_ms']):012x}8b2d")
        assert [len(part) for part in row["conversion_id"].split("-")] == [8, 4, 4, 4, 12]


def test_every_order_comes_in_turn() -> None:
    assert [rotated("abc", number) for number in (1, 2, 3, 4)] == [
        list(order) for order in ("abc", "bca", "cab", "abc")
    ]


def test_the_report_takes_ratios_within_rounds() -> None:
    rounds: list[Round] = [{EMPTY: sample(1000), FULL: sample(900)}, {EMPTY: sample(500), FULL: sample(400)}]
    measured = Measured(
        steps={0: rounds, 10_000_000: rounds},
        loaded=Loaded(10, 1.0, 2_000, 5_000),
        partitions=[{"1": sample(1000), "2": sample(800), "4": sample(500)}],
        drained=Drained(1_000, 400.0, 2.0, 50.0, 100, [(0.0, 1_000), (2.0, 40)], [(1_000, 5_000), (1_000, 7_000)]),
    )
    drawings = drawings_of(measured)
    text = markdown({"run": {"seed": "1"}}, measured, tuple(drawings))
    assert "| everything, full / empty, committed rows per second, 10,000,000 stored | >= 0.85 | **0.85** |" in text
    assert "| 10,000,000 | 750 | 650 | 0.85 | 0.80 to 0.90 | 1.18 |  |" in text
    assert "| 2 | 800 | 0.80 | 0.80 to 0.80 | 1.25 |  |" in text
    assert "| shrank by, postbacks a second | 500 |" in text
    assert "| Redis: a click with its record and first claim | 200 |" in text
    assert "Invalid" not in text
    assert measured.peak() == 1000
    assert sorted(drawings) == ["scale-backlog.svg", "scale-partitions.svg", "scale-stored.svg"]
    assert not as_data({}, measured)["problems"]


def test_what_is_missing_or_wrong_is_said() -> None:
    measured = Measured(
        partitions=[{"1": sample(1000), "2": sample(800, "lost 3")}], failed=["backlog ended early: no"]
    )
    text = markdown({}, measured, ())
    assert text.count("Not measured, see below.") == 2
    assert "- backlog ended early: no" in text
    assert "- partitions, round 1, 2: lost 3" in text
    assert "| 2 | 800 |  |  |  | INVALID |" in text
    with pytest.raises(AssertionError, match="peak"):
        Measured().peak()
