"""Parts of the API that ask nobody: margins, merge patches, cursors, views, the document."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.api.docs import docs_page
from ingest.api.openapi import openapi_document
from ingest.catalog import PayoutOf, Rate, Terms
from ingest.catalog_change import Kind
from ingest.catalog_cursors import after_cursor, cursor_at
from ingest.catalog_file import CatalogError, parse_catalog
from ingest.catalog_toml import format_catalog
from ingest.catalog_views import row_of, view_of
from ingest.margins import margin_document, margin_of, payout_warnings
from ingest.merge_patch import MAX_DEPTH, merge_patch
from ingest.money import price
from ingest.sample import CATALOG
from ingest.vault import Vault
from storage.rows import AdvertiserRow, CampaignRow, CapRow, CatalogRows, GoalRow, RateRow

MICROS = 1_000_000
VAULT = Vault([b"k" * 64])

# Margins -------------------------------------------------------------------------------------------------------------


def rate(revenue: tuple[int, int], payout: tuple[int, int], of: str = "sale") -> RateRow:
    return RateRow(None, (), *revenue, *payout, of)


@pytest.mark.parametrize(
    ("row", "margin"),
    [
        (rate((2 * MICROS, 0), (1_400_000, 0)), {"fixed": "0.6", "percent": "0", "share": "30"}),
        (rate((0, 20 * MICROS), (0, 70 * MICROS), "revenue"), {"fixed": "0", "percent": "6", "share": "30"}),
        (rate((500_000, 8 * MICROS), (250_000, 6 * MICROS)), {"fixed": "0.25", "percent": "2", "share": None}),
        (rate((500_000, 8 * MICROS), (0, 50 * MICROS), "revenue"), {"fixed": "0.25", "percent": "4", "share": "50"}),
        (rate((MICROS, 0), (0, 10 * MICROS)), {"fixed": "1", "percent": "-10", "share": None}),
        (rate((0, 0), (MICROS, 0)), {"fixed": "-1", "percent": "0", "share": None}),
        (rate((0, 0), (0, 0)), {"fixed": "0", "percent": "0", "share": None}),
    ],
)
def test_margins(row: RateRow, margin: dict[str, str | None]) -> None:
    assert margin_document(row) == margin


amounts = st.integers(0, 10**9)
percents = st.integers(0, 200 * MICROS)


@given(
    st.builds(
        RateRow, st.none(), st.just(()), amounts, percents, amounts, percents, st.sampled_from(["sale", "revenue"])
    ),
    st.integers(0, 10**12),
)
def test_a_margin_is_what_is_left_of_a_sale(row: RateRow, sale_micros: int) -> None:
    margin = margin_of(row)
    decided = Rate(
        Terms(row.revenue_fixed_micros, row.revenue_micro_percent),
        Terms(row.payout_fixed_micros, row.payout_micro_percent),
        PayoutOf(row.payout_of),
    )
    revenue = price(decided.revenue, sale_micros)
    payout = price(decided.payout, revenue if decided.payout_of is PayoutOf.REVENUE else sale_micros)
    told = margin.fixed_micros + margin.micro_percent * Fraction(sale_micros, 100 * MICROS)
    assert abs(told - (revenue - payout)) <= 4, "but for rounding"
    if not list(payout_warnings([row])):
        assert told >= 0
    if margin.share_micro_percent is not None and revenue > 10**6:
        assert abs(margin.share_micro_percent / (100 * MICROS) - Fraction(revenue - payout, revenue)) < Fraction(
            1, 10**4
        )


def test_warnings_say_for_which_sales() -> None:
    rows = [
        rate((MICROS, 0), (2 * MICROS, 0)),
        rate((MICROS, 0), (0, 10 * MICROS)),
        rate((0, 10 * MICROS), (MICROS, 0)),
        rate((MICROS, 0), (MICROS, 0)),
    ]
    assert [str(warning) for warning in payout_warnings(rows)] == [
        "rates[0].payout: is more than the revenue",
        "rates[1].payout: is more than the revenue for sales above 10",
        "rates[2].payout: is more than the revenue for sales below 10",
    ]


# Merge patch, cursors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "patch", "result"),  # the examples of RFC 7396, appendix A
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch(target: object, patch: object, result: object) -> None:
    assert merge_patch(target, patch) == result


def test_a_patch_has_a_depth() -> None:
    nested: dict[str, Any] = {}
    for _ in range(MAX_DEPTH):
        nested = {"a": nested}
    with pytest.raises(ValueError, match="nested too deeply"):
        merge_patch({}, nested)
    merge_patch({}, nested["a"])


FIRST: list[object] = []


def as_it_is(key: list[object]) -> list[object]:
    return key


@given(st.integers(0, 2**63 - 1))
def test_a_cursor_is_read_back(number: int) -> None:
    assert after_cursor(cursor_at("goal", number), "goal", FIRST, as_it_is) == [number]
    with pytest.raises(ValueError, match="leave it out"):
        after_cursor(cursor_at("campaign", number), "goal", FIRST, as_it_is)


@given(st.text())
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="leave it out"):
        after_cursor(text, "goal", FIRST, as_it_is)


# Views ---------------------------------------------------------------------------------------------------------------


def test_a_view_is_read_back_as_its_row() -> None:
    rows = parse_catalog(CATALOG.read_text(encoding="utf-8"), VAULT).rows
    for kind, found in (
        (Kind.ADVERTISER, rows.advertisers),
        (Kind.PUBLISHER, rows.publishers),
        (Kind.CAMPAIGN, rows.campaigns),
        (Kind.GOAL, rows.goals),
        (Kind.EXCHANGE_RATE, rows.exchange_rates),
    ):
        for row in found:
            view = {key: value for key, value in view_of(row, VAULT).items() if value is not None}
            assert row_of(kind, view, VAULT, present=row) == row


def test_a_secret_is_a_keyed_reference() -> None:
    row = AdvertiserRow(1, "A", ("sha256:" + "0" * 64,), signing_secrets=(VAULT.seal("s" * 20),))
    view, other = view_of(row, VAULT), view_of(row, Vault([b"j" * 64]))
    assert view["security_tokens"] != other["security_tokens"], "without the key it is no guess's proof"
    assert view == view_of(row, VAULT)
    with pytest.raises(CatalogError, match=r"security_tokens: item 0: .* none that is called so"):
        row_of(Kind.ADVERTISER, {"id": 1, "name": "A", "security_tokens": ["stored:x"]}, VAULT, present=row)


caps = st.lists(
    st.builds(
        CapRow,
        st.sampled_from(["conversions", "revenue", "payout"]),
        st.sampled_from(["day", "month", "lifetime"]),
        st.integers(1, 10**12 - 1),
        st.sampled_from(["pending", "cancelled", "unpaid"]),
        st.none() | st.integers(1, 3),
    ),
    max_size=4,
    unique_by=lambda cap: (cap.publisher_id, cap.measure, cap.period),
).map(tuple)


@given(caps, caps, st.none() | st.integers(0, 3650 * 86_400_000))
def test_caps_and_holds_are_written_and_read_back(
    own: tuple[CapRow, ...], campaigns: tuple[CapRow, ...], hold_ms: int | None
) -> None:
    rows = CatalogRows(
        campaigns=(CampaignRow(5, 1, "C", "USD", caps=campaigns),),
        goals=(GoalRow(7, 5, "T", "v", approval="manual", hold_ms=hold_ms, caps=own),),
    )
    assert parse_catalog(format_catalog(rows)).rows == rows
    view = {key: value for key, value in view_of(rows.goals[0], VAULT).items() if value is not None}
    assert row_of(Kind.GOAL, view, VAULT) == rows.goals[0]


@pytest.mark.parametrize(
    ("cap", "problem"),
    [
        ('measure = "sales"', "measure: expected one of conversions, revenue, payout"),
        ("limit = 0", "limit: expected a number of conversions, from 1 to"),
        ('measure = "payout"\nlimit = "0.0"', "limit: must be more than 0"),
        ('measure = "payout"\nlimit = 1.5', 'limit: write it as a text, which is exact: "1.5"'),
        ("publisher = 3\neach_publisher = true", "each_publisher: the cap is for one publisher already"),
        ('action = "drop"', "action: expected one of pending, cancelled, unpaid"),
    ],
)
def test_mistakes_in_caps(cap: str, problem: str) -> None:
    keys = {"measure": '"conversions"', "period": '"day"', "limit": "5", "action": '"pending"'}
    keys |= dict(line.split(" = ") for line in cap.splitlines())
    lines = "\n".join(f"{key} = {value}" for key, value in keys.items())
    head = '[[campaigns]]\nid = 1\nadvertiser = 1\nname = "C"\ncurrency = "USD"\n[[campaigns.caps]]\n'
    with pytest.raises(CatalogError) as caught:
        parse_catalog(head + lines)
    assert caught.value.problems[0].startswith(f"campaigns[0].caps[0].{problem}")
    parse_catalog(head + 'measure = "payout"\nperiod = "day"\nlimit = "5"\naction = "unpaid"')


def test_one_cap_for_each_publisher_measure_and_period() -> None:
    cap = '[[campaigns.caps]]\nmeasure = "payout"\nperiod = "day"\nlimit = "5"\naction = "unpaid"\n'
    head = '[[campaigns]]\nid = 1\nadvertiser = 1\nname = "C"\ncurrency = "USD"\n'
    with pytest.raises(CatalogError, match=r"caps\[1\]\.measure: campaigns\[0\]\.caps\[0\] is the cap on payout"):
        parse_catalog(head + cap * 2)
    parse_catalog(head + cap + f"{cap}each_publisher = true\n" + f"{cap}publisher = 3\n")


def test_hold_is_for_manual_goals() -> None:
    text = '[[campaigns]]\nid = 1\nadvertiser = 1\nname = "C"\ncurrency = "USD"\n[[campaigns.goals]]\nid = 2\n'
    text += 'title = "T"\nvalue = "v"\nhold = "1d"\n'
    with pytest.raises(CatalogError, match='only a goal with approval = "manual"'):
        parse_catalog(text)
    parse_catalog(text + 'approval = "manual"')


# The document --------------------------------------------------------------------------------------------------------


def test_every_reference_of_the_document_leads_somewhere() -> None:
    document = openapi_document()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [ref for inner in value.values() for ref in references(inner)]
        return [ref for inner in value for ref in references(inner)] if isinstance(value, list) else []

    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    assert set(references(document)) <= known
    operations = [
        one["operationId"] for item in document["paths"].values() for key, one in item.items() if key != "parameters"
    ]
    assert len(operations) == len(set(operations)) == 22
    page = docs_page(document)
    assert all(f'id="{operation}"' in page for operation in operations)


def test_a_view_has_the_keys_that_the_document_names() -> None:
    rows = parse_catalog(CATALOG.read_text(encoding="utf-8"), VAULT).rows
    schemas = openapi_document()["components"]["schemas"]
    for name, row in (
        ("Advertiser", rows.advertisers[0]),
        ("Publisher", rows.publishers[0]),
        ("Campaign", rows.campaigns[0]),
        ("Goal", rows.goals[0]),
        ("ExchangeRate", rows.exchange_rates[0]),
    ):
        assert set(view_of(row, VAULT)) == set(schemas[name]["required"]) == set(schemas[name]["properties"])
