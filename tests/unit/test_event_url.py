"""The event postback handed to an advertiser."""

from __future__ import annotations

import shlex
from dataclasses import replace
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.policy import TrackMultiple
from ingest.catalog import Advertiser, Goal, PayoutOf, Rate, RateKey, Status
from ingest.event_url import PLACEHOLDER, EventUrl, EventUrlError, Filled, event_url, find_goal
from ingest.macros import is_macro
from ingest.senders import FIELDS, GENERIC, SENDERS, Sender, find_sender
from ingest.times import parse_time_ms
from ingest.wire import STANDARD_ALIASES, interpret, read_query
from tests.catalogs import PERCENT, advertiser, campaign, goal, rate

FIXED = rate()
OF_SALE = rate(payout=(0, 70 * PERCENT))
REVENUE_OF_SALE = rate(revenue=(0, 20 * PERCENT))
OF_REVENUE = rate(payout=(0, 70 * PERCENT), payout_of=PayoutOf.REVENUE)
YES = TrackMultiple.YES
ALL_FIELDS = ("click_id", "goal", "txn_id", "event_id", "sale_amount", "currency", "event_time")


def priced(policy: TrackMultiple, *rates: Rate, value: str = "install", goal_id: int = 1000) -> Goal:
    by_country: dict[RateKey, Rate] = {
        (None, country): one for country, one in zip((None, "US", "GB"), rates, strict=False)
    }
    return goal(goal_id, value, track_multiple=policy, rates=by_country)


def made(
    its_goal: Goal, of: Advertiser | None = None, sender: Sender = GENERIC, macros: dict[str, str] | None = None
) -> EventUrl:
    of_campaign = campaign(its_goal, of=of)
    return event_url("https://t.example.com/", "/postback", of_campaign, its_goal, sender, macros=macros or {})


def everything(sender: Sender, of: Advertiser | None = None) -> EventUrl:
    """A URL for all goals of a campaign that needs every field the sender knows."""
    goals = [priced(policy, OF_SALE, value=policy.value, goal_id=number) for number, policy in enumerate(TrackMultiple)]
    macros = {"goal": "{the_goal}"} if "goal" not in sender.macros else {}
    whole = campaign(*goals, of=of)
    return event_url("https://t.example.com", "/postback", whole, None, sender, macros=macros, with_time=True)


# What is in it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "rates", "expected"),
    [
        (TrackMultiple.NO, (FIXED,), "click_id={click_id}&goal=install"),
        (TrackMultiple.YES_WITH_TXN_ID, (FIXED,), "click_id={click_id}&goal=install&txn_id={txn_id}"),
        (TrackMultiple.YES, (FIXED,), "click_id={click_id}&goal=install&event_id={event_id}"),
        (TrackMultiple.NO, (OF_REVENUE,), "click_id={click_id}&goal=install"),
        (
            TrackMultiple.NO,
            (OF_SALE,),
            "click_id={click_id}&goal=install&sale_amount={sale_amount}&currency={currency}",
        ),
        # One rate of several is enough to need the sale.
        (
            TrackMultiple.YES_WITH_TXN_ID,
            (FIXED, REVENUE_OF_SALE),
            "click_id={click_id}&goal=install&txn_id={txn_id}&sale_amount={sale_amount}&currency={currency}",
        ),
        (TrackMultiple.NO, (), "click_id={click_id}&goal=install"),
    ],
)
def test_only_what_bears_on_the_goal(policy: TrackMultiple, rates: tuple[Rate, ...], expected: str) -> None:
    assert made(priced(policy, *rates)).url == f"https://t.example.com/postback?{expected}"


def test_time_of_the_event_is_there_where_it_is_asked_for() -> None:
    of = campaign(priced(TrackMultiple.NO, FIXED))
    its_goal = next(iter(of.goals.values()))
    assert event_url("http://h", "/p", of, its_goal, with_time=True).url.endswith("&event_time={event_time}")


def test_one_url_for_all_goals() -> None:
    both = campaign(priced(TrackMultiple.NO, FIXED), priced(YES, OF_SALE, value="order", goal_id=7))
    assert event_url("https://t.example.com", "/p", both, None, find_sender("branch")).url == (
        "https://t.example.com/p?click_id=${(last_attributed_touch_data.~click_id)!}&goal=${(name)!}&event_id=${(id)!}"
        "&sale_amount=${(event_data.revenue)!}&currency=${(event_data.currency)!}"
    )
    # What only a goal needs that takes nothing is left out.
    paused = replace(next(goal for goal in both.goals.values() if goal.id == 7), status=Status.PAUSED)
    one_left = campaign(priced(TrackMultiple.NO, FIXED), paused)
    assert event_url("http://h", "/p", one_left, None).url == "http://h/p?click_id={click_id}&goal={goal}"


