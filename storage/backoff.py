"""Waiting longer after each failure, for as long as it takes, unless we are told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import random
from typing import Final, TypeVar

FIRST_S: Final = 0.05
CAP_S: Final = 5.0

T = TypeVar("T")


class StoppedError(Exception):
    """We were told to stop while the other side was still away."""


def delay_s(attempt: int, chance: float, *, first_s: float = FIRST_S, cap_s: float = CAP_S) -> float:
    """How long to wait after failure number `attempt` (from 0): doubling up to `cap_s`, half of it by `chance` (0 to
    1)."""
    longest_s = cap_s if attempt > 30 else min(cap_s, first_s * (1 << attempt))
    return longest_s * (0.5 + chance / 2)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait `seconds`, or until `stop`, whichever is first."""
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return


async def retrying(
    operation: Callable[[], Awaitable[T]],
    *,
    stop: asyncio.Event,
    is_transient: Callable[[Exception], bool],
    on_retry: Callable[[Exception, float], None],
) -> T:
    """Run `operation` until it returns. An error that is not transient is raised; StoppedError when an attempt fails
    after `stop`. `on_retry` is told of each failure and of the seconds until the next attempt."""
    attempt = 0
    while True:
        try:
            return await operation()
        except Exception as error:
            if not is_transient(error):
                raise
            if stop.is_set():
                raise StoppedError from error
            wait_s = delay_s(attempt, random())  # noqa: S311  jitter, not a secret
            on_retry(error, wait_s)
        attempt += 1
        await pause(stop, wait_s)
