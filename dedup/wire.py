"""Scripts on one connection that is kept busy: any number are under way, their replies come in order.

redis-py makes the connection, with all that may stand in a URL; what then goes over it is packed and parsed by hiredis
here. redis-py's own way of a command costs four times as much: a connection taken and given back, two time limits, two
rounds of retries, a reading of streams.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast

import hiredis
from redis._parsers import BaseParser
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

AGAIN_S: Final = 0.02
"""Pause before a command is sent again."""

_LOST: Final = (RedisConnectionError, RedisTimeoutError, ResponseError, OSError)


class Wire:
    """Commands to one server, or to the primary that sentinels name. `client` is only asked for connections.

    A command whose reply is lost, or that a server refuses for being a replica by now, is sent again over a new
    connection `retries` times: it must be harmless to run twice. A server that hangs costs (1 + retries) times
    `timeout_s`.
    """

    def __init__(self, client: Redis, *, timeout_s: float = 1.0, retries: int = 1) -> None:
        self._pool = client.connection_pool
        self._timeout_s = timeout_s
        self._retries = retries
        self._lane: _Lane | None = None
        self._opening: asyncio.Task[_Lane] | None = None

    async def execute_command(self, *command: bytes | str | int) -> Any:
        """The reply. Raises RedisError: what the server says, or that it cannot be reached."""
        packed = hiredis.pack_command(command)  # type: ignore[arg-type]  # its stub has one argument only
        left = self._retries
        while True:
            lane: _Lane | None = None
            try:
                lane = self._lane or await self._open()
                return await lane.send(packed)
            except _LOST as error:
                if lane is not None and isinstance(error, ResponseError):
                    if not _is_of_replica(error):
                        raise
                    self._drop(lane)
                if left == 0:
                    raise
                left -= 1
                await asyncio.sleep(AGAIN_S)

    async def aclose(self) -> None:
        """Close; what is under way fails."""
        if self._opening is not None:
            await asyncio.wait([self._opening])
        if self._lane is not None:
            self._drop(self._lane)

    async def _open(self) -> _Lane:
        """The connection: whoever comes while it is made waits for the same one."""
        if self._opening is None:
            self._opening = asyncio.create_task(self._connect(), name="connection to Redis")
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)

    def _opened(self, opening: asyncio.Task[_Lane]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None and opening.result().is_open:
            self._lane = opening.result()

    async def _connect(self) -> _Lane:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]  # redis-py's
        connection.retry = Retry(NoBackoff(), 0)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py's
        except RuntimeError as error:  # uvloop's, for a connection that the other side has just closed
            raise RedisConnectionError(str(error)) from error
        writer = connection._writer
        assert writer is not None, "a connection that was made is open"
        connection._reader = connection._writer = None
        return _Lane(writer, self._timeout_s, self._forget)

    def _forget(self, lane: _Lane) -> None:
        if self._lane is lane:
            self._lane = None

    def _drop(self, lane: _Lane) -> None:
        self._forget(lane)
        lane.fail(RedisConnectionError("the connection was closed"))


def _is_of_replica(error: ResponseError) -> bool:
    """Whether the server has become a replica; before Redis 7 a script's error is told within another."""
    return isinstance(error, ReadOnlyError) or "-READONLY" in str(error)


class _Lane(asyncio.Protocol):
    """One connection. It ends with the first command that is not answered in time."""

    def __init__(self, writer: asyncio.StreamWriter, timeout_s: float, ended: Callable[[_Lane], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._writer = writer  # it would close the connection if it were let go
        self._transport = cast("asyncio.Transport", writer.transport)
        self._transport.set_protocol(self)
        self._timeout_s = timeout_s
        self._ended = ended
        self._waiting: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._error: RedisError | None = None
        self._replies = hiredis.Reader(protocolError=InvalidResponse, replyError=BaseParser.parse_error)

    @property
    def is_open(self) -> bool:
        """Whether it may still be answered."""
        return self._error is None

    async def send(self, packed: bytes) -> Any:
        """The reply to a command."""
        if self._error is not None:
            raise self._error
        reply: asyncio.Future[Any] = self._loop.create_future()
        self._waiting.append((reply, self._loop.time() + self._timeout_s))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)
        self._transport.write(packed)
        return await reply

    def data_received(self, data: bytes) -> None:
        """See asyncio."""
        self._replies.feed(data)
        while True:
            try:
                found = self._replies.gets()
            except InvalidResponse as error:
                self.fail(RedisConnectionError(f"not a reply of Redis: {error}"))
                return
            if found is False:
                return
            if not self._waiting:
                self.fail(RedisConnectionError("a reply to nothing"))
                return
            reply, _ = self._waiting.popleft()
            if reply.done():
                continue  # whoever asked has gone
            if isinstance(found, RedisError):
                reply.set_exception(found)
            else:
                reply.set_result(found)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio."""
        self.fail(RedisConnectionError(f"Redis closed the connection{f': {exc}' if exc else ''}"))

    def fail(self, error: RedisError) -> None:
        """End it: nothing more is answered."""
        if self._error is not None:
            return
        self._error = error
        self._ended(self)
        if self._watch is not None:
            self._watch.cancel()
        self._transport.abort()
        for reply, _ in self._waiting:
            if not reply.done():
                reply.set_exception(error)
        self._waiting.clear()

    def _look(self) -> None:
        """Whether the oldest command has waited too long."""
        self._watch = None
        if not self._waiting:
            return
        left_s = self._waiting[0][1] - self._loop.time()
        if left_s <= 0:
            self.fail(RedisTimeoutError("Redis did not answer in time"))
        else:
            self._watch = self._loop.call_later(left_s, self._look)