def test_token_is_a_place_for_a_person_and_never_shown() -> None:
    with_token = made(priced(TrackMultiple.NO, FIXED), advertiser(tokens=["hidden"]))
    assert with_token.url.endswith(f"&security_token={PLACEHOLDER}")
    assert with_token.parameters[-1].filled is Filled.PERSON
    assert any(PLACEHOLDER in note for note in with_token.notes)
    assert "hidden" not in repr(with_token)
    assert "sha256" not in repr(with_token)


def test_who_signs_or_sends_from_some_addresses_is_told() -> None:
    notes = made(
        priced(TrackMultiple.NO), advertiser(signing_secrets=["s3cret-s3cret"], networks=["192.0.2.0/24"])
    ).notes
    assert any("docs/security.md" in note for note in notes)
    assert any("403" in note for note in notes)
    assert "s3cret" not in repr(notes)
    assert made(priced(TrackMultiple.NO)).notes == ()


def test_paused_goal_is_told() -> None:
    assert any("not active" in note for note in made(goal(status=Status.PAUSED)).notes)


# Names and macros of the advertiser's own ------------------------------------------------------------------------


def test_own_name_replaces_the_standard_one() -> None:
    own = made(priced(TrackMultiple.YES_WITH_TXN_ID, FIXED), advertiser(aliases={"order": "txn_id", "a b": "click_id"}))
    assert own.url == "https://t.example.com/postback?a%20b={click_id}&goal=install&order={txn_id}"


def test_of_two_own_names_none_is_chosen() -> None:
    assert "?click_id={click_id}&" in made(goal(), advertiser(aliases={"a": "click_id", "b": "click_id"})).url


def test_a_standard_name_that_means_something_else_is_avoided() -> None:
    own = made(priced(TrackMultiple.NO, OF_SALE), advertiser(aliases={"goal": "status", "sum": "txn_id"}))
    assert "&goal_value=install&sale_amount=" in own.url


def test_own_macro_wins() -> None:
    own = made(
        priced(TrackMultiple.YES_WITH_TXN_ID), sender=find_sender("appsflyer"), macros={"txn_id": "(af_order_id)"}
    )
    assert own.url.endswith("?click_id={clickid}&goal=install&txn_id=(af_order_id)")
    assert not any("txn_id" in note for note in own.notes)


@pytest.mark.parametrize(
    ("macros", "wrong"),
    [
        ({"txn": "{x}"}, "did you mean txn_id?"),
        ({"txn_id": ""}, "macro for txn_id"),
        ({"txn_id": "{a}&goal={b}"}, "macro for txn_id"),
        ({"txn_id": "{a}#"}, "macro for txn_id"),
        ({"txn_id": "{a}\n"}, "macro for txn_id"),
    ],
)
def test_macro_that_cannot_be(macros: dict[str, str], wrong: str) -> None:
    with pytest.raises(EventUrlError, match=wrong.replace("?", r"\?")):
        made(goal(), macros=macros)


@pytest.mark.parametrize("base", ["t.example.com", "ftp://t.example.com", "https://", "https://h/?a=b", "https://h/#x"])
def test_address_that_cannot_be(base: str) -> None:
    with pytest.raises(EventUrlError, match="expected an address"):
        event_url(base, "/postback", campaign(), goal())


def test_no_url_for_all_goals_without_a_macro_that_says_which() -> None:
    with pytest.raises(EventUrlError, match="no macro of TUNE for goal is known"):
        event_url("http://h", "/p", campaign(), None, find_sender("tune"))


# Each sender -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS.keys())
def test_what_a_sender_does_not_know_is_left_out_and_told(sender: Sender) -> None:
    whole = everything(sender)
    missing = set(FIELDS) - sender.macros.keys() - {"goal"}
    assert {one.field for one in whole.parameters} == set(FIELDS) - missing
    told = {field for field in FIELDS if any(f" for {field} is known: " in note for note in whole.notes)}
    assert told == missing
    unsure = {one.field for one in whole.parameters if not one.verified}
    assert unsure == sender.unverified
    assert any("Not verified" in note for note in whole.notes) is bool(unsure)
    assert all(one.value in whole.url for one in whole.parameters)


@st.composite
def _said(draw: st.DrawFn) -> dict[str, str]:
    """What a sender could fill in: text that it percent-encodes, and no macro itself."""
    text = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=60).map(str.strip)
    value = text.filter(lambda one: one and len(one.encode()) <= 255 and not is_macro(one))
    return {
        **{field: draw(value) for field in ("click_id", "goal", "txn_id", "event_id")},
        "sale_amount": f"{draw(st.integers(0, 10**8))}.{draw(st.integers(0, 99)):02}",
        "currency": draw(st.sampled_from(["USD", "EUR", "JPY"])),
        "event_time": str(draw(st.integers(1_000_000_000_000, 2_000_000_000_000))),
    }


