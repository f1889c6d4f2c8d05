"""The local spool: postbacks that arrive while Redis is away, on disk before their senders are answered.

A folder of segments. Each receiver appends to one of its own, locked while it is open; any receiver drains those that
nobody holds, its own after closing it, whoever wrote them.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from ingest.arrival import Arrival
from ingest.spool_records import HEADER, Damage, decode_segment, encode_arrival

SEGMENT_BYTES: Final = 16 << 20
_SUFFIX: Final = ".spool"
_LEAST_FREE_BYTES: Final = 64 << 10

log = structlog.get_logger()


class SpoolFullError(Exception):
    """The spool has no room, or the disk refuses: nothing was stored."""


@dataclass(slots=True)
class _Open:
    """The segment being written."""

    descriptor: int
    path: Path
    size: int


class Spool:
    """Appends in groups, each fsynced once. `max_bytes` bounds the folder, all receivers' segments together."""

    def __init__(self, folder: Path, *, max_bytes: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes
        self._open: _Open | None = None
        self._lock = asyncio.Lock()

    async def append(self, arrivals: Sequence[Arrival]) -> None:
        """Store the arrivals: on disk when this returns. All or none. Raises SpoolFullError."""
        data = b"".join(encode_arrival(arrival) for arrival in arrivals)
        async with self._lock:
            await asyncio.to_thread(self._append, data)

    def has_room(self) -> bool:
        """Whether there is room for anything at all."""
        return used_bytes(self._folder) < self._max_bytes and _disk_has_room(self._folder)

    async def seal(self) -> None:
        """Close the segment being written, so that it can be drained."""
        async with self._lock:
            await asyncio.to_thread(self._close)

    def _append(self, data: bytes) -> None:
        try:
            if self._open is not None and self._open.size >= self._segment_bytes:
                self._close()
            if used_bytes(self._folder) + len(data) > self._max_bytes:
                raise SpoolFullError(f"spool.max_bytes: {self._max_bytes} bytes are in use")
            segment = self._open or self._create()
            self._write(segment, data)
        except OSError as error:
            log.error("spool cannot be written: postbacks are refused", folder=str(self._folder), error=str(error))
            raise SpoolFullError(str(error)) from error

    def _write(self, segment: _Open, data: bytes) -> None:
        """Raises OSError with the segment as it was, and closed: after a failed fsync nothing is known of a file."""
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(segment.descriptor, data[written:], segment.size + written)
            os.fdatasync(segment.descriptor)
        except OSError:
            os.ftruncate(segment.descriptor, segment.size)
            if segment.size <= len(HEADER):
                segment.path.unlink()  # or each refusal would leave an empty segment on a disk that is full
            self._close()
            raise
        segment.size += len(data)

    def _create(self) -> _Open:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{time.time_ns():020}-{os.getpid()}{_SUFFIX}"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open = _Open(descriptor, path, 0)
            self._write(self._open, HEADER)
            _sync_folder(self._folder)
        except OSError:
            path.unlink(missing_ok=True)
            self._close()
            raise
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            os.close(self._open.descriptor)  # and with it the lock
            self._open = None


@dataclass(frozen=True, slots=True)
class Segment:
    """A sealed segment, locked by who drains it."""

    path: Path
    descriptor: int

    def read(self) -> tuple[list[Arrival], Damage | None]:
        """Its arrivals in order, and where it is damaged."""
        arrivals: list[Arrival] = []
        for item in decode_segment(self.path.read_bytes()):
            if isinstance(item, Damage):
                return arrivals, item
            arrivals.append(item)
        return arrivals, None

    def remove(self, *, keep_damaged: bool = False) -> None:
        """It is drained. `keep_damaged`: keep the file under another name, for a person to look at."""
        if keep_damaged:
            self.path.replace(self.path.with_suffix(".damaged"))
        else:
            self.path.unlink()
        _sync_folder(self.path.parent)
        self.release()

    def release(self) -> None:
        """Leave it for later."""
        os.close(self.descriptor)


def next_segment(folder: Path) -> Segment | None:
    """The oldest segment that nobody writes or drains, locked; None where there is none."""
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDWR)
        except FileNotFoundError:
            continue  # another has drained it
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        if os.fstat(descriptor).st_nlink == 0:
            os.close(descriptor)  # drained between the two calls
            continue
        return Segment(path, descriptor)
    return None


def used_bytes(folder: Path) -> int:
    """What the spool takes on disk."""
    total = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return 0
    return total


def _disk_has_room(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free >= _LEAST_FREE_BYTES
    except FileNotFoundError:
        return True


def _sync_folder(folder: Path) -> None:
    """A new or removed name is on disk only when its folder is."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
