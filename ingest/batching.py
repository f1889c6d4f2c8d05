"""Coalescing: many callers wait, one call carries what they brought."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

PATIENCE_S = 0.02
"""How long after a call began another is put off for more items."""

T = TypeVar("T")
R = TypeVar("R")
Done = Callable[[R | None, Exception | None], None]


class OverloadedError(Exception):
    """More is waiting than may wait. Nothing was done with the item."""


class Coalescer(Generic[T, R]):
    """Hands what has been submitted to `process`, up to `max_batch` at a time, at most `max_in_flight` calls at once.

    Batches come of themselves: what arrives while a call is out goes with the next one. While one is out, another is
    begun only for `worth` items or more, or if that one takes long: what each call costs is shared. The calls run in
    tasks that this object owns, so that a caller who is cancelled harms neither the call nor the others.
    """

    def __init__(
        self,
        process: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_waiting: int,
        worth: int = 1,
    ) -> None:
        self._process = process
        self._worth = worth
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._waiting: list[tuple[T, Done[R]]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._started_s = 0.0

    async def submit(self, item: T) -> R:
        """The item's result; what `process` raises is raised to each of its batch. Raises OverloadedError at once."""
        future: asyncio.Future[R] = self._loop.create_future()

        def done(result: R | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(cast("R", result))

        self.submit_soon(item, done)
        return await future

    def submit_soon(self, item: T, done: Done[R]) -> None:
        """`done` is called with the item's result, or with what `process` raised; it must not raise. Raises
        OverloadedError at once."""
        waiting = self._waiting
        if len(waiting) >= self._max_waiting:
            raise OverloadedError
        waiting.append((item, done))
        self._start_if_worth()

    async def close(self) -> None:
        """Return when nothing waits and no call is out."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _start_if_worth(self) -> None:
        out = len(self._calls)
        if out >= self._max_in_flight:
            return
        now_s = self._loop.time()
        if out and len(self._waiting) < self._worth and now_s < self._started_s + PATIENCE_S:
            return
        self._started_s = now_s
        # The task takes its batch when it first runs: all that is submitted until then goes along.
        task = self._loop.create_task(self._call())
        self._calls.add(task)

    async def _call(self) -> None:
        batch = self._waiting[: self._max_batch]
        del self._waiting[: self._max_batch]
        try:
            results: Sequence[R] = ()
            if batch:  # else a call that was started with this one took all
                results = await self._process([item for item, _ in batch])
                if len(results) != len(batch):
                    raise ValueError(f"{len(results)} results for {len(batch)} items")
        except Exception as error:  # noqa: BLE001  each waiting caller is told
            for _, done in batch:
                done(None, error)
        else:
            for (_, done), result in zip(batch, results, strict=True):
                done(result, None)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._calls.discard(task)
            if self._waiting:
                self._start_if_worth()
