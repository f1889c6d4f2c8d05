"""Errors of connections to Redis are what callers know: RedisErrors."""

from __future__ import annotations

import pytest
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from dedup.client import Retry


class _Closed:
    """Fails as uvloop does `times` times, then answers."""

    def __init__(self, times: int) -> None:
        self.left = times

    async def __call__(self) -> str:
        if self.left:
            self.left -= 1
            raise RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
        return "PONG"


async def _ignore(_: Exception) -> None:
    """What redis-py calls between attempts."""


async def test_a_connection_that_the_other_side_closed_is_an_error_of_redis() -> None:
    with pytest.raises(RedisConnectionError, match="handler is closed"):
        await Retry(NoBackoff(), 1).call_with_retry(_Closed(2), _ignore)


async def test_and_is_tried_again() -> None:
    assert await Retry(NoBackoff(), 1).call_with_retry(_Closed(1), _ignore) == "PONG"
