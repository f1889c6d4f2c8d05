"""An aiohttp server on a socket of ours, and its routes."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import Protocol

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from ingest.api.handlers import CatalogApi
from ingest.click_api import ClickApi
from ingest.connections import Guard, GuardedHandler, GuardedSite
from ingest.fast_protocol import SERVER, FastPath, FastProtocol
from ingest.ops import Operations
from ingest.receiver import Receiver

BACKLOG = 4096
LINGER_S = 2.0
"""How long what is left of a refused body is read, so that the answer gets through."""


class Routes(Protocol):
    """What has routes of its own."""

    def add_to(self, app: web.Application) -> None:
        """Add them."""


def receiver_app(
    receiver: Receiver,
    click_api: ClickApi,
    catalog_api: CatalogApi,
    operations: Operations,
    console: Routes | None = None,
    *,
    paths: Sequence[str],
    max_body: int,
) -> web.Application:
    """All routes of a receiver. Anything else is a 404 or 405 in JSON; nothing but the console ever redirects."""
    app = web.Application(client_max_size=max_body)
    for path in paths:
        # No HEAD: a link checker must not record a conversion.
        app.router.add_get(path, receiver.postback, allow_head=False)
        app.router.add_post(path, receiver.postback)
        app.router.add_route("*", path, _not_allowed("GET, POST"))
    app.router.add_post("/postbacks", receiver.bulk)
    app.router.add_route("*", "/postbacks", _not_allowed("POST"))
    app.router.add_post("/clicks", click_api.clicks)
    app.router.add_route("*", "/clicks", _not_allowed("POST"))
    operations.add_to(app)
    catalog_api.add_to(app)
    if console is not None:
        console.add_to(app)
    app.router.add_route("*", "/{path:.*}", _not_found)

    async def let_go(_: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = SERVER
        if operations.draining:  # so that nobody sends on a connection which is about to be closed
            response.headers["Connection"] = "close"
            response.force_close()

    app.on_response_prepare.append(let_go)
    return app


def bind(host: str, port: int, *, shared: bool) -> socket.socket:
    """A bound socket; `shared`: other processes may bind the same port. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


async def start_server(
    app: web.Application,
    listening: socket.socket,
    guard: Guard,
    *,
    keepalive_s: float,
    finish_s: float,
    fast: FastPath | None = None,
) -> web.AppRunner:
    """Serve `app`; `cleanup()` of the result stops accepting and gives requests under way `finish_s` seconds.

    `fast`: the short cut for plain postbacks; None: every request takes aiohttp's way.
    """
    runner = web.AppRunner(
        app, access_log=None, keepalive_timeout=keepalive_s, shutdown_timeout=finish_s, handle_signals=False
    )
    await runner.setup()
    make = partial(GuardedHandler, guard) if fast is None else partial(FastProtocol, fast, guard)
    settings = {"keepalive_timeout": keepalive_s, "lingering_time": LINGER_S, "access_log": None}
    await GuardedSite(runner, listening, make, backlog=BACKLOG, **settings).start()
    return runner


async def _not_found(_: web.Request) -> web.Response:
    return _problem(404, "path: not found")


def _not_allowed(allowed: str) -> Handler:
    async def handler(_: web.Request) -> web.Response:
        response = _problem(405, f"method: expected {allowed}")
        response.headers["Allow"] = allowed
        return response

    return handler


def _problem(status: int, detail: str) -> web.Response:
    body = orjson.dumps({"status": "invalid", "reason": "bad_parameter", "detail": detail})
    return web.Response(status=status, body=body, content_type="application/json")
