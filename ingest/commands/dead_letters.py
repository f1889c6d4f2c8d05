"""`postback dead-letters`: what Postgres refused for its data, to be looked at, stored after all, or thrown away."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from rich.text import Text

from ingest.commands.output import coloured, console, table
from ingest.commands.session import CommandError, open_database, open_postgres, prepared
from ingest.config import Config
from storage.batch_store import BatchCounts, BatchStore, describe
from storage.dead_letters import (
    DeadLetter,
    dead_letter_ids,
    discard_dead_letters,
    fetch_dead_letter,
    newest_dead_letters,
)
from storage.faults import Fault, classify
from storage.postgres import close, open_pool
from storage.records import Kind

_KINDS: Final = {
    Kind.CONVERSION: "conversion",
    Kind.DUPLICATE: "duplicate",
    Kind.CONFLICT: "conflict",
    Kind.REJECTION: "rejection",
    Kind.PARKED: "parked",
}


async def list_dead_letters(config: Config, limit: int, *, as_json: bool) -> None:
    """Print the newest `limit`, in the order they came."""
    async with open_database(config) as connection:
        letters, count = await newest_dead_letters(connection, limit)
    if as_json:
        console().print(json.dumps([_facts(letter) for letter in letters], ensure_ascii=False), soft_wrap=True)
        return
    if not letters:
        console().print("no dead letters")
        return
    rows = [
        (
            str(letter.id),
            f"{letter.failed_at:%Y-%m-%d %H:%M:%S}",
            _kind(letter),
            letter.error,
            letter.column("click_id") or "",
            letter.column("conversion_id") or "",
        )
        for letter in letters
    ]
    console().print(table(("id", "failed at", "kind", "error", "click", "conversion"), rows, right=("id",)))
    if count > len(letters):
        console().print(f"and {count - len(letters):,} older: --limit {count} shows all")


async def retry_dead_letters(config: Config, ids: Sequence[int] | None) -> int:
    """Store each (None: all there are) as the writer would, in a transaction of its own, and take it out of
    dead_letters. The exit status: 1 unless all are stored."""
    async with prepared(config) as urls, open_postgres(urls.postgres_dsn) as connection:
        wanted = await dead_letter_ids(connection) if ids is None else list(dict.fromkeys(ids))
        pool = await open_pool(urls.postgres_dsn, 1)
        try:
            store = BatchStore(pool)
            said = [(number, await _retry(store, await fetch_dead_letter(connection, number))) for number in wanted]
        finally:
            await close(pool)
    if not said:
        console().print("no dead letters")
        return 0
    console().print(table(("id", "became"), [(str(number), became) for number, (_, became) in said], right=("id",)))
    return 0 if all(is_stored for _, (is_stored, _) in said) else 1


async def discard(config: Config, ids: Sequence[int]) -> None:
    """Delete them for good, and show what they held; all or, with CommandError, none where one is not there."""
    async with open_database(config) as connection, connection.transaction():
        letters = [await fetch_dead_letter(connection, number) for number in dict.fromkeys(ids)]
        gone = await discard_dead_letters(connection, ids)
        if missing := [str(number) for number in dict.fromkeys(ids) if number not in gone]:
            raise CommandError(f"nothing was discarded: there is no dead letter {', '.join(missing)}")
    for letter in letters:
        if letter is not None:
            console().print(json.dumps(_facts(letter), ensure_ascii=False), soft_wrap=True)


async def _retry(store: BatchStore, letter: DeadLetter | None) -> tuple[bool, Text]:
    """Whether it is in its table now, and what to say."""
    if letter is None:
        return False, Text("there is no such dead letter", "red")
    try:
        counts = await store.store_again(letter)
    except LookupError:
        return False, Text("there is no such dead letter: somebody else was quicker", "red")
    except Exception as error:
        if classify(error) is not Fault.DATA:
            raise
        return False, Text(f"refused: {describe(error)}", "red")
    if letter.entry.is_block:
        return not counts.dead, coloured(_became_all(counts))
    return True, coloured(_became(counts))


def _became(counts: BatchCounts) -> str:
    if counts.new:
        return "conversion"
    if counts.present:
        return "counted before, and a duplicate in the log" if counts.logged else "counted before"
    if counts.parked:
        return "parked"
    return "in the log" if counts.logged else "in the log before"


def _became_all(counts: BatchCounts) -> str:
    """Of a block, whose rows may have become several things."""
    before = counts.read - counts.new - counts.logged - counts.parked - counts.dead
    became = (
        (counts.new, "conversions"),
        (counts.logged, "in the log"),
        (counts.parked, "parked"),
        (counts.dead, "refused, and dead letters by themselves now"),
        (before, "stored before"),
    )
    return ", ".join(f"{count} {what}" for count, what in became if count > 0)


def _kind(letter: DeadLetter) -> str:
    if letter.entry.is_block:
        return "block"
    kind = letter.entry.kind.decode()
    return _KINDS[Kind(kind)] if kind in set(Kind) else kind


def _facts(letter: DeadLetter) -> dict[str, object]:
    return {
        "id": letter.id,
        "failed_at": letter.failed_at.isoformat(),
        "kind": _kind(letter),
        "error": letter.error,
        "click_id": letter.column("click_id"),
        "conversion_id": letter.column("conversion_id"),
        "entry_id": letter.entry.id.decode(),
        "payload": letter.entry.payload.decode(errors="backslashreplace"),
        "prior": letter.entry.prior.decode(errors="backslashreplace"),
    }
