"""Caps: which concern a conversion, in which period of the campaign's time zone, and what becomes of one that is over.

Pure. A conversion takes of all its caps or, if it would cross one of them, of none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Final, assert_never
from zoneinfo import ZoneInfo

import msgspec
from msgspec.structs import replace

from dedup.cap_types import Charge, Hold, Open
from ingest.catalog import Cap, CapAction, CapMeasure, CapPeriod, Snapshot
from ingest.decide import Decision
from ingest.money import format_micros
from ingest.reasons import Reason
from storage.statuses import CANCELLED, PENDING, capped

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_US: Final = timedelta(microseconds=1)
_HOUR_US: Final = 3_600_000_000
_END_US: Final = 9_000_000_000_000_000
"""The year 2255: later than any time that can be stored."""
_KINDS: Final = {8: CapPeriod.DAY, 6: CapPeriod.MONTH, 3: CapPeriod.LIFETIME}
"""A period's kind by the length of its key."""


class Period(msgspec.Struct, frozen=True, gc=False):
    """A day, a month or all time: `key` names it within a time zone (`20261105`, `202611`, `all`); from `start_us` on,
    before `end_us`, epoch µs."""

    kind: CapPeriod
    key: str
    start_us: int
    end_us: int

    @property
    def start_ms(self) -> int:
        """The same in epoch ms."""
        return self.start_us // 1000


_ALL: Final = Period(CapPeriod.LIFETIME, "all", 0, _END_US)


class Scope(msgspec.Struct, frozen=True, gc=False):
    """What counters belong together: those of a goal, or of the whole campaign (None), for one publisher, all together
    (None), or each."""

    goal_id: int | None
    publisher_id: int | None
    each_publisher: bool
    measure: CapMeasure
    period: CapPeriod

    @classmethod
    def of(cls, cap: Cap) -> Scope:
        """What a cap counts."""
        return cls(cap.goal_id, cap.publisher_id, cap.each_publisher, cap.measure, cap.period)

    @property
    def name(self) -> str:
        """Its name among the counters."""
        publisher = "*" if self.each_publisher else self.publisher_id or "-"
        return f"{self.goal_id or '-'}:{publisher}:{self.measure}:{self.period}"

    def counter(self, publisher_id: int, key: str) -> str:
        """The name of the counter that a publisher's conversion is counted on in the period `key`."""
        publisher = publisher_id if self.each_publisher or self.publisher_id else "-"
        return f"{self.goal_id or '-'}:{publisher}:{self.measure}:{key}"

    def concerns(self, goal_id: int, publisher_id: int) -> bool:
        """Whether a conversion of that goal and publisher is counted."""
        return self.goal_id in {None, goal_id} and self.publisher_id in {None, publisher_id}


class Tally(msgspec.Struct, frozen=True, gc=False):
    """Conversions of one period, goal and publisher that were not over a cap: how many, and what they are worth."""

    key: str
    goal_id: int
    publisher_id: int
    conversions: int
    revenue_micros: int
    payout_micros: int


