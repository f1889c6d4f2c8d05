"""The decision, rule by rule."""

from __future__ import annotations

from uuid import UUID

import pytest

from dedup.policy import TrackMultiple, claim_for
from ingest.addresses import Addresses
from ingest.arrival import Receipt
from ingest.catalog import ExchangeRates, GoalType, PayoutOf, RateKey, Snapshot, Status
from ingest.clicks import Click
from ingest.decide import Decision, Rules, decide
from ingest.money import LIMIT_MICROS, MICROS
from ingest.reasons import Reason
from ingest.wire import interpret
from storage.records import Kind
from tests.catalogs import (
    CLICKED_MS,
    DAY_MS,
    PERCENT,
    advertiser,
    campaign,
    click,
    goal,
    rate,
    receipt,
    snapshot,
)

RULES = Rules(window_ms=90 * DAY_MS)
INSTALL = goal(1000, "install")
SALE = goal(1001, "Sale", rates={(None, None): rate((0, 10 * PERCENT), (0, 7 * PERCENT))})
CATALOG = snapshot(campaign(INSTALL, SALE, default=INSTALL))


def run(
    sent: dict[str, str] | None = None,
    *,
    catalog: Snapshot = CATALOG,
    of: Click | None = None,
    is_known: bool = True,
    at: Receipt | None = None,
    rules: Rules = RULES,
) -> Decision:
    """Decide what was `sent` beside a click_id."""
    postback = interpret([("click_id", "click-1"), *(sent or {}).items()])
    return decide(at or receipt(), postback, (of or click()) if is_known else None, catalog, rules)


def assert_refused(decision: Decision, reason: Reason, detail: str) -> None:
    assert decision.refusal is not None
    assert (decision.refusal.reason, decision.refusal.detail) == (reason, detail)
    assert (decision.kind, decision.claim, decision.fact) == (Kind.REJECTION, None, b"")
    assert decision.record.reason == reason
    assert decision.record.params["_detail"] == detail
    assert decision.record.conversion_id is None
    assert decision.record.revenue_micros is None


def test_an_accepted_postback_is_recorded_whole() -> None:
    sent = {
        "goal": "SALE",
        "txn_id": "order-1",
        "sale_amount": "19.99",
        "currency": "usd",
        "status": "pending",
        "event_time": "1790000050",
        "sub1": "blue",
    }
    decision = run(sent)
    claim = claim_for(
        TrackMultiple.YES_WITH_TXN_ID,
        click_id="click-1",
        clicked_ms=CLICKED_MS,
        goal_id=1001,
        txn_id="order-1",
        event_id=None,
        nonce=b"",
    )
    assert (decision.kind, decision.claim, decision.refusal) == (Kind.CONVERSION, claim, None)
    assert decision.fact == b"19.99USD"
    assert decision.expires_ms == CLICKED_MS + RULES.window_ms
    assert decision.advertiser is CATALOG.campaigns[100].advertiser
    record = decision.record
    assert {name: getattr(record, name) for name in record.__struct_fields__} == {
        "log_id": str(UUID(bytes=receipt().postback_id)),
        "received_us": (CLICKED_MS + 60_000) * 1000,
        "reason": None,
        "advertiser_id": 1,
        "publisher_id": 10,
        "campaign_id": 100,
        "goal_id": 1001,
        "goal_value": "Sale",
        "goal_version": 3,
        "click_id": "click-1",
        "clicked_ms": CLICKED_MS,
        "txn_id": "order-1",
        "conversion_id": claim.conversion_id,
        "status": "=pending",
        "country": "US",
        "currency": "USD",
        "sale_micros": 19_990_000,
        "revenue_micros": 1_999_000,
        "payout_micros": 1_399_300,
        "original_micros": None,
        "original_currency": None,
        "exchange_rate_nanos": None,
        "event_ms": 1_790_000_050_000,
        "remote_ip": "192.0.2.7",
        "params": {"sub1": "blue"},
    }


def test_without_a_sale() -> None:
    decision = run()
    assert decision.fact == b""
    assert decision.record.sale_micros is None
    assert decision.record.status == "approved"
    assert (decision.record.revenue_micros, decision.record.payout_micros) == (2 * MICROS, 1 * MICROS)


