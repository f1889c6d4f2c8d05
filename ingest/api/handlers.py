"""The routes of /api/v1. What they do is in `ingest.catalog_service`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from ingest.api.docs import STYLE, docs_page
from ingest.api.openapi import PLURALS, openapi_document
from ingest.api.problems import problem, unavailable, unprocessable
from ingest.api.requests import (
    JSON,
    MERGE_PATCH,
    ReadBody,
    RefusedError,
    document_in,
    key_in,
    page_of,
    query_of,
    version_in,
)
from ingest.api_keys import Holder, KeyRing, KeysAwayError
from ingest.catalog_change import Kind
from ingest.catalog_documents import Document
from ingest.catalog_file import CatalogError
from ingest.catalog_service import CatalogAwayError, CatalogService, ExistsError, NoSuchError, Page, StaleError
from ingest.catalog_table import CatalogProblem
from ingest.event_url import EventUrlError, event_url
from ingest.senders import UnknownSenderError, find_sender
from ingest.wire import UnreadableError

ROOT: Final = "/api/v1"
_POLICY: Final = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_log = structlog.get_logger()
Operation = Callable[[web.Request, Holder], Awaitable[web.Response]]


class CatalogApi:
    """The handlers. `path`: where postbacks are taken, for the URL that is handed out."""

    def __init__(self, service: CatalogService, keys: KeyRing, read_body: ReadBody, path: str) -> None:
        self._service = service
        self._keys = keys
        self._read_body = read_body
        self._path = path
        document = openapi_document()
        self._document = orjson.dumps(document)
        self._page = docs_page(document)

    def add_to(self, app: web.Application) -> None:
        """The routes; anything else under the root is a problem too."""
        for kind, plural in PLURALS.items():
            one = f"{ROOT}/{plural}/{{id}}"
            self._route(app, f"{ROOT}/{plural}", {"GET": self._list(kind), "POST": self._create(kind)})
            self._route(app, one, {"GET": self._get(kind), "PATCH": self._patch(kind)})
        self._route(app, f"{ROOT}/campaigns/{{id}}/goals/{{goal}}/url", {"GET": self._url})
        self._route(app, f"{ROOT}/history", {"GET": self._history})
        app.router.add_get(f"{ROOT}/openapi.json", self._openapi, allow_head=False)
        app.router.add_get(f"{ROOT}/docs", self._docs, allow_head=False)
        app.router.add_get(f"{ROOT}/docs.css", self._style, allow_head=False)
        for path in ("openapi.json", "docs", "docs.css"):
            app.router.add_route("*", f"{ROOT}/{path}", _not_allowed(["GET"]))
        app.router.add_route("*", ROOT, _not_found)
        app.router.add_route("*", ROOT + "/{path:.*}", _not_found)

    def _route(self, app: web.Application, path: str, operations: Mapping[str, Operation]) -> None:
        for method, operation in operations.items():
            app.router.add_route(method, path, self._guarded(operation, changes=method != "GET"))
        app.router.add_route("*", path, _not_allowed(list(operations)))

    def _guarded(self, operation: Operation, *, changes: bool) -> Handler:
        """The operation for those who may, and every error as a problem."""

        async def handle(request: web.Request) -> web.Response:
            try:
                holder = await self._keys.holder_in(request.headers.get("Authorization"))
                if holder is None:
                    return problem(
                        401, "Authorization: expected Bearer and a key", headers={"WWW-Authenticate": "Bearer"}
                    )
                if not holder.may_look:
                    return problem(403, f"the key {holder.name!r} may not look: its role is {holder.role.value}")
                if changes and not holder.may_change:
                    return problem(403, f"the key {holder.name!r} may only look: its role is {holder.role.value}")
                return await operation(request, holder)
            except CatalogError as error:
                return unprocessable(error.found)
            except RefusedError as error:
                return problem(error.status, error.detail)
            except UnreadableError as error:
                return problem(error.status, error.fault.detail or "body: cannot be read")
            except NoSuchError as error:
                return problem(404, str(error))
            except ExistsError as error:
                return problem(409, str(error))
            except (CatalogAwayError, KeysAwayError):
                return unavailable()
            except Exception:  # noqa: BLE001  logged; the sender is told that it was us
                _log.exception("a request to the API failed", method=request.method, path=request.path)
                return problem(500, "this is a defect of the server, and it is in its log")

        return handle

    def _list(self, kind: Kind) -> Operation:
        async def operation(request: web.Request, _: Holder) -> web.Response:
            return _page_answer(await self._service.page(kind, *page_of(request)))

        return operation

    def _get(self, kind: Kind) -> Operation:
        async def operation(request: web.Request, _: Holder) -> web.Response:
            query_of(request, *_NONE)
            return _answer(await self._service.get(kind, key_in(request, kind)))

        return operation

    def _create(self, kind: Kind) -> Operation:
        async def operation(request: web.Request, holder: Holder) -> web.Response:
            query_of(request, *_NONE)
            given = await document_in(request, self._read_body, (JSON,))
            made = await self._service.create(kind, given, holder.name)
            return _answer(made, status=201, headers={"Location": f"{ROOT}/{PLURALS[kind]}/{made['id']}"})

        return operation

    def _patch(self, kind: Kind) -> Operation:
        async def operation(request: web.Request, holder: Holder) -> web.Response:
            query_of(request, *_NONE)
            patch = await document_in(request, self._read_body, (MERGE_PATCH, JSON))
            version, stale = version_in(request, patch)
            try:
                made = await self._service.patch(kind, key_in(request, kind), patch, version, holder.name)
            except StaleError as error:
                return problem(stale, str(error), version=error.version, headers={"ETag": f'"{error.version}"'})
            return _answer(made)

        return operation

    async def _history(self, request: web.Request, _: Holder) -> web.Response:
        return _page_answer(await self._service.history(*page_of(request)))

    async def _url(self, request: web.Request, _: Holder) -> web.Response:
        query = query_of(request, "base", "sender", "event_time")
        if (with_time := query.get("event_time", "false")) not in {"true", "false"}:
            raise CatalogError([CatalogProblem("event_time", "expected true or false")])
        campaign_id, goal_id = key_in(request, Kind.CAMPAIGN), key_in(request, Kind.GOAL, "goal")
        campaign = await self._service.campaign(int(campaign_id))
        goal = next((goal for goal in campaign.goals.values() if goal.id == goal_id), None)
        if goal is None:
            raise NoSuchError(Kind.GOAL, goal_id)
        base = query.get("base", f"{request.scheme}://{request.host}")
        try:
            sender = find_sender(query.get("sender", "generic"))
            made = event_url(base, self._path, campaign, goal, sender, with_time=with_time == "true")
        except UnknownSenderError as error:
            raise CatalogError([CatalogProblem("sender", str(error))]) from None
        except EventUrlError as error:
            raise CatalogError([CatalogProblem("base", str(error))]) from None
        return _json(msgspec.json.encode(made))

    async def _openapi(self, _: web.Request) -> web.Response:
        return web.Response(body=self._document, content_type=JSON)

    async def _docs(self, _: web.Request) -> web.Response:
        return web.Response(
            text=self._page, content_type="text/html", headers={"Content-Security-Policy": _POLICY, **_SNIFF}
        )

    async def _style(self, _: web.Request) -> web.Response:
        return web.Response(text=STYLE, content_type="text/css", headers=_SNIFF)


_SNIFF: Final = {"X-Content-Type-Options": "nosniff"}
_NONE: Final = ("",)
"""No query is known."""


def _json(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=body, content_type=JSON, headers={"Cache-Control": "no-store", **(headers or {})}
    )


def _answer(document: Document, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A document, its version as ETag."""
    return _json(orjson.dumps(document), status, {"ETag": f'"{document["version"]}"', **(headers or {})})


def _page_answer(page: Page) -> web.Response:
    return _json(orjson.dumps({"items": page.items, "next_cursor": page.next_cursor}))


async def _not_found(_: web.Request) -> web.Response:
    return problem(404, f"there is no such path; {ROOT}/docs lists them")


def _not_allowed(allowed: list[str]) -> Handler:
    async def handle(_: web.Request) -> web.Response:
        names = ", ".join(allowed)
        return problem(405, f"method: expected {names}", headers={"Allow": names})

    return handle
