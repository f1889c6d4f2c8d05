"""Coalescing: many callers wait, one call carries what they brought."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class OverloadedError(Exception):
    """More is waiting than may wait. Nothing was done with the item."""


class Coalescer(Generic[T, R]):
    """Hands what has been submitted to `process`, up to `max_batch` at a time, at most `max_in_flight` calls at once.

    Batches come of themselves: what arrives while the calls are out goes with the next one. The calls run in tasks that
    this object owns, so that a caller who is cancelled harms neither the call nor the others.
    """

    def __init__(
        self,
        process: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_waiting: int,
    ) -> None:
        self._process = process
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._calls: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    async def submit(self, item: T) -> R:
        """The item's result; what `process` raises is raised to each of its batch. Raises OverloadedError at once."""
        if len(self._waiting) >= self._max_waiting:
            raise OverloadedError
        future: asyncio.Future[R] = self._loop.create_future()
        self._waiting.append((item, future))
        if len(self._calls) < self._max_in_flight:
            self._start_call()
        return await future

    async def close(self) -> None:
        """Return when nothing waits and no call is out."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _start_call(self) -> None:
        # The task takes its batch when it first runs: all that is submitted until then goes along.
        task = self._loop.create_task(self._call())
        self._calls.add(task)

    async def _call(self) -> None:
        batch = self._waiting[: self._max_batch]
        del self._waiting[: self._max_batch]
        try:
            if batch:  # else a call that was started with this one took all
                results = await self._process([item for item, _ in batch])
                for (_, future), result in zip(batch, results, strict=True):
                    if not future.done():
                        future.set_result(result)
        except Exception as error:  # noqa: BLE001  each waiting caller raises it
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._calls.discard(task)
            if self._waiting:
                self._start_call()