@settings(max_examples=25)
@given(said=_said(), own_names=st.booleans(), blanks_as_plus=st.booleans())
@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS.keys())
def test_filled_in_it_says_what_the_sender_meant(
    sender: Sender, said: dict[str, str], own_names: bool, blanks_as_plus: bool
) -> None:
    aliases = {"order": "txn_id", "lead ref": "click_id", "event": "status", "amount": "event_id"} if own_names else {}
    whole = everything(sender, advertiser(aliases=aliases, tokens=["t"]))
    by_macro: dict[str, str] = {}
    url = whole.url
    for one in whole.parameters:
        if one.filled is Filled.SENDER:
            value = by_macro.setdefault(one.value, said[one.field])
            encoded = quote(value, safe="").replace("%20", "+") if blanks_as_plus else quote(value, safe="~(')")
            url = url.replace(f"={one.value}", f"={encoded}")
    postback = interpret(read_query(urlsplit(url).query), aliases)
    assert postback.fault is None
    assert postback.params == {}
    assert postback.security_token == PLACEHOLDER
    for one in whole.parameters:
        if one.filled is Filled.SENDER:
            expected = by_macro[one.value]
            if one.field == "event_time":
                assert postback.event_ms == parse_time_ms(expected)
            else:
                assert getattr(postback, one.field) == expected


@pytest.mark.parametrize("sender", SENDERS.values(), ids=SENDERS.keys())
def test_filled_in_by_nobody_it_says_nothing(sender: Sender) -> None:
    whole = everything(sender)
    query = urlsplit(whole.url).query
    escaped = "&".join(f"{name}={quote(value, safe='')}" for name, value in read_query(query))
    twice = "&".join(f"{name}={quote(quote(value, safe=''), safe='')}" for name, value in read_query(query))
    for raw in (query, escaped, twice):
        postback = interpret(read_query(raw))
        assert [field for field in ALL_FIELDS[:-1] if getattr(postback, field) is not None] == []
        assert (postback.event_ms, postback.params) == (None, {})


# The line for a shell --------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(
    value=st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable() and text.strip()),
    name=st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=30),
)
@pytest.mark.parametrize("policy", TrackMultiple)
def test_line_for_a_shell_is_one_word_and_says_everything(policy: TrackMultiple, value: str, name: str) -> None:
    names = {} if name in STANDARD_ALIASES else {name: "click_id"}
    its_goal = priced(policy, OF_SALE, value=value)
    line = made(its_goal, advertiser(aliases=names, tokens=["t"]))
    program, url = shlex.split(line.curl)
    assert program == "curl"
    assert not set(url) & set(" '\"`$\\{}[]<>\n")
    said = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))
    postback = interpret(read_query(urlsplit(url).query), names)
    assert said[line.parameters[1].name] == value
    assert (postback.click_id, postback.sale_amount, postback.currency) == ("click-1001", "49.99", "USD")
    assert not any(is_macro(text) for field, text in said.items() if field != line.parameters[1].name)


@given(
    value=st.text(min_size=1, max_size=50).filter(lambda text: text.isprintable()),
    policy=st.sampled_from(TrackMultiple),
)
def test_any_goal_value_survives_the_url(value: str, policy: TrackMultiple) -> None:
    url = made(priced(policy, OF_SALE, value=value)).url
    said = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True, strict_parsing=True))
    assert said.pop("goal") == value
    assert all(macro == f"{{{name}}}" and name in FIELDS for name, macro in said.items())


def test_sample_click_and_amount_are_plausible() -> None:
    its_goal = priced(TrackMultiple.YES_WITH_TXN_ID, OF_SALE)
    of = campaign(its_goal, currency="EUR")
    line = event_url("https://t.example.com", "/postback", of, its_goal, sample_click_id="demo us/1").curl
    assert line == (
        "curl 'https://t.example.com/postback?click_id=demo%20us%2F1&goal=install&txn_id=order-1001"
        "&sale_amount=49.99&currency=EUR'"
    )


def test_goal_is_found_by_value_or_id() -> None:
    install = priced(TrackMultiple.NO, FIXED)
    # A value that looks like the other goal's id: what senders write wins.
    odd = priced(TrackMultiple.NO, FIXED, value="1000", goal_id=7)
    both = campaign(install, odd)
    assert find_goal(both, "INSTALL") is install
    assert find_goal(both, "7") is odd
    assert find_goal(both, "1000") is odd
    assert find_goal(campaign(install), "1000") is install
    assert find_goal(both, "nope") is None


def test_campaign_without_goals_still_has_a_url() -> None:
    assert (
        event_url("http://h", "/p", replace(campaign(), goals={}), None).url
        == "http://h/p?click_id={click_id}&goal={goal}"
    )
