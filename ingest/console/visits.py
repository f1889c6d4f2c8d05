"""Who asks for a page, and what for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aiohttp import web

from ingest.addresses import Network, client_address, is_in
from ingest.api_keys import Holder
from ingest.console.forms import Form
from ingest.console.pages import Pages, page_of
from ingest.console.sessions import Session


class RefusedError(Exception):
    """The request is refused; the message is for whoever made it."""

    def __init__(self, status: int, detail: str) -> None:
        self.status = status
        super().__init__(detail)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request of somebody who is logged in. `form`: what was sent, empty for what is only looked at. `origin`:
    where the program is reached, as in https://t.example.com."""

    request: web.Request
    session: Session
    holder: Holder
    form: Form
    origin: str
    pages: Pages

    async def page(self, template: str, status: int = 200, **values: object) -> web.Response:
        """A page for this visitor."""
        text = await self.pages.render_in_turns(
            template, me=self.holder, csrf=self.session.token, place=self.request.path, **values
        )
        return page_of(text, status)

    def must_be_editor(self) -> None:
        """Forms are shown to those who may send them. Raises RefusedError."""
        if not self.holder.may_change:
            raise RefusedError(
                403, f"The key {self.holder.name!r} may only look: its role is {self.holder.role.value}."
            )

    def query(self, name: str) -> str | None:
        """A parameter of the address; None: it is not there, or empty."""
        return self.request.query.get(name, "").strip() or None

    def number(self, name: str) -> int:
        """A number in the path. Raises RefusedError."""
        return self.number_of(self.request.match_info[name])

    def number_of(self, text: str) -> int:
        """What can be an id. Raises RefusedError."""
        if not (text.isascii() and text.isdigit() and 0 < int(text[:20]) < 2**63):
            raise RefusedError(404, f"{text[:40]!r} is no id")
        return int(text)


Handler = Callable[[Visit], Awaitable[web.StreamResponse]]


class Route(NamedTuple):
    """One page. Only those who may change something can POST, unless `is_for_all`."""

    method: str
    path: str
    handler: Handler
    is_for_all: bool = False


class Surroundings:
    """What proxies say of a request, where they are trusted."""

    def __init__(self, trusted: Sequence[Network]) -> None:
        self._trusted = trusted

    def address(self, request: web.BaseRequest) -> str:
        """The visitor's address."""
        forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
        return client_address(request.remote, forwarded, self._trusted) or ""

    def is_secure(self, request: web.BaseRequest) -> bool:
        """Whether the visitor came by https."""
        if self._trusted and is_in(client_address(request.remote, None, ()), self._trusted):
            return request.headers.get("X-Forwarded-Proto", request.scheme).lower() == "https"
        return request.secure

    def origin(self, request: web.BaseRequest) -> str:
        """Where the visitor reaches the program."""
        return f"{'https' if self.is_secure(request) else 'http'}://{request.host}"
