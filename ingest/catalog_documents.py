"""Rows as documents: what a catalog file says of them, key by key, and the API too. Pure.

A document holds plain values: texts, whole numbers, booleans, dates, lists, mappings; None where nothing is set. Read
back, by `ingest.catalog_reader`, it is the row that it was made of, but for its version and a goal's campaign.
"""

from __future__ import annotations

from collections.abc import Iterable

from ingest.catalog import CapMeasure
from ingest.money import format_micros, format_percent, format_rate_nanos
from ingest.units import format_duration
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CapRow,
    ExchangeRateRow,
    GoalRow,
    PublisherRow,
    RateRow,
)

Document = dict[str, object]
Row = AdvertiserRow | PublisherRow | CampaignRow | GoalRow | ExchangeRateRow


def document_of(row: Row) -> Document:
    """The row under the keys of a catalog file, in their order. Tokens are digests, secrets encrypted."""
    match row:
        case AdvertiserRow():
            return _advertiser(row)
        case PublisherRow():
            return {"id": row.id, "name": row.name, "status": row.status}
        case CampaignRow():
            return _campaign(row)
        case GoalRow():
            return _goal(row)
        case ExchangeRateRow():
            return _exchange_rate(row)


def rate_id(row: ExchangeRateRow) -> str:
    """What an exchange rate is called: EUR-USD-2026-11-01."""
    return f"{row.from_currency}-{row.to_currency}-{row.valid_from.isoformat()}"


def _advertiser(row: AdvertiserRow) -> Document:
    return {
        "id": row.id,
        "name": row.name,
        "security_tokens": list(row.security_tokens),
        "profile": row.profile,
        "aliases": dict(sorted(row.aliases.items())),
        "signing_secrets": list(row.signing_secrets),
        "signature_window": _duration(row.signature_window_ms),
        "allowed_addresses": list(row.allowed_addresses),
        "rate_limit": row.rate_limit,
        "status": row.status,
    }


def _campaign(row: CampaignRow) -> Document:
    return {
        "id": row.id,
        "advertiser": row.advertiser_id,
        "name": row.name,
        "currency": row.currency,
        "timezone": row.timezone,
        "status": row.status,
        "window": _duration(row.window_ms),
        "min_age": _duration(row.min_age_ms),
        "caps": _caps(row.caps),
    }


def _goal(row: GoalRow) -> Document:
    return {
        "id": row.id,
        "title": row.title,
        "value": row.value,
        "default": row.is_default,
        "type": row.type,
        "publishers": list(row.publishers),
        "track_multiple": row.track_multiple,
        "status": row.status,
        "approval": row.approval,
        "hold": _duration(row.hold_ms),
        "rates": [_rate(rate) for rate in row.rates],
        "caps": _caps(row.caps),
    }


def _rate(row: RateRow) -> Document:
    payout = _terms(row.payout_fixed_micros, row.payout_micro_percent)
    return {
        "countries": list(row.countries),
        "publisher": row.publisher_id,
        "revenue": _terms(row.revenue_fixed_micros, row.revenue_micro_percent),
        "payout": {**payout, "of": row.payout_of},
    }


def _terms(fixed_micros: int, micro_percent: int) -> Document:
    return {"fixed": format_micros(fixed_micros), "percent": format_percent(micro_percent)}


def _caps(rows: Iterable[CapRow]) -> list[Document]:
    return [
        {
            "measure": row.measure,
            "period": row.period,
            "limit": row.limit if row.measure == CapMeasure.CONVERSIONS else format_micros(row.limit),
            "action": row.action,
            "publisher": row.publisher_id,
            "each_publisher": row.each_publisher,
        }
        for row in rows
    ]


def _exchange_rate(row: ExchangeRateRow) -> Document:
    return {
        "from": row.from_currency,
        "to": row.to_currency,
        "rate": format_rate_nanos(row.rate_nanos),
        "valid_from": row.valid_from,
        "status": row.status,
    }


def _duration(ms: int | None) -> str | None:
    return None if ms is None else format_duration(ms)
