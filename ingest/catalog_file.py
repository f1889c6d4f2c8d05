"""The catalog file: TOML into rows, with every problem named at once."""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ingest.catalog_reader import NO_DAY, CatalogReader, exchange_rate
from ingest.catalog_table import CatalogProblem, Table
from ingest.vault import Vault
from storage.rows import CampaignRow, CatalogRows, GoalRow


class CatalogError(Exception):
    """A catalog that is refused. `problems`: one line each, with its place; `found`: the same, taken apart. A text is a
    problem of the whole."""

    def __init__(self, found: Iterable[CatalogProblem | str]) -> None:
        self.found = tuple(CatalogProblem("", one) if isinstance(one, str) else one for one in found)
        self.problems = tuple(map(str, self.found))
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
    problems: list[CatalogProblem] = []
    reader = CatalogReader(vault)
    root = Table(document, "", problems)
    goals: list[GoalRow] = []
    rows = CatalogRows(
        advertisers=tuple(reader.advertiser(table) for table in root.tables("advertisers")),
        publishers=tuple(reader.publisher(table) for table in root.tables("publishers")),
        campaigns=tuple(_campaign(reader, table, goals) for table in root.tables("campaigns")),
        goals=tuple(goals),
        exchange_rates=tuple(exchange_rate(table) for table in root.tables("exchange_rates")),
    )
    root.done()
    keys = Counter(
        (row.from_currency, row.to_currency, row.valid_from) for row in rows.exchange_rates if row.rate_nanos
    )
    problems += [
        CatalogProblem("exchange_rates", f"two rates from {source} to {target} are valid from {since}")
        for (source, target, since), count in keys.items()
        if count > 1 and source and target and since != NO_DAY
    ]
    if problems:
        raise CatalogError(problems)
    return CatalogFile(rows, reader.places)


def _campaign(reader: CatalogReader, table: Table, found: list[GoalRow]) -> CampaignRow:
    """The campaign; its goals are added to `found`."""
    row = reader.campaign(table)
    goals = [(goal_table, reader.goal(goal_table, row.id)) for goal_table in table.tables("goals")]
    table.done()
    first_by_value: dict[str, Table] = {}
    for goal_table, goal in goals:
        first = first_by_value.setdefault(goal.value.casefold(), goal_table)
        if goal.value and first is not goal_table:
            goal_table.problem("value", f"{goal.value!r} is the value of {first.place} already, but for case")
    for goal_table, _ in [pair for pair in goals if pair[1].is_default][1:]:
        goal_table.problem("default", "the campaign has a default goal already")
    found += [goal for _, goal in goals]
    return row
