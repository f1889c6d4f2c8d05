"""Catalogs in memory, for tests of what is decided by them. Each piece has a plain default."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dedup.policy import TrackMultiple
from ingest.addresses import parse_networks
from ingest.arrival import Receipt
from ingest.catalog import (
    Advertiser,
    Campaign,
    ExchangeRates,
    Goal,
    GoalType,
    PayoutOf,
    Profile,
    Rate,
    RateKey,
    Snapshot,
    Status,
    Terms,
    token_digest,
)
from ingest.clicks import Click
from ingest.money import MICROS
from ingest.signatures import PARAMETER

CLICKED_MS = 1_790_000_000_000
DAY_MS = 86_400_000
PERCENT = MICROS
"""One percent in micro-percent."""


def rate(
    revenue: tuple[int, int] = (2 * MICROS, 0),
    payout: tuple[int, int] = (1 * MICROS, 0),
    payout_of: PayoutOf = PayoutOf.SALE,
) -> Rate:
    """Each of revenue and payout is (fixed micros, micro-percent)."""
    return Rate(Terms(*revenue), Terms(*payout), payout_of)


def goal(
    goal_id: int = 1000,
    value: str = "install",
    *,
    rates: Mapping[RateKey, Rate] | None = None,
    kind: GoalType = GoalType.PUBLIC,
    publishers: Sequence[int] = (),
    track_multiple: TrackMultiple = TrackMultiple.YES_WITH_TXN_ID,
    status: Status = Status.ACTIVE,
    version: int = 3,
) -> Goal:
    return Goal(
        id=goal_id,
        title=value.title(),
        value=value,
        version=version,
        type=kind,
        publishers=frozenset(publishers),
        track_multiple=track_multiple,
        status=status,
        rates={(None, None): rate()} if rates is None else rates,
    )


def advertiser(
    *,
    tokens: Sequence[str] = (),
    aliases: Mapping[str, str] | None = None,
    profile: Profile = Profile.JSON,
    advertiser_id: int = 1,
    signing_secrets: Sequence[str] = (),
    networks: Sequence[str] = (),
) -> Advertiser:
    return Advertiser(
        id=advertiser_id,
        name="Acme Games",
        token_digests=tuple(token_digest(token) for token in tokens),
        profile=profile,
        aliases=aliases or {},
        signing_keys=tuple(secret.encode() for secret in signing_secrets),
        allowed_networks=parse_networks(networks),
    )


def campaign(
    *goals: Goal,
    default: Goal | None = None,
    campaign_id: int = 100,
    of: Advertiser | None = None,
    currency: str = "USD",
    status: Status = Status.ACTIVE,
    window_ms: int | None = None,
    min_age_ms: int | None = None,
) -> Campaign:
    """Of one goal unless `goals` are given; its default goal is `default`."""
    goals = goals or (goal(),)
    return Campaign(
        id=campaign_id,
        advertiser=of or advertiser(),
        name="Acme Quest",
        currency=currency,
        timezone="UTC",
        status=status,
        window_ms=window_ms,
        min_age_ms=min_age_ms,
        goals={one.value.casefold(): one for one in goals},
        default_goal=default,
    )


def snapshot(*campaigns: Campaign, exchange_rates: Mapping[tuple[str, str], ExchangeRates] | None = None) -> Snapshot:
    """With the names that the campaigns' advertisers use for click_id and security_token."""
    aliases = [item for one in campaigns for item in one.advertiser.aliases.items()]
    return Snapshot(
        campaigns={one.id: one for one in campaigns},
        exchange_rates=exchange_rates or {},
        click_id_names=frozenset(name for name, field in aliases if field == "click_id"),
        secret_names=frozenset(name for name, field in aliases if field == "security_token") | {PARAMETER},
    )


def click(
    *, campaign_id: int = 100, publisher_id: int = 10, clicked_ms: int = CLICKED_MS, country: str | None = "US"
) -> Click:
    return Click(campaign_id, publisher_id, clicked_ms, country)


def receipt(number: int = 1, *, after_ms: int = 60_000, remote_ip: str | None = "192.0.2.7") -> Receipt:
    """Received `after_ms` after the default click; a postback of its own for each `number`."""
    return Receipt(
        (0x01900000_0000_7000_8000 << 48 | number).to_bytes(16, "big"), (CLICKED_MS + after_ms) * 1000, remote_ip
    )
