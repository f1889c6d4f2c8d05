"""The console's routes: who may, what forms must carry, and errors as pages. The pages are in the other modules."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import structlog
from aiohttp import web

from ingest.api.requests import ReadBody
from ingest.api_keys import KeysAwayError
from ingest.catalog_file import CatalogError
from ingest.catalog_service import CatalogAwayError, NoSuchError
from ingest.console.forms import Form, FormError, read_form
from ingest.console.pages import HEADERS, Pages, go_to
from ingest.console.sessions import PATH, Session, Sessions
from ingest.console.throttle import LoginThrottle
from ingest.console.visits import RefusedError, Route, Surroundings, Visit
from ingest.wire import UnreadableError
from storage.postgres import AWAY

MAX_FORM_BYTES: Final = 512 << 10
_FORM: Final = "application/x-www-form-urlencoded"
_AWAY: Final = (
    "The database cannot be asked, or did not answer in time. Postbacks are taken all the same. Try again in a moment;"
    " where you wanted to change something, look first whether it was changed."
)
_AWAY_ERRORS: Final[tuple[type[Exception], ...]] = (CatalogAwayError, KeysAwayError, *AWAY)
_DEFECT: Final = "This is a defect of the program, and it is in its log."
_log = structlog.get_logger()
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Console:
    """The people's side. `close` ends what is open, so that a drain does not wait for it."""

    def __init__(
        self,
        pages: Pages,
        sessions: Sessions,
        throttle: LoginThrottle,
        surroundings: Surroundings,
        read_body: ReadBody,
        routes: Sequence[Route],
        close: Callable[[], None],
    ) -> None:
        self._pages = pages
        self._sessions = sessions
        self._throttle = throttle
        self._surroundings = surroundings
        self._read_body = read_body
        self._routes = routes
        self.close = close

    def add_to(self, app: web.Application) -> None:
        """The routes; anything else under the path is a page that says so."""
        router = app.router
        router.add_get(f"{PATH}/static/{{name}}", self._guarded(self._static), allow_head=False)
        router.add_get(f"{PATH}/login", self._guarded(self._login_page), allow_head=False)
        router.add_post(f"{PATH}/login", self._guarded(self._login))
        for route in (*self._routes, Route("POST", "/logout", self._logout, is_for_all=True)):
            router.add_route(route.method, f"{PATH}{route.path}", self._guarded(self._for_holders(route)))
        router.add_route("*", f"{PATH}/{{path:.*}}", self._guarded(_nowhere))

    def _guarded(self, handler: _Handler) -> _Handler:
        """Errors as pages."""

        async def handle(request: web.Request) -> web.StreamResponse:
            try:
                return await handler(request)
            except RefusedError as error:
                return self._error(error.status, str(error))
            except NoSuchError as error:
                return self._error(404, f"{error}.")
            except UnreadableError as error:
                return self._error(error.status, error.fault.detail or "The form cannot be read.")
            except (FormError, CatalogError) as error:
                return self._error(400, str(error))
            except _AWAY_ERRORS as error:
                if isinstance(error, ConnectionError) and request.transport is None:
                    raise  # the visitor is gone
                return self._error(503, _AWAY)
            except Exception:  # noqa: BLE001  logged; the visitor is told that it was us
                _log.exception("a page of the console failed", method=request.method, path=request.path)
                return self._error(500, _DEFECT)

        return handle

    def _error(self, status: int, detail: str) -> web.Response:
        return self._pages.page("error.html", status, title=HTTPStatus(status).phrase, detail=detail, me=None)

    def _for_holders(self, route: Route) -> _Handler:
        """The page for those who may see it."""

        async def handle(request: web.Request) -> web.StreamResponse:
            session = self._sessions.read(request)
            holder = None if session is None else await self._sessions.holder_of(session)
            if session is None or holder is None:
                if request.method != "GET":
                    raise RefusedError(401, "Your session has ended. Log in again; nothing was changed.")
                return go_to(f"{PATH}/login?next={quote(request.path_qs, safe='/')}")
            form = await self._form(request, session) if route.method == "POST" else Form()
            visit = Visit(request, session, holder, form, self._surroundings.origin(request), self._pages)
            if route.method == "POST" and not route.is_for_all:
                visit.must_be_editor()
            return await route.handler(visit)

        return handle

    async def _form(self, request: web.Request, session: Session | None) -> Form:
        """What was sent, by a page of this session. Raises RefusedError, FormError, UnreadableError."""
        if request.headers.get("Sec-Fetch-Site", "same-origin") not in {"same-origin", "none"}:
            raise RefusedError(403, "The form was sent by another site.")
        if request.content_type != _FORM:
            raise RefusedError(415, "A form was expected.")
        if (request.content_length or 0) > MAX_FORM_BYTES:
            raise RefusedError(413, "The form is too large.")
        body = await self._read_body(request)
        if len(body) > MAX_FORM_BYTES:
            raise RefusedError(413, "The form is too large.")
        form = read_form(body)
        if session is None or not session.is_own(form.text("csrf")):
            raise RefusedError(403, "The form is of another session, or too old. Open the page again and send it anew.")
        return form

    async def _login_page(self, request: web.Request) -> web.Response:
        if (session := self._sessions.read(request)) is not None and await self._sessions.holder_of(session):
            return go_to(_next(request.query.get("next", "")))
        return self._ask_key(request, 200, None, request.query.get("next", ""))

    def _ask_key(self, request: web.Request, status: int, problem: str | None, then: str) -> web.Response:
        session = self._sessions.begin()
        response = self._pages.page(
            "login.html", status, me=None, csrf=session.token, problem=problem, then=_next(then), place=""
        )
        self._sessions.give(response, session, is_secure=self._surroundings.is_secure(request))
        return response

    async def _login(self, request: web.Request) -> web.Response:
        form = await self._form(request, self._sessions.read(request))
        then, address = form.text("next"), self._surroundings.address(request)
        wait_s = self._throttle.wait_s(address)
        if wait_s:
            response = self._ask_key(request, 429, f"Too many wrong keys. Try again in {wait_s} seconds.", then)
            response.headers["Retry-After"] = str(wait_s)
            return response
        session = await self._sessions.log_in(form.text("key"))
        if session is None:
            self._throttle.failed(address)
            _log.warning("a login to the console failed", address=address)
            return self._ask_key(request, 401, "Nobody has this key, or it was revoked.", then)
        response = go_to(_next(then))
        self._sessions.give(response, session, is_secure=self._surroundings.is_secure(request))
        return response

    async def _logout(self, visit: Visit) -> web.Response:
        response = go_to(f"{PATH}/login")
        self._sessions.take_away(response, is_secure=self._surroundings.is_secure(visit.request))
        return response

    async def _static(self, request: web.Request) -> web.Response:
        found = self._pages.static(request.match_info["name"], request.query.get("v", ""))
        return found or web.Response(status=404, text="there is no such file", headers=HEADERS)


def _next(address: str) -> str:
    """Where to go after the login: a page of the console, nowhere else."""
    is_ours = address == PATH or address.startswith((f"{PATH}/", f"{PATH}?"))
    return address if is_ours and address.isprintable() and "\\" not in address else PATH


async def _nowhere(_: web.Request) -> web.Response:
    raise RefusedError(404, "There is no such page.")
