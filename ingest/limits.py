"""Bounds on what is under way: refusals before any state changes. Pure; times are given."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ingest.batching import OverloadedError


class ByteBudget:
    """How many bytes of bodies may be held at once."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._taken = 0

    @contextmanager
    def hold(self, size: int) -> Iterator[None]:
        """Take `size` bytes for as long as the context lasts. Raises OverloadedError. One body alone always fits."""
        if self._taken and self._taken + size > self._limit:
            raise OverloadedError
        self._taken += size
        try:
            yield
        finally:
            self._taken -= size


@dataclass(slots=True)
class _Bucket:
    tokens: float
    at_us: int


class RateLimiter:
    """A token bucket for each sender: `rate` postbacks a second, and as many at once after a quiet second."""

    def __init__(self) -> None:
        self._buckets: dict[Hashable, _Bucket] = {}

    def admit(self, sender: Hashable, rate: int, now_us: int) -> bool:
        """Whether one more may pass now."""
        bucket = self._buckets.get(sender)
        if bucket is None:
            bucket = self._buckets[sender] = _Bucket(rate, now_us)
        elapsed_us = max(0, now_us - bucket.at_us)
        bucket.tokens = min(float(rate), bucket.tokens + elapsed_us * rate / 1_000_000)
        bucket.at_us = max(bucket.at_us, now_us)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True