# Click, campaign, advertiser -------------------------------------------------------------------------------------


def test_unknown_click() -> None:
    decision = run({"goal": "install"}, is_known=False)
    assert_refused(decision, Reason.UNKNOWN_CLICK, "click_id: no such click")
    assert (decision.record.click_id, decision.record.campaign_id, decision.advertiser) == ("click-1", None, None)


def test_missing_click_id() -> None:
    decision = decide(receipt(), interpret([("goal", "install")]), None, CATALOG, RULES)
    assert_refused(decision, Reason.MISSING_CLICK_ID, "click_id: missing")
    assert (decision.record.click_id, decision.record.goal_value) == (None, "install")


def test_what_cannot_be_read_is_refused_with_its_advertiser() -> None:
    decision = run({"txn_id": "1", "order_id": "2"})
    assert_refused(decision, Reason.BAD_PARAMETER, "txn_id: given twice with different values")
    assert decision.record.advertiser_id == 1


def test_unknown_campaign() -> None:
    decision = run(of=click(campaign_id=999))
    assert_refused(decision, Reason.UNKNOWN_CAMPAIGN, "click_id: its campaign does not exist")
    assert (decision.record.campaign_id, decision.record.advertiser_id) == (999, None)


@pytest.mark.parametrize("status", [Status.PAUSED, Status.ARCHIVED])
def test_inactive_campaign(status: Status) -> None:
    decision = run(catalog=snapshot(campaign(status=status)))
    assert_refused(decision, Reason.CAMPAIGN_INACTIVE, "click_id: its campaign is not active")
    assert (decision.record.campaign_id, decision.record.advertiser_id) == (100, 1)


@pytest.mark.parametrize("token", ["current-secret", "previous-secret", " current-secret "])
def test_each_live_token_is_accepted(token: str) -> None:
    catalog = snapshot(campaign(default=goal(), of=advertiser(tokens=["current-secret", "previous-secret"])))
    assert run({"security_token": token}, catalog=catalog).refusal is None


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ({}, "security_token: missing"),
        ({"security_token": ""}, "security_token: missing"),
        ({"security_token": "{security_token}"}, "security_token: missing"),
        ({"security_token": "revoked-secret"}, "security_token: not accepted"),
        ({"security_token": "CURRENT-SECRET"}, "security_token: not accepted"),
        ({"security_token": "current-secre\udcff"}, "security_token: not accepted"),
        ({"security_token": "x" * 100_000}, "security_token: not accepted"),
    ],
)
def test_bad_token(sent: dict[str, str], detail: str) -> None:
    catalog = snapshot(campaign(default=goal(), of=advertiser(tokens=["current-secret", "previous-secret"])))
    decision = run(sent | {"sub1": "x"}, catalog=catalog)
    assert_refused(decision, Reason.BAD_TOKEN, detail)
    assert decision.record.params == {"sub1": "x", "_detail": detail}


def test_a_token_that_nobody_asks_for_is_not_kept() -> None:
    decision = run({"security_token": "unasked-secret"})
    assert decision.refusal is None
    assert "unasked-secret" not in repr(decision)


def test_the_token_is_checked_before_anything_is_told_of_the_campaign() -> None:
    catalog = snapshot(campaign(status=Status.PAUSED, of=advertiser(tokens=["current-secret"])))
    assert_refused(run(catalog=catalog), Reason.BAD_TOKEN, "security_token: missing")


# Age -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own_ms", "age_ms", "is_expired"),
    [
        (None, 90 * DAY_MS, False),
        (None, 90 * DAY_MS + 1, True),
        (30 * DAY_MS, 30 * DAY_MS, False),
        (30 * DAY_MS, 30 * DAY_MS + 1, True),
        (120 * DAY_MS, 120 * DAY_MS, False),
    ],
)
def test_window(own_ms: int | None, age_ms: int, is_expired: bool) -> None:
    catalog = snapshot(campaign(default=INSTALL, window_ms=own_ms))
    decision = run(catalog=catalog, at=receipt(after_ms=age_ms))
    if is_expired:
        assert_refused(decision, Reason.CLICK_EXPIRED, "click_id: the click is too old")
    else:
        assert decision.refusal is None
        assert decision.expires_ms == CLICKED_MS + (own_ms or RULES.window_ms)


