"""Personal data of a click, erased wherever it stands. Ids, times and money stay."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

import orjson

from storage.dead_letters import DeadLetter, discard_dead_letters, read_dead_letter
from storage.partitions import ensure_months
from storage.postgres import Connection, rows_of
from storage.records import COLUMNS, Kind, escape
from storage.sqlfiles import queries

TIMEOUT_S: Final = 3600.0
"""How long one table may take: what does not know its click is looked through."""

_TABLES: Final = ("clicks", "conversions", "parked_postbacks", "postback_log")
_LEFT: Final = {"remote_ip": b"\\N", "params": b'{"_erased":true}'}


@dataclass(frozen=True, slots=True)
class Erased:
    """Rows changed, by table; how many parked postbacks are about to be decided, and were left."""

    rows: dict[str, int]
    left: int

    @property
    def total(self) -> int:
        """All rows."""
        return sum(self.rows.values())


class _UndoneError(Exception):
    pass


async def erase(connection: Connection, click_id: str, made_by: str, *, is_dry: bool = False) -> Erased:
    """All in one transaction, with a note in `erasures`; what is erased already is not touched again. `is_dry`: the
    same, taken back. The connection must not be in a transaction."""
    sql = queries("erasure")
    months = [row[0] for row in await connection.fetch(sql["months_of_parked"], click_id)]
    await ensure_months(connection, "postback_log", months)
    rows: dict[str, int] = {}
    left = 0
    with suppress(_UndoneError):
        async with connection.transaction(isolation="read_committed"):
            for table in _TABLES:
                done = await connection.execute(sql[table], click_id, timeout=TIMEOUT_S)
                rows[table] = rows_of(done)
            rows["dead_letters"] = await _erase_dead_letters(connection, click_id)
            left = await connection.fetchval(sql["parked_left"], click_id)
            digest = sha256(click_id.encode()).digest()
            await connection.execute(sql["note"], made_by, digest, orjson.dumps(rows).decode(), any(rows.values()))
            if is_dry:
                raise _UndoneError
    return Erased(rows, left)


async def _erase_dead_letters(connection: Connection, click_id: str) -> int:
    """How many were changed. What cannot be stored without its personal data is deleted."""
    sql = queries("erasure")
    count = 0
    for row in await connection.fetch(sql["dead_letters"], escape(click_id).encode()):
        letter = read_dead_letter(row)
        left = _block_left(letter, click_id) if letter.entry.is_block else _left(letter, click_id)
        if left == letter.entry.payload:
            continue
        count += 1
        if left is None:
            await discard_dead_letters(connection, [letter.id])
        else:
            await connection.execute(sql["erase_dead_letter"], letter.id, left)
    return count


def _left(letter: DeadLetter, click_id: str) -> bytes | None:
    """What may stay of the letter's payload: all of it where it does not name the click."""
    return payload_left(letter) if click_id in _names(letter) else letter.entry.payload


def _block_left(letter: DeadLetter, click_id: str) -> bytes | None:
    """The same of a block, each row by itself."""
    left: list[bytes] = []
    for line, entry in zip(letter.entry.lines(), letter.entry.split(), strict=True):
        payload = _left(replace(letter, entry=entry), click_id)
        if payload is not None:
            left.append(line.removesuffix(entry.payload) + payload + b"\n")
    return b"".join(left) or None


def payload_left(letter: DeadLetter) -> bytes | None:
    """The payload without the sender's address and params; None for one that is nothing without them."""
    columns = letter.entry.payload.split(b"\t")
    if len(columns) != len(COLUMNS) or letter.entry.kind.decode() == Kind.PARKED:
        return None
    for name, value in _LEFT.items():
        columns[COLUMNS.index(name)] = value
    return b"\t".join(columns)


def _names(letter: DeadLetter) -> set[object]:
    """What may be the id of its click."""
    named: set[object] = {letter.column("click_id")}
    params = letter.column("params")
    with suppress(orjson.JSONDecodeError):  # what was refused for that: its click's column must do
        named.update(_texts(orjson.loads(params or "null")))
    return named


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for below in value.values():
            yield from _texts(below)
    elif isinstance(value, list):
        for below in value:
            yield from _texts(below)
