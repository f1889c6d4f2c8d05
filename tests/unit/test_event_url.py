"""The event postback handed to an advertiser."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.policy import TrackMultiple
from ingest.catalog import Advertiser, Campaign, Goal, GoalType, PayoutOf, Rate, RateKey, Status, Terms, token_digest
from ingest.event_url import event_url, find_goal

FIXED = Rate(Terms(2_000_000), Terms(1_000_000))
PERCENT = Rate(Terms(micro_percent=20_000_000), Terms(1_000_000))
OF_REVENUE = Rate(Terms(2_000_000), Terms(micro_percent=70_000_000), PayoutOf.REVENUE)
OF_SALE = Rate(Terms(2_000_000), Terms(micro_percent=70_000_000), PayoutOf.SALE)
ACME = Advertiser(1, "Acme")
MACROS = {"click_id", "txn_id", "event_id", "sale_amount", "currency", "security_token"}


def goal(policy: TrackMultiple, *rates: Rate, value: str = "install", goal_id: int = 1000) -> Goal:
    by_key: dict[RateKey, Rate] = {
        (None, country): rate for country, rate in zip((None, "US", "GB"), rates, strict=False)
    }
    return Goal(
        id=goal_id,
        title="A goal",
        value=value,
        version=1,
        type=GoalType.PUBLIC,
        publishers=frozenset(),
        track_multiple=policy,
        status=Status.ACTIVE,
        rates=by_key,
    )


def campaign(advertiser: Advertiser, *goals: Goal) -> Campaign:
    return Campaign(
        id=100,
        advertiser=advertiser,
        name="A campaign",
        currency="USD",
        timezone="UTC",
        status=Status.ACTIVE,
        window_ms=None,
        min_age_ms=None,
        goals={goal.value.casefold(): goal for goal in goals},
        default_goal=goals[0] if goals else None,
    )


def url(advertiser: Advertiser, its_goal: Goal) -> str:
    return event_url("https://t.example.com/", "/postback", campaign(advertiser, its_goal), its_goal)


@pytest.mark.parametrize(
    ("policy", "rates", "expected"),
    [
        (TrackMultiple.NO, (FIXED,), "click_id={click_id}&goal=install"),
        (TrackMultiple.YES_WITH_TXN_ID, (FIXED,), "click_id={click_id}&goal=install&txn_id={txn_id}"),
        (TrackMultiple.YES, (FIXED,), "click_id={click_id}&goal=install&event_id={event_id}"),
        (TrackMultiple.NO, (OF_REVENUE,), "click_id={click_id}&goal=install"),
        (
            TrackMultiple.NO,
            (PERCENT,),
            "click_id={click_id}&goal=install&sale_amount={sale_amount}&currency={currency}",
        ),
        (
            TrackMultiple.NO,
            (OF_SALE,),
            "click_id={click_id}&goal=install&sale_amount={sale_amount}&currency={currency}",
        ),
        # One rate of several is enough to need the sale.
        (
            TrackMultiple.YES_WITH_TXN_ID,
            (FIXED, PERCENT),
            "click_id={click_id}&goal=install&txn_id={txn_id}&sale_amount={sale_amount}&currency={currency}",
        ),
        (TrackMultiple.NO, (), "click_id={click_id}&goal=install"),
    ],
)
def test_only_what_bears_on_the_goal(policy: TrackMultiple, rates: tuple[Rate, ...], expected: str) -> None:
    assert url(ACME, goal(policy, *rates)) == f"https://t.example.com/postback?{expected}"


def test_token_is_a_macro_and_never_shown() -> None:
    advertiser = replace(ACME, token_digests=(token_digest("hidden"),))
    made = url(advertiser, goal(TrackMultiple.NO, FIXED))
    assert made.endswith("&security_token={security_token}")
    assert "hidden" not in made
    assert "sha256" not in made


def test_own_name_replaces_the_standard_one() -> None:
    advertiser = replace(ACME, aliases={"order": "txn_id", "lead ref": "click_id"})
    made = url(advertiser, goal(TrackMultiple.YES_WITH_TXN_ID, FIXED))
    assert made == "https://t.example.com/postback?lead%20ref={click_id}&goal=install&order={txn_id}"


def test_of_two_own_names_none_is_chosen() -> None:
    advertiser = replace(ACME, aliases={"a": "click_id", "b": "click_id"})
    assert "?click_id={click_id}&" in url(advertiser, goal(TrackMultiple.NO, FIXED))


@given(
    value=st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable()),
    policy=st.sampled_from(TrackMultiple),
)
def test_any_goal_value_survives_the_url(value: str, policy: TrackMultiple) -> None:
    made = url(ACME, goal(policy, PERCENT, value=value))
    said = dict(parse_qsl(urlsplit(made).query, keep_blank_values=True, strict_parsing=True))
    assert said.pop("goal") == value
    assert all(macro == f"{{{name}}}" and name in MACROS for name, macro in said.items())


def test_goal_is_found_by_value_or_id() -> None:
    install = goal(TrackMultiple.NO, FIXED)
    # A value that looks like the other goal's id: what senders write wins.
    odd = goal(TrackMultiple.NO, FIXED, value="1000", goal_id=7)
    both = campaign(ACME, install, odd)
    assert find_goal(both, "INSTALL") is install
    assert find_goal(both, "7") is odd
    assert find_goal(both, "1000") is odd
    assert find_goal(campaign(ACME, install), "1000") is install
    assert find_goal(both, "nope") is None
