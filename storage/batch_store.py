"""Batches of queue entries into Postgres: one transaction each, bisected where Postgres refuses a row. Blocks are
copied as they are; their rows are looked at one by one only where something is refused or missing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from typing import Final, Protocol, cast

from storage.dead_letters import DeadLetter
from storage.faults import Fault, MalformedError, classify
from storage.partitions import ensure_months, month_of
from storage.postgres import Connection, OverdueError, Pool, PresentError, borrowed, rows_of
from storage.queue import Entry
from storage.records import COLUMNS, Kind, escape
from storage.sqlfiles import queries
from storage.statuses import GIVEN, HELD

_TABLE: Final = "incoming_v1"
_TABLE_COLUMNS: Final = ("kind", "prior", *COLUMNS)
_PREFIXES: Final = {kind.encode(): kind.encode() + b"\t\t" for kind in Kind}
_CONVERSION: Final = Kind.CONVERSION.encode()
_PARKED: Final = Kind.PARKED.encode()
_RECEIVED: Final = COLUMNS.index("received_us")
_CLICKED: Final = COLUMNS.index("clicked_ms")
_STATUS_SIGN: Final = GIVEN.encode()
_SAYS_A_STATUS: Final = f"\t{GIVEN}".encode()
_IS_HELD: Final = f"\t{HELD}".encode()
_MAX_ERROR: Final = 1_000

TIMEOUT_S: Final = 5.0
"""How long a transaction may take at first: many times what a batch takes."""
_MOST_LIMITS: Final = 4
_ROOM: Final = 4


@dataclass(frozen=True, slots=True)
class BatchCounts:
    """What became of a batch's rows: so many were `read`; conversions that were `new` or already `present`; rows
    `logged` in postback_log, among them present conversions that came from another postback; statuses that repeats gave
    and that `moved` their conversions; postbacks that were `parked`; rows in dead_letters."""

    read: int = 0
    new: int = 0
    present: int = 0
    logged: int = 0
    dead: int = 0
    moved: int = 0
    parked: int = 0

    def __add__(self, other: BatchCounts) -> BatchCounts:
        return BatchCounts(
            self.read + other.read,
            self.new + other.new,
            self.present + other.present,
            self.logged + other.logged,
            self.dead + other.dead,
            self.moved + other.moved,
            self.parked + other.parked,
        )


class Retry(Protocol):
    """Runs an operation until it succeeds or fails for its data; see `storage.backoff.retrying`."""

    async def __call__(self, operation: Callable[[], Awaitable[BatchCounts]], /) -> BatchCounts: ...


class _CopyConnection(Connection, Protocol):
    async def copy_to_table(
        self,
        table_name: str,
        *,
        source: memoryview,
        columns: Sequence[str],
        format: str,  # noqa: A002
    ) -> str: ...


class BatchStore:
    """Stores batches. A transaction that takes too long is broken off with its connection, so that a server which hangs
    holds nobody; it may have committed all the same, and storing again is harmless.

    Too long is `timeout_s`, and twice that after each time, up to four times that: a server that is merely slow gets
    its time.

    Rows are nearly always new, and are inserted as such. Where one is not, Postgres refuses the transaction, and the
    batch is stored in the way that leaves out what is there; so are the next ones, until all of a batch is new.
    """

    def __init__(self, pool: Pool, *, timeout_s: float = TIMEOUT_S) -> None:
        self._pool = pool
        self._least_s = timeout_s
        self._limit_s = timeout_s
        self._are_new = True
        self._sql = queries("writer")

    async def store(self, entries: Sequence[Entry], retry: Retry, on_dead: Callable[[Entry, str], None]) -> BatchCounts:
        """Every row into its table, or into dead_letters, whichever takes it. What `retry` raises passes through."""
        try:
            return await retry(lambda: self._commit(entries))
        except Exception as error:
            if classify(error) is None or classify(error) is Fault.TRANSIENT:
                raise
            if len(entries) == 1 and not entries[0].is_block:
                text = describe(error)
                counts = await retry(lambda: self._bury(entries[0], text))
                on_dead(entries[0], text)
                return counts
        counts = BatchCounts()
        for half in _halves(entries if len(entries) > 1 else entries[0].split()):
            counts += await self.store(half, retry, on_dead)
        return counts

    async def store_again(self, letter: DeadLetter) -> BatchCounts:
        """Its row into its table and out of dead_letters, both or neither. Raises what speaks against it: an error
        of the data, or of Postgres, or LookupError where it is not in dead_letters any more.

        Of a block, each row that is refused becomes a dead letter by itself, so that it holds no other."""
        try:
            return await self._commit([letter.entry], letter.id)
        except Exception as error:
            if not letter.entry.is_block or classify(error) is not Fault.DATA:
                raise
        counts = await self.store(letter.entry.split(), _at_once, lambda *_: None)
        await self._commit([], letter.id)
        return counts

    async def _commit(self, entries: Sequence[Entry], dead_letter_id: int | None = None) -> BatchCounts:
        try:
            return await self._insert(entries, dead_letter_id)
        except Exception as error:
            if classify(error) is not Fault.PARTITION:
                raise
        await self._make_partitions(entries)
        return await self._insert(entries, dead_letter_id)

    async def _insert(self, entries: Sequence[Entry], dead_letter_id: int | None) -> BatchCounts:
        if self._are_new:
            try:
                return await self._transaction(entries, dead_letter_id, are_new=True)
            except PresentError:
                self._are_new = False
        counts = await self._transaction(entries, dead_letter_id, are_new=False)
        self._are_new = not counts.present and counts.new + counts.logged + counts.parked == counts.read
        return counts

    async def _transaction(self, entries: Sequence[Entry], dead_letter_id: int | None, *, are_new: bool) -> BatchCounts:
        async with self._connection() as connection, connection.transaction(isolation="read_committed"):
            if dead_letter_id is not None:
                deleted = rows_of(await connection.execute(self._sql["delete_dead_letter"], dead_letter_id))
                if not deleted:
                    raise LookupError(f"dead letter {dead_letter_id} is gone")
            return await self._write(connection, entries, are_new=are_new)

    async def _write(self, connection: _CopyConnection, entries: Sequence[Entry], *, are_new: bool) -> BatchCounts:
        lines, rows, conversions, parkings = _lines(entries)
        if not rows:
            return BatchCounts()
        others = rows - conversions - parkings
        await connection.execute(self._sql["create_incoming"])
        copied = await connection.copy_to_table(_TABLE, source=memoryview(lines), columns=_TABLE_COLUMNS, format="text")
        if rows_of(copied) != rows:
            raise MalformedError("the payload is not one line")
        new = logged = moved = parked = 0
        unless_present = "" if are_new else self._sql["unless_present"]
        if conversions:
            new = rows_of(await connection.execute(f"{self._sql['insert_conversions']}\n{unless_present}"))
        if others:
            logged += rows_of(await connection.execute(f"{self._sql['insert_log']}\n{unless_present}"))
        if parkings:
            parked = rows_of(await connection.execute(self._sql["insert_parked"]))
        if new < conversions:
            logged += rows_of(await connection.execute(self._sql["log_repeats"]))
        # These are looked for in the lines, which costs next to nothing; a txn_id that looks like it does no harm.
        if _STATUS_SIGN in lines:  # a single byte is found an order of magnitude faster
            if (others or new < conversions) and _SAYS_A_STATUS in lines:
                moved = rows_of(await connection.execute(self._sql["insert_status_changes"], new < conversions))
            if conversions and _IS_HELD in lines:
                await connection.execute(self._sql["insert_holds"])
        return BatchCounts(rows, new, conversions - new, logged, moved=moved, parked=parked)

    async def _make_partitions(self, entries: Sequence[Entry]) -> None:
        rows = [row for entry in entries for row in entry.split()]
        conversions = [row for row in rows if row.kind == _CONVERSION]
        async with self._connection() as connection:
            await ensure_months(connection, "conversions", _months(conversions, _CLICKED, per_ms=1))
            await ensure_months(connection, "status_changes", _months(rows, _CLICKED, per_ms=1))
            await ensure_months(connection, "postback_log", _months(rows, _RECEIVED, per_ms=1_000))

    async def _bury(self, entry: Entry, error: str) -> BatchCounts:
        kind = entry.kind.decode(errors="backslashreplace").replace("\0", r"\x00")
        async with self._connection() as connection:
            await connection.execute(
                self._sql["insert_dead_letter"], entry.id.decode(), kind, entry.payload, entry.prior, error
            )
        return BatchCounts(read=1, dead=1)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[_CopyConnection]:
        """A connection for as long as a transaction may take just now."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with borrowed(self._pool, self._limit_s) as connection:
                began = loop.time()
                yield cast("_CopyConnection", connection)
        except OverdueError:
            self._limit_s = min(self._limit_s * 2, self._least_s * _MOST_LIMITS)
            raise
        self._limit_s = min(max(self._least_s, (loop.time() - began) * _ROOM), self._least_s * _MOST_LIMITS)


