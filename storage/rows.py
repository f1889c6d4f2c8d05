"""What the catalog's and the clicks' tables hold, as plain types.

`version` grows with each change of a row, or of what is kept with it. Amounts are micros (1/1,000,000) of the currency
unit, percentages micro-percent, exchange rates nanos, times and durations milliseconds. Enumerations are the text that
stands in the column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime


@dataclass(frozen=True, slots=True)
class AdvertiserRow:
    """`security_tokens` are digests (`sha256:<hex>`), `signing_secrets` are encrypted (`enc:<base64url>`),
    `allowed_addresses` networks as Postgres writes them (`203.0.113.7/32`). None: as built in, no limit."""

    id: int
    name: str
    security_tokens: tuple[str, ...] = ()
    profile: str = "json"
    aliases: Mapping[str, str] = field(default_factory=dict)
    signing_secrets: tuple[str, ...] = ()
    signature_window_ms: int | None = None
    allowed_addresses: tuple[str, ...] = ()
    rate_limit: int | None = None
    status: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class PublisherRow:
    """Who brings clicks."""

    id: int
    name: str
    status: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class CapRow:
    """How much a goal or a campaign may convert. `limit`: conversions, or micros of the campaign's currency.
    `publisher_id` None: all publishers together or, with `each_publisher`, each by itself."""

    measure: str
    period: str
    limit: int
    action: str
    publisher_id: int | None = None
    each_publisher: bool = False


@dataclass(frozen=True, slots=True)
class CampaignRow:
    """`window_ms` and `min_age_ms` None: as configured."""

    id: int
    advertiser_id: int
    name: str
    currency: str
    timezone: str = "UTC"
    status: str = "active"
    window_ms: int | None = None
    min_age_ms: int | None = None
    caps: tuple[CapRow, ...] = ()
    version: int = 1


@dataclass(frozen=True, slots=True)
class RateRow:
    """One price of a goal. `publisher_id` None: every publisher; no countries: everywhere."""

    publisher_id: int | None = None
    countries: tuple[str, ...] = ()
    revenue_fixed_micros: int = 0
    revenue_micro_percent: int = 0
    payout_fixed_micros: int = 0
    payout_micro_percent: int = 0
    payout_of: str = "sale"


@dataclass(frozen=True, slots=True)
class GoalRow:
    """A goal with its prices and caps, in order. `hold_ms` None or 0: a manual goal's conversions wait for a person."""

    id: int
    campaign_id: int
    title: str
    value: str
    is_default: bool = False
    type: str = "public"
    publishers: tuple[int, ...] = ()
    track_multiple: str = "yes_with_txn_id"
    status: str = "active"
    version: int = 1
    rates: tuple[RateRow, ...] = ()
    approval: str = "auto"
    hold_ms: int | None = None
    caps: tuple[CapRow, ...] = ()


@dataclass(frozen=True, slots=True)
class ExchangeRateRow:
    """A unit of `from_currency` is `rate_nanos` / 10^9 units of `to_currency`, from 00:00 UTC of `valid_from`."""

    from_currency: str
    to_currency: str
    rate_nanos: int
    valid_from: date
    status: str = "active"
    version: int = 1


@dataclass(frozen=True, slots=True)
class CatalogRows:
    """A whole catalog, or a part of one."""

    advertisers: tuple[AdvertiserRow, ...] = ()
    publishers: tuple[PublisherRow, ...] = ()
    campaigns: tuple[CampaignRow, ...] = ()
    goals: tuple[GoalRow, ...] = ()
    exchange_rates: tuple[ExchangeRateRow, ...] = ()


@dataclass(frozen=True, slots=True)
class NewHistory:
    """A change of the catalog to be remembered. `before` and `after` are JSON; `before` None: it was created."""

    changed_by: str
    kind: str
    entity_id: str
    campaign_id: int | None
    version: int
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class HistoryRow:
    """A change of the catalog as it is remembered."""

    id: int
    changed_at: datetime
    changed_by: str
    kind: str
    entity_id: str
    campaign_id: int | None
    version: int
    before: Mapping[str, object] | None
    after: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class StoredClick:
    """A click as it stands in the table: what later decisions need of it."""

    click_id: str
    campaign_id: int
    publisher_id: int
    clicked_ms: int
    country: str | None


@dataclass(frozen=True, slots=True)
class NewClick:
    """A click to register. `params` is what else the tracker gave."""

    click_id: str
    campaign_id: int
    publisher_id: int
    clicked_ms: int
    country: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Registration:
    """What stands in the table under a click's id, and whether it was put there just now."""

    click: StoredClick
    is_new: bool
