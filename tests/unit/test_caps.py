"""Caps, the pure part: which concern whom, which period a moment is in, what becomes of what is over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from dedup.cap_types import Open
from ingest.caps import Scope, Tally, add_up, belongs, caps_for, concerning, over, period_of, periods_since
from ingest.catalog import Approval, Cap, CapAction, CapMeasure, CapPeriod, Snapshot
from ingest.decide import Decision, Rules, decide
from ingest.reasons import Reason
from storage.statuses import held
from tests.catalogs import CLICKED_MS, DAY_MS, campaign, click, goal, receipt, snapshot

HOUR_US = 3_600_000_000
ZONES = ("UTC", "America/New_York", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe", "Africa/Cairo")


def cap(
    goal_id: int | None = 1000,
    publisher_id: int | None = None,
    *,
    each: bool = False,
    measure: CapMeasure = CapMeasure.CONVERSIONS,
    period: CapPeriod = CapPeriod.DAY,
    action: CapAction = CapAction.UNPAID,
) -> Cap:
    return Cap(goal_id, publisher_id, each, measure, period, 5, action)


def us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp()) * 1_000_000


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("UTC", "2026-11-01", 24),
        ("America/New_York", "2026-03-08", 23),
        ("America/New_York", "2026-11-01", 25),
        ("Europe/Berlin", "2026-10-25", 25),
        ("Australia/Lord_Howe", "2026-10-04", 23.5),
        ("Africa/Cairo", "2026-04-24", 23),  # no midnight: clocks go from 23:59 to 01:00
        ("Africa/Cairo", "2026-10-29", 25),  # two midnights' hours: from 23:59 back to 23:00
        ("America/Havana", "2026-11-01", 25),  # 00:00 to 00:59 comes twice
        ("Asia/Kathmandu", "2026-06-01", 24),
    ],
)
def test_days_have_the_hours_that_clocks_give_them(zone: str, day: str, hours: float) -> None:
    period = period_of(CapPeriod.DAY, zone, us(f"{day}T12:00", zone))
    assert period.key == day.replace("-", "")
    assert period.end_us - period.start_us == hours * HOUR_US
    assert period_of(CapPeriod.DAY, zone, period.start_us).key == period.key
    assert period_of(CapPeriod.DAY, zone, period.end_us - 1).key == period.key
    assert period_of(CapPeriod.DAY, zone, period.start_us - 1).end_us == period.start_us
    assert period_of(CapPeriod.DAY, zone, period.end_us).start_us == period.end_us


def test_the_second_midnight_of_a_night_begins_no_day() -> None:
    for fold in (0, 1):
        at = us("2026-11-01T00:30", "America/Havana", fold)
        assert period_of(CapPeriod.DAY, "America/Havana", at).key == "20261101"


def test_midnight_is_that_of_the_campaign() -> None:
    at = us("2026-10-31T23:59:59", "America/New_York")
    assert at == us("2026-11-01T03:59:59")
    assert period_of(CapPeriod.DAY, "America/New_York", at).key == "20261031"
    assert period_of(CapPeriod.DAY, "America/New_York", at + 1_000_000).key == "20261101"
    assert period_of(CapPeriod.MONTH, "America/New_York", at).key == "202610"
    assert period_of(CapPeriod.MONTH, "America/New_York", at + 1_000_000).key == "202611"
    assert period_of(CapPeriod.DAY, "UTC", at).key == "20261101"
    assert period_of(CapPeriod.LIFETIME, "UTC", at) == period_of(CapPeriod.LIFETIME, "Asia/Kathmandu", 0)


def test_a_date_that_never_was() -> None:
    """Samoa went from the 29th to the 31st."""
    before = period_of(CapPeriod.DAY, "Pacific/Apia", us("2011-12-29T12:00", "Pacific/Apia"))
    after = period_of(CapPeriod.DAY, "Pacific/Apia", before.end_us)
    assert (before.key, after.key, before.end_us) == ("20111229", "20111231", after.start_us)


@drawn(
    st.sampled_from(ZONES),
    st.sampled_from([CapPeriod.DAY, CapPeriod.MONTH]),
    st.integers(us("2020-01-01"), us("2035-01-01")),
)
def test_periods_leave_no_gap(zone: str, kind: CapPeriod, at_us: int) -> None:
    period = period_of(kind, zone, at_us)
    assert period.start_us <= at_us < period.end_us
    following = period_of(kind, zone, period.end_us)
    assert following.start_us == period.end_us
    assert following.key > period.key
    local = datetime.fromtimestamp(at_us // 1_000_000, UTC).astimezone(ZoneInfo(zone))
    assert f"{local:%Y%m%d}".startswith(period.key)
    later = periods_since(kind, zone, at_us, at_us + 100 * 24 * HOUR_US)
    assert [one.start_us for one in later[1:]] == [one.end_us for one in later[:-1]]
    assert (later[0], later[-1].start_us <= at_us + 100 * 24 * HOUR_US < later[-1].end_us) == (period, True)


def test_a_publishers_own_cap_stands_in_for_the_one_on_each() -> None:
    each, own, other = cap(each=True), cap(publisher_id=10), cap(publisher_id=11)
    together, campaigns = cap(), cap(None, each=True)
    monthly = cap(each=True, period=CapPeriod.MONTH)
    caps = [each, own, other, together, campaigns, monthly]
    assert caps_for(caps, 10) == [own, together, campaigns, monthly]
    assert caps_for(caps, 11) == [other, together, campaigns, monthly]
    assert caps_for(caps, 12) == [each, together, campaigns, monthly]


def sent_to(catalog: Snapshot, **sent: str) -> Decision:
    postback = catalog.reading(None).read([("click_id", "a"), *sent.items()])
    return decide(receipt(), postback, click(), catalog, Rules(90 * DAY_MS))


def decided(*caps: Cap, status: str | None = None, approval: Approval = Approval.AUTO) -> Decision:
    implied = "approved" if approval is Approval.AUTO else held(DAY_MS)
    one = replace(goal(), caps=caps, implied_status=implied)
    catalog = replace(snapshot(campaign(one, default=one)), has_caps=bool(caps))
    sent = {} if status is None else {"status": status}
    return sent_to(catalog, **sent)


def test_what_a_conversion_takes() -> None:
    caps = (
        cap(measure=CapMeasure.REVENUE, period=CapPeriod.MONTH),
        cap(None, each=True),
        cap(publisher_id=11),
        cap(measure=CapMeasure.PAYOUT, period=CapPeriod.LIFETIME),
    )
    one = replace(goal(), caps=caps)
    catalog = snapshot(campaign(one, default=one))
    decision = sent_to(catalog)
    day = f"{datetime.fromtimestamp(CLICKED_MS / 1000, UTC):%Y%m%d}"
    found = [(charge.counter, charge.scope, charge.amount, charge.limit) for _, charge in concerning(decision, catalog)]
    assert found == [
        (f"1000:-:revenue:{day[:6]}", "1000:-:revenue:month", 2_000_000, 5),
        (f"-:10:conversions:{day}", "-:*:conversions:day", 1, 5),
        ("1000:-:payout:all", "1000:-:payout:lifetime", 1_000_000, 5),
    ]
    assert concerning(sent_to(catalog, goal="none"), catalog) == []


@pytest.mark.parametrize(
    ("action", "status", "approval", "expected", "payout"),
    [
        (CapAction.UNPAID, None, Approval.AUTO, "approved", 0),
        (CapAction.UNPAID, "approved", Approval.AUTO, "=approved", 0),
        (CapAction.UNPAID, None, Approval.MANUAL, held(DAY_MS), 0),
        (CapAction.PENDING, None, Approval.AUTO, "pending", 1_000_000),
        (CapAction.PENDING, None, Approval.MANUAL, "pending", 1_000_000),
        (CapAction.CANCELLED, None, Approval.AUTO, "cancelled", 1_000_000),
        (CapAction.CANCELLED, "pending", Approval.AUTO, "=pending|cancelled", 1_000_000),
        (CapAction.PENDING, "approved", Approval.AUTO, "=approved|pending", 1_000_000),
        (CapAction.PENDING, "rejected", Approval.AUTO, "=rejected", 1_000_000),
    ],
)
def test_what_is_over(action: CapAction, status: str | None, approval: Approval, expected: str, payout: int) -> None:
    decision = decided(cap(), status=status, approval=approval)
    record = over(decision, cap(action=action)).record
    assert (record.reason, record.status, record.payout_micros) == (Reason.OVER_CAP, expected, payout)
    assert (record.conversion_id, record.revenue_micros) == (decision.record.conversion_id, 2_000_000)
    assert over(decision, cap(action=action)).claim == decision.claim
    assert over(decision, cap(action=action)).fact == decision.fact


def test_counters_are_added_up() -> None:
    scopes = [
        Scope.of(one)
        for one in (
            cap(each=True),
            cap(publisher_id=10),
            cap(None, measure=CapMeasure.REVENUE, period=CapPeriod.LIFETIME),
        )
    ]
    tallies = [
        Tally("20261105", 1000, 10, 3, 30, 3),
        Tally("20261105", 1001, 10, 4, 40, 4),
        Tally("20261105", 1000, 11, 5, 50, 5),
        Tally("20261104", 1000, 11, 6, 60, 6),
        Tally("all", 1000, 10, 3, 30, 3),
        Tally("all", 1001, 10, 4, 40, 4),
    ]
    on_hold = Open(
        "id", 1, {"1000:10:conversions:20261105": 1, "1000:10:conversions:20261103": 1, "-:-:revenue:all": 7}
    )
    assert add_up(scopes, tallies, [on_hold], {"20261105", "all"}) == {
        "1000:10:conversions:20261105": 4,
        "1000:11:conversions:20261105": 5,
        "-:-:revenue:all": 77,
    }


def test_whose_a_counter_is() -> None:
    keys = {"20261105", "all"}
    assert belongs("1000:10:conversions:20261105", {"1000:*:conversions:day"}, keys)
    assert belongs("1000:10:conversions:20261105", {"1000:10:conversions:day"}, keys)
    assert not belongs("1000:-:conversions:20261105", {"1000:*:conversions:day"}, keys)
    assert not belongs("1000:10:conversions:20261104", {"1000:*:conversions:day"}, keys)
    assert not belongs("1000:10:conversions:all", {"1000:*:conversions:day"}, keys)
