"""Whole decisions over random catalogs and postbacks, against a model of its own with exact fractions."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.policy import TrackMultiple
from ingest.catalog import Campaign, ExchangeRates, Goal, GoalType, PayoutOf, Rate, RateKey, Snapshot, Status, Terms
from ingest.clicks import Click
from ingest.decide import Decision, Rules, decide
from ingest.wire import interpret
from storage.records import Kind
from tests.catalogs import CLICKED_MS, advertiser, campaign, click, goal, receipt, snapshot

LIMIT = 10**12
TOKENS = ("current-secret", "previous-secret")
COUNTRIES = (None, "US", "CA")
PUBLISHERS = (10, 11)

fixed_micros = st.sampled_from([0, 1, 2_000_000]) | st.integers(0, 10**18 - 1)
micro_percents = st.sampled_from([0, 1, 10_000_000, 33_333_333, 100_000_000]) | st.integers(0, 10**10 - 1)
terms = st.builds(Terms, fixed_micros, micro_percents)
rates = st.builds(Rate, terms, terms, st.sampled_from(PayoutOf))
rate_keys: st.SearchStrategy[RateKey] = st.tuples(st.sampled_from((None, *PUBLISHERS)), st.sampled_from(COUNTRIES))
statuses = st.sampled_from([Status.ACTIVE] * 12 + [Status.PAUSED, Status.ARCHIVED])
micros = st.integers(0, 10**8) | st.integers(0, 10**18 - 1)
amounts = micros.map(lambda number: f"{number // 10**6}.{number % 10**6:06}")
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """All that a decision depends on."""

    catalog: Snapshot
    rules: Rules
    click: Click
    after_ms: int
    sent: dict[str, str]


def mostly(usual: T, *others: T) -> st.SearchStrategy[T]:
    """Or a random case would be refused for its first flaw, nearly always."""
    return st.sampled_from([*[usual] * 12, *others])


@st.composite
def goals(draw: st.DrawFn, goal_id: int, value: str) -> Goal:
    special: dict[RateKey, Rate] = draw(st.dictionaries(rate_keys, rates, max_size=4))
    general: dict[RateKey, Rate] = {(None, None): draw(rates)} if draw(mostly(True, False, False)) else {}
    return goal(
        goal_id,
        value,
        rates=general | special,
        kind=draw(st.sampled_from(GoalType)),
        publishers=draw(st.lists(st.sampled_from(PUBLISHERS), unique=True)),
        track_multiple=draw(st.sampled_from(TrackMultiple)),
        status=draw(statuses),
    )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    install, sale = draw(goals(1000, "install")), draw(goals(1001, "Sale"))
    only = campaign(
        install,
        sale,
        default=draw(mostly(install, None)),
        of=advertiser(tokens=draw(st.sampled_from([(), TOKENS[:1], TOKENS]))),
        status=draw(statuses),
        window_ms=draw(mostly(None, 0, 1, 1000, 2500)),
        min_age_ms=draw(mostly(None, 0, 1, 1000)),
    )
    times = sorted(draw(st.sets(st.integers(CLICKED_MS - 1000, CLICKED_MS + 2000), max_size=3)))
    nanos = draw(st.lists(st.integers(10**8, 10**10) | st.integers(1, 10**18 - 1), min_size=3, max_size=3))
    exchange = {("EUR", "USD"): ExchangeRates(tuple(times), tuple(nanos[: len(times)]))}
    sent = {
        "goal": draw(st.sampled_from([None, "install", "INSTALL", "sale", "Sale", "sALE", "other"])),
        "sale_amount": draw(amounts | mostly("19.99", None, None)),
        "currency": draw(st.sampled_from([None, "USD", "usd", "EUR", "EUR", "EUR", "GBP", "???"])),
        "security_token": draw(mostly(TOKENS[0], TOKENS[1], "wrong-secret", None)),
        "txn_id": draw(st.sampled_from([None, "t", "u:1"])),
    }
    return Case(
        catalog=snapshot(only, exchange_rates=exchange),
        rules=Rules(draw(mostly(5000, 0, 2000)), draw(mostly(0, 500))),
        click=click(
            campaign_id=draw(mostly(100, 101)),
            publisher_id=draw(st.sampled_from(PUBLISHERS)),
            country=draw(st.sampled_from(COUNTRIES)),
        ),
        after_ms=draw(st.integers(-10, 3000)),
        sent={name: value for name, value in sent.items() if value is not None},
    )


def run(case: Case) -> Decision:
    postback = interpret([("click_id", "click-1"), *case.sent.items()])
    return decide(receipt(after_ms=case.after_ms), postback, case.click, case.catalog, case.rules)


def to_micro(amount: Fraction) -> Fraction:
    """Rounded to six decimals; Python rounds a half of a Fraction to the even neighbour."""
    return Fraction(round(amount * 10**6), 10**6)


def chosen_rate(of: Goal, clicked: Click) -> Rate | None:
    """Publisher before country, both before either."""
    fitting = [
        ((publisher_id is not None) * 2 + (country is not None), rate)
        for (publisher_id, country), rate in of.rates.items()
        if publisher_id in (None, clicked.publisher_id) and country in (None, clicked.country)
    ]
    return max(fitting, key=lambda ranked: ranked[0])[1] if fitting else None


def goal_of(of: Campaign, value: str | None) -> Goal | None:
    if value is None:
        return of.default_goal
    return next((one for one in of.goals.values() if one.value.lower() == value.lower()), None)


Money = tuple[Fraction | None, Fraction, Fraction]
"""Sale in the campaign's currency, revenue, payout."""


