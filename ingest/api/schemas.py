"""The documents of the API as types: what its OpenAPI document is made from. What a value may be is checked by
`ingest.catalog_reader`; tests hold the two together.

A field with a default may be left out; the default says what it is then.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dedup.policy import TrackMultiple
from ingest.catalog import (
    Approval,
    CapAction,
    CapMeasure,
    CapPeriod,
    GoalType,
    PayoutOf,
    Profile,
    Standing,
    Status,
)
from ingest.catalog_change import Kind
from ingest.catalog_values import MAX_CAP, MAX_NAME, MAX_NETWORKS, MAX_RATE, MAX_SECRETS, MAX_VALUE, STANDARD_NAMES

Id = Annotated[int, Meta(ge=1, le=2**63 - 1)]
Version = Annotated[int, Meta(ge=1, description="Grows with each change; the ETag too.")]
Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME)]
Decimal = Annotated[
    str, Meta(pattern=r"^[0-9]+(\.[0-9]+)?$", examples=["2.00"], extra_json_schema={"format": "decimal"})
]
Signed = Annotated[str, Meta(pattern=r"^-?[0-9]+(\.[0-9]+)?$")]
Duration = Annotated[
    str, Meta(pattern=r"^[0-9]+ *(ms|s|m|h|d)$", description="Such as 30d, 12h, 45m, 10s.", examples=["30d"])
]
Currency = Annotated[str, Meta(pattern="^[A-Z]{3}$", description="ISO 4217.", examples=["USD"])]
Country = Annotated[str, Meta(pattern="^[A-Z]{2}$", description="ISO 3166-1 alpha-2.", examples=["US"])]
Secret = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=255,
        description="Written only. Shown as stored:…, which can be given back to keep it.",
    ),
]


class _Closed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Terms(_Closed, frozen=True):
    """A price: fixed + percent of the sale."""

    fixed: Decimal = "0"
    percent: Decimal = "0"


class Payout(Terms, frozen=True):
    """What the publisher is paid; the percentage is of the sale or of the revenue."""

    of: PayoutOf = PayoutOf.SALE


class Rate(_Closed, frozen=True):
    """A price. The most specific applies: publisher and country, publisher, country, default."""

    countries: Annotated[list[Country], Meta(description="None: everywhere.")] = []
    publisher: Id | None = None
    revenue: Terms = Terms()
    payout: Payout = Payout()


class Cap(_Closed, frozen=True):
    """How much may be converted. Without a publisher: all together or, with each_publisher, each by itself."""

    measure: CapMeasure
    period: Annotated[CapPeriod, Meta(description="Days and months are of the campaign's time zone.")]
    limit: Annotated[int, Meta(ge=1, le=MAX_CAP)] | Decimal
    action: Annotated[CapAction, Meta(description="What becomes of a conversion over it; unpaid: payout 0.")]
    publisher: Id | None = None
    each_publisher: bool = False


class Advertiser(_Closed, frozen=True):
    """Who sends postbacks and pays the revenue."""

    name: Name
    security_tokens: list[Secret] = []
    profile: Profile = Profile.JSON
    aliases: Annotated[
        dict[
            Annotated[str, Meta(min_length=1, max_length=64)],
            Annotated[str, Meta(extra_json_schema={"enum": sorted(STANDARD_NAMES)})],
        ],
        Meta(description="Own parameter names, each with the standard name it stands for."),
    ] = {}
    signing_secrets: Annotated[list[Secret], Meta(max_length=MAX_SECRETS)] = []
    signature_window: Duration | None = None
    allowed_addresses: Annotated[list[str], Meta(max_length=MAX_NETWORKS, description="Addresses and networks.")] = []
    rate_limit: Annotated[int, Meta(ge=1, le=MAX_RATE)] | None = None
    status: Annotated[Standing, Meta(description="Archive with archived: its campaigns must be archived first.")] = (
        Standing.ACTIVE
    )


class Publisher(_Closed, frozen=True):
    """Who brings clicks and is paid the payout."""

    name: Name
    status: Annotated[
        Standing, Meta(description="Archive with archived: what its clicks bring is decided and paid as before.")
    ] = Standing.ACTIVE


class Campaign(_Closed, frozen=True):
    """An advertiser's offer; all its amounts are in one currency."""

    advertiser: Id
    name: Name
    currency: Currency
    timezone: Annotated[str, Meta(min_length=1, examples=["UTC", "Europe/Berlin"])] = "UTC"
    status: Annotated[Status, Meta(description="Only active ones take conversions. Archive with archived.")] = (
        Status.ACTIVE
    )
    window: Duration | None = None
    min_age: Duration | None = None
    caps: list[Cap] = []


class Goal(_Closed, frozen=True):
    """What an advertiser pays for after the click. It has one version with its rates and caps."""

    campaign: Id
    title: Name
    value: Annotated[str, Meta(min_length=1, max_length=MAX_VALUE, description="Unique in the campaign but for case.")]
    default: Annotated[bool, Meta(description="Whether it is meant where a postback names no goal.")] = False
    type: GoalType = GoalType.PUBLIC
    publishers: Annotated[list[Id], Meta(description="A private goal's; others' conversions have payout 0.")] = []
    track_multiple: TrackMultiple = TrackMultiple.YES_WITH_TXN_ID
    status: Annotated[Status, Meta(description="Only active ones take conversions. Archive with archived.")] = (
        Status.ACTIVE
    )
    approval: Annotated[Approval, Meta(description="manual: conversions are pending first.")] = Approval.AUTO
    hold: (
        Annotated[Duration, Meta(description="How long a manual goal's are pending; none: until a person decides.")]
        | None
    ) = None
    rates: list[Rate] = []
    caps: list[Cap] = []


class ExchangeRate(_Closed, frozen=True):
    """A unit of `from` is `rate` units of `to`, from 00:00 UTC of valid_from until the next one."""

    source: Currency = msgspec.field(name="from")
    target: Currency = msgspec.field(name="to")
    rate: Decimal
    valid_from: date
    status: Annotated[Standing, Meta(description="Archive with archived: as if it were not there.")] = Standing.ACTIVE


class Margin(_Closed, frozen=True):
    """Revenue less payout: fixed + percent of the sale. share: percent of the revenue, if it is the same always."""

    fixed: Signed
    percent: Signed
    share: Signed | None


class Finding(_Closed, frozen=True):
    """What there is to say about a field."""

    field: Annotated[str, Meta(description="Such as rates[0].revenue.fixed; empty: the whole.")]
    detail: str


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Problem details, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[Finding] = []
    version: Annotated[int, Meta(description="409, 412: the present version.")] | msgspec.UnsetType = msgspec.UNSET


class Change(_Closed, frozen=True):
    """A change of the catalog. Of secrets it shows how many there were, and whether they were changed."""

    id: Id
    changed_at: datetime
    changed_by: str
    kind: Kind
    entity: str
    campaign: Id | None
    version: Version
    before: dict[str, Any] | None
    after: dict[str, Any]


DOCUMENTS = {
    Kind.ADVERTISER: Advertiser,
    Kind.PUBLISHER: Publisher,
    Kind.CAMPAIGN: Campaign,
    Kind.GOAL: Goal,
    Kind.EXCHANGE_RATE: ExchangeRate,
}
"""What is given of each kind."""
