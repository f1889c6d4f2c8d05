"""What is old enough goes, and nothing else; rollups keep what they have counted; an archive holds all before it."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from dedup.policy import conversion_id
from ingest.commands.partitions import archive_month, drop_due
from ingest.commands.session import CommandError
from ingest.config import Config, PostgresConfig, RedisConfig, RetentionConfig
from ingest.units import Duration
from storage.archive import count_records, drop_archived, write_month
from storage.export import ExportConnection
from storage.outbox import look_at_touched
from storage.partitions import Table, ensure_ahead, ensure_months
from storage.postgres import Connection, Pool
from storage.records import Kind
from storage.retention import Keep, Partition, RetentionError, delete_old_clicks, drop_expired, due_at, list_partitions
from storage.rollups import fold_all
from tests.servers import EXTERNAL_REDIS
from tests.writing import conversion, count, entry, store

DAY_MS = 86_400_000
KEEP = Keep(90 * DAY_MS, 30 * DAY_MS, 60 * DAY_MS, 30 * DAY_MS, 90 * DAY_MS)
FOR_EVER = Keep(0, 0, 0, 0, 90 * DAY_MS)
OLD_MS = 1_580_000_000_000  # 2020-01-26
TABLES: tuple[Table, ...] = ("conversions", "status_changes", "outbound_messages", "postback_log")


async def _fill(pool: Pool, connection: Connection) -> None:
    """Ten conversions and a rejection of January 2020 and of today, a click, adjustment, status and message of each."""
    today_ms = int(datetime.now(UTC).timestamp()) * 1000
    for table in TABLES:
        await ensure_months(connection, table, [date(2020, 1, 1), datetime.now(UTC).date()])
    for first, clicked_ms in ((0, OLD_MS), (100, today_ms)):
        made = []
        for number in range(first, first + 10):
            identity = conversion_id("click", clicked_ms, 1000, b"txn-%d" % number)
            made.append(
                conversion(
                    number, clicked_ms=clicked_ms, received_us=clicked_ms * 1000, conversion_id=identity,
                    params={"said": 'a "quoted"\nline'},
                )
            )  # fmt: skip
        rejected = conversion(first + 50, received_us=clicked_ms * 1000, reason="bad_amount", conversion_id=None)
        await store(pool, [*map(entry, made), entry(rejected, Kind.REJECTION)])
        await pool.execute(
            "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at)"
            " VALUES ($1, 100, 10, to_timestamp($2))",
            f"click-{first}",
            clicked_ms / 1000,
        )
    await pool.execute(
        "INSERT INTO status_changes SELECT conversion_id, clicked_at, gen_random_uuid(), received_at, now(),"
        " 'cancelled', 'operator' FROM conversions WHERE txn_id LIKE '%1'"
    )
    await pool.execute(
        "INSERT INTO adjustments SELECT gen_random_uuid(), conversion_id, clicked_at, now(), 'refund', -1, -0.1, -0.05,"
        " txn_id, NULL, 'a test' FROM conversions WHERE txn_id LIKE '%2'"
    )
    await pool.execute(
        "INSERT INTO outbound_messages (conversion_id, clicked_at, postback_id, payout, until)"
        " SELECT conversion_id, clicked_at, 1, payout, now() FROM conversions"
    )


async def _template(pool: Pool) -> None:
    await pool.execute("INSERT INTO publishers (id, name) VALUES (10, 'Ten')")
    await pool.execute(
        "INSERT INTO publisher_postbacks (publisher_id, url, host, changed_by, created_at)"
        " VALUES (10, 'https://ten.example/', 'ten.example', 'a test', '2000-01-01')"
    )


async def _sums(pool: Pool) -> list[tuple[object, ...]]:
    rows = await pool.fetch(
        "SELECT 'c', status, sum(conversions), sum(revenue) FROM conversions_daily GROUP BY status"
        " UNION ALL SELECT 'k', '', sum(clicks), 0 FROM clicks_daily"
        " UNION ALL SELECT 'l', outcome, sum(postbacks), 0 FROM log_daily GROUP BY outcome ORDER BY 1, 2"
    )
    return [tuple(row) for row in rows]


async def _months(connection: Connection, keep: Keep) -> set[tuple[str, str]]:
    return {(one.table, f"{one.since:%Y}") for one in await list_partitions(connection, keep) if one.is_due}


@pytest.mark.parametrize(
    ("table", "kept", "said"),
    [
        ("postback_log", KEEP, datetime(2020, 5, 1, tzinfo=UTC)),  # 90 days after January
        ("conversions", KEEP, datetime(2020, 6, 30, tzinfo=UTC)),  # 90 of window, and 60
        ("status_changes", KEEP, datetime(2020, 6, 30, tzinfo=UTC)),
        ("outbound_messages", KEEP, datetime(2020, 5, 31, tzinfo=UTC)),
        ("outbound_messages", FOR_EVER, None),
        ("conversions", FOR_EVER, None),
        # Messages go with their conversions at the latest.
        ("outbound_messages", Keep(0, 0, 60 * DAY_MS, 0, 90 * DAY_MS), datetime(2020, 6, 30, tzinfo=UTC)),
    ],
)
def test_when_a_month_is_due(table: Table, kept: Keep, said: datetime | None) -> None:
    assert due_at(table, datetime(2020, 2, 1, tzinfo=UTC), kept, kept.window_ms) == said


def test_records_of_a_csv_file_are_counted_whatever_is_quoted() -> None:
    made = io.StringIO()
    csv.writer(made).writerows([["a", "b"], ['x "y"\n"z', "1\n2\n"], ["", '""']])
    assert count_records(io.BytesIO(made.getvalue().encode())) == 3


async def test_what_is_old_is_dropped_and_stays_counted(
    pool: Pool, connection: Connection, postgres_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await _fill(pool, connection)
    assert await _months(connection, FOR_EVER) == set()
    dropped: list[Partition] = []
    # What the rollups have yet to count is not taken from them.
    assert await drop_expired(connection, KEEP, "a test", dropped.extend)
    assert {one.table for one in dropped} == {"outbound_messages", "postback_log"}
    assert await _months(connection, KEEP) == {("conversions", "2020"), ("status_changes", "2020")}
    await fold_all(connection)
    before = await _sums(pool)
    assert before[:2] == [("c", "approved", 18, Decimal("3.382")), ("c", "cancelled", 2, Decimal("0.398"))]

    # One at a time, and nobody waits for it.
    async with pool.acquire() as other, other.transaction():
        assert await other.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended('postback retention', 0))")
        assert not await drop_expired(connection, KEEP, "a test", dropped.extend)
        assert await delete_old_clicks(connection, KEEP) is None
    assert await count(pool, "conversions") == 20

    keep = RetentionConfig(conversions=Duration(60 * DAY_MS))
    config = Config(postgres=PostgresConfig(dsn=postgres_dsn), redis=RedisConfig(url=EXTERNAL_REDIS), retention=keep)
    assert await drop_due(config, dry_run=True) == 0
    assert "would be dropped: conversions 2020-01" in capsys.readouterr().out
    assert await count(pool, "conversions") == 20

    dropped.clear()
    assert await drop_expired(connection, KEEP, "a test", dropped.extend)
    assert [one.table for one in dropped] == ["conversions", "status_changes"]
    assert await delete_old_clicks(connection, KEEP) == 1
    assert await _months(connection, KEEP) == set()
    for table, left in {
        "conversions": 10, "status_changes": 1, "adjustments": 1, "rollup_counted": 2, "postback_log": 1, "clicks": 1,
        "outbound_messages": 10,
    }.items():  # fmt: skip
        assert await count(pool, table) == left, table
    await fold_all(connection)
    assert await count(pool, "rollup_touched") == 0
    assert await _sums(pool) == before

    noted = await pool.fetch("SELECT table_name, dropped_by FROM dropped_partitions WHERE month = '2020-01-01'")
    assert {tuple(row) for row in noted} == {(table, "a test") for table in TABLES}
    # Publishers are told of nothing in it a second time, though their messages are gone.
    await _template(pool)
    await ensure_months(connection, "conversions", [date(2020, 1, 1)])
    identity = conversion_id("click", OLD_MS, 1000, b"txn-0")
    again = conversion(0, clicked_ms=OLD_MS, received_us=OLD_MS * 1000, conversion_id=identity)
    await store(pool, [entry(again), entry(conversion(500))])
    looked = await look_at_touched(connection, DAY_MS)
    assert looked is not None
    assert (looked.count, looked.made) == (2, 1)

    await pool.execute("DROP TABLE conversions_2020_01")
    made = await ensure_ahead(connection, datetime(2020, 2, 2, tzinfo=UTC), 90 * DAY_MS)
    assert "conversions_2020_01" not in made
    assert "conversions_2020_02" in made


async def test_a_month_is_dropped_when_its_file_holds_it(
    pool: Pool, connection: Connection, postgres_dsn: str, tmp_path: Path
) -> None:
    await _fill(pool, connection)
    await fold_all(connection)
    config = Config(postgres=PostgresConfig(dsn=postgres_dsn), redis=RedisConfig(url=EXTERNAL_REDIS))
    now = f"{datetime.now(UTC):%Y-%m}"
    for table, of, name, said in (
        ("conversions", now, "a.csv.gz", "rows may still come"),
        ("postback_log", now, "a.csv.gz", "rows may still come"),
        ("conversions", "2019-01", "a.csv.gz", "no partition of 2019-01"),
        ("conversions", "2020", "a.csv.gz", "expected a month"),
        ("clicks", "2020-01", "a.csv.gz", "expected one of"),
        ("conversions", "2020-01", "a.csv", "must end in"),
    ):
        with pytest.raises(CommandError, match=said):
            await archive_month(config, table, of, tmp_path / name, dry_run=False)
    attached = await list_partitions(connection, FOR_EVER)
    month = next(one for one in attached if one.name == "conversions_2020_01")

    # Changed between the two: nothing is dropped.
    written = await write_month(cast("ExportConnection", connection), "conversions", month, io.BytesIO())
    await pool.execute("UPDATE conversions SET params = '{}' WHERE txn_id = 'txn-3'")
    with pytest.raises(RetentionError, match="count changes"):
        await drop_archived(connection, "conversions", month, attached, written, "a test")
    await fold_all(connection)
    with pytest.raises(RetentionError, match="changed while"):
        await drop_archived(connection, "conversions", month, attached, written, "a test")
    assert await count(pool, "conversions") == 20

    path = tmp_path / "2020-01.csv.gz"
    await archive_month(config, "conversions", "2020-01", path, dry_run=True)
    assert not await asyncio.to_thread(path.exists)
    await archive_month(config, "conversions", "2020-01", path, dry_run=False)
    with gzip.open(path, "rt", newline="") as file:
        rows = {row["txn_id"]: row for row in csv.DictReader(file)}
    assert len(rows) == 10
    assert (rows["txn-1"]["status"], rows["txn-1"]["first_status"]) == ("cancelled", "approved")
    assert (rows["txn-2"]["net_revenue"], rows["txn-2"]["revenue"]) == ("0.099000", "0.199000")
    left = {one.name for one in await list_partitions(connection, FOR_EVER)}
    assert "postback_log_2020_01" in left
    assert not {f"{table}_2020_01" for table in TABLES[:3]} & left
    assert await count(pool, "conversions") == 10