@pytest.mark.parametrize(
    ("own_ms", "general_ms", "age_ms", "is_fresh"),
    [
        (None, 0, 0, False),
        (None, 0, -60_000, False),  # trackers' clocks differ
        (None, 5_000, 4_999, True),
        (None, 5_000, 5_000, False),
        (0, 5_000, 0, False),
        (10_000, 5_000, 9_999, True),
        (10_000, 0, 10_000, False),
        (10_000, 0, -1, True),
    ],
)
def test_min_age(own_ms: int | None, general_ms: int, age_ms: int, is_fresh: bool) -> None:
    catalog = snapshot(campaign(default=INSTALL, min_age_ms=own_ms))
    decision = run(catalog=catalog, at=receipt(after_ms=age_ms), rules=Rules(90 * DAY_MS, general_ms))
    if is_fresh:
        assert_refused(decision, Reason.CLICK_TOO_FRESH, "click_id: too soon after the click")
    else:
        assert decision.refusal is None


# Goal ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "goal_id"), [("install", 1000), ("INSTALL", 1000), ("sale", 1001), (" Sale ", 1001), (None, 1000)]
)
def test_goals_are_found_by_value_without_regard_to_case(sent: str | None, goal_id: int) -> None:
    decision = run({"sale_amount": "1"} | ({} if sent is None else {"goal": sent}))
    assert decision.record.goal_id == goal_id


def test_goal_values_are_casefolded() -> None:
    catalog = snapshot(campaign(goal(5, "Straße")))
    assert run({"goal": "STRASSE"}, catalog=catalog).record.goal_id == 5


@pytest.mark.parametrize("sent", ["", "{goal}", "[goal]"])
def test_an_unexpanded_goal_is_the_default_goal(sent: str) -> None:
    assert run({"goal": sent}).record.goal_id == 1000


def test_unknown_goal() -> None:
    decision = run({"goal": "Purchase"})
    assert_refused(decision, Reason.UNKNOWN_GOAL, "goal: the campaign has no such goal")
    assert (decision.record.goal_value, decision.record.goal_id) == ("Purchase", None)


def test_no_default_goal() -> None:
    decision = run(catalog=snapshot(campaign(INSTALL)))
    assert_refused(decision, Reason.UNKNOWN_GOAL, "goal: missing, and the campaign has no default goal")


@pytest.mark.parametrize("status", [Status.PAUSED, Status.ARCHIVED])
@pytest.mark.parametrize("sent", [{}, {"goal": "install"}])
def test_inactive_goal(status: Status, sent: dict[str, str]) -> None:
    paused = goal(status=status)
    decision = run(sent, catalog=snapshot(campaign(paused, default=paused)))
    assert_refused(decision, Reason.GOAL_INACTIVE, "goal: not active")


# Rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        ([(10, "US"), (10, None), (None, "US"), (None, None)], (10, "US")),
        ([(10, None), (None, "US"), (None, None)], (10, None)),
        ([(None, "US"), (None, None)], (None, "US")),
        ([(None, None)], (None, None)),
        ([(11, "US"), (10, "CA"), (11, None), (None, "CA"), (None, None)], (None, None)),
        ([(11, "US"), (10, "CA"), (11, None), (None, "CA")], None),
        ([], None),
    ],
)
def test_the_most_specific_rate(keys: list[RateKey], chosen: RateKey | None) -> None:
    rates = {key: rate(((place + 1) * MICROS, 0)) for place, key in enumerate(keys)}
    only = goal(rates=rates)
    decision = run(catalog=snapshot(campaign(only, default=only)))
    if chosen is None:
        assert_refused(decision, Reason.OUTSIDE_COVERAGE, "click_id: its country is not covered by the goal")
    else:
        assert decision.record.revenue_micros == rates[chosen].revenue.fixed_micros


