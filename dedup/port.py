"""What the recorder asks of deduplication. `RedisDeduplicator` is the implementation."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, Protocol

import msgspec

TOKEN_BYTES: Final = 7
"""Length of a caller's token. Each claim holds one: 40 bytes a claim is all there is."""


class Verdict(StrEnum):
    """What became of an entry. ACCEPTED, DUPLICATE and CONFLICT are in the queue. FULL: the queue has no room, nothing
    changed. UNAVAILABLE: Redis did not answer, nothing is known to be stored."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"
    FULL = "full"
    UNAVAILABLE = "unavailable"


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One decided postback on its way into the queue.

    `field` is the claim field in the click's hash, empty where nothing is claimed. `value` is what is claimed: a token
    (TOKEN_BYTES long) of the caller, who finds its own in a claim and knows that it has claimed it before; then the
    fact (amount and currency as text): a second claim with the same fact is a duplicate, with another a conflict.
    `expires_ms` is when the click's hash may go (epoch ms). `kind` and `payload` go into the queue as they are; for a
    repeat, the kind is replaced.
    """

    click_id: str
    field: bytes
    value: bytes
    expires_ms: int
    kind: bytes
    payload: bytes

    @property
    def token(self) -> bytes:
        """The caller's."""
        return self.value[:TOKEN_BYTES]

    @property
    def fact(self) -> bytes:
        """What is claimed."""
        return self.value[TOKEN_BYTES:]


class CachedClick(msgspec.Struct, frozen=True, gc=False):
    """A click for the cache: `packed` is opaque here; `expires_ms` is epoch ms."""

    click_id: str
    packed: bytes
    expires_ms: int


class QueueUnavailableError(Exception):
    """Redis did not answer, or refused: nothing can be said of the clicks asked for."""


class Deduplicator(Protocol):
    """The only shared hot state."""

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        """The packed clicks, in order; None for one that is not cached. Raises QueueUnavailableError."""

    async def cache(self, clicks: Sequence[CachedClick]) -> None:
        """Keep clicks until they expire; a click that is already there stays. Raises QueueUnavailableError."""

    async def claim(self, entries: Sequence[Entry]) -> list[Verdict]:
        """Claim and enqueue, atomically for each entry; verdicts in order. Never raises for Redis' sake."""
