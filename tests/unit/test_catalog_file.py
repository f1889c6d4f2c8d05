"""The catalog file: what it may say, and how each mistake is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.catalog import token_digest
from ingest.catalog_file import CatalogError, parse_catalog
from ingest.catalog_kept import decode_rows, encode_rows, keep_rows, kept_rows
from ingest.catalog_toml import format_catalog
from ingest.sample import CATALOG
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CatalogRows,
    ExchangeRateRow,
    GoalRow,
    PublisherRow,
    RateRow,
)

EXAMPLE = """
[[advertisers]]
id = 1
name = "Acme Games"
security_tokens = ["current", "previous"]
profile = "pixel"
aliases = { order = "txn_id", "my click" = "click_id" }

[[publishers]]
id = 10
name = "North Media"

[[campaigns]]
id = 100
advertiser = 1
name = "Acme Quest CPI"
currency = "USD"
timezone = "Europe/Berlin"
status = "paused"
window = "30d"
min_age = "0s"

[[campaigns.goals]]
id = 1000
title = "Install"
value = "install"
default = true
type = "private"
publishers = [10]
track_multiple = "no"
status = "archived"

[[campaigns.goals.rates]]
countries = ["US", "CA"]
publisher = 10
revenue = { fixed = "2.00", percent = "12.5" }
payout = { fixed = 1, percent = "70", of = "revenue" }

[[campaigns.goals.rates]]

