"""The catalog for those who edit it: the API and the console. Looked at in pages, changed one thing at a time.

What is shown and given is a document, as `ingest.catalog_views` has it. Each change is checked, written and remembered
in one transaction, and announced to the receivers when that commits.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Final, TypeVar

from ingest.catalog import Campaign, Standing
from ingest.catalog_change import Kind, changes_between, key_of, kind_of, make_changes, problems_of, publishers_of
from ingest.catalog_cursors import after_cursor, cursor_at
from ingest.catalog_documents import Document, Row
from ingest.catalog_file import CatalogError
from ingest.catalog_filters import HISTORY, read_filters
from ingest.catalog_rows import build_snapshot
from ingest.catalog_table import CatalogProblem
from ingest.catalog_views import row_of, view_of
from ingest.merge_patch import merge_patch
from ingest.vault import Vault
from storage.catalog_pages import FIRST_RATE, NEWEST, page_of_exchange_rates, page_of_history, page_of_ids
from storage.catalog_store import Part, goals_of, lock_catalog, next_id, read_catalog, select_catalog
from storage.postgres import AWAY, Connection, IntegrityError, Pool, borrowed
from storage.rows import AdvertiserRow, CampaignRow, CatalogRows, ExchangeRateRow, GoalRow, HistoryRow, PublisherRow

TIMEOUT_S: Final = 5.0
"""For one call, its turn among those who change the catalog included."""
MAX_PAGE: Final = 200

Key = int | str
"""An id; of an exchange rate its FROM-TO-DATE."""
RateKey = tuple[str, str, date]
T = TypeVar("T")
_RATE_KEY: Final = re.compile(r"([A-Z]{3})-([A-Z]{3})-(\d{4}-\d{2}-\d{2})", re.ASCII)
_MAX_ID: Final = 2**63 - 1


class NoSuchError(Exception):
    """There is nothing of this kind and key."""

    def __init__(self, kind: Kind, key: Key) -> None:
        super().__init__(f"there is no {kind.value.replace('_', ' ')} {key}")


class ExistsError(Exception):
    """What was to be created is there already."""

    def __init__(self, kind: Kind, key: Key) -> None:
        super().__init__(f"{kind.value.replace('_', ' ')} {key} exists already")


class StaleError(Exception):
    """What was to be changed is not what was read: `version` is the present one."""

    def __init__(self, version: int) -> None:
        self.version = version
        super().__init__(f"it has changed since: its version is {version} now; read it again")


class CatalogAwayError(Exception):
    """Postgres cannot be asked, or did not answer in time. A change may have been made all the same: read again."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; `next_cursor` None: there is no more."""

    items: tuple[Document, ...]
    next_cursor: str | None


