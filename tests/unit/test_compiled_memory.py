"""What compiled code holds on to, and what it does when it is called wrongly: it must not reach beyond its memory."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from dedup.port import Verdict
from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting
from ingest.catalog import Profile
from ingest.outcome import AWAY, Outcome, Result
from ingest.plain import NothingPlain, plain_maker
from tests.catalogs import CLICKED_MS, receipt
from tests.plain_cases import check
from tests.plain_one import CATALOG, PACKED, RULES, SENT, case_of
from tests.plain_postbacks import nearly_plain_case, plain_case

make_plain = plain_maker()
pytestmark = pytest.mark.skipif(make_plain is NothingPlain, reason="the compiled code is not built")
ROOT = Path(__file__).parents[2]
# What it holds on to --------------------------------------------------------------------------------------------------


def work(rounds: int) -> Callable[[], None]:
    """Batches of all kinds, in a few catalogs, so many times each."""
    cases = [make(seed) for seed in range(4) for make in (plain_case, nearly_plain_case)]
    plains = [make_plain(case.catalog, case.rules) for case in cases]

    def run() -> None:
        for _ in range(rounds):
            for plain, case in zip(plains, cases, strict=True):
                sheet = plain.read(case.arrivals)
                sheet.decide(case.packed)
                sheet.outcomes([Verdict.ACCEPTED] * len(case.arrivals))

    return run


def test_nothing_is_kept_of_a_batch() -> None:
    run = work(10)
    run()
    held = [case_of(SENT).arrivals[0], Profile.JSON, PACKED["c1"], SENT["txn_id"], b"", None, Verdict.ACCEPTED]
    tracemalloc.start()
    try:
        run()
        gc.collect()
        counts, (before, _) = [sys.getrefcount(one) for one in held], tracemalloc.get_traced_memory()
        run()
        run()
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        assert after - before < 4096, "of 1,920 postbacks"
        grown = [sys.getrefcount(one) - count for one, count in zip(held, counts, strict=True)]
        assert max(map(abs, grown)) < 50, grown
    finally:
        tracemalloc.stop()


GROWTH = """
from resource import RUSAGE_SELF, getrusage
from tests.unit.test_compiled_memory import work
run = work(20)
for _ in range(3):
    run()
before = getrusage(RUSAGE_SELF).ru_maxrss
for _ in range(12):
    run()
