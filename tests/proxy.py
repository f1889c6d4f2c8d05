"""A TCP proxy that can misbehave: between the program and its Redis or Postgres, in a thread of the test's own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from enum import Enum, auto
from typing import Final

_CHUNK: Final = 1 << 16


class Mode(Enum):
    """How the proxy treats its connections."""

    PASS = auto()
    REFUSE = auto()
    """Every connection is reset, new ones too."""
    FREEZE = auto()
    """Nothing passes, in either direction; connections stay open."""
    DROP_REPLIES = auto()
    """What is sent arrives; the connection is reset in place of the reply."""


class Proxy:
    """Forwards to `upstream`: (host, port), or the path of a Unix socket."""

    def __init__(self, upstream: tuple[str, int] | str) -> None:
        self._upstream = upstream
        self._mode = Mode.PASS
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._links: set[asyncio.StreamWriter] = set()
        self._stuck: set[asyncio.StreamWriter] = set()
        self._delay_s = 0.0
        self._words: bytes | None = None
        self.cuts = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.port = 0

    def set(self, mode: Mode) -> None:
        """Do this from now on, to what is open too. From any thread; done when it returns."""
        self._call(self._set, mode)

    def cut(self) -> None:
        """Reset every open connection, once. From any thread; done when it returns."""
        self._call(self._cut)

    def freeze_open(self) -> None:
        """Nothing passes any more on what is open now, until it is closed; new connections are not concerned."""
        self._call(lambda: self._stuck.update(self._links))

    def delay(self, seconds: float) -> None:
        """Hold back each piece of data, in either direction, for so long."""
        self._call(lambda: setattr(self, "_delay_s", seconds))

    def cut_at(self, words: bytes | None) -> None:
        """Reset each connection on which `words` are sent, in place of the reply: every other time they have arrived
        before. None: no more. `cuts` counts."""
        self._call(lambda: setattr(self, "_words", words))

    def _call(self, function: Callable[..., None], *args: object) -> None:
        done = threading.Event()

        def call() -> None:
            function(*args)
            done.set()

        self.loop.call_soon_threadsafe(call)
        assert done.wait(10)

    def _set(self, mode: Mode) -> None:
        self._mode = mode
        if mode is Mode.FREEZE:
            self._flowing.clear()
        else:
            self._flowing.set()
        if mode is Mode.REFUSE:
            self._cut()

    def _cut(self) -> None:
        for writer in list(self._writers):
            writer.transport.abort()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        if self._mode is Mode.REFUSE:
            writer.transport.abort()
            return
        try:
            if isinstance(self._upstream, str):
                there, back = await asyncio.open_unix_connection(self._upstream)
            else:
                there, back = await asyncio.open_connection(*self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, back}
        self._links.add(writer)
        tasks = {
            asyncio.create_task(self._pump(reader, back, link=writer, is_reply=False)),
            asyncio.create_task(self._pump(there, writer, link=writer, is_reply=True)),
        }
        self._tasks |= tasks
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, back):
            end.transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._tasks -= tasks
        self._writers -= {writer, back}
        self._links.discard(writer)
        self._stuck.discard(writer)

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        link: asyncio.StreamWriter,
        is_reply: bool,
    ) -> None:
        is_doomed = False
        try:
            while data := await source.read(_CHUNK):
                await self._flowing.wait()
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                if is_reply and self._mode is Mode.DROP_REPLIES:
                    return
                if link in self._stuck:
                    continue
                if not is_reply and self._words and self._words in data:
                    self.cuts += 1
                    if self.cuts % 2:
                        return
                    is_doomed = True
                sink.write(data)
                await sink.drain()
                if is_doomed:
                    return
        except OSError:
            return

    async def close(self) -> None:
        """End all connections."""
        self._flowing.set()
        self._cut()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)


@contextmanager
def proxy_to(upstream: tuple[str, int] | str) -> Iterator[Proxy]:
    """A proxy on a free port of the loopback interface."""
    started: Future[tuple[Proxy, asyncio.Event]] = Future()

    async def serve() -> None:
        proxy, stop = Proxy(upstream), asyncio.Event()
        server = await asyncio.start_server(proxy.handle, "127.0.0.1", 0)
        proxy.port = server.sockets[0].getsockname()[1]
        started.set_result((proxy, stop))
        await stop.wait()
        server.close()
        await proxy.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="proxy")
    thread.start()
    proxy, stop = started.result(10)
    try:
        yield proxy
    finally:
        proxy.loop.call_soon_threadsafe(stop.set)
        thread.join(10)
