"""The schema: made by migrations, described by storage/schema.sql, partitioned by month."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ingest.engines.binaries import find_postgres
from storage.migrate import FOLDER, MigrationError, load_migrations, migrate, schema_state
from storage.partitions import Table, conversion_months, ensure_ahead, ensure_months, month_of, months_between
from storage.postgres import Connection, PostgresError, close, connect
from tests.servers import PostgresServer

SCHEMA = FOLDER.parent / "schema.sql"
NAMES = [f"{migration.version:04}_{migration.name}" for migration in load_migrations()]


@pytest.fixture
def empty_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """A database without tables."""
    with postgres_server.database() as dsn:
        yield dsn


@pytest.fixture
async def empty(empty_dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(empty_dsn)
    yield connection
    await close(connection)


# Migrations ----------------------------------------------------------------------------------------------------------


async def test_an_empty_database_is_brought_up_to_date_once(empty: Connection) -> None:
    before = await schema_state(empty)
    assert (before.found, before.wanted) == (0, len(NAMES))
    assert before.problem is not None
    assert "run `postback migrate`" in before.problem
    assert await migrate(empty) == NAMES
    after = await schema_state(empty)
    assert (after.found, after.wanted, after.problem) == (len(NAMES), len(NAMES), None)
    assert await migrate(empty) == []


async def test_many_may_migrate_at_once(empty_dsn: str) -> None:
    connections = [await connect(empty_dsn) for _ in range(5)]
    applied = await asyncio.gather(*(migrate(connection) for connection in connections))
    assert sorted(name for names in applied for name in names) == NAMES
    await asyncio.gather(*(close(connection) for connection in connections))


def folder_of(path: Path, *texts: str) -> Path:
    path.mkdir()
    for number, text in enumerate(texts, 1):
        (path / f"{number:04}_step_{number}.sql").write_text(text)
    return path


async def test_a_migration_that_fails_leaves_nothing_behind(empty: Connection, tmp_path: Path) -> None:
    bad = folder_of(tmp_path / "bad", "CREATE TABLE one ()", "CREATE TABLE two (); SELECT 1 / 0")
    with pytest.raises(PostgresError, match="division by zero"):
        await migrate(empty, bad)
    assert (await schema_state(empty, bad)).found == 1
    assert await empty.fetchval("SELECT to_regclass('one') IS NOT NULL AND to_regclass('two') IS NULL")
    (bad / "0002_step_2.sql").write_text("CREATE TABLE two ()")
    assert await migrate(empty, bad) == ["0002_step_2"]


async def test_a_newer_schema_is_refused(empty: Connection, tmp_path: Path) -> None:
    await migrate(empty, folder_of(tmp_path / "new", "SELECT 1", "SELECT 2"))
    old = folder_of(tmp_path / "old", "SELECT 1")
    state = await schema_state(empty, old)
    assert (state.found, state.wanted) == (2, 1)
    assert state.problem is not None
    assert "this program is older than the schema: upgrade it" in state.problem
    with pytest.raises(MigrationError, match="upgrade it"):
        await migrate(empty, old)


async def test_a_changed_migration_is_refused(empty: Connection, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", "SELECT 1;\nSELECT 2;\n")
    await migrate(empty, folder)
    (folder / "0001_step_1.sql").write_bytes(b"SELECT 1;\r\nSELECT 2;")
    assert (await schema_state(empty, folder)).problem is None, "line ends do not matter"
    (folder / "0001_step_1.sql").write_text("SELECT 3")
    problem = (await schema_state(empty, folder)).problem
    assert problem is not None
    assert "0001_step_1 was applied from another file" in problem
    with pytest.raises(MigrationError, match="applied from another file"):
        await migrate(empty, folder)


async def test_a_hole_in_the_record_is_refused(empty: Connection, tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "m", "SELECT 1", "SELECT 2")
    await migrate(empty, folder)
    await empty.execute("DELETE FROM schema_migrations WHERE version = 1")
    with pytest.raises(MigrationError, match="lacks a row"):
        await migrate(empty, folder)


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (["0002_b.sql"], "expected number 0001"),
        (["0001_a.sql", "0001_b.sql"], "expected number 0002"),
        (["0001_a.sql", "0003_c.sql"], "expected number 0002"),
        (["1_a.sql"], "a migration is named like"),
        ([], "holds no migrations"),
    ],
)
def test_the_files_must_be_in_order(tmp_path: Path, names: list[str], problem: str) -> None:
    for name in names:
        (tmp_path / name).write_text("SELECT 1")
    with pytest.raises(MigrationError, match=problem):
        load_migrations(tmp_path)


async def test_the_description_is_the_sum_of_migrations(empty_dsn: str, empty: Connection) -> None:
    """After a new migration: UPDATE_SCHEMA=1 python -m pytest tests/integration/test_migrations.py -k description"""
    await migrate(empty)
    dump = [str(find_postgres().program("pg_dump")), "--schema-only", "--no-owner", "--no-privileges", "-d", empty_dsn]
    done = await asyncio.to_thread(subprocess.run, dump, capture_output=True, text=True, timeout=60, check=True)
    kept = [
        line for line in done.stdout.splitlines() if not re.match(r"--|\\|SET |SELECT pg_catalog\.set_config", line)
    ]
    text = (
        "-- What the migrations sum up to, for reading only. Written by tests/integration/test_migrations.py.\n\n"
        + re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()
        + "\n"
    )
    if os.environ.get("UPDATE_SCHEMA"):
        await asyncio.to_thread(SCHEMA.write_text, text)
    assert await asyncio.to_thread(SCHEMA.read_text) == text


# Partitions ----------------------------------------------------------------------------------------------------------


async def partitions(connection: Connection, table: Table) -> list[str]:
    rows = await connection.fetch(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = $1::text::regclass ORDER BY 1", table
    )
    return [row[0] for row in rows]


def test_months() -> None:
    assert month_of(1_793_534_400_000) == date(2026, 11, 1)
    assert month_of(1_790_812_799_999) == date(2026, 9, 1), "the last ms of September in UTC"
    assert month_of(1_790_812_800_000) == date(2026, 10, 1)
    assert months_between(date(2026, 11, 30), date(2027, 1, 1)) == [
        date(2026, 11, 1),
        date(2026, 12, 1),
        date(2027, 1, 1),
    ]


@pytest.mark.parametrize("table", ["conversions", "postback_log"])
async def test_partitions_are_made_once(connection: Connection, table: Table) -> None:
    wanted = [f"{table}_2026_11", f"{table}_2026_12"]
    assert await ensure_months(connection, table, [date(2026, 11, 23), date(2026, 12, 1)]) == wanted
    assert await ensure_months(connection, table, [date(2026, 12, 31), date(2026, 11, 1)]) == []
    assert await partitions(connection, table) == wanted


async def test_many_may_make_partitions_at_once(postgres_dsn: str) -> None:
    months = months_between(date(2026, 1, 1), date(2026, 6, 1))
    connections = [await connect(postgres_dsn) for _ in range(4)]
    made = await asyncio.gather(*(ensure_months(connection, "conversions", months) for connection in connections))
    assert sorted(name for names in made for name in names) == [f"conversions_2026_0{n}" for n in range(1, 7)]
    await asyncio.gather(*(close(connection) for connection in connections))


async def test_a_partition_is_a_month_in_utc_whatever_the_session_says(connection: Connection) -> None:
    await connection.execute("SET timezone = 'Asia/Tokyo'")
    await ensure_months(connection, "postback_log", [date(2026, 12, 1)])
    insert = (
        "INSERT INTO postback_log (log_id, received_at, outcome, params)"
        " VALUES (gen_random_uuid(), $1::text::timestamptz, 'rejected', '{}') RETURNING tableoid::regclass::text"
    )
    for moment in ("2026-12-01 00:00:00+00", "2026-12-31 23:59:59.999999+00"):
        assert await connection.fetchval(insert, moment) == "postback_log_2026_12"
    for moment in ("2026-11-30 23:59:59.999999+00", "2027-01-01 00:00:00+00"):
        with pytest.raises(PostgresError, match="no partition"):
            await connection.fetchval(insert, moment)


async def test_a_partition_has_what_its_table_has(connection: Connection) -> None:
    await ensure_months(connection, "conversions", [date(2026, 11, 1)])
    loose = await connection.fetchval(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'conversions_2026_11'::regclass"
        " AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = indexrelid)"
    )
    assert loose == 0, "each index is a part of the table's: none was built twice"
    of_table, of_partition = [
        await connection.fetchval("SELECT count(*) FROM pg_index WHERE indrelid = $1::text::regclass", name)
        for name in ("conversions", "conversions_2026_11")
    ]
    assert of_table == of_partition > 0


async def test_a_partition_that_was_detached_is_taken_back(connection: Connection) -> None:
    await ensure_months(connection, "conversions", [date(2026, 11, 1)])
    await connection.execute("ALTER TABLE conversions DETACH PARTITION conversions_2026_11")
    assert await ensure_months(connection, "conversions", [date(2026, 11, 1)]) == ["conversions_2026_11"]
    assert await partitions(connection, "conversions") == ["conversions_2026_11"]


@pytest.mark.parametrize(
    ("window_days", "oldest"),
    [
        (0, date(2025, 10, 1)),
        (90, date(2025, 10, 1)),
        (500, date(2025, 7, 1)),
        (3650, date(2016, 11, 1)),
        (10**9, date(2000, 1, 1)),
    ],
)
def test_conversions_have_partitions_as_far_back_as_clicks_count(window_days: int, oldest: date) -> None:
    months = conversion_months(date(2026, 11, 23), window_days * 86_400_000)
    assert (months[0], months[-1]) == (oldest, date(2026, 12, 1))


async def test_partitions_are_made_ahead(connection: Connection) -> None:
    now = datetime(2026, 11, 30, 23, 30, tzinfo=timezone(-timedelta(hours=1)))
    made = await ensure_ahead(connection, now, 90 * 86_400_000)
    assert made[0] == "conversions_2025_11"
    assert made[14:16] == ["conversions_2027_01", "status_changes_2025_11"]
    assert made[-3:] == ["status_changes_2027_01", "postback_log_2026_12", "postback_log_2027_01"]
    assert await ensure_ahead(connection, now, 90 * 86_400_000) == []