print(before, getrusage(RUSAGE_SELF).ru_maxrss)
"""


def test_the_process_does_not_grow_with_batches() -> None:
    """Buffers of C, which Python does not count: a process of its own, since the peak of this one says nothing."""
    done = subprocess.run([sys.executable, "-c", GROWTH], cwd=ROOT, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after < before * 1.005, "23,040 postbacks, 2,880 batches of about 3 KB"


def test_a_snapshot_that_is_left_goes() -> None:
    def make() -> None:
        case = plain_case(3)
        plain = make_plain(case.catalog, case.rules)
        check(plain, case)
        check(plain, case)

    make()
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(3):
        make()
    gc.collect()
    assert len(gc.get_objects()) - before < 50


# Called wrongly -------------------------------------------------------------------------------------------------------


def test_what_it_points_into_stays_whatever_becomes_of_it() -> None:
    plain = make_plain(CATALOG, RULES)

    def fresh() -> tuple[list[Waiting], dict[str, str]]:
        """Texts that nobody else holds."""
        sent = SENT | {"txn_id": "t" * 100 + str(len(SENT)), "sub1": "s" * 100 + str(len(SENT))}
        query = "&".join(
            [f"{name}=%78{value}" if name == "txn_id" else f"{name}={value}" for name, value in sent.items()]
        )
        line = b'{"click_id":"c1","goal":"install","txn_id":"%b"}' % (b"l" * 100)
        return [Arrival(receipt(1), sent), Unread(receipt(2), query), UnreadLine(receipt(3), line)], sent

    plain.read(fresh()[0])
    expected = plain.read(fresh()[0]).decide(PACKED)
    assert None not in expected
    arrivals, sent = fresh()
    sheet = plain.read(arrivals)
    sent.clear()
    arrivals.clear()
    gc.collect()
    others = [letter * 100 + str(len(SENT)) for letter in "abcdefgh" * 100]
    assert sheet.decide(PACKED) == expected
    assert len(others) == 800


@pytest.mark.parametrize("query", ["click_id=ü", "click_id=c1&a=日本語", "ключ=c1", "click_id=\udcff"])
def test_a_query_that_is_not_ascii_is_not_plain(query: str) -> None:
    plain = make_plain(CATALOG, RULES)
    for _ in range(3):
        assert plain.read([Unread(receipt(), query)] * 3).click_ids == (None,) * 3


@pytest.mark.parametrize(
    "odd", [Receipt(b"short", CLICKED_MS * 1000), Receipt(b"x" * 17, CLICKED_MS * 1000), Receipt(b"x" * 16, -5)]
)
def test_an_odd_receipt_is_left_to_the_rules(odd: Receipt) -> None:
    plain = make_plain(CATALOG, RULES)
    for _ in range(2):
        sheet = plain.read([Arrival(odd, dict(SENT))])
        assert sheet.decide(PACKED) == [None]


def test_clicks_that_are_no_bytes_are_an_error() -> None:
    plain = make_plain(CATALOG, RULES)
    case = case_of(SENT)
    plain.read(case.arrivals)
    wrong: list[Any] = ["100,10,1790000000000,US", bytearray(PACKED["c1"]), memoryview(PACKED["c1"]), 100]
    for one in wrong:
        with pytest.raises(TypeError):
            plain.read(case.arrivals).decide({"c1": one})
    assert plain.read(case.arrivals).decide({"c1": None}) == plain.read(case.arrivals).decide({}) == [None]


def test_errors_of_what_it_asks_are_not_swallowed() -> None:
    from ingest.compiled.plain import Plain

    def fail(*_: object) -> None:
        raise LookupError

    case = case_of(SENT)
    plain = Plain(fail, fail, fail)  # type: ignore[arg-type]
    assert plain.read(case.arrivals).click_ids == (None,)
    with pytest.raises(LookupError):
        plain.read(case.arrivals)
    plain = Plain(lambda _: 0, fail, fail)
    plain.read(case.arrivals)
    with pytest.raises(LookupError):
        plain.read(case.arrivals).decide(PACKED)


@pytest.mark.parametrize("place", [-2, 3, 2**31, 2**62])
def test_no_place_is_beyond_the_names(place: int) -> None:
    from ingest.compiled.plain import AdvertiserPlan, CampaignPlan, Layout, Plain

    case = case_of(SENT)
    plain = Plain(lambda _: place, lambda _: None, lambda address: address)
    plain.read(case.arrivals)
    with pytest.raises((ValueError, OverflowError)):
        plain.read(case.arrivals)

    if place < 2**31:
        for layout in (Layout((0, place, *[-1] * 7), []), Layout((0, *[-1] * 8), [(b'"a":"', place)])):
            whose = AdvertiserPlan(MagicMock(return_value=layout), None, Profile.JSON)
            plan = CampaignPlan(whose, 1, 0, b"USD", {}, None, lambda *_: None)
            plain = Plain(lambda _: 0, MagicMock(return_value=plan), lambda address: address)
            plain.read(case.arrivals)
            with pytest.raises(ValueError, match="beyond"):
                plain.read(case.arrivals).decide(PACKED)


def test_an_outcome_is_of_what_was_decided() -> None:
    plain = make_plain(CATALOG, RULES)
    case = case_of(SENT, SENT | {"goal": "other"})
    plain.read(case.arrivals)
    sheet = plain.read(case.arrivals)
    taken, left = sheet.decide(PACKED)
    assert taken is not None
    assert left is None
    outcomes: list[Outcome] = sheet.outcomes([Verdict.ACCEPTED] * 2)
    assert outcomes[0].result is Result.ACCEPTED
    assert outcomes[1] is AWAY
    for count in (0, 1, 3):
        with pytest.raises(ValueError, match="for each"):
            sheet.outcomes([Verdict.ACCEPTED] * count)


def test_parts_that_are_missing_are_an_error() -> None:
    from ingest.compiled.plain import AdvertiserPlan, CampaignPlan, Layout, Priced, Sheet

    whose = AdvertiserPlan(lambda _: None, None, Profile.JSON)
    sheet: Callable[..., object] = Sheet
    wrong: list[Callable[[], object]] = [
        sheet,
        partial(sheet, None, []),
        lambda: Layout((), []),
        lambda: Layout((0,) * 9, [(None, 0)]),  # type: ignore[list-item]
        lambda: Layout((0,) * 9, [(b"", 0)] * 33),
        lambda: Priced(None, b"", b"", lambda _: b""),  # type: ignore[arg-type]
        lambda: CampaignPlan(None, 0, 0, b"USD", {}, None, lambda *_: None),  # type: ignore[arg-type]
        lambda: CampaignPlan(whose, 0, 0, b"US", {}, None, lambda *_: None),
        lambda: CampaignPlan(whose, 2**63, 0, b"USD", {}, None, lambda *_: None),
    ]
    for make in wrong:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            make()
