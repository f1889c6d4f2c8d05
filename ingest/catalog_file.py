"""The catalog file: TOML into rows, with every problem named at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from dedup.policy import TrackMultiple
from ingest import catalog_values as values
from ingest.catalog import GoalType, PayoutOf, Profile, Status
from ingest.catalog_table import Table
from ingest.vault import Vault
from storage.rows import (
    AdvertiserRow,
    CampaignRow,
    CatalogRows,
    ExchangeRateRow,
    GoalRow,
    PublisherRow,
    RateRow,
)

_NO_DAY: Final = date(1, 1, 1)


class CatalogError(Exception):
    """A catalog that cannot be imported. `problems`: one line each, with its place."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class CatalogFile:
    """What a file holds, in its order. `places` says where each thing stands, by (kind, id)."""

    rows: CatalogRows
    places: Mapping[tuple[str, int], str]


def parse_catalog(text: str, vault: Vault | None = None) -> CatalogFile:
    """The file's contents, its signing secrets encrypted by `vault`. Raises CatalogError with all problems; references
    are checked at import."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogError([f"not valid TOML: {error}"]) from None
    problems: list[str] = []
    reader = _Reader(vault)
    root = Table(document, "", problems)
    rows = CatalogRows(
        advertisers=tuple(reader.advertiser(table) for table in root.tables("advertisers")),
        publishers=tuple(reader.publisher(table) for table in root.tables("publishers")),
        campaigns=tuple(reader.campaign(table) for table in root.tables("campaigns")),
        goals=tuple(reader.goals),
        exchange_rates=tuple(_exchange_rate(table) for table in root.tables("exchange_rates")),
    )
    root.done()
    keys = Counter(
        (row.from_currency, row.to_currency, row.valid_from) for row in rows.exchange_rates if row.rate_nanos
    )
    problems += [
        f"exchange_rates: two rates from {source} to {target} are valid from {since}"
        for (source, target, since), count in keys.items()
        if count > 1 and source and target and since != _NO_DAY
    ]
    if problems:
        raise CatalogError(problems)
    return CatalogFile(rows, reader.places)


class _Reader:
    """What is collected while tables are read: goals come from within campaigns, ids are unique across the file."""

    def __init__(self, vault: Vault | None) -> None:
        self._vault = vault
        self.goals: list[GoalRow] = []
        self.places: dict[tuple[str, int], str] = {}

    def _id(self, kind: str, table: Table) -> int:
        number = table.take("id", values.identifier, 0, required=True)
        if number and self.places.setdefault((kind, number), table.place) != table.place:
            table.problem("id", f"{number} is the id of {self.places[kind, number]} already")
        return number

    def advertiser(self, table: Table) -> AdvertiserRow:
        row = AdvertiserRow(
            id=self._id("advertiser", table),
            name=_name(table, "name"),
            security_tokens=table.take("security_tokens", values.security_tokens, ()),
            profile=table.take("profile", values.choice(Profile), Profile.JSON.value),
            aliases=table.take("aliases", values.aliases, {}),
            signing_secrets=table.take("signing_secrets", values.signing_secrets(self._vault), ()),
            signature_window_ms=table.take("signature_window", _optional(values.signature_window_ms), None),
            allowed_addresses=table.take("allowed_addresses", values.allowed_addresses, ()),
            rate_limit=table.take("rate_limit", _optional(values.rate_limit), None),
        )
        table.done()
        return row

    def publisher(self, table: Table) -> PublisherRow:
        row = PublisherRow(self._id("publisher", table), _name(table, "name"))
        table.done()
        return row

    def campaign(self, table: Table) -> CampaignRow:
        row = CampaignRow(
            id=self._id("campaign", table),
            advertiser_id=table.take("advertiser", values.identifier, 0, required=True),
            name=_name(table, "name"),
            currency=table.take("currency", values.currency, "", required=True),
            timezone=table.take("timezone", values.timezone, "UTC"),
            status=table.take("status", values.choice(Status), Status.ACTIVE.value),
            window_ms=table.take("window", _optional(values.window_ms), None),
            min_age_ms=table.take("min_age", _optional(values.duration_ms), None),
        )
        if row.window_ms is not None and (row.min_age_ms or 0) >= row.window_ms:
            table.problem("min_age", "must be shorter than window, else nothing is ever counted")
        goals = [(goal_table, self._goal(goal_table, row.id)) for goal_table in table.tables("goals")]
        table.done()
        first_by_value: dict[str, Table] = {}
        for goal_table, goal in goals:
            first = first_by_value.setdefault(goal.value.casefold(), goal_table)
            if goal.value and first is not goal_table:
                goal_table.problem("value", f"{goal.value!r} is the value of {first.place} already, but for case")
        for goal_table, _ in [pair for pair in goals if pair[1].is_default][1:]:
            goal_table.problem("default", "the campaign has a default goal already")
        self.goals += [goal for _, goal in goals]
        return row

    def _goal(self, table: Table, campaign_id: int) -> GoalRow:
        goal = GoalRow(
            id=self._id("goal", table),
            campaign_id=campaign_id,
            title=_name(table, "title"),
            value=table.take("value", values.goal_value, "", required=True),
            is_default=table.take("default", values.boolean, absent=False),
            type=table.take("type", values.choice(GoalType), GoalType.PUBLIC.value),
            publishers=table.take("publishers", values.identifiers, ()),
            track_multiple=table.take(
                "track_multiple", values.choice(TrackMultiple), TrackMultiple.YES_WITH_TXN_ID.value
            ),
            status=table.take("status", values.choice(Status), Status.ACTIVE.value),
            rates=tuple(_rates(table)),
        )
        if goal.type == GoalType.PUBLIC and goal.publishers:
            table.problem("publishers", 'a public goal is for every publisher; write type = "private", or no list')
        table.done()
        return goal


def _rates(goal: Table) -> Iterable[RateRow]:
    taken: dict[tuple[int | None, str | None], str] = {}
    for table in goal.tables("rates"):
        revenue, payout = table.table("revenue"), table.table("payout")
        rate = RateRow(
            publisher_id=table.take("publisher", _optional(values.identifier), None),
            countries=table.take("countries", values.countries, ()),
            revenue_fixed_micros=revenue.take("fixed", values.amount_micros, 0),
            revenue_micro_percent=revenue.take("percent", values.micro_percent, 0),
            payout_fixed_micros=payout.take("fixed", values.amount_micros, 0),
            payout_micro_percent=payout.take("percent", values.micro_percent, 0),
            payout_of=payout.take("of", values.choice(PayoutOf), PayoutOf.SALE.value),
        )
        for part in (revenue, payout, table):
            part.done()
        for country in rate.countries or (None,):
            first = taken.setdefault((rate.publisher_id, country), table.place)
            if first != table.place:
                who = "every publisher" if rate.publisher_id is None else f"publisher {rate.publisher_id}"
                table.problem(
                    "countries", f"{first} is the rate of {who} in {country or 'every other country'} already"
                )
        yield rate


def _exchange_rate(table: Table) -> ExchangeRateRow:
    row = ExchangeRateRow(
        from_currency=table.take("from", values.currency, "", required=True),
        to_currency=table.take("to", values.currency, "", required=True),
        rate_nanos=table.take("rate", values.rate_nanos, 0, required=True),
        valid_from=table.take("valid_from", values.day, _NO_DAY, required=True),
    )
    if row.from_currency and row.from_currency == row.to_currency:
        table.problem("to", f"is {row.to_currency}, as from is")
    table.done()
    return row


def _name(table: Table, key: str) -> str:
    return table.take(key, values.text(values.MAX_NAME), "", required=True)


def _optional(read: Callable[[object], int]) -> Callable[[object], int | None]:
    """The same reader, for a key whose absence is None."""
    return read
