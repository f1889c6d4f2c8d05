"""The catalog as receivers see it: one immutable snapshot, indexed for the decision.

Amounts are micros (1/1,000,000) of the campaign's currency, percentages micro-percent (12.5 % is 12_500_000),
exchange rates nanos (1/1,000,000,000), durations and times milliseconds.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256

from dedup.policy import TrackMultiple
from ingest.addresses import Network
from ingest.reading import Reading
from ingest.signatures import PARAMETER, WINDOW_MS
from storage.statuses import APPROVED


class Profile(StrEnum):
    """The shape of the answers an advertiser's server expects."""

    JSON = "json"
    TEXT = "text"
    PIXEL = "pixel"
    EMPTY = "empty"


class Status(StrEnum):
    """Whether a campaign or a goal takes conversions: only `active` does."""

    ACTIVE = "active"
    PAUSED = "paused"
    ARCHIVED = "archived"


class Standing(StrEnum):
    """Whether an advertiser, a publisher or an exchange rate is still used for anything new."""

    ACTIVE = "active"
    ARCHIVED = "archived"


class Approval(StrEnum):
    """Whether a goal's conversions are pending first."""

    AUTO = "auto"
    MANUAL = "manual"


class CapMeasure(StrEnum):
    """What a cap counts."""

    CONVERSIONS = "conversions"
    REVENUE = "revenue"
    PAYOUT = "payout"


class CapPeriod(StrEnum):
    """Over what a cap counts; days and months are of the campaign's time zone."""

    DAY = "day"
    MONTH = "month"
    LIFETIME = "lifetime"


class CapAction(StrEnum):
    """What becomes of a conversion over the cap; `unpaid`: recorded with payout 0."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    UNPAID = "unpaid"


class GoalType(StrEnum):
    """`private`: only the publishers on the goal's list are paid."""

    PUBLIC = "public"
    PRIVATE = "private"


class PayoutOf(StrEnum):
    """What a payout's percentage is a percentage of."""

    SALE = "sale"
    REVENUE = "revenue"


@lru_cache(maxsize=1024)
def token_digest(token: str) -> str:
    """How a security token is kept: `sha256:<hex>`."""
    return "sha256:" + sha256(token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Terms:
    """A price: fixed + percent."""

    fixed_micros: int = 0
    micro_percent: int = 0


@dataclass(frozen=True, slots=True)
class Rate:
    """What one conversion is worth. `payout_of`: what the payout's percentage is of; the revenue's is of the sale."""

    revenue: Terms
    payout: Terms
    payout_of: PayoutOf = PayoutOf.SALE

    @property
    def needs_sale(self) -> bool:
        """Whether a sale amount is needed to price a conversion."""
        return self.revenue.micro_percent > 0 or (self.payout.micro_percent > 0 and self.payout_of is PayoutOf.SALE)


@dataclass(frozen=True, slots=True)
class Cap:
    """How much a goal, or a campaign over all its goals (`goal_id` None), may convert.

    `publisher_id`: the one that it is for; None: all together or, with `each_publisher`, each by itself, where it has
    no cap of its own for the same measure and period. `limit`: conversions, or micros of the campaign's currency.
    """

    goal_id: int | None
    publisher_id: int | None
    each_publisher: bool
    measure: CapMeasure
    period: CapPeriod
    limit: int
    action: CapAction


RateKey = tuple[int | None, str | None]
"""(publisher id or every publisher, country or everywhere)"""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal of a campaign, with its rates by (publisher, country). `hold_ms`: how long a manual goal's conversion is
    pending before it is approved by itself; 0: until a person decides. `caps`: its own, then its campaign's.
    `implied_status`: as `storage.statuses` writes the one of a postback that gives none."""

    id: int
    title: str
    value: str
    version: int
    type: GoalType
    publishers: frozenset[int]
    track_multiple: TrackMultiple
    status: Status
    rates: Mapping[RateKey, Rate]
    approval: Approval = Approval.AUTO
    hold_ms: int = 0
    caps: tuple[Cap, ...] = ()
    implied_status: str = APPROVED

    def rate_for(self, publisher_id: int, country: str | None) -> tuple[RateKey, Rate] | None:
        """The most specific rate: publisher and country, publisher, country, default; None where none covers."""
        keys: tuple[RateKey, ...] = (
            (publisher_id, country),
            (publisher_id, None),
            (None, country),
            (None, None),
        )
        for key in keys:
            rate = self.rates.get(key)
            if rate is not None:
                return key, rate
        return None


@dataclass(frozen=True, slots=True)
class Advertiser:
    """Who sends. `token_digests` as `token_digest` makes them; `aliases` maps own names to standard names.
    `rate_limit`: the most postbacks a second that one receiver takes of it; None: no limit. `signing_keys`: any of them
    signs; none: no signature is asked for. `allowed_networks`: where postbacks may come from; none: anywhere."""

    id: int
    name: str
    token_digests: tuple[str, ...] = ()
    profile: Profile = Profile.JSON
    aliases: Mapping[str, str] = field(default_factory=dict)
    rate_limit: int | None = None
    signing_keys: tuple[bytes, ...] = field(default=(), repr=False)
    signature_window_ms: int = WINDOW_MS
    allowed_networks: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign; `goals` by casefolded value."""

    id: int
    advertiser: Advertiser
    name: str
    currency: str
    timezone: str
    status: Status
    window_ms: int | None
    min_age_ms: int | None
    goals: Mapping[str, Goal]
    default_goal: Goal | None


@dataclass(frozen=True, slots=True)
class ExchangeRates:
    """One currency pair's rates; both tuples in order of time."""

    valid_from_ms: tuple[int, ...]
    rate_nanos: tuple[int, ...]

    def at(self, at_ms: int) -> int | None:
        """The rate in force, None before the first."""
        index = bisect_right(self.valid_from_ms, at_ms)
        return self.rate_nanos[index - 1] if index else None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole catalog at one moment. `click_id_names` and `secret_names` are what advertisers' aliases map to
    click_id and security_token, and what else must not get into params: needed before the advertiser of a postback is
    known."""

    campaigns: Mapping[int, Campaign]
    exchange_rates: Mapping[tuple[str, str], ExchangeRates]
    click_id_names: frozenset[str] = frozenset()
    secret_names: frozenset[str] = frozenset({PARAMETER})
    has_caps: bool = False
    """Whether any goal has a cap."""
    _readings: dict[int, Reading] = field(default_factory=dict, compare=False, repr=False)

    def reading(self, advertiser: Advertiser | None) -> Reading:
        """How this advertiser's postbacks are read; None: those of whom nobody knows yet."""
        key = advertiser.id if advertiser else 0
        reading = self._readings.get(key)
        if reading is None:
            aliases = advertiser.aliases if advertiser else {}
            reading = self._readings[key] = Reading(aliases, self.secret_names, self.click_id_names)
        return reading
