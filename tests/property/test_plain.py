"""Compiled code against the rules: it says of a plain postback what they say, byte for byte, and leaves all others."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st

from benchmarks.workload import make_clicks, make_postbacks
from ingest.arrival import Arrival, Unread, UnreadLine, Waiting
from ingest.catalog_file import parse_catalog
from ingest.catalog_rows import build_snapshot
from ingest.clicks import pack_click
from ingest.decide import Rules
from ingest.plain import NothingPlain, plain_maker
from ingest.sample import CATALOG
from tests.catalogs import CLICKED_MS, DAY_MS, campaign, receipt, snapshot
from tests.plain_cases import Case, Packed, cases, check
from tests.plain_postbacks import as_line, as_query, nearly_plain_case, plain_case

make_plain = plain_maker()
pytestmark = pytest.mark.skipif(make_plain is NothingPlain, reason="the compiled code is not built")
seeds = st.integers(0, 2**64)
MORE = int(os.environ.get("MORE_EXAMPLES", "1"))
"""So many times as many: see tests/compiled_sanitized.py."""


def many(examples: int) -> settings:
    return settings(
        max_examples=examples * MORE,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def taken(case: Case) -> tuple[int, int]:
    """How many are decided here at the first and the second sight of their names, all as the rules say."""
    plain = make_plain(case.catalog, case.rules)
    first, second = (sum(entry is not None for entry in check(plain, case)) for _ in range(2))
    return first, second


def one(packed: bytes = b"100,10,1790000000000,US", window_ms: int = 90 * DAY_MS, **sent: str) -> Case:
    """A postback about one click."""
    case = Case(snapshot(campaign()), Rules(window_ms), {"c1": packed}, [])
    case.arrivals.append(Arrival(receipt(), {"click_id": "c1", "goal": "install"} | sent))
    return case


@many(300)
@given(cases())
@example(one(packed=b"100,10,281474976710656,US"))  # more than the 48 bits of a conversion's id
@example(one(window_ms=2**63 - 1))  # no sum with it fits 64 bits
@example(one(window_ms=10**20))
def test_what_is_decided_here_equals_the_rules(case: Case) -> None:
    event(f"{taken(case)[1]} taken of {len(case.arrivals)}")


@many(400)
@given(seeds)
def test_what_is_nearly_plain_equals_the_rules(seed: int) -> None:
    taken(nearly_plain_case(seed))


@many(200)
@given(seeds)
def test_all_that_is_plain_is_decided_here(seed: int) -> None:
    case = plain_case(seed)
    first, second = taken(case)
    assert first < second == len(case.arrivals)


@many(10)
@given(seeds)
def test_all_that_senders_send_is_decided_here(seed: int) -> None:
    rng = random.Random(seed)
    clicks = make_clicks(rng, 100, CLICKED_MS)
    packed: Packed = {
        one.click_id: pack_click(one.campaign_id, one.publisher_id, one.clicked_ms, one.country) for one in clicks
    }
    arrivals: list[Waiting] = []
    for number, sent in enumerate(make_postbacks(rng, clicks)):
        arrivals += [
            Unread(receipt(number), as_query(rng, sent.params)),
            UnreadLine(receipt(number), as_line(rng, sent.params)),
            Arrival(receipt(number), sent.params),
        ]
    catalog = build_snapshot(parse_catalog(CATALOG.read_text()).rows)
    assert taken(Case(catalog, Rules(90 * DAY_MS), packed, arrivals))[1] == len(arrivals)