def test_a_click_without_a_country_has_only_rates_for_everywhere() -> None:
    only = goal(rates={(None, "US"): rate(), (10, "US"): rate()})
    decision = run(catalog=snapshot(campaign(only, default=only)), of=click(country=None))
    assert_refused(decision, Reason.OUTSIDE_COVERAGE, "click_id: its country is not covered by the goal")
    only = goal(rates={(None, "US"): rate(), (10, None): rate((7, 0))})
    decision = run(catalog=snapshot(campaign(only, default=only)), of=click(country=None))
    assert (decision.record.revenue_micros, decision.record.country) == (7, None)


@pytest.mark.parametrize(("publisher_id", "is_paid"), [(10, True), (11, True), (12, False)])
def test_private_goals_pay_the_publishers_on_their_list(publisher_id: int, is_paid: bool) -> None:
    private = goal(kind=GoalType.PRIVATE, publishers=[10, 11])
    decision = run(catalog=snapshot(campaign(private, default=private)), of=click(publisher_id=publisher_id))
    assert decision.refusal is None
    assert decision.record.revenue_micros == 2 * MICROS
    assert decision.record.payout_micros == (MICROS if is_paid else 0)
    assert decision.record.reason == (None if is_paid else Reason.GOAL_NOT_ASSIGNED)


def test_the_publishers_of_a_public_goal_do_not_matter() -> None:
    public = goal(publishers=[11])
    assert run(catalog=snapshot(campaign(public, default=public))).record.payout_micros == MICROS


# Money -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("revenue", "payout", "payout_of", "sale", "expected"),
    [
        ((2_000_000, 0), (1_400_000, 0), PayoutOf.SALE, None, (2_000_000, 1_400_000)),
        ((0, 10 * PERCENT), (0, 7 * PERCENT), PayoutOf.SALE, "100", (10_000_000, 7_000_000)),
        ((500_000, 10 * PERCENT), (100_000, 5 * PERCENT), PayoutOf.SALE, "20", (2_500_000, 1_100_000)),
        ((500_000, 10 * PERCENT), (0, 70 * PERCENT), PayoutOf.REVENUE, "20", (2_500_000, 1_750_000)),
        ((2_000_000, 0), (100_000, 70 * PERCENT), PayoutOf.REVENUE, None, (2_000_000, 1_500_000)),
        ((0, 10 * PERCENT), (0, 7 * PERCENT), PayoutOf.SALE, "0", (0, 0)),
        # Half a micro goes to the even neighbour; the payout is of the rounded revenue.
        ((0, 50 * PERCENT), (0, 50 * PERCENT), PayoutOf.SALE, "0.000001", (0, 0)),
        ((0, 50 * PERCENT), (0, 50 * PERCENT), PayoutOf.SALE, "0.000003", (2, 2)),
        ((0, 50 * PERCENT), (0, 50 * PERCENT), PayoutOf.REVENUE, "0.000005", (2, 1)),
        ((0, 50 * PERCENT), (0, 25 * PERCENT), PayoutOf.REVENUE, "0.000011", (6, 2)),
        ((0, 50 * PERCENT), (0, 75 * PERCENT), PayoutOf.REVENUE, "0.000003", (2, 2)),
    ],
)
def test_money(
    revenue: tuple[int, int],
    payout: tuple[int, int],
    payout_of: PayoutOf,
    sale: str | None,
    expected: tuple[int, int],
) -> None:
    only = goal(rates={(None, None): rate(revenue, payout, payout_of)})
    decision = run({} if sale is None else {"sale_amount": sale}, catalog=snapshot(campaign(only, default=only)))
    assert (decision.record.revenue_micros, decision.record.payout_micros) == expected


@pytest.mark.parametrize(
    ("revenue", "payout", "payout_of", "is_needed"),
    [
        ((1, 0), (1, 0), PayoutOf.SALE, False),
        ((1, 1), (1, 0), PayoutOf.SALE, True),
        ((1, 0), (1, 1), PayoutOf.SALE, True),
        ((1, 0), (1, 1), PayoutOf.REVENUE, False),
        ((1, 1), (1, 1), PayoutOf.REVENUE, True),
    ],
)
def test_missing_sale_amount(
    revenue: tuple[int, int], payout: tuple[int, int], payout_of: PayoutOf, is_needed: bool
) -> None:
    only = goal(rates={(None, None): rate(revenue, payout, payout_of)})
    decision = run({"sale_amount": "{amount}"}, catalog=snapshot(campaign(only, default=only)))
    if is_needed:
        assert_refused(decision, Reason.MISSING_SALE_AMOUNT, "sale_amount: missing")
    else:
        assert decision.refusal is None


