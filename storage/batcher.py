"""When a batch is full: by rows, by bytes, or by the age of its first entry. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

MAX_READ: Final = 1_000
"""Entries in one read: bounds what comes in beyond `bytes`, and how long Redis serves nobody else."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is full at `rows` entries, at `bytes` of payload, or `age_ms` after its first entry came."""

    rows: int
    bytes: int
    age_ms: int


class Sized(Protocol):
    """What counts towards a batch's bytes."""

    @property
    def payload(self) -> bytes:
        """As it will be sent on."""


E = TypeVar("E", bound=Sized)


class Batcher(Generic[E]):
    """Collects entries into batches. Times are ms of any one clock that does not go back."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._entries: deque[E] = deque()
        self._bytes = 0
        self._first_ms = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[E]:
        return iter(self._entries)

    @property
    def room(self) -> int:
        """How many entries to ask for next: 0 once a batch is full."""
        if self._bytes >= self._limits.bytes:
            return 0
        return max(0, min(self._limits.rows - len(self._entries), MAX_READ))

    def add(self, entries: Iterable[E], now_ms: int) -> None:
        """Entries that came at `now_ms`."""
        if not self._entries:
            self._first_ms = now_ms
        for entry in entries:
            self._entries.append(entry)
            self._bytes += len(entry.payload)

    def wait_ms(self, now_ms: int) -> int:
        """How long until the batch is due if nothing more comes; 0: take it now."""
        if not self.room:
            return 0
        return max(0, self._first_ms + self._limits.age_ms - now_ms)

    def take(self) -> list[E]:
        """The next batch, within rows and bytes but for a first entry that is oversize by itself. What is left over
        keeps the age, and so is due no later than it should be."""
        batch: list[E] = []
        size = 0
        while self._entries and len(batch) < self._limits.rows:
            size += len(self._entries[0].payload)
            if batch and size > self._limits.bytes:
                break
            batch.append(self._entries.popleft())
        self._bytes = sum(len(entry.payload) for entry in self._entries)
        return batch