def _lines(entries: Sequence[Entry]) -> tuple[bytes, int, int, int]:
    """The batch as COPY text; how many rows it has, how many of these are conversions and how many are parked."""
    parts: list[bytes] = []
    rows = conversions = parkings = 0
    for entry in entries:
        rows += entry.rows
        if entry.is_block:
            parts.append(entry.payload)
            conversions += entry.conversions
            parkings += entry.parked
            continue
        prefix = _PREFIXES.get(entry.kind)
        if prefix is None:
            raise MalformedError("unknown kind")
        if entry.prior:
            prefix = entry.kind + b"\t" + escape(entry.prior.decode(errors="backslashreplace")).encode() + b"\t"
        if entry.kind == _CONVERSION:
            conversions += 1
        elif entry.kind == _PARKED:
            parkings += 1
        parts += (prefix, entry.payload, b"\n")
    return b"".join(parts), rows, conversions, parkings


def _halves(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """Both, without one that is empty."""
    middle = len(entries) // 2
    if middle:
        yield entries[:middle]
    yield entries[middle:]


async def _at_once(operation: Callable[[], Awaitable[BatchCounts]], /) -> BatchCounts:
    """See `Retry`: without retries."""
    return await operation()


def _months(rows: Iterable[Entry], column: int, *, per_ms: int) -> set[date]:
    """The months of a column of times. A line without such a time is left to be refused by Postgres."""
    months = set()
    for row in rows:
        columns = row.payload.split(b"\t", column + 1)
        try:
            months.add(month_of(int(columns[column]) // per_ms))
        except (IndexError, ValueError, OverflowError, OSError):
            continue
    return months


def describe(error: Exception) -> str:
    """The error with what Postgres says about where: column and value."""
    code = getattr(error, "sqlstate", None)
    where = getattr(error, "context", None)
    text = f"{code + ' ' if code else ''}{error}{f' ({where})' if where else ''}"
    return text.replace("\0", r"\x00")[:_MAX_ERROR]
