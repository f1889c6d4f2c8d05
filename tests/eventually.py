"""Waiting for what comes, with an end to it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(ask: Callable[[], Awaitable[T]], is_it: Callable[[T], bool], *, within_s: float = 30.0) -> T:
    """Ask until the answer is it, and give it. AssertionError with the last answer when time is up."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_s
    while True:
        answer = await ask()
        if is_it(answer):
            return answer
        assert loop.time() < deadline, f"not within {within_s} s; the last answer was {answer!r}"
        await asyncio.sleep(0.02)