@pytest.mark.parametrize(
    ("sent", "detail"),
    [
        ("-1", "negative"),
        ("1,99", "use a point as the decimal separator"),
        ("NaN", "expected a plain decimal such as 12.50"),
        ("1e400", "expected a plain decimal such as 12.50"),
        ("0.0000001", "more than six decimals"),
        ("1000000000000", "10^12 or more"),
    ],
)
@pytest.mark.parametrize("goal_value", ["install", "sale"])
def test_bad_amount(sent: str, detail: str, goal_value: str) -> None:
    decision = run({"sale_amount": sent, "goal": goal_value})
    assert_refused(decision, Reason.BAD_AMOUNT, f"sale_amount: {detail}")
    assert decision.record.params["sale_amount"] == sent


@pytest.mark.parametrize("currency", ["XYZ", "US", "DOLLARS", "€", "\udcff"])
def test_bad_currency(currency: str) -> None:
    decision = run({"sale_amount": "5", "currency": currency})
    assert_refused(decision, Reason.BAD_CURRENCY, "currency: not an ISO 4217 code")


def test_a_currency_without_an_amount_bears_on_nothing() -> None:
    assert run({"currency": "XYZ"}).refusal is None


@pytest.mark.parametrize("is_fixed", [True, False])
def test_money_beyond_the_column(is_fixed: bool) -> None:
    most = LIMIT_MICROS - 1
    over = goal(rates={(None, None): rate((most if is_fixed else 0, 100 * PERCENT), (0, 0))})
    decision = run({"sale_amount": "999999999999.999999"}, catalog=snapshot(campaign(over, default=over)))
    if is_fixed:
        assert_refused(decision, Reason.BAD_AMOUNT, "sale_amount: too large")
    else:
        assert decision.record.revenue_micros == most


def test_payout_beyond_the_column() -> None:
    over = goal(rates={(None, None): rate((0, 0), (0, 101 * PERCENT))})
    decision = run({"sale_amount": "999999999999"}, catalog=snapshot(campaign(over, default=over)))
    assert_refused(decision, Reason.BAD_AMOUNT, "sale_amount: too large")


# Exchange --------------------------------------------------------------------------------------------------------

EUR_FROM_MS = CLICKED_MS - DAY_MS
EUR_NEXT_MS = CLICKED_MS + DAY_MS
EXCHANGE = {("EUR", "USD"): ExchangeRates((EUR_FROM_MS, EUR_NEXT_MS), (1_085_000_000, 1_090_000_001))}


def exchanging(sent: dict[str, str], after_ms: int, nanos: int | None = None) -> Decision:
    rates = EXCHANGE if nanos is None else {("EUR", "USD"): ExchangeRates((0,), (nanos,))}
    free = goal(rates={(None, None): rate((0, 100 * PERCENT), (0, 50 * PERCENT))})
    catalog = snapshot(campaign(free, default=free), exchange_rates=rates)
    return run(sent, catalog=catalog, at=receipt(after_ms=after_ms))


@pytest.mark.parametrize(
    ("after_ms", "nanos", "sale_micros"),
    [
        (0, 1_085_000_000, 10_850_000),
        (DAY_MS - 1, 1_085_000_000, 10_850_000),
        (DAY_MS, 1_090_000_001, 10_900_000),
        (50 * DAY_MS, 1_090_000_001, 10_900_000),
    ],
)
def test_a_sale_is_converted_by_the_rate_in_force(after_ms: int, nanos: int, sale_micros: int) -> None:
    decision = exchanging({"sale_amount": "10.00", "currency": "eur"}, after_ms)
    record = decision.record
    assert (record.sale_micros, record.revenue_micros, record.payout_micros) == (
        sale_micros,
        sale_micros,
        sale_micros // 2,
    )
    assert (record.original_micros, record.original_currency) == (10 * MICROS, "EUR")
    assert (record.exchange_rate_nanos, record.currency) == (nanos, "USD")
    assert decision.fact == b"10EUR"