class CatalogService:
    """All methods may raise CatalogAwayError, and CatalogError for what they are given."""

    def __init__(self, pool: Pool, vault: Vault) -> None:
        self._pool = pool
        self._vault = vault

    async def page(
        self, kind: Kind, filters: Mapping[str, str], cursor: str | None = None, limit: int = MAX_PAGE
    ) -> Page:
        """Documents in order of their keys. Filters as `ingest.catalog_filters` has them. What is there from the first
        page to the last is on exactly one of them, whatever is added meanwhile."""
        wanted = read_filters(kind, filters)
        if kind is Kind.EXCHANGE_RATE:
            after_rate = _after(cursor, kind, FIRST_RATE, _rate_key)
            async with self._asking() as connection:
                keys = await page_of_exchange_rates(connection, after_rate, limit + 1, wanted)
                found = await read_catalog(connection, Part(exchange_rates=keys[:limit]))
                more = len(keys) > limit
        else:
            after = _after(cursor, kind, 0, _number)
            async with self._asking() as connection:
                ids = await page_of_ids(connection, f"{kind.value}s", after, limit + 1, wanted)
                found = await read_catalog(connection, _part_of(kind, ids[:limit]))
                more = len(ids) > limit
        rows = _rows(kind, found)
        return Page(tuple(view_of(row, self._vault) for row in rows), _cursor(kind, rows[-1]) if more else None)

    async def get(self, kind: Kind, key: Key) -> Document:
        """One document. Raises NoSuchError."""
        async with self._asking() as connection:
            found = await read_catalog(connection, _part_of(kind, [_known(kind, key)]))
        return view_of(_only(kind, key, found), self._vault)

    async def create(self, kind: Kind, document: Mapping[str, object], changed_by: str) -> Document:
        """A new one; without an id it gets one. Null stands for what is left out. Raises ExistsError."""
        given: Document = {key: value for key, value in document.items() if value is not None}
        async with self._changing() as connection:
            if kind is not Kind.EXCHANGE_RATE:
                given.setdefault("id", await next_id(connection, kind.value))
            row = await asyncio.to_thread(row_of, kind, given, self._vault)  # time zones are files
            if _rows(kind, await select_catalog(connection, _part_of(kind, [key_of(row)]))):
                raise ExistsError(kind, key_of(row))
            return await self._put(connection, row, changed_by)

    async def patch(self, kind: Kind, key: Key, patch: Mapping[str, object], version: int, changed_by: str) -> Document:
        """A JSON merge patch on what has this version; what changes nothing makes no new one. Raises NoSuchError,
        StaleError."""
        async with self._changing() as connection:
            row = _only(kind, key, await select_catalog(connection, _part_of(kind, [_known(kind, key)])))
            if row.version != version:
                raise StaleError(row.version)
            try:
                merged = merge_patch(view_of(row, self._vault), patch)
            except ValueError as error:
                raise CatalogError([str(error)]) from None
            assert isinstance(merged, dict), "a view that an object was merged into"
            given = {key: value for key, value in merged.items() if value is not None}
            wanted = await asyncio.to_thread(row_of, kind, given, self._vault, present=row)
            return await self._put(connection, wanted, changed_by)

    async def archive(self, kind: Kind, key: Key, version: int, changed_by: str) -> Document:
        """Out of use, and kept for what refers to it. As `patch`."""
        return await self.patch(kind, key, {"status": Standing.ARCHIVED.value}, version, changed_by)

    async def history(self, filters: Mapping[str, str], cursor: str | None = None, limit: int = MAX_PAGE) -> Page:
        """Changes, the newest first."""
        wanted = read_filters(HISTORY, filters)
        before = _after(cursor, HISTORY, NEWEST, _number)
        async with self._asking() as connection:
            found = await page_of_history(connection, before, limit + 1, wanted)
        shown = found[:limit]
        more = len(found) > limit
        return Page(tuple(map(_history, shown)), cursor_at(HISTORY, shown[-1].id) if more else None)

    async def campaign(self, campaign_id: int) -> Campaign:
        """A campaign with its goals as decisions know it, such as `ingest.event_url` wants. Raises NoSuchError."""
        known = int(_known(Kind.CAMPAIGN, campaign_id))
        async with (
            self._asking() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            goals = await goals_of(connection, [known])
            rows = await select_catalog(connection, Part(advertisers=None, campaigns=[known], goals=goals))
        if not rows.campaigns:
            raise NoSuchError(Kind.CAMPAIGN, campaign_id)
        owner = rows.campaigns[0].advertiser_id
        rows = replace(rows, advertisers=tuple(row for row in rows.advertisers if row.id == owner))
        return build_snapshot(rows, self._vault).campaigns[known]

    async def _put(self, connection: Connection, row: Row, changed_by: str) -> Document:
        """Check the row against the rest, write and remember it. The catalog is locked."""
        wanted = _catalog_of(row)
        stored = await select_catalog(connection, await _neighbours(connection, row))
        # Its fields are named from its own top.
        places = {} if isinstance(row, ExchangeRateRow) else {(kind_of(row).value, row.id): ""}
        problems = list(problems_of(wanted, stored, places))
        if isinstance(row, GoalRow) and not stored.campaigns:
            problems.append(CatalogProblem("campaign", f"there is no campaign {row.campaign_id}"))
        if problems:
            raise CatalogError(problems)
        changes = changes_between(stored, wanted)
        await make_changes(connection, changes, changed_by)
        made = [after for _, after in changes.all()]
        return view_of(made[0] if made else _present(row, stored), self._vault)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[Connection]:
        try:
            async with borrowed(self._pool, TIMEOUT_S) as connection:
                yield connection
        except AWAY as error:
            raise CatalogAwayError from error

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[Connection]:
        """A transaction that is alone in changing the catalog."""
        try:
            async with self._asking() as connection, connection.transaction():
                await lock_catalog(connection)
                yield connection
        except IntegrityError as error:
            raise CatalogError([f"the database refuses it: {error}"]) from None


def _after(cursor: str | None, name: str, first: T, read: Callable[[list[object]], T]) -> T:
    try:
        return after_cursor(cursor, name, first, read)
    except ValueError as error:
        raise CatalogError([CatalogProblem("cursor", str(error))]) from None


def _number(key: list[object]) -> int:
    (number,) = key
    if not isinstance(number, int) or not 0 <= number <= _MAX_ID:
        raise ValueError(number)
    return number


def _rate_key(key: list[object]) -> RateKey:
    source, target, day = map(str, key)
    return source, target, date.fromisoformat(day)


def _cursor(kind: Kind, last: Row) -> str:
    if isinstance(last, ExchangeRateRow):
        return cursor_at(kind, last.from_currency, last.to_currency, last.valid_from)
    return cursor_at(kind, last.id)


def _known(kind: Kind, key: Key) -> Key:
    """The key, if there can be such a one. Raises NoSuchError."""
    is_rate = isinstance(key, str)
    if is_rate is not (kind is Kind.EXCHANGE_RATE) or (not is_rate and not 0 < int(key) <= _MAX_ID):
        raise NoSuchError(kind, key)
    return key


def _part_of(kind: Kind, keys: Sequence[Key]) -> Part:
    """What must be read for these of one kind."""
    match kind:
        case Kind.EXCHANGE_RATE:
            found = [_RATE_KEY.fullmatch(str(key)) for key in keys]
            return Part(exchange_rates=[(one[1], one[2], day) for one in found if one and (day := _day(one[3]))])
        case Kind.ADVERTISER:
            return Part(advertisers=_ids(keys))
        case Kind.PUBLISHER:
            return Part(publishers=_ids(keys))
        case Kind.CAMPAIGN:
            return Part(campaigns=_ids(keys))
        case Kind.GOAL:
            return Part(goals=_ids(keys))


def _ids(keys: Sequence[Key]) -> list[int]:
    return [int(key) for key in keys]


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


async def _neighbours(connection: Connection, row: Row) -> Part:
    """What a row must be checked against, itself included."""
    match row:
        case AdvertiserRow():
            return Part(advertisers=None, campaigns=None)
        case PublisherRow():
            return Part(publishers=[row.id])
        case CampaignRow():
            return Part(advertisers=[row.advertiser_id], publishers=[*publishers_of(row)], campaigns=[row.id])
        case GoalRow():
            goals = {row.id, *await goals_of(connection, [row.campaign_id])}
            return Part(publishers=[*publishers_of(row)], campaigns=[row.campaign_id], goals=[*goals])
        case ExchangeRateRow():
            return Part(exchange_rates=[(row.from_currency, row.to_currency, row.valid_from)])


def _rows(kind: Kind, found: CatalogRows) -> tuple[Row, ...]:
    """Those of one kind."""
    match kind:
        case Kind.ADVERTISER:
            return found.advertisers
        case Kind.PUBLISHER:
            return found.publishers
        case Kind.CAMPAIGN:
            return found.campaigns
        case Kind.GOAL:
            return found.goals
        case Kind.EXCHANGE_RATE:
            return found.exchange_rates


def _only(kind: Kind, key: Key, found: CatalogRows) -> Row:
    rows = _rows(kind, found)
    if not rows:
        raise NoSuchError(kind, key)
    return rows[0]


def _present(row: Row, stored: CatalogRows) -> Row:
    """The row as it is stored."""
    return next(one for one in _rows(kind_of(row), stored) if key_of(one) == key_of(row))


def _catalog_of(row: Row) -> CatalogRows:
    """A catalog of this row alone."""
    match row:
        case AdvertiserRow():
            return CatalogRows(advertisers=(row,))
        case PublisherRow():
            return CatalogRows(publishers=(row,))
        case CampaignRow():
            return CatalogRows(campaigns=(row,))
        case GoalRow():
            return CatalogRows(goals=(row,))
        case ExchangeRateRow():
            return CatalogRows(exchange_rates=(row,))


def _history(row: HistoryRow) -> Document:
    return {
        "id": row.id,
        "changed_at": row.changed_at.isoformat(),
        "changed_by": row.changed_by,
        "kind": row.kind,
        "entity": row.entity_id,
        "campaign": row.campaign_id,
        "version": row.version,
        "before": row.before,
        "after": row.after,
    }
