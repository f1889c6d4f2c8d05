"""Catalog files into the database and out of it."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Final

from ingest.catalog_change import Changes, changes_between, make_changes, problems_of
from ingest.catalog_file import CatalogError, CatalogFile
from ingest.catalog_toml import format_catalog
from storage.catalog_store import lock_catalog, read_catalog, select_catalog
from storage.postgres import Connection, IntegrityError
from storage.rows import CatalogRows

CHANGED_BY: Final = "catalog import"
"""Who the history says it was."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What an import did with one kind of thing."""

    created: int
    updated: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did, by kind."""

    advertisers: Counts
    publishers: Counts
    campaigns: Counts
    goals: Counts
    exchange_rates: Counts


async def import_catalog(connection: Connection, catalog: CatalogFile) -> ImportSummary:
    """Create or update by id, all or nothing; what is not in the file stays. What changes gets a new version.

    Raises CatalogError with all problems. The connection must not be in a transaction.
    """
    try:
        async with connection.transaction():
            await lock_catalog(connection)
            stored = await select_catalog(connection)
            problems = list(problems_of(catalog.rows, stored, catalog.places))
            if problems:
                raise CatalogError(problems)
            changes = changes_between(stored, catalog.rows)
            await make_changes(connection, changes, CHANGED_BY)
            return _summary(changes, catalog.rows)
    except IntegrityError as error:
        raise CatalogError([f"the database refuses the catalog: {error}"]) from None


async def export_catalog(connection: Connection) -> str:
    """The whole catalog as a file's text. Security tokens are in it as digests."""
    return format_catalog(await read_catalog(connection))


def _summary(changes: Changes, wanted: CatalogRows) -> ImportSummary:
    def counts(kind: str, all_wanted: Sized) -> Counts:
        made = getattr(changes, kind)
        created = sum(change.before is None for change in made)
        return Counts(created, len(made) - created, len(all_wanted) - len(made))

    return ImportSummary(
        advertisers=counts("advertisers", wanted.advertisers),
        publishers=counts("publishers", wanted.publishers),
        campaigns=counts("campaigns", wanted.campaigns),
        goals=counts("goals", wanted.goals),
        exchange_rates=counts("exchange_rates", wanted.exchange_rates),
    )