def test_conversion_rounds_half_to_even() -> None:
    half = 500_000_000
    converted = [exchanging({"sale_amount": f"0.00000{n}", "currency": "EUR"}, 0, half) for n in (1, 3, 5)]
    assert [decision.record.sale_micros for decision in converted] == [0, 2, 2]


@pytest.mark.parametrize(("currency", "after_ms"), [("EUR", -DAY_MS - 1), ("GBP", 0)])
def test_no_exchange_rate(currency: str, after_ms: int) -> None:
    decision = exchanging({"sale_amount": "10", "currency": currency}, after_ms)
    assert_refused(decision, Reason.NO_EXCHANGE_RATE, f"currency: {currency} cannot be converted")
    assert decision.record.params["sale_amount"] == "10"
    assert decision.record.params["currency"] == currency


def test_a_sale_that_is_too_large_once_converted() -> None:
    decision = exchanging({"sale_amount": "999999999999", "currency": "EUR"}, 0)
    assert_refused(decision, Reason.BAD_AMOUNT, "sale_amount: too large")


def test_a_sale_in_the_campaigns_currency_is_not_converted() -> None:
    record = exchanging({"sale_amount": "10", "currency": "USD"}, 0).record
    assert (record.original_micros, record.original_currency, record.exchange_rate_nanos) == (None, None, None)


@pytest.mark.parametrize(
    ("sent", "fact"),
    [
        ({}, b""),
        ({"sale_amount": "5"}, b"5USD"),
        ({"sale_amount": "5.00", "currency": "usd"}, b"5USD"),
        ({"sale_amount": "005.10"}, b"5.1USD"),
        ({"sale_amount": "5", "currency": "EUR"}, b"5EUR"),
        ({"sale_amount": "0"}, b"0USD"),
    ],
)
def test_the_fact_is_what_was_sent_in_one_spelling(sent: dict[str, str], fact: bytes) -> None:
    assert exchanging(sent, 0).fact == fact if sent else run().fact == fact


# Claims ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "sent", "field"),
    [
        (TrackMultiple.NO, {"txn_id": "t", "event_id": "e"}, "1000"),
        (TrackMultiple.YES_WITH_TXN_ID, {"txn_id": "t", "event_id": "e"}, "1000:t"),
        (TrackMultiple.YES_WITH_TXN_ID, {"txn_id": "{txn_id}"}, "1000:"),
        (TrackMultiple.YES, {"txn_id": "t", "event_id": "e"}, "1000:e"),
        (TrackMultiple.YES, {"txn_id": "t"}, None),
    ],
)
def test_the_claim_follows_the_goals_policy(policy: TrackMultiple, sent: dict[str, str], field: str | None) -> None:
    only = goal(track_multiple=policy)
    catalog = snapshot(campaign(only, default=only))
    decision = run(sent, catalog=catalog)
    again = run(sent, catalog=catalog, at=receipt(2))
    assert decision.claim is not None
    assert again.claim is not None
    assert decision.claim.field == field
    assert decision.record.conversion_id == decision.claim.conversion_id
    assert (decision.claim == again.claim) == (field is not None)


def test_the_event_id_is_kept() -> None:
    assert run({"event_id": "e-1", "sub1": "x"}).record.params == {"sub1": "x", "event_id": "e-1"}


# Refusals and traces ---------------------------------------------------------------------------------------------