[[exchange_rates]]
from = "EUR"
to = "USD"
rate = "1.0850"
valid_from = 2026-11-01
"""


def problems_of(text: str) -> tuple[str, ...]:
    with pytest.raises(CatalogError) as caught:
        parse_catalog(text)
    return caught.value.problems


def test_every_key_is_read() -> None:
    catalog = parse_catalog(EXAMPLE)
    assert catalog.rows == CatalogRows(
        advertisers=(
            AdvertiserRow(
                id=1,
                name="Acme Games",
                security_tokens=(token_digest("current"), token_digest("previous")),
                profile="pixel",
                aliases={"order": "txn_id", "my click": "click_id"},
            ),
        ),
        publishers=(PublisherRow(10, "North Media"),),
        campaigns=(CampaignRow(100, 1, "Acme Quest CPI", "USD", "Europe/Berlin", "paused", 30 * 86_400_000, 0),),
        goals=(
            GoalRow(
                id=1000,
                campaign_id=100,
                title="Install",
                value="install",
                is_default=True,
                type="private",
                publishers=(10,),
                track_multiple="no",
                status="archived",
                rates=(
                    RateRow(10, ("US", "CA"), 2_000_000, 12_500_000, 1_000_000, 70_000_000, "revenue"),
                    RateRow(),
                ),
            ),
        ),
        exchange_rates=(ExchangeRateRow("EUR", "USD", 1_085_000_000, date(2026, 11, 1)),),
    )
    assert catalog.places == {
        ("advertiser", 1): "advertisers[0]",
        ("publisher", 10): "publishers[0]",
        ("campaign", 100): "campaigns[0]",
        ("goal", 1000): "campaigns[0].goals[0]",
    }


def test_what_has_an_obvious_none_can_be_left_out() -> None:
    rows = parse_catalog(
        """
        [[advertisers]]
        id = 1
        name = "A"
        [[campaigns]]
        id = 2
        advertiser = 1
        name = "C"
        currency = "EUR"
        [[campaigns.goals]]
        id = 3
        title = "T"
        value = "v"
        """
    ).rows
    assert rows.advertisers == (AdvertiserRow(1, "A"),)
    assert rows.campaigns == (CampaignRow(2, 1, "C", "EUR", "UTC", "active", None, None),)
    assert rows.goals == (GoalRow(3, 2, "T", "v"),)
    assert parse_catalog("").rows == CatalogRows()


def test_a_digest_is_taken_as_it_is() -> None:
    digest = token_digest("secret")
    rows = parse_catalog(f'[[advertisers]]\nid = 1\nname = "A"\nsecurity_tokens = ["{digest}"]').rows
    assert rows.advertisers[0].security_tokens == (digest,)


def replaced(old: str, new: str) -> str:
    assert EXAMPLE.count(old) == 1, old
    return EXAMPLE.replace(old, new)


GOAL = "campaigns[0].goals[0]"
RATE = f"{GOAL}.rates[0]"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('profile = "pixel"', 'profil = "pixel"', "advertisers[0].profil: there is no such key; did you mean profile?"),
        ('profile = "pixel"', 'profile = "xml"', "advertisers[0].profile: expected one of json, text, pixel, empty"),
        ('"previous"', '"current"', "advertisers[0].security_tokens: names something twice"),
        ('"previous"', '"sha256:12"', 'advertisers[0].security_tokens: item 1: expected "sha256:" and 64 '),
        ('"previous"', '""', "advertisers[0].security_tokens: item 1: is empty"),
        ('["current", "previous"]', '"current"', "advertisers[0].security_tokens: expected a list"),
        ('order = "txn_id"', 'order = "order_id"', "advertisers[0].aliases: order: expected one of click_id, currency"),
        ('order = "txn_id"', "order = 1", "advertisers[0].aliases: order: expected one of"),
        ('"my click"', '""', "advertisers[0].aliases: the name '' is empty"),
        ("id = 10\n", 'id = "10"\n', "publishers[0].id: expected a whole number from 1 up"),
        ("id = 10\n", "id = 0\n", "publishers[0].id: expected a whole number from 1 up"),
        ("id = 10\n", "id = true\n", "publishers[0].id: expected a whole number from 1 up"),
        ("id = 10\n", "id = 9223372036854775808\n", "publishers[0].id: expected a whole number from 1 up"),
        ('name = "North Media"', "", "publishers[0].name: missing"),
        ('name = "North Media"', 'name = " "', "publishers[0].name: is empty"),
        ('name = "North Media"', 'name = "a\\tb"', "publishers[0].name: holds a control character"),
        ('name = "North Media"', f'name = "{"x" * 201}"', "publishers[0].name: longer than 200 bytes"),
        ("advertiser = 1\n", "", "campaigns[0].advertiser: missing"),
        ('currency = "USD"', 'currency = "usd"', "campaigns[0].currency: expected a currency code of ISO 4217"),
        ('currency = "USD"', 'currency = "ZZZ"', "campaigns[0].currency: expected a currency code of ISO 4217"),
        ("Europe/Berlin", "Mars/Olympus", "campaigns[0].timezone: expected a time zone"),
        ("Europe/Berlin", "Europe", "campaigns[0].timezone: expected a time zone"),
        ("Europe/Berlin", "../etc/passwd", "campaigns[0].timezone: expected a time zone"),
        ('window = "30d"', 'window = "30 days"', "campaigns[0].window: expected a duration"),
        ('window = "30d"', 'window = "0s"', "campaigns[0].window: must be longer than 0"),
        ('window = "30d"', 'window = "4000d"', "campaigns[0].window: longer than 3650d"),
        ('min_age = "0s"', 'min_age = "30d"', "campaigns[0].min_age: must be shorter than window"),
        ('min_age = "0s"', "min_age = 5", "campaigns[0].min_age: expected a duration"),
        ('value = "install"', 'value = "{goal}"', f"{GOAL}.value: reads as an unexpanded macro"),
        ("default = true", 'default = "yes"', f"{GOAL}.default: expected true or false"),
        ('type = "private"', 'type = "public"', f"{GOAL}.publishers: a public goal is for every publisher"),
        ("publishers = [10]", "publishers = [10, 10]", f"{GOAL}.publishers: names something twice"),
        ('track_multiple = "no"', "track_multiple = false", f"{GOAL}.track_multiple: expected one of no, yes"),
        ('["US", "CA"]', '["US", "us"]', f"{RATE}.countries: item 1: expected a country code"),
        ('fixed = "2.00"', "fixed = 2.5", f'{RATE}.revenue.fixed: write it as a text, which is exact: "2.5"'),
        ('fixed = "2.00"', 'fixed = "-2"', f"{RATE}.revenue.fixed: negative"),
        ('fixed = "2.00"', 'fixed = "NaN"', f"{RATE}.revenue.fixed: expected a plain decimal"),
        ('percent = "12.5"', 'percent = "1.1234567"', f"{RATE}.revenue.percent: more than six decimals"),
        ('percent = "12.5"', 'procent = "1"', f"{RATE}.revenue.procent: there is no such key; did you mean percent?"),
        ('of = "revenue"', 'of = "profit"', f"{RATE}.payout.of: expected one of sale, revenue"),
        ('{ fixed = "2.00", percent = "12.5" }', '"2.00"', f"{RATE}.revenue: expected a table in braces"),
        ('rate = "1.0850"', 'rate = "0"', "exchange_rates[0].rate: must be more than 0"),
        ('to = "USD"', 'to = "EUR"', "exchange_rates[0].to: is EUR, as from is"),
        ("2026-11-01", '"2026-11-31"', "exchange_rates[0].valid_from: expected a date such as"),
        ("2026-11-01", '"20261101"', "exchange_rates[0].valid_from: expected a date such as"),
        ("2026-11-01", "2026-11-01T00:00:00", "exchange_rates[0].valid_from: expected a date such as"),
        (
            "[[exchange_rates]]",
            "[[exchange_rate]]",
            "exchange_rate: there is no such key; did you mean exchange_rates?",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(old: str, new: str, problem: str) -> None:
    (found,) = problems_of(replaced(old, new))
    assert found.startswith(problem)


def test_all_problems_are_named_at_once() -> None:
    text = EXAMPLE.replace('profile = "pixel"', 'profile = "xml"').replace('"US"', '"XX"').replace("30d", "soon")
    assert [problem.partition(":")[0] for problem in problems_of(text)] == [
        "advertisers[0].profile",
        "campaigns[0].window",
        f"{RATE}.countries",
    ]


def test_a_token_is_never_shown() -> None:
    text = replaced('"previous"', '"hunter2\\u0001"')
    assert not any("hunter2" in problem for problem in problems_of(text))


def test_what_is_no_toml_is_said_with_its_line() -> None:
    (problem,) = problems_of("[[advertisers]\n")
    assert problem.startswith("not valid TOML: ")
    assert "line 1" in problem


@pytest.mark.parametrize("text", ["advertisers = 1", "advertisers = [1]", "[advertisers]\nid = 1"])
def test_tables_must_be_tables(text: str) -> None:
    assert "[[advertisers]]" in problems_of(text)[0]


CAMPAIGN = '[[campaigns]]\nid = {id}\nadvertiser = 1\nname = "C"\ncurrency = "USD"\n'
GOAL_TEXT = '[[campaigns.goals]]\nid = {id}\ntitle = "T"\nvalue = "{value}"\ndefault = {default}\n'


def goals(*goals: tuple[int, str, str]) -> str:
    return CAMPAIGN.format(id=1) + "".join(
        GOAL_TEXT.format(id=number, value=value, default=default) for number, value, default in goals
    )


def test_ids_are_unique() -> None:
    assert problems_of(CAMPAIGN.format(id=1) * 2) == ("campaigns[1].id: 1 is the id of campaigns[0] already",)
    two = goals((7, "a", "false")) + goals((7, "b", "false")).replace("id = 1", "id = 2", 1)
    assert problems_of(two) == ("campaigns[1].goals[0].id: 7 is the id of campaigns[0].goals[0] already",)


def test_goal_values_are_unique_in_a_campaign_but_for_case() -> None:
    assert problems_of(goals((1, "Straße", "false"), (2, "STRASSE", "false"))) == (
        "campaigns[0].goals[1].value: 'STRASSE' is the value of campaigns[0].goals[0] already, but for case",
    )
    parse_catalog(goals((1, "sale", "false")) + goals((2, "sale", "false")).replace("id = 1", "id = 2", 1))


def test_one_default_goal_at_most() -> None:
    assert problems_of(goals((1, "a", "true"), (2, "b", "false"), (3, "c", "true"))) == (
        "campaigns[0].goals[2].default: the campaign has a default goal already",
    )


@pytest.mark.parametrize(
    ("first", "second", "problem"),
    [
        ("", "", "is the rate of every publisher in every other country already"),
        ('countries = ["US", "CA"]', 'countries = ["DE", "CA"]', "is the rate of every publisher in CA already"),
        ("publisher = 5", "publisher = 5", "is the rate of publisher 5 in every other country already"),
        ("publisher = 5", "publisher = 6", None),
        ("publisher = 5", "", None),
        ('countries = ["US"]', "", None),
    ],
)
def test_two_rates_must_not_claim_the_same(first: str, second: str, problem: str | None) -> None:
    text = goals((1, "a", "false")) + "".join(f"[[campaigns.goals.rates]]\n{rate}\n" for rate in (first, second))
    if problem is None:
        assert len(parse_catalog(text).rows.goals[0].rates) == 2
    else:
        assert problems_of(text) == (f"{GOAL}.rates[1].countries: {GOAL}.rates[0] {problem}",)


def test_two_exchange_rates_of_one_day() -> None:
    rate = '[[exchange_rates]]\nfrom = "EUR"\nto = "USD"\nrate = "1"\nvalid_from = 2026-11-01\n'
    assert problems_of(rate * 2) == ("exchange_rates: two rates from EUR to USD are valid from 2026-11-01",)
    assert len(parse_catalog(rate + rate.replace("-01\n", "-02\n")).rows.exchange_rates) == 2


def test_utc_needs_no_time_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_data(key: str) -> object:
        raise LookupError(key)

    monkeypatch.setattr("ingest.catalog_values.ZoneInfo", no_data)
    parse_catalog(replaced("Europe/Berlin", "UTC"))
    assert problems_of(EXAMPLE)[0].startswith("campaigns[0].timezone")


def test_the_sample_uses_every_option() -> None:
    rows = parse_catalog(CATALOG.read_text()).rows
    rates = [rate for goal in rows.goals for rate in goal.rates]
    assert len(rows.campaigns) == 3
    assert {goal.track_multiple for goal in rows.goals} == {"no", "yes", "yes_with_txn_id"}
    assert {goal.type for goal in rows.goals} == {"public", "private"}
    assert {goal.status for goal in rows.goals} >= {"active", "paused"}
    assert {(bool(rate.publisher_id), bool(rate.countries)) for rate in rates} == {
        (False, False),
        (False, True),
        (True, False),
        (True, True),
    }
    assert {(bool(rate.revenue_fixed_micros), bool(rate.revenue_micro_percent)) for rate in rates} == {
        (True, False),
        (False, True),
        (True, True),
    }
    assert {rate.payout_of for rate in rates if rate.payout_micro_percent} == {"sale", "revenue"}
    assert len({campaign.currency for campaign in rows.campaigns}) == 3
    assert [goal.id for goal in rows.goals if goal.is_default and goal.campaign_id == 100] == [1000]
    assert {row.profile for row in rows.advertisers} >= {"json", "text"}
    assert any(row.security_tokens for row in rows.advertisers)
    assert any(row.aliases for row in rows.advertisers)


printable = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=30).filter(
    lambda text: text == text.strip()
)
micros = st.integers(0, 10**18 - 1)
percents = st.integers(0, 10**10 - 1)
rates = st.lists(
    st.builds(
        RateRow,
        st.none() | st.integers(1, 3),
        st.sampled_from([(), ("US",), ("CA", "DE")]),
        micros,
        percents,
        micros,
        percents,
        st.sampled_from(["sale", "revenue"]),
    ),
    max_size=3,
    unique_by=lambda rate: (rate.publisher_id, rate.countries),
).map(tuple)
durations = st.integers(1, 3650 * 86_400_000)


@given(
    name=printable,
    aliases=st.dictionaries(printable.filter(lambda text: len(text.encode()) <= 64), st.just("txn_id"), max_size=3),
    window_ms=st.none() | durations,
    rates=rates,
    rate_nanos=st.integers(1, 10**18 - 1),
    day=st.dates(date(1900, 1, 1)),
)
def test_what_is_written_is_read_back(
    name: str,
    aliases: dict[str, str],
    window_ms: int | None,
    rates: tuple[RateRow, ...],
    rate_nanos: int,
    day: date,
) -> None:
    rows = CatalogRows(
        advertisers=(AdvertiserRow(1, name, (token_digest(name),), "text", aliases),),
        publishers=(PublisherRow(2, name), PublisherRow(3, "x")),
        campaigns=(CampaignRow(5, 1, name, "USD", window_ms=window_ms),),
        goals=(GoalRow(7, 5, name, "value", type="private", publishers=(2, 3), rates=rates),),
        exchange_rates=(ExchangeRateRow("EUR", "USD", rate_nanos, day),),
    )
    assert parse_catalog(format_catalog(rows)).rows == rows
    assert decode_rows(encode_rows(rows)) == rows


def test_the_written_file_leaves_out_what_is_none() -> None:
    text = format_catalog(CatalogRows(campaigns=(CampaignRow(5, 1, "C", "USD"),), goals=(GoalRow(7, 5, "T", "v"),)))
    assert not re.search("window|min_age|default|publishers|rates", text)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: data.replace(b"catalog 2", b"catalog 3"),
        lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
    ],
)
def test_a_damaged_kept_catalog_is_refused(damage: Callable[[bytes], bytes]) -> None:
    data = encode_rows(parse_catalog(EXAMPLE).rows)
    with pytest.raises(ValueError, match=r"damaged|version"):
        decode_rows(damage(data))


def test_the_kept_catalog_is_private_and_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "catalog.snapshot"
    first, second = CatalogRows(), parse_catalog(EXAMPLE).rows
    keep_rows(path, first)
    assert kept_rows(path) == first
    keep_rows(path, second)
    assert kept_rows(path) == second
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
