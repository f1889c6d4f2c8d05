"""The catalog's rows as the snapshot that decisions are made on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, time

from dedup.policy import TrackMultiple
from ingest.addresses import parse_networks
from ingest.catalog import (
    Advertiser,
    Approval,
    Campaign,
    Cap,
    CapAction,
    CapMeasure,
    CapPeriod,
    ExchangeRates,
    Goal,
    GoalType,
    PayoutOf,
    Profile,
    Rate,
    RateKey,
    Snapshot,
    Standing,
    Status,
    Terms,
)
from ingest.signatures import PARAMETER, WINDOW_MS
from ingest.vault import Vault, VaultError
from storage.catalog_store import read_catalog
from storage.postgres import Connection
from storage.rows import AdvertiserRow, CapRow, CatalogRows, ExchangeRateRow, GoalRow, RateRow
from storage.statuses import APPROVED, held


async def load_snapshot(connection: Connection, vault: Vault | None = None) -> Snapshot:
    """The catalog as it stands at one moment. The connection must not be in a transaction. Raises VaultError."""
    return build_snapshot(await read_catalog(connection), vault)


def build_snapshot(rows: CatalogRows, vault: Vault | None = None) -> Snapshot:
    """The rows, indexed. Of two that quarrel (which an import refuses) the first in order counts.

    Raises VaultError where a signing secret cannot be opened: to go on without it would be to ask for no signature.
    """
    advertisers = {row.id: _advertiser(row, vault) for row in rows.advertisers}
    goals: defaultdict[int, list[tuple[GoalRow, Goal]]] = defaultdict(list)
    campaign_caps = {row.id: tuple(_cap(cap, None) for cap in row.caps) for row in rows.campaigns}
    for row in rows.goals:
        goals[row.campaign_id].append((row, build_goal(row, campaign_caps.get(row.campaign_id, ()))))
    return Snapshot(
        campaigns={
            row.id: Campaign(
                id=row.id,
                advertiser=advertisers[row.advertiser_id],
                name=row.name,
                currency=row.currency,
                timezone=row.timezone,
                status=Status(row.status),
                window_ms=row.window_ms,
                min_age_ms=row.min_age_ms,
                goals={goal.value.casefold(): goal for _, goal in reversed(goals[row.id])},
                default_goal=next((goal for goal_row, goal in goals[row.id] if goal_row.is_default), None),
            )
            for row in rows.campaigns
        },
        exchange_rates=_exchange_rates(rows.exchange_rates),
        click_id_names=_own_names(rows.advertisers, "click_id"),
        secret_names=_own_names(rows.advertisers, "security_token") | {PARAMETER},
        has_caps=any(goal.caps for mine in goals.values() for _, goal in mine),
    )


def _advertiser(row: AdvertiserRow, vault: Vault | None) -> Advertiser:
    return Advertiser(
        id=row.id,
        name=row.name,
        token_digests=row.security_tokens,
        profile=Profile(row.profile),
        aliases=row.aliases,
        rate_limit=row.rate_limit,
        signing_keys=tuple(_signing_key(row, sealed, vault) for sealed in row.signing_secrets),
        signature_window_ms=WINDOW_MS if row.signature_window_ms is None else row.signature_window_ms,
        allowed_networks=parse_networks(row.allowed_addresses),
    )


def _signing_key(row: AdvertiserRow, sealed: str, vault: Vault | None) -> bytes:
    try:
        if vault is None:
            raise VaultError("there is no key to open it with")
        return vault.open(sealed).encode()
    except VaultError as error:
        raise VaultError(f"advertiser {row.id} ({row.name}): a signing secret {error}") from None


def build_goal(row: GoalRow, campaign_caps: tuple[Cap, ...] = ()) -> Goal:
    """The row, its rates indexed."""
    rates: dict[RateKey, Rate] = {}
    for rate_row in row.rates:
        rate = _rate(rate_row)
        for country in rate_row.countries or (None,):
            rates.setdefault((rate_row.publisher_id, country), rate)
    return Goal(
        id=row.id,
        title=row.title,
        value=row.value,
        version=row.version,
        type=GoalType(row.type),
        publishers=frozenset(row.publishers),
        track_multiple=TrackMultiple(row.track_multiple),
        status=Status(row.status),
        rates=rates,
        approval=Approval(row.approval),
        hold_ms=row.hold_ms or 0,
        caps=(*(_cap(cap, row.id) for cap in row.caps), *campaign_caps),
        implied_status=APPROVED if row.approval == Approval.AUTO else held(row.hold_ms or 0),
    )


def _cap(row: CapRow, goal_id: int | None) -> Cap:
    return Cap(
        goal_id=goal_id,
        publisher_id=row.publisher_id,
        each_publisher=row.each_publisher,
        measure=CapMeasure(row.measure),
        period=CapPeriod(row.period),
        limit=row.limit,
        action=CapAction(row.action),
    )


def _rate(row: RateRow) -> Rate:
    return Rate(
        revenue=Terms(row.revenue_fixed_micros, row.revenue_micro_percent),
        payout=Terms(row.payout_fixed_micros, row.payout_micro_percent),
        payout_of=PayoutOf(row.payout_of),
    )


def _exchange_rates(rows: Iterable[ExchangeRateRow]) -> dict[tuple[str, str], ExchangeRates]:
    by_pair: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for row in rows:
        if row.status == Standing.ARCHIVED:
            continue
        midnight = datetime.combine(row.valid_from, time(), UTC)
        by_pair[row.from_currency, row.to_currency].append((int(midnight.timestamp()) * 1000, row.rate_nanos))
    return {
        pair: ExchangeRates(
            valid_from_ms=tuple(since_ms for since_ms, _ in sorted(rates)),
            rate_nanos=tuple(nanos for _, nanos in sorted(rates)),
        )
        for pair, rates in by_pair.items()
    }


def _own_names(advertisers: Iterable[AdvertiserRow], standard: str) -> frozenset[str]:
    return frozenset(own for row in advertisers for own, target in row.aliases.items() if target == standard)
