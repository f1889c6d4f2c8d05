"""Personal data of a click is gone from every table; ids, money and rollups are as before."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import msgspec
import pytest

from dedup.policy import conversion_id
from ingest.commands.erase import erase_click
from ingest.config import Config, PostgresConfig, RedisConfig
from storage.erasure import erase
from storage.export import TimeRange
from storage.postgres import Connection, Pool
from storage.queue import Entry
from storage.records import Kind, Record, encode
from storage.replays import Wanted, count_rejections
from storage.rollups import fold_all
from tests.servers import EXTERNAL_REDIS
from tests.writing import CLICKED_MS, RECEIVED_US, conversion, entry, store

SECRET = "maria@example.net"


def _record(number: int, click: str = "gone") -> Record:
    return conversion(number, click=click, params={"email": SECRET})


def _rejected(number: int, click: str = "gone") -> Entry:
    record = msgspec.structs.replace(_record(number, click), conversion_id=None, reason="bad_amount")
    return entry(record, Kind.REJECTION)


def _parked(number: int, *click_ids: str) -> Entry:
    envelope = {
        "until_us": 4_000_000_000_000_000, "click_ids": list(click_ids), "key_id": "k", "sealed": "c2VhbGVk",
        "sent": {"email": SECRET},
    }  # fmt: skip
    record = conversion(number, click=click_ids[0], params=envelope, reason="unknown_click", conversion_id=None)
    return entry(record, Kind.PARKED)


async def _letters(pool: Pool, entries: Iterable[Entry]) -> None:
    for letter in entries:
        await pool.execute(
            "INSERT INTO dead_letters (entry_id, kind, payload, error) VALUES ($1, $2, $3, $4)",
            letter.id.decode(), letter.kind.decode(), letter.payload, f"22P02 invalid: {SECRET}",
        )  # fmt: skip


async def _dump(pool: Pool) -> dict[str, list[str]]:
    """All rows of all tables that could hold it, as text."""
    tables = ("clicks", "conversions", "postback_log", "parked_postbacks", "dead_letters", "erasures")
    found = {}
    for table in tables:
        rows = await pool.fetch(f"SELECT t::text FROM (SELECT * FROM {table}) AS t ORDER BY 1")
        found[table] = [row[0] for row in rows]
    letters = await pool.fetch("SELECT encode(payload, 'escape') || error FROM dead_letters ORDER BY dead_letter_id")
    return found | {"dead_letters": [row[0] for row in letters]}


async def _money(pool: Pool) -> list[tuple[object, ...]]:
    rows = await pool.fetch(
        "SELECT conversion_id, click_id, txn_id, status, sale_amount, revenue, payout FROM conversions_net ORDER BY 1"
    )
    sums = await pool.fetch("SELECT sum(conversions), sum(revenue), count(*) FROM conversions_daily")
    return [tuple(row) for row in [*rows, *sums]]


async def test_a_click_is_erased_everywhere(
    pool: Pool, connection: Connection, postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await pool.execute(
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, params)"
        " SELECT id, 100, 10, to_timestamp($1), jsonb_build_object('email', $2::text)"
        " FROM unnest(ARRAY['gone', 'other']) AS id",
        CLICKED_MS / 1000, SECRET,
    )  # fmt: skip
    conflict = Entry(b"9-0", Kind.CONFLICT.encode(), encode(_record(3)), b"5USD")
    unnamed = msgspec.structs.replace(
        _record(4), conversion_id=None, reason="missing_click_id", click_id=None,
        params={"their_click": "gone", "email": SECRET},
    )  # fmt: skip
    await store(
        pool,
        [
            entry(_record(1)), entry(_record(2, click="other")), conflict, _rejected(5),
            entry(unnamed, Kind.REJECTION), _parked(6, "unknown", "gone-not"), _rejected(7, click="other"),
        ],
    )  # fmt: skip
    await _letters(pool, [_rejected(8), _parked(9, "gone"), _rejected(10, click="other")])
    await fold_all(connection)
    money, before = await _money(pool), await _dump(pool)
    everything = Wanted(("bad_amount",), _all_time(), None)
    assert await count_rejections(connection, everything) == 2

    config = Config(postgres=PostgresConfig(dsn=postgres_dsn), redis=RedisConfig(url=EXTERNAL_REDIS))
    assert await erase_click(config, "gone", "a test", dry_run=True) == 0
    assert "conversions: 1 would be erased" in capsys.readouterr().out
    assert await _dump(pool) == before

    done = await erase(connection, "gone", "a test")
    assert done.rows == {"clicks": 1, "conversions": 1, "parked_postbacks": 0, "postback_log": 3, "dead_letters": 2}
    after = await _dump(pool)
    for table, rows in after.items():
        for row in rows:
            assert SECRET not in row or "other" in row or "unknown" in row, table
    assert any('"claimed": "5USD"' in row.replace('""', '"') for row in after["postback_log"])
    addresses = await pool.fetchval("SELECT count(*) FROM postback_log WHERE remote_ip IS NOT NULL")
    assert addresses == 1, "that of the other click"
    await fold_all(connection)
    assert await _money(pool) == money
    # What is not there any more cannot be decided again.
    assert await count_rejections(connection, everything) == 1

    # Again: nothing changes, and nobody is on record for it.
    again = await erase(connection, "gone", "somebody else")
    assert (again.total, await _dump(pool)) == (0, after)
    noted = await pool.fetch("SELECT erased_by, click_digest FROM erasures")
    assert [tuple(row) for row in noted] == [("a test", sha256(b"gone").digest())]

    # One that waits for its click goes into the log, and waits no more.
    done = await erase(connection, "unknown", "a test")
    assert (done.rows["parked_postbacks"], done.left) == (1, 0)
    logged = await connection.fetchrow(
        "SELECT reason, params::text, remote_ip FROM postback_log WHERE click_id = 'unknown'"
    )
    assert logged is not None
    assert tuple(logged) == ("unknown_click", '{"_erased": true}', None)
    # One whose click has come is about to be decided: it is left, and said.
    await store(pool, [_parked(20, "other")])
    assert (await erase(connection, "other", "a test")).left == 1
    assert conversion_id("gone", CLICKED_MS, 1000, b"txn-1") in {str(row[0]) for row in money}


async def test_of_a_block_in_dead_letters_only_its_rows_are_erased(pool: Pool, connection: Connection) -> None:
    rows = [entry(_record(1)), entry(_record(2, click="other")), _parked(3, "gone"), _rejected(4)]
    lines = b"".join(b"%b\t\t%b\n" % (one.kind, one.payload) for one in rows)
    await _letters(pool, [Entry(b"1-0", b"b1", lines), Entry(b"2-0", b"b1", b"p1\t\t%b\n" % rows[2].payload)])
    assert (await erase(connection, "gone", "a test")).rows["dead_letters"] == 2
    (payload,) = [row[0] for row in await pool.fetch("SELECT payload FROM dead_letters")]
    left = Entry(b"1-0", b"b1", payload).split()
    assert [one.kind for one in left] == [b"c1", b"c1", b"r1"]
    assert [SECRET.encode() in one.payload for one in left] == [False, True, False]
    assert left[1].payload == rows[1].payload
    assert (await erase(connection, "gone", "a test")).total == 0


def _all_time() -> TimeRange:
    received = datetime.fromtimestamp(RECEIVED_US / 1e6, UTC)
    return TimeRange(received - timedelta(days=1), received + timedelta(days=1))
