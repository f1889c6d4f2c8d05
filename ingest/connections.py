"""Guards of a receiver's connections: how many there are, how long a request's head and an answer may take.

aiohttp ends idle connections and limits lines and headers; what it leaves open is closed here.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, cast

import orjson
import structlog
from aiohttp import web
from prometheus_client import Counter

MAX_HEAD_BYTES: Final = 32_768
"""What is kept of a request's head that is not whole yet. aiohttp limits each line and the number of headers."""
ANSWER_TIMEOUT_S: Final = 30.0
"""How long a peer may leave answers unread."""
RESERVED_FILES: Final = 256
"""Open files that are not connections of senders: engines, the spool, logs."""

_FULL: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 24\r\n"
    b'Retry-After: 5\r\nConnection: close\r\n\r\n{"status":"unavailable"}'
)

log = structlog.get_logger()


class Cut(StrEnum):
    """Why a connection was cut."""

    SLOW_HEAD = "slow_head"
    LARGE_HEAD = "large_head"
    UNREAD_ANSWERS = "unread_answers"
    NO_ROOM = "no_room"


class Guard:
    """What all connections of a receiver share. `cuts` counts, by reason."""

    def __init__(self, cuts: Counter, *, max_connections: int, header_timeout_s: float) -> None:
        self._cuts = cuts
        self._max_connections = max_connections
        self.header_timeout_s = header_timeout_s
        self._open = 0
        self._untried: dict[GuardedHandler, None] = {}

    def opened(self, handler: GuardedHandler) -> bool:
        """Count a connection. Where there is no room the oldest of those that never sent a whole request makes way;
        False if there is none."""
        if self._open >= self._max_connections:
            oldest = next(iter(self._untried), None)
            if oldest is None:
                self._cuts.labels(Cut.NO_ROOM.value).inc()
                return False
            oldest.cut(Cut.NO_ROOM)
        self._open += 1
        self._untried[handler] = None
        return True

    def tried(self, handler: GuardedHandler) -> None:
        """It has sent a whole request."""
        self._untried.pop(handler, None)

    def closed(self, handler: GuardedHandler) -> None:
        """It is gone."""
        self._open -= 1
        self._untried.pop(handler, None)

    def count_cut(self, why: Cut) -> None:
        """A connection is cut."""
        self._cuts.labels(why.value).inc()


class GuardedHandler(web.RequestHandler):
    """aiohttp's side of one connection, guarded. A request's head has to be whole within a time that runs from its
    first byte, so that sending it byte by byte gains nothing."""

    __slots__ = ("_deadline", "_guard", "_head_bytes", "_is_counted", "_is_tried", "_unread")

    def __init__(self, guard: Guard, server: web.Server, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._guard = guard
        self._is_counted = False
        self._is_tried = False
        self._head_bytes = 0
        self._deadline: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        if not self._guard.opened(self):
            refused = cast("asyncio.Transport", transport)
            refused.write(_FULL)
            refused.close()
            return
        self._is_counted = True
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio."""
        if self._is_counted:
            self._is_counted = False
            self._guard.closed(self)
        self._head_is_whole()
        self._peer_reads()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self.request_is_whole()
        elif data and (before == 0 or (self._waiter is not None and not self._waiter.done())):
            # No request is under way: this is a part of a head, not of a body.
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.cut(Cut.LARGE_HEAD)
            elif self._deadline is None:
                self._deadline = self._loop.call_later(self._guard.header_timeout_s, self.cut, Cut.SLOW_HEAD)

    def request_is_whole(self) -> None:
        """A request's head has arrived."""
        if not self._is_tried:
            self._is_tried = True
            self._guard.tried(self)
        self._head_is_whole()

    def _head_is_whole(self) -> None:
        self._head_bytes = 0
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def pause_writing(self) -> None:
        """See asyncio: the peer does not read."""
        super().pause_writing()
        self._unread = self._loop.call_later(ANSWER_TIMEOUT_S, self.cut, Cut.UNREAD_ANSWERS)

    def resume_writing(self) -> None:
        """See asyncio."""
        self._peer_reads()
        super().resume_writing()

    def _peer_reads(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None

    def cut(self, why: Cut) -> None:
        """Close at once, with nothing said."""
        self._guard.count_cut(why)
        self._guard.tried(self)
        transport = self.transport
        self.force_close()
        if transport is not None:
            transport.abort()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it holds what was sent
    ) -> web.StreamResponse:
        """aiohttp's own would log and answer with what was sent, and with it tokens."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        if status >= 500:
            log.error("a request failed", path=request.path, exc_info=exc)
            said = {"status": "unavailable"}
        else:
            said = {"status": "invalid", "reason": "bad_parameter", "detail": "request: not valid HTTP"}
        response = web.Response(status=status, body=orjson.dumps(said), content_type="application/json")
        response.force_close()
        return response

    def log_exception(self, *args: Any, **about: Any) -> None:  # noqa: ARG002  aiohttp's signature
        """What aiohttp would write as an unhandled exception; a body that cannot be unpacked is none of ours."""
        error = about.get("exc_info")
        if not isinstance(error, web.RequestPayloadError | ConnectionError):
            log.error("a connection failed", exc_info=error)


def connection_limit(wanted: int) -> int:
    """How many connections the limit on open files leaves room for, `wanted` at the most; raised where it may be."""
    needed = wanted + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    if soft < needed:
        raised = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError) as error:
            log.warning("the limit on open files cannot be raised", error=str(error))
    allowed = max(1, min(wanted, soft - RESERVED_FILES))
    if allowed < wanted:
        log.warning("server.max_connections is more than the limit on open files allows", connections=allowed)
    return allowed


class GuardedSite(web.BaseSite):
    """Listens on `listening` and has `make` make a handler of each connection; `settings` are the handler's."""

    def __init__(
        self,
        runner: web.BaseRunner,
        listening: socket.socket,
        make: Callable[..., GuardedHandler],
        *,
        backlog: int,
        **settings: Any,
    ) -> None:
        super().__init__(runner, backlog=backlog)
        self._listening = listening
        self._make = make
        self._settings = settings

    @property
    def name(self) -> str:
        """For people."""
        host, port = self._listening.getsockname()[:2]
        return f"http://{host}:{port}"

    async def start(self) -> None:
        """Begin to accept."""
        await super().start()
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None
        self._server = await loop.create_server(
            lambda: self._make(server, loop=loop, **self._settings), sock=self._listening, backlog=self._backlog
        )