def expected(case: Case) -> str | Money:
    """The reason of a refusal, or the money."""
    sent = case.sent
    if case.click.campaign_id not in case.catalog.campaigns:
        return "unknown_campaign"
    of = case.catalog.campaigns[case.click.campaign_id]
    live = TOKENS[: len(of.advertiser.token_digests)]
    if live and sent.get("security_token") not in live:
        return "bad_token"
    if of.status != "active":
        return "campaign_inactive"
    if case.after_ms > (case.rules.window_ms if of.window_ms is None else of.window_ms):
        return "click_expired"
    min_age_ms = case.rules.min_age_ms if of.min_age_ms is None else of.min_age_ms
    if min_age_ms and case.after_ms < min_age_ms:
        return "click_too_fresh"
    its_goal = goal_of(of, sent.get("goal"))
    if its_goal is None:
        return "unknown_goal"
    if its_goal.status != "active":
        return "goal_inactive"
    rate = chosen_rate(its_goal, case.click)
    return "outside_coverage" if rate is None else priced(case, its_goal, rate)


def priced(case: Case, its_goal: Goal, rate: Rate) -> str | Money:
    sent = case.sent
    revenue_part = Fraction(rate.revenue.micro_percent, 10**8)
    payout_part = Fraction(rate.payout.micro_percent, 10**8)
    sale = Fraction(sent["sale_amount"]) if "sale_amount" in sent else None
    if sale is None:
        if revenue_part or (payout_part and rate.payout_of == "sale"):
            return "missing_sale_amount"
    else:
        currency = sent.get("currency", "USD").upper()
        if currency == "???":
            return "bad_currency"
        if currency != "USD":
            exchange = case.catalog.exchange_rates.get((currency, "USD"))
            in_force = (
                [
                    nanos
                    for since_ms, nanos in zip(exchange.valid_from_ms, exchange.rate_nanos, strict=True)
                    if since_ms <= CLICKED_MS + case.after_ms
                ]
                if exchange
                else []
            )
            if not in_force:
                return "no_exchange_rate"
            sale = to_micro(sale * Fraction(in_force[-1], 10**9))
            if sale >= LIMIT:
                return "bad_amount"
    revenue = Fraction(rate.revenue.fixed_micros, 10**6) + to_micro(revenue_part * (sale or 0))
    payout_base = revenue if rate.payout_of == "revenue" else sale or Fraction(0)
    payout = Fraction(rate.payout.fixed_micros, 10**6) + to_micro(payout_part * payout_base)
    if max(revenue, payout) >= LIMIT:
        return "bad_amount"
    if its_goal.type == "private" and case.click.publisher_id not in its_goal.publishers:
        payout = Fraction(0)
    return sale, revenue, payout


@settings(max_examples=300)
@given(cases())
def test_decisions_equal_the_model(case: Case) -> None:
    decision, model = run(case), expected(case)
    record = decision.record
    if isinstance(model, str):
        assert decision.refusal is not None
        assert (decision.refusal.reason, record.reason, decision.kind) == (model, model, Kind.REJECTION)
        assert decision.claim is None
        return
    assert decision.refusal is None, decision.refusal
    assert record.revenue_micros is not None
    assert record.payout_micros is not None
    sale, revenue, payout = model
    assert (None if record.sale_micros is None else Fraction(record.sale_micros, 10**6)) == sale
    assert Fraction(record.revenue_micros, 10**6) == revenue
    assert Fraction(record.payout_micros, 10**6) == payout
    assert record.conversion_id is not None
    assert decision.kind is Kind.CONVERSION
    assert decision.expires_ms >= CLICKED_MS + case.after_ms


@given(cases())
def test_decisions_are_pure_and_the_trace_changes_nothing(case: Case) -> None:
    steps: list[tuple[str, str]] = []
    postback = interpret([("click_id", "click-1"), *case.sent.items()])
    traced = decide(
        receipt(after_ms=case.after_ms),
        postback,
        case.click,
        case.catalog,
        case.rules,
        lambda *step: steps.append(step),
    )
    assert traced == run(case) == run(case)
    assert steps
    assert "secret" not in repr((steps, traced.record, traced.refusal, postback))


@given(cases())
def test_what_is_recorded_fits_the_columns(case: Case) -> None:
    record = run(case).record
    for micros in (record.sale_micros, record.revenue_micros, record.payout_micros, record.original_micros):
        assert micros is None or 0 <= micros < 10**18
    assert (
        (record.original_micros is None) == (record.original_currency is None) == (record.exchange_rate_nanos is None)
    )
