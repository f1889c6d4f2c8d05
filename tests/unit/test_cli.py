"""The command line without servers: what it says, and that it does not interpret data."""

from __future__ import annotations

import subprocess
import sys
from io import StringIO
from pathlib import Path
from uuid import UUID

import pytest
from rich.console import Console

from ingest.catalog_file import CatalogError
from ingest.commands.failure import explain
from ingest.commands.output import facts, table, visible
from ingest.commands.serve import welcome_text
from ingest.commands.servers import running_servers
from ingest.commands.session import CommandError, configured
from ingest.config import Config, ConfigError
from ingest.record_columns import record_columns
from ingest.serve import state_path
from storage.migrate import MigrationError
from storage.postgres import PostgresError
from storage.records import Record

ROOT = Path(__file__).resolve().parents[2]


def printed(*what: object, width: int = 10_000) -> str:
    out = StringIO()
    console = Console(file=out, width=width, markup=False, highlight=False, emoji=False)
    for thing in what:
        console.print(thing)
    return out.getvalue()


def test_help_is_quick() -> None:
    heavy = {"aiohttp", "asyncpg", "redis", "prometheus_client", "structlog", "uvloop"}
    code = f"import sys, ingest.cli; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"


def test_data_is_not_markup() -> None:
    said = printed(table(("a [b]", "n"), [("[red]x[/red] :smile:", "1")], right=("n",)), facts([("k", "[/]")]))
    assert "[red]x[/red] :smile:" in said
    assert "a [b]" in said
    assert "[/]" in said


def test_data_does_not_drive_the_terminal() -> None:
    assert visible("a\x1b[2Jb\x07\x9b\r") == "a\\x1b[2Jb\\x07\\x9b\\x0d"
    assert visible("two\nlines\tand é日本") == "two\nlines\tand é日本"
    assert "\x1b" not in printed(table(("a",), [("\x1b[2J",)]), facts([("k\x1b", "\x1b")]))


def test_narrow_table_loses_nothing() -> None:
    value = "abcdefghij" * 12
    said = printed(table(("one", "two"), [(value, value)]), width=60)
    assert sum(said.count(letter) for letter in "abcdfghij") >= 9 * 24


def test_wide_table_keeps_a_row_in_a_line() -> None:
    value = "x" * 300
    assert value in printed(table(("one", "two", "three"), [(value, value, value)]))


def test_configuration_is_looked_for_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert configured(None).server.port == Config().server.port
    (tmp_path / "config.toml").write_text("[server]\nport = 1234\n", encoding="utf-8")
    assert configured(None).server.port == 1234
    (tmp_path / "other.toml").write_text("[server]\nport = 4321\n", encoding="utf-8")
    assert configured(tmp_path / "other.toml").server.port == 4321
    with pytest.raises(ConfigError, match=r"none\.toml"):
        configured(tmp_path / "none.toml")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 4194305, "url": "http://x", "role": "all"}'])
def test_what_a_killed_server_left_is_no_server(tmp_path: Path, text: str) -> None:
    config = Config(data_dir=str(tmp_path))
    assert running_servers(config) == []
    path = state_path(config)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    assert running_servers(config) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (CommandError("do this"), "do this"),
        (MigrationError("upgrade"), "upgrade"),
        (CatalogError(["a: missing"]), "nothing was imported, 1 problem:\n  a: missing"),
        (CatalogError(["a: missing", "b: bad"]), "nothing was imported, 2 problems:\n  a: missing\n  b: bad"),
        (FileNotFoundError(2, "No such file or directory", "x.toml"), "x.toml: No such file or directory"),
        (TimeoutError(), "no answer in time; `postback status` shows what runs"),
        (PostgresError("relation is gone"), "PostgreSQL: relation is gone"),
        (KeyError("a defect"), None),
        (ValueError("a defect"), None),
    ],
)
def test_errors_in_a_line(error: Exception, expected: str | None) -> None:
    assert explain(error) == expected


def test_welcome_is_ready_to_paste() -> None:
    config = Config(data_dir="/srv/pb")
    text = welcome_text(config, ".venv/bin/postback", Path("my.toml"), "http://127.0.0.1:8080", "Loaded.")
    assert "curl 'http://127.0.0.1:8080/postback?click_id=demo-us-1&goal=install'" in text
    assert ".venv/bin/postback demo --config my.toml\n" in text
    assert ".venv/bin/postback sql --config my.toml 'select" in text
    assert "/srv/pb/admin.key" in text
    assert "--config" not in welcome_text(config, "postback", None, "http://127.0.0.1:8080", "Loaded.")


def test_record_reads_as_a_row() -> None:
    record = Record(
        log_id=str(UUID(int=1)),
        received_us=1_790_000_000_123_456,
        click_id="c",
        clicked_ms=1_790_000_000_001,
        conversion_id=str(UUID(int=2)),
        sale_micros=9_677_420,
        revenue_micros=0,
        payout_micros=10**18 - 1,
        exchange_rate_nanos=921_659_000,
        params={"a": "b"},
    )
    row = record_columns(record)
    assert row["received_at"] == "2026-09-21T14:13:20.123456+00:00"
    assert row["clicked_at"] == "2026-09-21T14:13:20.001+00:00"
    assert (row["sale_amount"], row["revenue"], row["payout"]) == ("9.67742", "0", "999999999999.999999")
    assert row["exchange_rate"] == "0.921659"
    assert row["conversion_id"] == str(UUID(int=2))
    assert row["original_amount"] is None
    assert row["params"] == {"a": "b"}
    assert "log_id" not in row
