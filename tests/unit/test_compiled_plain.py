"""The compiled code by itself: what it remembers, what it holds on to, and what it does when it is called wrongly."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from dedup.policy import TrackMultiple
from dedup.port import Entry, Verdict
from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting
from ingest.catalog import Advertiser, Profile, Snapshot, Status
from ingest.decide import Rules
from ingest.macros import MACRO_WORDS
from ingest.outcome import AWAY, Outcome, Result
from ingest.plain import NothingPlain, plain_maker
from tests.catalogs import CLICKED_MS, DAY_MS, advertiser, campaign, goal, receipt, snapshot
from tests.plain_cases import Case, check
from tests.plain_postbacks import nearly_plain_case, plain_case

make_plain = plain_maker()
pytestmark = pytest.mark.skipif(make_plain is NothingPlain, reason="the compiled code is not built")
ROOT = Path(__file__).parents[2]
RULES = Rules(90 * DAY_MS)
CATALOG = snapshot(campaign())
PACKED = {"c1": b"100,10,1790000000000,US"}
SENT = {"click_id": "c1", "goal": "install", "txn_id": "t1"}


def case_of(*sent: dict[str, str] | str | bytes, catalog: Snapshot = CATALOG) -> Case:
    """Of mappings, of queries and of lines of JSON."""
    return Case(catalog, RULES, dict(PACKED), [waiting(receipt(number), one) for number, one in enumerate(sent)])


def waiting(at: Receipt, sent: dict[str, str] | str | bytes) -> Waiting:
    match sent:
        case str():
            return Unread(at, sent)
        case bytes():
            return UnreadLine(at, sent)
        case _:
            return Arrival(at, sent)


def decided(case: Case) -> list[bool]:
    """Which are decided here at the second sight of their names; all as the rules say."""
    plain = make_plain(case.catalog, case.rules)
    check(plain, case)
    return [entry is not None for entry in check(plain, case)]


def test_names_are_looked_at_when_they_come_again() -> None:
    plain = make_plain(CATALOG, RULES)
    case = case_of(SENT)
    assert plain.read(case.arrivals).click_ids == (None,)
    assert plain.read(case.arrivals).click_ids == ("c1",)


@pytest.mark.parametrize("word", sorted(MACRO_WORDS))
def test_no_word_that_stands_for_no_value_is_a_value(word: str) -> None:
    sent = [SENT | {"txn_id": word}, SENT | {"sub1": word}, SENT | {"txn_id": word + "x"}, SENT | {"txn_id": word[:-1]}]
    assert decided(case_of(*sent)) == [False, True, True, True]


@pytest.mark.parametrize("opener", '{[<$%("\\ \t\n\x00\x1f\x7f\x80é\u2028\ud800')
def test_a_character_that_needs_a_second_look_is_left_to_the_rules(opener: str) -> None:
    sent = [SENT | {"txn_id": text} for text in (opener + "x", "x" + opener + "x", "x" + opener)]
    assert decided(case_of(*sent)) == [False] * 3


@pytest.mark.parametrize(
    ("size", "expected"), [(1, True), (254, True), (255, True), (256, False), (1024, False), (100_000, False)]
)
def test_values_are_taken_up_to_255_bytes(size: int, expected: bool) -> None:
    sent: list[dict[str, str] | str | bytes] = [
        b'{"click_id":"c1","goal":"install","txn_id":"%b"}' % (b"x" * size),
        SENT | {"txn_id": "x" * size},
        SENT | {"sub1": "x" * size},
        f"click_id=c1&goal=install&txn_id={'%41' * size}",
    ]
    assert decided(case_of(*sent, *sent)) == [expected] * 8


def test_lists_of_names_are_taken_up_to_64_names_and_32_params() -> None:
    def with_params(count: int, size: int = 4) -> dict[str, str]:
        return SENT | {f"{number:0{size}}": "v" for number in range(count)}

    cases = [(31, True), (32, True), (33, False), (61, False), (62, False)]
    assert [decided(case_of(with_params(count)))[0] for count, _ in cases] == [taken for _, taken in cases]
    assert [decided(case_of(with_params(32, size)))[0] for size in (63, 64, 65)] == [True, True, False]
    # Names are written down in 4,096 bytes, each with one more: 9 + 62 * 65 + 57 fit.
    for last in (55, 56, 57, 64):
        names = [f"{number:064}" for number in range(62)] + ["n" * last]
        assert decided(
            case_of({"click_id": "c1"} | dict.fromkeys(names, "v"), "click_id=c1&" + "=&".join(names) + "=")
        ) == [
            False,
            False,
        ]


def test_nothing_is_nothing() -> None:
    sheet = make_plain(CATALOG, RULES).read([])
    assert (sheet.click_ids, sheet.decide(PACKED)) == ((), [])


# What it remembers ----------------------------------------------------------------------------------------------------


def test_lists_of_names_that_are_remembered_are_bounded() -> None:
    from ingest.compiled.plain import Plain

    asked: Counter[tuple[str, ...]] = Counter()

    def place(names: tuple[str, ...]) -> int:
        asked[names] += 1
        return -1

    plain = Plain(place, lambda _: None, lambda address: address)

    def see(name: str) -> None:
        plain.read([Unread(receipt(), f"{name}=1")])

    for _ in range(3):
        see("first")
    assert asked["first",] == 1
    for number in range(1024):
        see(f"n{number}")
    for _ in range(3):
        see("first")
    assert asked["first",] == 2, "a thousand others came meanwhile"


def test_layouts_rates_and_campaigns_that_are_remembered_are_bounded() -> None:
    from ingest.compiled.plain import AdvertiserPlan, CampaignPlan, GoalPlan, Layout, Plain, Priced

    asked: Counter[str] = Counter()

    def layout(names: tuple[str, ...]) -> Layout:
        asked[f"layout {names}"] += 1
        return Layout((0, 1, -1, -1, -1, -1, -1, -1, -1), [])

    def priced(publisher_id: int, country: str | None) -> Priced:
        asked[f"rate {publisher_id} {country}"] += 1
        return Priced(b"\t", b"\t", b"0\t0", lambda _: None)

    goals = GoalPlan(1, TrackMultiple.NO, b"approved", priced)
    whose = AdvertiserPlan(layout, None, Profile.JSON)
    plan = CampaignPlan(whose, 10**12, 0, b"USD", {b"install": goals}, None, lambda *_: None)

    def campaign_of(campaign_id: int) -> CampaignPlan:
        asked[f"campaign {campaign_id}"] += 1
        return plan

    plain = Plain(lambda _: 0, campaign_of, lambda address: address)

    def decide(publisher_id: int, campaign_id: int = 1, other: str = "sub1") -> Entry | None:
        entry = None
        for _ in range(2):
            sheet = plain.read([Unread(receipt(), f"click_id=c1&goal=install&{other}=1")])
            (entry,) = sheet.decide({"c1": b"%d,%d,1790000000000,US" % (campaign_id, publisher_id)})
        return entry

    assert decide(7) is not None
    for number in range(4096):
        decide(100 + number)
        decide(5, 100 + number)
    for number in range(1024):
        decide(5, other=f"n{number}")
    before = Counter(asked)
    assert decide(7) is not None
    again = {one for one, count in asked.items() if count > before[one]}
    assert again >= {"rate 7 US", "layout ('click_id', 'goal', 'sub1')"}
    assert max(asked.values()) <= 4, "what is remembered is not asked for again"


def test_no_cache_of_a_price_mixes_up_publishers_or_countries() -> None:
    rng = random.Random(1)
    catalog = plain_case(1).catalog
    for publisher_id in (10, 11, 10 << 16, (10 << 16) + 1, 2**46 - 1, 2**46, 2**62):
        for country in ("US", "CA", "SU", "AA", "ZZ", ""):
            case = case_of(SENT | {"sale_amount": f"{rng.randrange(1000)}"}, catalog=catalog)
            case.packed["c1"] = f"100,{publisher_id},{CLICKED_MS},{country}".encode()
            assert decided(case) == [publisher_id < 2**46]


def test_a_new_snapshot_is_obeyed_at_once() -> None:
    assert decided(case_of(SENT)) == [True]
    paused = snapshot(campaign(goal(status=Status.PAUSED)))
    assert decided(case_of(SENT, catalog=paused)) == [False]
    guarded = snapshot(campaign(of=advertiser(tokens=["right-secret"])))
    told = SENT | {"security_token": "right-secret"}
    assert decided(case_of(SENT, told, told | {"security_token": "wrong"}, catalog=guarded)) == [False, True, False]


@pytest.mark.parametrize(
    "whose",
    [
        advertiser(signing_secrets=["0123456789abcdef"]),
        advertiser(networks=["192.0.2.0/24"]),
        replace(advertiser(), rate_limit=1),
    ],
    ids=["signature", "addresses", "rate"],
)
def test_advertisers_who_prove_more_than_a_token_are_left_to_the_rules(whose: Advertiser) -> None:
    assert decided(case_of(SENT, catalog=snapshot(campaign(of=whose)))) == [False]


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
from tests.unit.test_compiled_plain import work
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
