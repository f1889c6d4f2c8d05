"""What the forms of campaigns and goals share: saving, errors beside fields, and changes that somebody else made."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from ingest.catalog import Standing
from ingest.catalog_change import Kind
from ingest.catalog_documents import Document
from ingest.catalog_file import CatalogError
from ingest.catalog_service import MAX_PAGE, CatalogService, StaleError
from ingest.catalog_table import CatalogProblem
from ingest.console.formats import Difference, differences
from ingest.console.visits import Visit

HISTORY_ROWS: Final = 50


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the history, its differences worked out; none of them: it was created."""

    changed_at: str
    changed_by: str
    kind: str
    entity: str
    version: int
    is_new: bool
    differences: list[Difference]


@dataclass(slots=True)
class Trouble:
    """What keeps a form from being saved: problems by the name of their input, or what others changed meanwhile."""

    by_field: Mapping[str, list[str]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    version: int | None = None
    """The present one, where it is another than the form's."""

    @property
    def status(self) -> int:
        """The HTTP status of the form that is shown."""
        if self.version is not None:
            return 409
        return 422 if self.by_field else 200


def changes_of(items: Iterable[Document]) -> list[Change]:
    """History documents for people."""
    return [_change(item) for item in items]


def trouble_with(problems: Iterable[CatalogProblem]) -> Trouble:
    """Problems, by field."""
    by_field: dict[str, list[str]] = defaultdict(list)
    for problem in problems:
        by_field[problem.field].append(problem.detail)
    return Trouble(dict(by_field))


async def saved(
    service: CatalogService, kind: Kind, key: int, version: int, save: Callable[[], Awaitable[Document]]
) -> Document | Trouble:
    """What was saved, or what kept it from being so. `version`: the one that the form was made from."""
    try:
        return await save()
    except CatalogError as error:
        return trouble_with(error.found)
    except StaleError as error:
        page = await service.history({"kind": kind.value, "id": str(key)}, limit=HISTORY_ROWS)
        newer = [item for item in page.items if _version(item) > version]
        return Trouble(changes=changes_of(newer), version=error.version)


async def publisher_names(service: CatalogService) -> dict[int, str]:
    """The first active publishers, by id."""
    page = await service.page(Kind.PUBLISHER, {"status": Standing.ACTIVE.value}, limit=MAX_PAGE)
    return names_of(page.items)


def names_of(items: Iterable[Mapping[str, Any]]) -> dict[int, str]:
    """Names by id."""
    return {item["id"]: item["name"] for item in items}


async def history_page(visit: Visit, title: str, back: tuple[str, str], items: Iterable[Document]) -> web.Response:
    """Changes, the newest first. `back`: address and name of what they are of."""
    return await visit.page("history.html", title=title, back=back, changes=changes_of(items), limit=HISTORY_ROWS)


def _change(item: Mapping[str, Any]) -> Change:
    is_new = item["before"] is None
    return Change(
        changed_at=item["changed_at"],
        changed_by=item["changed_by"],
        kind=item["kind"],
        entity=item["entity"],
        version=item["version"],
        is_new=is_new,
        differences=differences(item["before"] or {}, item["after"]),
    )


def _version(item: Mapping[str, Any]) -> int:
    version: int = item["version"]
    return version
