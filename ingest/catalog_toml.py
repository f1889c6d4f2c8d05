"""Rows as a catalog file: the inverse of `ingest.catalog_file`. What is as when left out is left out."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from ingest.config import format_duration
from ingest.money import format_micros, format_percent, format_rate_nanos
from storage.rows import AdvertiserRow, CampaignRow, CatalogRows, ExchangeRateRow, GoalRow, RateRow

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")


def format_catalog(rows: CatalogRows) -> str:
    """The file's text. Security tokens are digests, signing secrets encrypted: none can be read from it."""
    goals: defaultdict[int, list[GoalRow]] = defaultdict(list)
    for goal in rows.goals:
        goals[goal.campaign_id].append(goal)
    blocks: list[Iterable[str]] = []
    blocks += [_advertiser(row) for row in rows.advertisers]
    blocks += [("[[publishers]]", f"id = {row.id}", f"name = {_text(row.name)}") for row in rows.publishers]
    for campaign in rows.campaigns:
        blocks.append(_campaign(campaign))
        for goal in goals[campaign.id]:
            blocks.append(_goal(goal))
            blocks += [_rate(rate) for rate in goal.rates]
    blocks += [_exchange_rate(row) for row in rows.exchange_rates]
    return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)


def _advertiser(row: AdvertiserRow) -> Iterator[str]:
    yield "[[advertisers]]"
    yield f"id = {row.id}"
    yield f"name = {_text(row.name)}"
    if row.security_tokens:
        yield f"security_tokens = {_texts(row.security_tokens)}"
    yield f"profile = {_text(row.profile)}"
    if row.aliases:
        pairs = (f"{_key(own)} = {_text(standard)}" for own, standard in sorted(row.aliases.items()))
        yield f"aliases = {{ {', '.join(pairs)} }}"
    if row.signing_secrets:
        yield f"signing_secrets = {_texts(row.signing_secrets)}"
    if row.signature_window_ms is not None:
        yield f"signature_window = {_text(format_duration(row.signature_window_ms))}"
    if row.allowed_addresses:
        yield f"allowed_addresses = {_texts(row.allowed_addresses)}"
    if row.rate_limit is not None:
        yield f"rate_limit = {row.rate_limit}"


def _campaign(row: CampaignRow) -> Iterator[str]:
    yield "[[campaigns]]"
    yield f"id = {row.id}"
    yield f"advertiser = {row.advertiser_id}"
    yield f"name = {_text(row.name)}"
    yield f"currency = {_text(row.currency)}"
    yield f"timezone = {_text(row.timezone)}"
    yield f"status = {_text(row.status)}"
    if row.window_ms is not None:
        yield f"window = {_text(format_duration(row.window_ms))}"
    if row.min_age_ms is not None:
        yield f"min_age = {_text(format_duration(row.min_age_ms))}"


def _goal(row: GoalRow) -> Iterator[str]:
    yield "[[campaigns.goals]]"
    yield f"id = {row.id}"
    yield f"title = {_text(row.title)}"
    yield f"value = {_text(row.value)}"
    if row.is_default:
        yield "default = true"
    yield f"type = {_text(row.type)}"
    if row.publishers:
        yield f"publishers = [{', '.join(map(str, row.publishers))}]"
    yield f"track_multiple = {_text(row.track_multiple)}"
    yield f"status = {_text(row.status)}"


def _rate(row: RateRow) -> Iterator[str]:
    yield "[[campaigns.goals.rates]]"
    if row.countries:
        yield f"countries = {_texts(row.countries)}"
    if row.publisher_id is not None:
        yield f"publisher = {row.publisher_id}"
    yield f"revenue = {{ {_terms(row.revenue_fixed_micros, row.revenue_micro_percent)} }}"
    payout = _terms(row.payout_fixed_micros, row.payout_micro_percent)
    yield f"payout = {{ {payout}, of = {_text(row.payout_of)} }}"


def _terms(fixed_micros: int, micro_percent: int) -> str:
    return f'fixed = "{format_micros(fixed_micros)}", percent = "{format_percent(micro_percent)}"'


def _exchange_rate(row: ExchangeRateRow) -> Iterator[str]:
    yield "[[exchange_rates]]"
    yield f"from = {_text(row.from_currency)}"
    yield f"to = {_text(row.to_currency)}"
    yield f'rate = "{format_rate_nanos(row.rate_nanos)}"'
    yield f"valid_from = {row.valid_from.isoformat()}"


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _text(key)


def _text(text: str) -> str:
    """A TOML basic string: JSON's, but that DEL is escaped too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _texts(texts: Sequence[str]) -> str:
    return f"[{', '.join(map(_text, texts))}]"
