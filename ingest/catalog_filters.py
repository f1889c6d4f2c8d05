"""What lists of the catalog can be narrowed by: checked, and in the order that their queries want."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from ingest import catalog_values as values
from ingest.catalog import GoalType, Standing, Status
from ingest.catalog_change import Kind
from ingest.catalog_file import CatalogError
from ingest.catalog_table import CatalogProblem, Table

HISTORY: Final = "history"
_Read = Callable[[object], object]

_search: Final[_Read] = values.text(values.MAX_NAME)


def _id(value: object) -> int:
    if not isinstance(value, str) or not (value.isascii() and value.isdigit()):
        raise ValueError("expected a whole number from 1 up")
    return values.identifier(int(value))


FILTERS: Final[Mapping[str, Mapping[str, _Read]]] = MappingProxyType(
    {
        Kind.ADVERTISER: {"status": values.choice(Standing), "search": _search},
        Kind.PUBLISHER: {"status": values.choice(Standing), "search": _search},
        Kind.CAMPAIGN: {"status": values.choice(Status), "search": _search, "advertiser": _id},
        Kind.GOAL: {
            "status": values.choice(Status),
            "search": _search,
            "campaign": _id,
            "type": values.choice(GoalType),
        },
        Kind.EXCHANGE_RATE: {
            "status": values.choice(Standing),
            "from": values.currency,
            "to": values.currency,
        },
        HISTORY: {
            "kind": values.choice(Kind),
            "id": values.text(64),
            "campaign": _id,
            "changed_by": values.text(values.MAX_NAME),
        },
    }
)
"""By list: each filter in the order of storage/sql/catalog_pages.sql."""


def read_filters(name: str, given: Mapping[str, str]) -> list[object]:
    """The filters' values, None where there is none. Raises CatalogError for what is no filter, or no value of one."""
    problems: list[CatalogProblem] = []
    table = Table(given, "", problems)
    read = [table.take(key, reader, None) for key, reader in FILTERS[name].items()]
    table.done()
    if problems:
        raise CatalogError(problems)
    return read
