"""Clicks: the packed form, and what may be registered."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.clicks import Click, ClickError, pack_click, read_click, unpack_click
from ingest.iso import COUNTRIES
from ingest.sample import sample_clicks
from storage.rows import NewClick

NOW_MS = 1_793_534_400_000  # 2026-11-01T12:00:00Z
GOOD: dict[str, object] = {"click_id": "c1", "campaign_id": "100", "publisher_id": "10", "clicked_at": "1793534400"}
ids = st.integers(1, 2**63 - 1)


@given(ids, ids, st.integers(0, 2**48 - 1), st.none() | st.sampled_from(sorted(COUNTRIES)))
def test_packing_keeps_everything(campaign_id: int, publisher_id: int, clicked_ms: int, country: str | None) -> None:
    packed = pack_click(campaign_id, publisher_id, clicked_ms, country)
    assert unpack_click(packed) == Click(campaign_id, publisher_id, clicked_ms, country)


def test_the_packed_form_is_a_contract_with_what_is_cached() -> None:
    assert pack_click(100, 10, 1_790_000_000_000, "US") == b"100,10,1790000000000,US"
    assert pack_click(100, 10, 1_790_000_000_000, None) == b"100,10,1790000000000,"


@pytest.mark.parametrize("packed", [b"", b"1,2,3", b"1,2,3,US,5", b"a,2,3,US"])
def test_what_is_no_packed_click_is_refused(packed: bytes) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        unpack_click(packed)


def test_a_click_is_read() -> None:
    fields = {
        "click_id": " c1 ",
        "campaign_id": 100,
        "publisher_id": " 10",
        "clicked_at": "2026-11-01T13:00:00.1239+01:00",
        "country": "us",
        "sub1": "a",
        "sub2": "",
        "sub3": None,
        "extra": {"k": [1]},
        "n": 5,
    }
    assert read_click(fields, NOW_MS + 200) == NewClick(
        "c1", 100, 10, NOW_MS + 123, "US", {"sub1": "a", "extra": '{"k":[1]}', "n": "5"}
    )


@pytest.mark.parametrize(
    ("text", "clicked_ms"),
    [
        ("1793534400", NOW_MS),
        ("1793534400.9999", NOW_MS + 999),
        (1793534400.5, NOW_MS + 500),
        ("1793534400001", NOW_MS + 1),
        (1793534400001, NOW_MS + 1),
        ("2026-11-01T12:00:00Z", NOW_MS),
        ("2026-11-01 12:00:00.9999Z", NOW_MS + 999),
        ("2026-11-01t14:30:00+02:30", NOW_MS),
        ("2000-01-01T00:00:00Z", 946_684_800_000),
        ("2026-11-01T12:05:00Z", NOW_MS + 300_000),
    ],
)
def test_times(text: object, clicked_ms: int) -> None:
    assert read_click(GOOD | {"clicked_at": text}, NOW_MS).clicked_ms == clicked_ms


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("click_id", None, "click_id: missing"),
        ("click_id", "", "click_id: missing"),
        ("click_id", "  ", "click_id: missing"),
        ("click_id", "a\x00b", "click_id: holds a control character"),
        ("click_id", "a\udc80", "click_id: not valid UTF-8"),
        ("click_id", "é" * 128, "click_id: longer than 255 bytes"),
        ("click_id", ["c1"], "click_id: expected a text or a number"),
        ("campaign_id", "", "campaign_id: missing"),
        ("campaign_id", "0", "campaign_id: expected a whole number from 1 up, got '0'"),
        ("campaign_id", "-1", "campaign_id: expected a whole number"),
        ("campaign_id", "1.0", "campaign_id: expected a whole number"),
        ("campaign_id", "١", "campaign_id: expected a whole number"),
        ("campaign_id", True, "campaign_id: expected a text or a number"),
        ("publisher_id", str(2**63), "publisher_id: expected a whole number"),
        ("publisher_id", "9" * 5000, "publisher_id: expected a whole number"),
        ("clicked_at", None, "clicked_at: missing"),
        ("clicked_at", "yesterday", "clicked_at: expected a time"),
        ("clicked_at", "2026-02-30T00:00:00Z", "clicked_at: expected a time"),
        ("clicked_at", "1999-12-31T23:59:59.999Z", "clicked_at: expected a time from the year 2000 on"),
        ("clicked_at", "0", "clicked_at: expected a time from the year 2000 on"),
        ("clicked_at", "NaN", "clicked_at: expected a time"),
        ("clicked_at", "1e400", "clicked_at: expected a time"),
        ("clicked_at", "2026-11-01T12:05:00.001Z", "clicked_at: in the future by more than 5 minutes"),
        ("country", "XX", "country: expected two letters of ISO 3166-1"),
        ("country", "USA", "country: expected two letters of ISO 3166-1"),
    ],
)
def test_a_bad_field_is_named(field: str, value: object, problem: str) -> None:
    with pytest.raises(ClickError) as caught:
        read_click(GOOD | {field: value}, NOW_MS)
    assert str(caught.value).startswith(problem)


def test_limits_are_reached_exactly() -> None:
    click = read_click(GOOD | {"click_id": "x" * 255, "campaign_id": str(2**63 - 1)}, NOW_MS)
    assert (click.click_id, click.campaign_id) == ("x" * 255, 2**63 - 1)


@pytest.mark.parametrize("country", ["", " ", None])
def test_the_country_may_be_unknown(country: object) -> None:
    assert read_click(GOOD | {"country": country}, NOW_MS).country is None


def test_params_never_refuse_a_click() -> None:
    fields = GOOD | {f"p{n}": "v" for n in range(100)} | {"p0": "é" * 1000, "p1": "a\x00b", "p2": "\udc80"}
    params = read_click(fields, NOW_MS).params
    assert len(params) == 32
    assert params["p0"] == "é" * 512
    assert "\x00" not in params["p1"]
    assert all(value.encode() for value in params.values())


@given(st.dictionaries(st.text(max_size=100), st.text(max_size=2000), max_size=40))
def test_any_fields_give_a_click_or_a_named_problem(fields: dict[str, str]) -> None:
    click = read_click(fields | GOOD, NOW_MS)
    assert all(len(value.encode()) <= 1024 and len(name.encode()) <= 64 for name, value in click.params.items())
    with pytest.raises(ClickError, match=r"^(click_id|campaign_id|publisher_id|clicked_at|country): "):
        read_click({key: value for key, value in fields.items() if key != "clicked_at"}, NOW_MS)


def test_the_sample_clicks_are_fit_to_register() -> None:
    clicks = sample_clicks(NOW_MS)
    assert len({click.click_id for click in clicks}) == len(clicks)
    assert 25 <= len(clicks) <= 40
    for click in clicks:
        fields = {
            "click_id": click.click_id,
            "campaign_id": click.campaign_id,
            "publisher_id": click.publisher_id,
            "clicked_at": click.clicked_ms,
            "country": click.country,
            **click.params,
        }
        assert read_click(fields, NOW_MS) == click