def test_a_refusal_keeps_what_was_sent_and_never_the_token() -> None:
    catalog = snapshot(campaign(INSTALL, of=advertiser(tokens=["current-secret"])))
    sent = {
        "goal": "Purchase",
        "txn_id": "order-1",
        "sale_amount": "19.990",
        "currency": "eur",
        "event_id": "e-1",
        "event_time": "1790000050",
        "status": "Pending",
        "security_token": "current-secret",
        "sub1": "blue",
    }
    decision = run(sent, catalog=catalog)
    assert_refused(decision, Reason.UNKNOWN_GOAL, "goal: the campaign has no such goal")
    record = decision.record
    assert record.params == {
        "sub1": "blue",
        "sale_amount": "19.990",
        "currency": "EUR",
        "event_id": "e-1",
        "event_time": "1790000050000",
        "status": "pending",
        "_detail": "goal: the campaign has no such goal",
    }
    assert (record.click_id, record.goal_value, record.txn_id) == ("click-1", "Purchase", "order-1")
    assert (record.log_id, record.received_us) == (str(UUID(bytes=receipt().postback_id)), receipt().received_us)
    assert (record.remote_ip, record.advertiser_id, record.campaign_id) == ("192.0.2.7", 1, 100)
    assert "secret" not in repr(decision.record)


def test_an_unreadable_event_time_is_kept_and_refuses_nothing() -> None:
    decision = run({"event_time": "yesterday"})
    assert decision.refusal is None
    assert (decision.record.event_ms, decision.record.params) == (None, {"event_time": "yesterday"})


def traced(sent: dict[str, str], catalog: Snapshot) -> tuple[Decision, list[tuple[str, str]]]:
    steps: list[tuple[str, str]] = []
    postback = interpret([("click_id", "click-1"), *sent.items()])
    return decide(receipt(), postback, click(), catalog, RULES, lambda *step: steps.append(step)), steps


def test_the_trace_tells_each_step() -> None:
    decision, steps = traced({"goal": "sale", "sale_amount": "100", "txn_id": "t"}, CATALOG)
    assert steps == [
        ("click", "click-1: campaign 100, publisher 10, US"),
        ("campaign", "100 'Acme Quest' of 'Acme Games', USD"),
        ("goal", "1001 'Sale', version 3, track_multiple = yes_with_txn_id"),
        ("rate", "for publisher any, country any"),
        ("money", "sale 100, revenue 10, payout 7 USD"),
        ("claim", "1001:t"),
        ("conversion", str(decision.record.conversion_id)),
    ]


@pytest.mark.parametrize(
    "sent",
    [
        {},
        {"goal": "sale", "sale_amount": "100"},
        {"goal": "none"},
        {"sale_amount": "x"},
        {"security_token": "some-secret"},
    ],
)
def test_the_trace_changes_nothing(sent: dict[str, str]) -> None:
    private = goal(kind=GoalType.PRIVATE, track_multiple=TrackMultiple.YES)
    for catalog in (
        CATALOG,
        snapshot(campaign(private, default=private)),
        snapshot(campaign(of=advertiser(tokens=["t"]))),
    ):
        decision, steps = traced(sent, catalog)
        assert decision == run(sent, catalog=catalog)
        assert ("secret" in repr(steps)) is False
        assert (steps[-1][0] == "refused") == (decision.refusal is not None)
        if decision.refusal is not None:
            assert steps[-1][1] == f"{decision.refusal.reason}: {decision.refusal.detail}"


def test_a_decision_depends_on_its_input_only() -> None:
    assert run({"txn_id": "t"}) == run({"txn_id": "t"})
    other = run({"txn_id": "t"}, at=Receipt(UUID(int=7).bytes, receipt().received_us))
    assert other.claim == run({"txn_id": "t"}).claim


@pytest.mark.parametrize(
    ("kept", "stored"), [(Addresses.FULL, "192.0.2.7"), (Addresses.TRUNCATED, "192.0.2.0"), (Addresses.NONE, None)]
)
def test_rules_see_the_whole_address_whatever_is_stored_of_it(kept: Addresses, stored: str | None) -> None:
    catalog = snapshot(campaign(INSTALL, default=INSTALL, of=advertiser(networks=["192.0.2.7/32"])))
    rules = Rules(window_ms=90 * DAY_MS, addresses=kept)
    accepted = run(catalog=catalog, rules=rules)
    assert (accepted.kind, accepted.record.remote_ip) == (Kind.CONVERSION, stored)
    rejected = run({"goal": "none"}, catalog=catalog, rules=rules)
    assert (rejected.kind, rejected.record.remote_ip) == (Kind.REJECTION, stored)