def period_of(kind: CapPeriod, timezone: str, at_us: int) -> Period:
    """The period of that kind in which `at_us` lies.

    A day begins with the first moment of its date in the time zone: at midnight or, where clocks are set forward over
    it, right after; where they show midnight twice, at the first. So days follow each other without gap or overlap.
    """
    if kind is CapPeriod.LIFETIME:
        return _ALL
    return next(period for period in _of_hour(kind, timezone, at_us // _HOUR_US) if at_us < period.end_us)


@lru_cache(maxsize=4096)
def _of_hour(kind: CapPeriod, timezone: str, hour: int) -> list[Period]:
    """The periods that an hour of the epoch lies in: nearly always one."""
    periods = [_period(kind, timezone, hour * _HOUR_US)]
    while periods[-1].end_us < (hour + 1) * _HOUR_US:
        periods.append(_period(kind, timezone, periods[-1].end_us))
    return periods


def _period(kind: CapPeriod, timezone: str, at_us: int) -> Period:
    day = (_EPOCH + timedelta(microseconds=at_us)).astimezone(_zone(timezone)).date()
    if at_us < _first_us(timezone, day):
        day -= _DAY
    elif at_us >= _first_us(timezone, day + _DAY):
        day += _DAY
    if kind is CapPeriod.DAY:
        return Period(kind, f"{day:%Y%m%d}", _first_us(timezone, day), _first_us(timezone, day + _DAY))
    first = day.replace(day=1)
    following = (first + 31 * _DAY).replace(day=1)
    return Period(kind, f"{day:%Y%m}", _first_us(timezone, first), _first_us(timezone, following))


def periods_since(kind: CapPeriod, timezone: str, since_us: int, now_us: int) -> list[Period]:
    """All periods of that kind from the one of `since_us` to the one of `now_us`, in order."""
    periods = [period_of(kind, timezone, min(since_us, now_us))]
    while periods[-1].end_us <= now_us:
        periods.append(period_of(kind, timezone, periods[-1].end_us))
    return periods


@lru_cache(maxsize=512)
def _zone(timezone: str) -> ZoneInfo:
    return ZoneInfo(timezone)


@lru_cache(maxsize=4096)
def _first_us(timezone: str, day: date) -> int:
    """The first moment of a date, epoch µs. A midnight that does not exist is by PEP 495 the moment after the gap."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=_zone(timezone))
    return (midnight.astimezone(UTC) - _EPOCH) // _US


def caps_for(caps: Sequence[Cap], publisher_id: int) -> list[Cap]:
    """Those of a goal's caps that concern a publisher's conversions, in order: a cap of its own stands in for the one
    on each publisher for the same measure and period."""
    own = {(cap.goal_id, cap.measure, cap.period) for cap in caps if cap.publisher_id == publisher_id}
    return [
        cap
        for cap in caps
        if cap.publisher_id == publisher_id
        or (cap.publisher_id is None and not (cap.each_publisher and (cap.goal_id, cap.measure, cap.period) in own))
    ]


def concerning(decision: Decision, snapshot: Snapshot) -> list[tuple[Cap, Charge]]:
    """The caps that a decision takes of, in order, and what it takes: none of one that it adds nothing to."""
    record = decision.record
    if decision.claim is None or record.campaign_id is None or record.goal_value is None:
        return []
    campaign = snapshot.campaigns[record.campaign_id]
    caps = campaign.goals[record.goal_value.casefold()].caps
    publisher_id = record.publisher_id
    if not caps or publisher_id is None:
        return []
    found = []
    for cap in caps_for(caps, publisher_id):
        amount = _amount(cap.measure, 1, record.revenue_micros or 0, record.payout_micros or 0)
        if amount:
            scope = Scope.of(cap)
            period = period_of(cap.period, campaign.timezone, record.received_us)
            counter = scope.counter(publisher_id, period.key)
            found.append((cap, Charge(counter, scope.name, period.start_ms, amount, cap.limit)))
    return found


def hold_of(decision: Decision, charges: Iterable[Charge]) -> Hold:
    """What a decision asks for."""
    record, receipt = decision.record, decision.receipt
    assert record.campaign_id is not None
    assert record.conversion_id is not None
    return Hold(record.campaign_id, receipt.postback_id, record.conversion_id, receipt.received_us, tuple(charges))


def over(decision: Decision, cap: Cap) -> Decision:
    """The decision once it is over the cap. Its claim stays, so a repeat is known as one."""
    record = replace(decision.record, reason=Reason.OVER_CAP)
    status = record.status or PENDING
    match cap.action:
        case CapAction.UNPAID:
            record = replace(record, payout_micros=0)
        case CapAction.PENDING:
            record = replace(record, status=capped(status, PENDING))
        case CapAction.CANCELLED:
            record = replace(record, status=capped(status, CANCELLED))
        case _:
            assert_never(cap.action)
    return replace(decision, record=record)


def measured(cap: Cap, amount: int) -> str:
    """An amount of what the cap counts, for people."""
    return str(amount) if cap.measure is CapMeasure.CONVERSIONS else format_micros(amount)


def cap_text(cap: Cap) -> str:
    """The cap, for people."""
    whose = "the campaign" if cap.goal_id is None else f"goal {cap.goal_id}"
    who = "each publisher" if cap.each_publisher else f"publisher {cap.publisher_id}" if cap.publisher_id else "all"
    when = "for ever" if cap.period is CapPeriod.LIFETIME else f"a {cap.period}"
    return f"{measured(cap, cap.limit)} {cap.measure} {when} of {whose}, {who}"


def _amount(measure: CapMeasure, conversions: int, revenue_micros: int, payout_micros: int) -> int:
    match measure:
        case CapMeasure.CONVERSIONS:
            return conversions
        case CapMeasure.REVENUE:
            return revenue_micros
        case CapMeasure.PAYOUT:
            return payout_micros
        case _:
            assert_never(measure)


def add_up(
    scopes: Sequence[Scope], tallies: Iterable[Tally], held: Iterable[Open], keys: AbstractSet[str]
) -> dict[str, int]:
    """What the counters of `scopes` should say in the periods `keys`: what was counted, and what is held."""
    totals: Counter[str] = Counter()
    for tally in tallies:
        if tally.key not in keys:
            continue
        mine = [
            scope
            for scope in scopes
            if scope.period is _KINDS[len(tally.key)] and scope.concerns(tally.goal_id, tally.publisher_id)
        ]
        # A publisher's own cap and the one on each publisher share a counter.
        totals.update(
            {
                scope.counter(tally.publisher_id, tally.key): _amount(
                    scope.measure, tally.conversions, tally.revenue_micros, tally.payout_micros
                )
                for scope in mine
            }
        )
    names = {scope.name for scope in scopes}
    for one in held:
        totals.update({counter: amount for counter, amount in one.amounts.items() if belongs(counter, names, keys)})
    return dict(totals)


def belongs(counter: str, scopes: AbstractSet[str], keys: AbstractSet[str]) -> bool:
    """Whether a counter is one of these scopes (their names) and periods."""
    owner, publisher, measure, key = counter.split(":")
    kind = _KINDS[len(key)]
    return key in keys and not scopes.isdisjoint(
        (f"{owner}:{publisher}:{measure}:{kind}", f"{owner}:{'-' if publisher == '-' else '*'}:{measure}:{kind}")
    )
