"""The compiled code by itself: what it takes, value by value, and what it remembers."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from dedup.policy import TrackMultiple
from dedup.port import Entry
from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting
from ingest.bodies import Fault
from ingest.catalog import Advertiser, ExchangeRates, Profile, Rate, RateKey, Status
from ingest.decide import Rules
from ingest.macros import MACRO_WORDS
from ingest.plain import NothingPlain, plain_maker
from ingest.reasons import Reason
from ingest.signatures import Signed
from tests.catalogs import CLICKED_MS, advertiser, campaign, goal, rate, receipt, snapshot
from tests.plain_cases import Case, check
from tests.plain_one import CATALOG, PACKED, RULES, SENT, case_of, decided
from tests.plain_values import (
    AMOUNTS,
    CURRENCIES,
    GOALS,
    MACROS,
    ODD_VALUES,
    RAW_VALUES,
    SAID_GOALS,
    STATUSES,
    TIMES,
    WORDS,
)
from tests.plain_values import PACKED as PACKED_ODDLY

make_plain = plain_maker()
pytestmark = pytest.mark.skipif(make_plain is NothingPlain, reason="the compiled code is not built")
ROOT = Path(__file__).parents[2]


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


VALUES = {
    "goal": SAID_GOALS,
    "sale_amount": AMOUNTS,
    "currency": CURRENCIES,
    "event_time": TIMES,
    "status": STATUSES,
    "txn_id": (),
    "event_id": (),
    "security_token": (),
    "sub1": (),
}


@pytest.mark.parametrize("field", VALUES)
def test_every_value_is_read_as_the_rules_read_it(field: str) -> None:
    goals = [goal(place, value, track_multiple=TrackMultiple.YES) for place, value in enumerate(GOALS)]
    rates = {("EUR", "USD"): ExchangeRates((0,), (1_085_000_000,)), ("GBP", "USD"): ExchangeRates((0,), (10**18 - 1,))}
    catalog = snapshot(campaign(*goals), exchange_rates=rates)
    usual = {"click_id": "c1", "goal": "install", "sale_amount": "19.99"}
    cases = []
    for value in (*VALUES[field], *ODD_VALUES, *MACROS, *WORDS, *map(chr, range(0x20, 0x100))):
        sent = usual | {field: value}
        query = "&".join(f"{name}={quote(text.encode('utf-8', 'surrogatepass'))}" for name, text in sent.items())
        cases.append(case_of(sent, query, json.dumps(sent).encode("utf-8", "surrogatepass"), catalog=catalog))
    raws = ["&".join(f"{name}={text}" for name, text in (usual | {field: raw}).items()) for raw in RAW_VALUES]
    cases.append(case_of(*raws, catalog=catalog))
    plain = make_plain(catalog, RULES)
    for case in cases[:1] + cases:
        check(plain, case)


@pytest.mark.parametrize("packed", PACKED_ODDLY)
def test_every_click_is_read_as_the_rules_read_it(packed: bytes) -> None:
    case = case_of(SENT)
    case.packed["c1"] = packed
    decided(case)


@pytest.mark.parametrize("after_ms", [-1, 0, 1, 499, 500, 501, 999, 1000, 1001, 4999, 5000, 5001])
def test_windows_and_least_ages_end_to_the_millisecond(after_ms: int) -> None:
    for window_ms in (None, 0, 1, 1000):
        for min_age_ms in (None, 0, 1, 500):
            catalog = snapshot(campaign(window_ms=window_ms, min_age_ms=min_age_ms))
            for more_us in (0, 999):
                at = receipt(after_ms=after_ms)
                at = Receipt(at.postback_id, at.received_us + more_us)
                case = Case(catalog, Rules(5000, 1000), dict(PACKED), [Arrival(at, SENT)])
                in_window = after_ms <= (5000 if window_ms is None else window_ms)
                assert decided(case) == [in_window and after_ms >= (min_age_ms or (1000 if min_age_ms is None else -1))]


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


def test_what_came_with_more_than_its_fields_is_left_to_the_rules() -> None:
    line = json.dumps(SENT).encode()
    at, fault, signed = receipt(), Fault(Reason.BAD_PARAMETER, "body: wrong"), Signed(b"", (), 0)
    more: list[Waiting] = [
        Arrival(at, SENT, "k"),
        Arrival(at, SENT, ""),
        Arrival(at, SENT, None, fault),
        Arrival(at, SENT, None, None, signed),
        Arrival(at, SENT, None, None, None, 1),
        Arrival(at, list(SENT.items())),
        UnreadLine(at, line, "k"),
        UnreadLine(at, line, ""),
        UnreadLine(at, line, None, signed),
    ]
    assert decided(Case(CATALOG, RULES, dict(PACKED), more)) == [False] * 9
    assert decided(case_of(SENT, line)) == [True, True]


def test_a_name_that_is_empty_is_left_to_the_rules() -> None:
    whole = [{"": "v"} | SENT, {"click_id": "c1", "": "v"} | SENT, SENT | {"": "v"}]
    lines = [json.dumps(one).encode() for one in whole]
    queries = ["&".join(f"{name}={value}" for name, value in one.items()) for one in whole]
    assert decided(case_of(*whole, *lines, *queries)) == [False] * 9


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


def test_no_price_is_remembered_for_another_publisher_or_country() -> None:
    worth: dict[RateKey, Rate] = {
        (publisher_id, country): rate(revenue=(1000 * place, 0))
        for place, (publisher_id, country) in enumerate(
            [(None, None), (10, "US"), (10, "UA"), (10, None), (11, "US"), (None, "SU"), (None, "CA"), (None, "CB")]
        )
    }
    catalog = snapshot(campaign(goal(rates=worth)))
    plain = make_plain(catalog, RULES)
    check(plain, case_of(SENT, catalog=catalog))
    for publisher_id in (10, 11, 10 << 8, 10 << 16, (10 << 16) + 1, 2**46 - 1, 2**46, 2**62, 10):
        for country in ("US", "UA", "SU", "CA", "CB", "AA", "ZZ", "", "US"):
            case = case_of(SENT, catalog=catalog)
            case.packed["c1"] = f"100,{publisher_id},{CLICKED_MS},{country}".encode()
            (entry,) = check(plain, case)
            assert (entry is not None) == (publisher_id < 2**46)


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
