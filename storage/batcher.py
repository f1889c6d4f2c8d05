"""When a batch is full: by rows, by bytes, or by the age of its first entry. No I/O, no clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

MAX_READ: Final = 500
"""Entries in one read: bounds what comes in beyond a batch (8 MiB, as blocks are made), and how long Redis serves
nobody else."""


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """A batch is full at `rows`, at `bytes` of payload, or `age_ms` after its first entry came."""

    rows: int
    bytes: int
    age_ms: int


class Sized(Protocol):
    """What counts towards a batch's bytes and rows."""

    @property
    def payload(self) -> bytes:
        """As it will be sent on."""

    @property
    def rows(self) -> int:
        """How many rows it is."""


E = TypeVar("E", bound=Sized)


class Batcher(Generic[E]):
    """Collects entries into batches. Times are ms of any one clock that does not go back."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._entries: deque[E] = deque()
        self._bytes = 0
        self._rows = 0
        self._first_ms = 0
        self._rows_each = 1  # of the entries that came last

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[E]:
        return iter(self._entries)

    @property
    def room(self) -> int:
        """How many entries to ask for next, by what those had that came last: 0 once a batch is full."""
        if self._bytes >= self._limits.bytes:
            return 0
        return max(0, min(-((self._rows - self._limits.rows) // self._rows_each), MAX_READ))

    def add(self, entries: Sequence[E], now_ms: int) -> None:
        """Entries that came at `now_ms`."""
        if not entries:
            return
        if not self._entries:
            self._first_ms = now_ms
        rows = sum([entry.rows for entry in entries])
        self._entries += entries
        self._bytes += sum([len(entry.payload) for entry in entries])
        self._rows += rows
        self._rows_each = max(1, rows // len(entries))

    def wait_ms(self, now_ms: int) -> int:
        """How long until the batch is due if nothing more comes; 0: take it now."""
        if not self.room:
            return 0
        return max(0, self._first_ms + self._limits.age_ms - now_ms)

    def take(self) -> list[E]:
        """The next batch, within bytes but for a first entry that is oversize by itself, and within rows but for the
        last entry's. What is left over keeps the age, and so is due no later than it should be."""
        batch: list[E] = []
        size = rows = 0
        while self._entries and rows < self._limits.rows:
            entry = self._entries[0]
            if batch and size + len(entry.payload) > self._limits.bytes:
                break
            size += len(entry.payload)
            rows += entry.rows
            batch.append(self._entries.popleft())
        self._bytes -= size
        self._rows -= rows
        return batch
