"""aiohttp's protocol with a short cut for the common postback.

A request that is whole in the buffer, plain, and alone on its connection is read, batched and answered here, with no
task, no future and no request object of its own. Everything else goes to aiohttp untouched, and a connection that once
did stays there: only a connection whose every byte was a plain request is known to be between two requests.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import structlog
from aiohttp import web

from ingest.answers import RETRY_AFTER_S, Answer, answer
from ingest.arrival import Arrival, Unread
from ingest.batching import Done, OverloadedError
from ingest.connections import Guard, GuardedHandler
from ingest.outcome import UNAVAILABLE, Outcome

MAX_PIPELINED: Final = 65_536
"""Bytes that may wait behind a request that is being answered."""
SERVER: Final = "postback"

_FAILED: Final = Answer(500, "application/json", b'{"status":"unavailable"}')

log = structlog.get_logger()

Read = Callable[[bytes, str | None], Arrival | Unread | None]
"""See `ingest.plain_requests.PlainRequests.read`."""
Submit = Callable[[Arrival | Unread, Done[Outcome]], None]
"""Hands a postback to the recorder, which calls back with its outcome or an error, later. Raises OverloadedError."""
Write = Callable[[Outcome | None], bytes]
"""See `Heads.write`."""


class FastPath:
    """What all connections of a receiver share. While not `is_open` every request goes to aiohttp."""

    def __init__(self, read: Read, submit: Submit, write: Write) -> None:
        self.read = read
        self.submit = submit
        self.write = write
        self.is_open = True


class Heads:
    """Heads of answers, each made once a second."""

    def __init__(self) -> None:
        self._heads: dict[tuple[int, str, int], bytes] = {}
        self._date_s = 0

    def write(self, outcome: Outcome | None) -> bytes:
        """The whole answer, header for header what aiohttp would send. None: something failed."""
        said = _FAILED if outcome is None else answer(outcome)
        now_s = int(time.time())
        if now_s != self._date_s:
            self._date_s = now_s
            self._heads.clear()
        status, content_type, body = said.status, said.content_type, said.body
        head = self._heads.get((status, content_type, len(body)))
        if head is None:
            lines = [
                f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
                f"Content-Type: {content_type}",
                f"Server: {SERVER}",
            ]
            if status != 204:
                lines.append(f"Content-Length: {len(body)}")
            lines.append(f"Date: {formatdate(now_s, usegmt=True)}")
            head = self._heads[status, content_type, len(body)] = "\r\n".join([*lines, ""]).encode()
        if status == 503:
            head += b"Retry-After: %d\r\n" % (RETRY_AFTER_S + random.randrange(RETRY_AFTER_S))  # noqa: S311
        return b"%b\r\n%b" % (head, body)


class FastProtocol(GuardedHandler):
    """One connection."""

    __slots__ = ("_answered", "_fast", "_is_fast", "_is_pending", "_peer", "_pipelined")

    def __init__(self, fast: FastPath, guard: Guard, server: web.Server, **settings: Any) -> None:
        super().__init__(guard, server, **settings)
        self._fast = fast
        self._is_fast = True
        self._is_pending = False
        self._pipelined = b""
        self._peer: str | None = None
        self._answered: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio."""
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else None

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        if self._is_pending:
            self._pipelined += data
            if len(self._pipelined) > MAX_PIPELINED:
                self.force_close()
        elif not self._is_fast or self._paused or not self._fast.is_open or not self._take(data):
            self._is_fast = False
            super().data_received(data)

    def _take(self, data: bytes) -> bool:
        """Whether `data` was a request for the short cut; it is under way then."""
        arrival = self._fast.read(data, self._peer)
        if arrival is None:
            return False
        self._is_pending = True
        try:
            self._fast.submit(arrival, self._answer)
        except OverloadedError:
            self._answer(UNAVAILABLE, None)
            return True
        if not self._is_tried:
            self.request_is_whole()
        if self._keepalive_timeout > 0:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        return True

    def _answer(self, outcome: Outcome | None, error: Exception | None) -> None:
        self._is_pending = False
        if error is not None:
            log.error("a batch of postbacks failed", exc_info=error)
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(self._fast.write(outcome))
            if self._pipelined:
                data, self._pipelined = self._pipelined, b""
                self.data_received(data)
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(None)

    async def shutdown(self, timeout: float | None = 15.0) -> None:  # noqa: ASYNC109  aiohttp's signature
        """Close, once what is under way is answered."""
        if self._is_pending:
            self._answered = self._loop.create_future()
            await asyncio.wait([self._answered], timeout=timeout)
        await super().shutdown(timeout)
