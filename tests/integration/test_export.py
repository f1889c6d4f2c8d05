"""`postback export`: exact, streamed, whole or not at all."""

from __future__ import annotations

import asyncio
import csv
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet  # type: ignore[import-untyped]  # it ships no types
import pytest

from ingest.commands.export import FileFormat, export_rows, format_of
from ingest.commands.session import CommandError
from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.parquet_file import ParquetMissingError
from storage import export
from storage.export import Exported, TimeRange
from storage.partitions import ensure_months
from storage.postgres import Connection, close, connect
from storage.rollups import fold_all
from tests.servers import EXTERNAL_REDIS

SINCE = datetime(2026, 11, 3, tzinfo=UTC)
UNTIL = datetime(2026, 11, 4, tzinfo=UTC)
WHEN = TimeRange(SINCE, UNTIL)
ROWS = """
INSERT INTO conversions (conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id,
    goal_value, goal_version, click_id, txn_id, status, currency, sale_amount, revenue, payout, original_amount,
    original_currency, exchange_rate, params)
SELECT gen_random_uuid(), '2026-11-02', timestamptz '2026-11-03 00:00+00' + (n - 1) * interval '24 hours' / 100, 1, 10,
    100, 1000, 'buy', 1, E'a "click",\n' || n, CASE n % 2 WHEN 0 THEN '' END, 'approved', 'USD', 999999999999.999999,
    0.000001 * n, 0, 1, 'EUR', 123456789.987654321, '{"sub": "ü"}'
FROM generate_series(0, 101) AS n;
INSERT INTO postback_log (log_id, received_at, outcome, remote_ip, params)
VALUES (gen_random_uuid(), '2026-11-03', 'rejected', '192.0.2.7', '{}');
INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at) VALUES ('c', 100, 10, '2026-11-03 12:00+00');
"""


@pytest.fixture
async def connection(postgres_dsn: str) -> Any:
    connection = await connect(postgres_dsn)
    for table in ("conversions", "status_changes", "postback_log"):
        await ensure_months(connection, table, [SINCE.date()])
    await connection.execute(ROWS)
    await fold_all(connection)
    yield connection
    await close(connection)


@pytest.fixture
def config(postgres_dsn: str) -> Config:
    return Config(redis=RedisConfig(url=EXTERNAL_REDIS), postgres=PostgresConfig(dsn=postgres_dsn))


async def test_parquet_is_exact_and_streamed(
    connection: Connection, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(export, "CHUNK", 30)
    path = tmp_path / "rows.parquet"
    await export_rows(config, path, Exported.CONVERSIONS, WHEN, FileFormat.PARQUET)
    assert capsys.readouterr().out == f"100 rows of conversions in {path}\n"
    assert path.stat().st_mode & 0o777 == 0o600
    file = pyarrow.parquet.ParquetFile(path)
    assert [file.metadata.row_group(number).num_rows for number in range(4)] == [30, 30, 30, 10]
    schema = {field.name: str(field.type) for field in file.schema_arrow}
    assert (schema["revenue"], schema["exchange_rate"]) == ("decimal128(18, 6)", "decimal128(18, 9)")
    assert (schema["received_at"], schema["campaign_id"]) == ("timestamp[us, tz=UTC]", "int64")
    rows = file.read().to_pylist()
    assert sorted(row["revenue"] for row in rows) == [Decimal(n).scaleb(-6) for n in range(1, 101)]
    assert {row["net_sale_amount"] for row in rows} == {Decimal("999999999999.999999")}
    assert {row["exchange_rate"] for row in rows} == {Decimal("123456789.987654321")}
    assert {row["txn_id"] for row in rows} == {None, ""}
    assert min(row["received_at"] for row in rows) == SINCE
    assert max(row["received_at"] for row in rows) < UNTIL
    assert {row["params"] for row in rows} == {'{"sub": "ü"}'}


async def test_csv_is_exact(connection: Connection, config: Config, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")
    await export_rows(config, path, Exported.CONVERSIONS, WHEN, FileFormat.CSV)
    text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines(keepends=True)))
    assert len(rows) == 100
    assert {row["net_sale_amount"] for row in rows} == {"999999999999.999999"}
    assert sorted(Decimal(row["revenue"]) for row in rows) == [Decimal(n).scaleb(-6) for n in range(1, 101)]
    assert {row["click_id"].partition("\n")[0] for row in rows} == {'a "click",'}
    assert ',"",approved,' in text, "an empty text is not a null"
    assert min(row["received_at"] for row in rows) == "2026-11-03 00:00:00+00"


async def test_each_table_has_its_rows(connection: Connection, config: Config, tmp_path: Path) -> None:
    # 24 hours with conversions, and a row for the click, whose campaign and so currency nobody knows.
    for table, expected in (("log", 1), ("clicks", 1), ("hours", 25), ("days", 2)):
        path = tmp_path / f"{table}.parquet"
        await export_rows(config, path, Exported(table), WHEN, FileFormat.PARQUET)
        assert pyarrow.parquet.read_metadata(path).num_rows == expected
        path = tmp_path / f"{table}.csv"
        await export_rows(config, path, Exported(table), WHEN, FileFormat.CSV)
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
        assert len(text.splitlines()) == expected + 1


async def test_what_fails_leaves_the_old_file(
    connection: Connection, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.parquet"
    path.write_text("old")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ParquetMissingError, match=r"pip install 'postback\[parquet\]'"):
        await export_rows(config, path, Exported.CONVERSIONS, WHEN, FileFormat.PARQUET)
    with pytest.raises(CommandError, match="--from must be before --to"):
        await export_rows(config, path, Exported.CONVERSIONS, TimeRange(UNTIL, SINCE), FileFormat.CSV)
    await connection.execute("DROP VIEW conversions_net")
    with pytest.raises(Exception, match="conversions_net"):
        await export_rows(config, path, Exported.CONVERSIONS, WHEN, FileFormat.CSV)
    assert path.read_text() == "old"
    assert await asyncio.to_thread(lambda: [file.name for file in tmp_path.iterdir()]) == ["rows.parquet"]


def test_the_name_says_the_format(tmp_path: Path) -> None:
    assert format_of(Path("a.PARQUET")) is FileFormat.PARQUET
    with pytest.raises(CommandError, match=r"must end in \.parquet or \.csv"):
        format_of(Path("a.xlsx"))
