"""The overview: what was counted and what was not, by hour or day, and what waits."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from aiohttp import web

from ingest.catalog_change import Kind
from ingest.catalog_service import MAX_PAGE, CatalogService
from ingest.console.charts import Chart, chart, times
from ingest.console.editing import names_of
from ingest.console.visits import RefusedError, Route, Visit
from storage.activity import MAX_ASIDE, Counted, Logged, count_aside, fetch_counts
from storage.postgres import Pool
from storage.statuses import APPROVED

RANGES: Final[Mapping[str, tuple[str, int, bool]]] = {
    "24h": ("Last 24 hours", 24, False),
    "72h": ("Last 3 days, by hour", 72, False),
    "30d": ("Last 30 days", 30, True),
    "90d": ("Last 90 days", 90, True),
}
"""By name: title, columns, whether they are days."""
_REASONS: Final = 6
_OTHER: Final = "other reasons"


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is under way: entries in the queue, bytes in this machine's spool; None: it cannot be asked."""

    backlog: int | None
    spool_bytes: int | None


@dataclass(frozen=True, slots=True)
class Sums:
    """Of a currency, approved conversions: sums. `pending`: revenue that is not decided."""

    currency: str
    conversions: int
    revenue: Decimal
    payout: Decimal
    pending: Decimal

    @property
    def margin(self) -> Decimal:
        """What is left."""
        return self.revenue - self.payout


class Overview:
    """The handler. `waiting` tells what is under way."""

    def __init__(self, service: CatalogService, pool: Pool, waiting: Callable[[], Awaitable[Waiting]]) -> None:
        self._service = service
        self._pool = pool
        self._waiting = waiting

    def routes(self) -> Sequence[Route]:
        """What there is."""
        return (Route("GET", "", self._page), Route("GET", "/", self._page))

    async def _page(self, visit: Visit) -> web.Response:
        name = visit.query("range") or "24h"
        if name not in RANGES:
            raise RefusedError(404, f"There is no such range; there are: {', '.join(RANGES)}.")
        _, count, by_day = RANGES[name]
        at = times(datetime.now(UTC), count, by_day=by_day)
        campaign = visit.query("campaign")
        campaign_id = None if campaign is None else visit.number_of(campaign)
        (counted, logged), (parked, dead), waiting, campaigns = await asyncio.gather(
            fetch_counts(self._pool, at[0], campaign_id, by_day=by_day),
            count_aside(self._pool),
            self._waiting(),
            self._service.page(Kind.CAMPAIGN, {}, limit=MAX_PAGE),
        )
        sums = sums_of(counted)
        currency = visit.query("currency") or (sums[0].currency if sums else "")
        return await visit.page(
            "overview.html",
            ranges={key: title for key, (title, _, _) in RANGES.items()},
            range=name,
            by_day=by_day,
            campaigns=names_of(campaigns.items),
            campaign_id=campaign_id,
            outcomes=_outcome_chart(at, counted, logged, by_day=by_day),
            rejections=_rejection_chart(at, logged, by_day=by_day),
            money=_money_chart(at, counted, currency, by_day=by_day),
            totals=_totals(counted, logged),
            reasons=_reasons(logged),
            sums=sums,
            currency=currency,
            waiting=waiting,
            parked=parked,
            dead=dead,
            many=MAX_ASIDE,
        )


def sums_of(counted: Iterable[Counted]) -> list[Sums]:
    """By currency, the one with the most conversions first."""
    by_currency: dict[str, list[Counted]] = defaultdict(list)
    for one in counted:
        by_currency[one.currency].append(one)
    found = [
        Sums(
            currency,
            sum(one.conversions for one in group if one.status == APPROVED),
            sum((one.revenue for one in group if one.status == APPROVED), Decimal()),
            sum((one.payout for one in group if one.status == APPROVED), Decimal()),
            sum((one.revenue for one in group if one.status == "pending"), Decimal()),
        )
        for currency, group in by_currency.items()
    ]
    return sorted(found, key=lambda one: (-one.conversions, one.currency))


def _totals(counted: Iterable[Counted], logged: Iterable[Logged]) -> dict[str, int]:
    totals = Counter(
        {"accepted": sum(one.conversions for one in counted), "duplicate": 0, "conflict": 0, "rejected": 0}
    )
    for one in logged:
        totals[one.outcome] += one.postbacks
    return dict(totals)


def _reasons(logged: Iterable[Logged]) -> list[tuple[str, int]]:
    """(reason, rejected postbacks), the most first."""
    totals: Counter[str] = Counter()
    for one in logged:
        if one.outcome == "rejected":
            totals[one.reason or ""] += one.postbacks
    return totals.most_common()


def _outcome_chart(
    at: Sequence[datetime], counted: Iterable[Counted], logged: Iterable[Logged], *, by_day: bool
) -> Chart:
    series: dict[str, Counter[datetime]] = {
        name: Counter() for name in ("accepted", "duplicate", "conflict", "rejected")
    }
    for one in counted:
        series["accepted"][one.at] += one.conversions
    for row in logged:
        series[row.outcome][row.at] += row.postbacks
    return chart(at, series, by_day=by_day)


def _rejection_chart(at: Sequence[datetime], logged: Sequence[Logged], *, by_day: bool) -> Chart:
    shown = [reason for reason, _ in _reasons(logged)][:_REASONS]
    series: dict[str, Counter[datetime]] = {reason: Counter() for reason in shown}
    for one in logged:
        if one.outcome == "rejected":
            name = one.reason if one.reason in series else _OTHER
            series.setdefault(name or _OTHER, Counter())[one.at] += one.postbacks
    return chart(at, series, by_day=by_day)


def _money_chart(at: Sequence[datetime], counted: Iterable[Counted], currency: str, *, by_day: bool) -> Chart:
    """Payout and margin: together the revenue."""
    payout: dict[datetime, Decimal] = defaultdict(Decimal)
    margin: dict[datetime, Decimal] = defaultdict(Decimal)
    for one in counted:
        if one.status == APPROVED and one.currency == currency:
            payout[one.at] += one.payout
            margin[one.at] += one.revenue - one.payout
    return chart(at, {"payout": payout, "margin": margin}, by_day=by_day)
