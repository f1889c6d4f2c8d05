"""Postbacks about one click of one campaign, for tests of compiled code by itself."""

from __future__ import annotations

from ingest.arrival import Arrival, Receipt, Unread, UnreadLine, Waiting
from ingest.catalog import Snapshot
from ingest.decide import Rules
from ingest.plain import plain_maker
from tests.catalogs import DAY_MS, campaign, receipt, snapshot
from tests.plain_cases import Case, check

make_plain = plain_maker()
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
