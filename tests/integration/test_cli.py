"""The command as a person runs it: processes, embedded engines, exit codes, what it says and where."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import pytest
from redis import Redis

from ingest.compiled import is_built
from tests import servers
from tests.commands import run_command
from tests.eventually import eventually

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "ingest" / "sample" / "catalog.toml"
TIMEOUT_S = 60.0
AMOUNTS = "select goal_value, trim_scale(revenue) as revenue, trim_scale(payout) as payout, currency from conversions"


@dataclass(frozen=True, slots=True)
class Command:
    """`postback` in a folder, with a configuration there."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """Ours, without settings of the program; anything goes into a pipe, so without colours."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("POSTBACK_")}
        return kept | {"PYTHONPATH": str(ROOT)}

    def start(self, *arguments: str, **settings: str) -> subprocess.Popen[str]:
        """Run it, as a person would; output and errors are pipes."""
        return subprocess.Popen(
            [sys.executable, "-m", "ingest.cli", *arguments],
            cwd=self.folder,
            env=self.environment | {f"POSTBACK_{name}": value for name, value in settings.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, code: int = 0, typed: str = "", **settings: str) -> tuple[str, str]:
        """(output, errors) of a run that ends with `code`."""
        env = self.environment | {f"POSTBACK_{name}": value for name, value in settings.items()}
        done = run_command(arguments, env=env, cwd=self.folder, typed=typed)
        assert done.returncode == code, f"{arguments} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        assert "\x1b" not in done.stdout + done.stderr
        return done.stdout, done.stderr

    def json(self, *arguments: str, code: int = 0) -> object:
        """What it says for machines."""
        return json.loads(self.run(*arguments, code=code)[0])

    def rows(self, statement: str) -> list[dict[str, object]]:
        """What a statement gives."""
        said: list[dict[str, object]] = json.loads(self.run("sql", "--format", "json", statement)[0])
        return said


@pytest.fixture(scope="module")
def command() -> Iterator[Command]:
    """A folder of its own, embedded engines, a free port."""
    with servers.temporary_folder() as folder:
        (folder / "config.toml").write_text("[server]\nport = 0\n", encoding="utf-8")
        yield Command(folder)


@dataclass(frozen=True, slots=True)
class Running:
    """`postback serve --sample`, and its first words."""

    command: Command
    process: subprocess.Popen[str]
    welcome: str

    @property
    def url(self) -> str:
        """Where it serves."""
        return next(word for word in self.welcome.split() if word.startswith("http://"))


@pytest.fixture(scope="module")
def running(command: Command) -> Iterator[Running]:
    """The server, ended with SIGTERM: it must end with 0."""
    with command.start("serve", "--sample", LOG__LEVEL="error") as process:
        assert process.stdout is not None
        welcome = ""
        try:
            while "Ctrl-C" not in welcome:
                line = process.stdout.readline()
                assert line, f"serve ended: {process.stderr.read() if process.stderr else ''}"
                welcome += line
            yield Running(command, process, welcome)
            process.send_signal(signal.SIGTERM)
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()


def test_before_anything_runs() -> None:
    with servers.temporary_folder() as folder:
        command = Command(folder)
        assert command.json("info", "--json") == {
            "url": "http://127.0.0.1:8080",
            "redis_url": None,
            "postgres_dsn": None,
            "data_dir": str(folder / "var"),
            "admin_key_file": str(folder / "var" / "admin.key"),
            "compiled": is_built(),
        }
        assert not (folder / "var").exists()
        output, _ = command.run("status", code=1)
        assert "not ready" in output
        assert "`postback serve`" in output
        _, errors = command.run("demo", code=1)
        assert errors.startswith("error: no server runs")


def test_commands_start_engines_for_themselves() -> None:
    with servers.temporary_folder() as folder:
        command = Command(folder)
        assert command.run("migrate")[0].splitlines()[0] == "applied 0001_initial"
        assert command.run("migrate")[0] == "up to date\n"
        output, _ = command.run("catalog", "import", str(SAMPLE))
        assert "campaigns 3 0 0 goals 8 0 0" in " ".join(output.split())
        command.run("catalog", "export", "copy.toml")
        assert "demo-token" not in (folder / "copy.toml").read_text(encoding="utf-8")
        assert command.run("catalog", "export")[0] == (folder / "copy.toml").read_text(encoding="utf-8")
        (folder / "bad.toml").write_text('[[campaigns]]\nid = 1\nadvertiser = 99\nname = "x"\n', encoding="utf-8")
        _, errors = command.run("catalog", "import", "bad.toml", code=1)
        assert "campaigns[0].currency: missing" in errors
        assert not (folder / "var" / "run" / "engines.json").exists()


def test_welcome_and_first_postback(running: Running) -> None:
    line = next(line for line in running.welcome.splitlines() if "curl" in line)
    _, url = shlex.split(line[line.index("curl") :])
    with urlopen(url, timeout=10) as answer:
        said = json.load(answer)
    assert said["status"] == "accepted"
    key_file = Path(next(line for line in running.welcome.splitlines() if "admin key" in line).split()[-1])
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert key_file.read_text(encoding="ascii").strip() not in running.welcome


def test_demo_shows_every_verdict(running: Running) -> None:
    output, _ = running.command.run("demo")
    for word in ("accepted", "duplicate", "conflict", "rejected", "403", "success=true;", "goal_not_assigned"):
        assert f" {word} " in output
    for reason in (
        "unknown_click click_expired unknown_goal goal_inactive outside_coverage missing_sale_amount bad_amount "
        "no_exchange_rate bad_token click_too_fresh"
    ).split():
        assert reason in output
    counted = output.partition("what was counted")[2]
    for line in (
        "install 2 1.4 USD",
        "purchase T1 49.99 9.998 6.9986 USD",
        "purchase T2 32.55 6.51 4.557 USD 30 EUR",  # 30 EUR at 1.085; 20 % of it; 70 % of that
        "order T3 120 12.5 10.2 EUR",
        "vip_order T5 200 30 0 EUR goal_not_assigned",
        "application 12 9 GBP",
        "ad_view 0.0125 0.008 USD",
    ):
        assert line in " ".join(counted.split())
    prefix = counted[counted.index("demo-") :].split("-us")[0]
    rows = running.command.rows(f"{AMOUNTS} where click_id like '{prefix}-%' and goal_value = 'install'")
    assert rows == [{"goal_value": "install", "revenue": "2", "payout": "1.4", "currency": "USD"}]


def test_info_and_status_of_a_running_server(running: Running) -> None:
    info = running.command.json("info", "--json")
    assert isinstance(info, dict)
    assert list(info) == ["url", "redis_url", "postgres_dsn", "data_dir", "admin_key_file", "compiled"]
    assert info["url"] == running.url
    with Redis.from_url(info["redis_url"]) as client:
        assert client.ping()
    status = running.command.json("status", "--json")
    assert isinstance(status, dict)
    assert status["ready"] is True
    assert [server["url"] for server in status["servers"]] == [running.url]
    assert status["schema_version"] == status["schema_wanted"]
    assert [part["partition"] for part in status["queue"]] == [0]
    output, _ = running.command.run("status")
    assert running.url in output
    assert "schema version" in output


def test_simulate_writes_nothing(running: Running) -> None:
    command = running.command
    info = command.json("info", "--json")
    assert isinstance(info, dict)
    query = "click_id=demo-us-2&goal=purchase&txn_id=S1&sale_amount=10"
    with Redis.from_url(info["redis_url"]) as client:
        before = client.dbsize(), client.exists("pb:{0}:click:demo-us-2")
        made = command.json("simulate", "--json", query)
        assert (client.dbsize(), client.exists("pb:{0}:click:demo-us-2")) == before
    assert isinstance(made, dict)
    assert list(made) == ["verdict", "conversion_id", "reason", "detail", "steps", "record", "claim", "answer"]
    assert (made["verdict"], made["record"]["revenue"], made["record"]["payout"]) == ("accepted", "2", "1.4")
    assert made["record"]["conversion_id"] == made["conversion_id"]
    assert {"click", "campaign", "goal", "rate", "money", "claim", "claimed"} <= {
        step["step"] for step in made["steps"]
    }
    with urlopen(f"{running.url}/postback?{query}", timeout=10) as answer:
        assert json.load(answer) == {"status": "accepted", "conversion_id": made["conversion_id"]}

    repeated = command.json("simulate", "--json", query)
    changed = command.json("simulate", "--json", f"http://any.example/postback?{query.replace('=10', '=11')}")
    body = {"click_id": "demo-shop-1", "order": "S2", "total": 5, "shop_key": "wrong-key-1"}
    refused = command.json("simulate", "--json", json.dumps(body))
    assert isinstance(repeated, dict)
    assert isinstance(changed, dict)
    assert isinstance(refused, dict)
    assert (repeated["verdict"], repeated["conversion_id"]) == ("duplicate", made["conversion_id"])
    assert (changed["verdict"], changed["conversion_id"]) == ("conflict", made["conversion_id"])
    assert (refused["verdict"], refused["reason"]) == ("rejected", "bad_token")
    assert "wrong-key-1" not in json.dumps(refused)
    output, _ = command.run("simulate", query)
    assert "would be    duplicate" in output

    # Redis forgets: the stored conversion is the second lock.
    asyncio.run(_committed(info["postgres_dsn"], made["conversion_id"]))
    with Redis.from_url(info["redis_url"]) as client:
        client.delete("pb:{0}:click:demo-us-2")
    forgotten = command.json("simulate", "--json", query)
    assert isinstance(forgotten, dict)
    assert forgotten["verdict"] == "duplicate"


async def _committed(dsn: str, conversion_id: str) -> None:
    connection = await asyncpg.connect(dsn)
    select = "SELECT count(*) FROM conversions WHERE conversion_id::text = $1"
    await eventually(lambda: connection.fetchval(select, conversion_id), lambda found: found == 1)
    await connection.close()


async def _rolled_up(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    select = "SELECT count(*) FROM conversions_daily"
    await eventually(lambda: connection.fetchval(select), lambda found: found >= 1)
    await connection.close()


def test_url(running: Running) -> None:
    command = running.command
    assert command.run("url", "100", "install")[0] == f"{running.url}/postback?click_id={{click_id}}&goal=install\n"
    assert command.run("url", "200", "2000", "--base", "https://t.example.com")[0] == (
        "https://t.example.com/postback?click_id={click_id}&goal=order&order={txn_id}&total={sale_amount}"
        "&currency={currency}&shop_key=YOUR_TOKEN\n"
    )
    assert "did you mean install? its goals: ad_view, install" in command.run("url", "100", "instal", code=1)[1]
    assert "there is no campaign 7" in command.run("url", "7", "install", code=1)[1]
    output, errors = command.run("url", "100", "purchase", "--sender", "appsflyer", "--macro", "txn_id={order}")
    assert output == (
        f"{running.url}/postback?click_id={{clickid}}&goal=purchase&txn_id={{order}}&sale_amount={{event_revenue}}"
        "&currency={event_revenue_currency}\n"
    )
    assert "clickid has to carry the click id" in errors
    described = command.json("url", "100", "--sender", "branch", "--json")
    assert isinstance(described, dict)
    assert described["url"].startswith(f"{running.url}/postback?click_id=${{(last_attributed_touch_data.~click_id)!}}&")
    with urlopen(shlex.split(command.run("url", "100", "install", "--curl")[0])[1], timeout=10) as answer:
        assert json.load(answer)["reason"] == "unknown_click"


def test_sql(running: Running) -> None:
    command = running.command
    exact = "select 1.10::numeric(18,6) as n, 'infinity'::timestamptz as t, null as x, '[b]' as m"
    assert command.run("sql", exact)[0] == (
        " n        | t        | x | m\n ---------+----------+---+----\n 1.100000 | infinity |   | [b]\n(1 row)\n"
    ).replace(" ---------", " ---------")
    assert command.run("sql", "--format", "csv", exact)[0] == "n,t,x,m\n1.100000,infinity,,[b]\n"
    assert command.rows(exact) == [{"n": "1.100000", "t": "infinity", "x": None, "m": "[b]"}]
    assert 'relation "nope" does not exist' in command.run("sql", "select * from nope", code=1)[1]


def test_what_analysts_are_given(running: Running, tmp_path: Path) -> None:
    command = running.command
    query = "click_id=demo-us-3&goal=purchase&txn_id=R1&sale_amount=10"
    with urlopen(f"{running.url}/postback?{query}", timeout=10) as answer:
        made = json.load(answer)
    info = command.json("info", "--json")
    assert isinstance(info, dict)
    asyncio.run(_committed(info["postgres_dsn"], made["conversion_id"]))
    asyncio.run(_rolled_up(info["postgres_dsn"]))
    said = command.json("query", "campaign_by_day", "--campaign", "100", "--from", "2026-01-01", "--to", "2100-01-01",
                        "--format", "json")  # fmt: skip
    assert isinstance(said, list)
    assert sum(day["conversions"] for day in said) >= 1
    assert "campaign_by_day" in command.run("query")[0]
    _, errors = command.run("query", "campaign_by_day", code=1)
    assert errors == (
        "error: query campaign_by_day needs campaign: postback query campaign_by_day --campaign … --from … --to …\n"
    )
    output, _ = command.run("export", "all.csv", "--from", "2026-01-01", "--to", "2100-01-01")
    assert " rows of conversions in all.csv" in output
    assert made["conversion_id"] in (command.folder / "all.csv").read_text(encoding="utf-8")
    (tmp_path / "list.csv").write_text("order,sum\nR1,10\nR2,7\n")
    output, _ = command.run(
        "reconcile", str(tmp_path / "list.csv"), "--campaign", "100", "--txn-id", "order", "--amount", "sum",
        "--from", "2026-01-01", "--to", "2100-01-01", code=1,
    )  # fmt: skip
    assert "missing here 1 7" in " ".join(output.split())
    assert "analyst may read and was created" in command.run("grant-readonly", "analyst")[0]


def test_sql_from_a_pipe(running: Running) -> None:
    typed = """create temp table x (i int);
insert into x values (1), (2);
select boom;
select count(*) as "a;b"
  from x; \\q is no command in here
\\d clicks
"""
    output, errors = running.command.run("sql", typed=typed, code=1)
    assert "CREATE TABLE\nINSERT 0 2\n a;b\n ---\n   2\n(1 row)\n" in output
    assert errors.startswith('error: column "boom" does not exist')
    assert "\\" in errors  # what follows on the last line is sent with the next one
    output, _ = running.command.run("sql", typed="\\d\n\\d clicks\nselect 1 as one")
    assert "partitioned table" in output
    assert "clicked_at" in output
    assert output.endswith(" one\n ---\n   1\n(1 row)\n")


def test_clicks_import(running: Running) -> None:
    command = running.command
    lines = ["click_id,campaign_id,publisher_id,clicked_at,country,sub1"]
    lines += [f"file-{n},100,10,{int(time.time()) - 60},US,s" for n in range(30)]
    (command.folder / "good.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert command.run("clicks", "import", "good.csv") == ("30 clicks registered, 0 known before\n", "")
    bad = lines + [f"bad-{n},none,10,1790000000,US,s" for n in range(25)]
    (command.folder / "bad.csv").write_text("\n".join(bad) + "\n", encoding="utf-8")
    output, errors = command.run("clicks", "import", "bad.csv", code=1)
    assert output.startswith("0 clicks registered, 30 known before, 25 lines skipped")
    assert errors.count("campaign_id: expected a whole number") == 20
    assert errors.startswith("line 32: ")
    assert "and 5 more lines" in errors
    assert "nope.csv: no such file" in command.run("clicks", "import", "nope.csv", code=1)[1]
    with urlopen(f"{running.url}/postback?click_id=file-7", timeout=10) as answer:
        assert json.load(answer)["status"] == "accepted"


def test_second_server_on_the_port_is_refused(running: Running) -> None:
    port = running.url.rpartition(":")[2]
    _, errors = running.command.run("serve", code=1, SERVER__PORT=port)
    assert "error: server.port: cannot listen on" in errors
    assert "choose another port" in errors


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("status", "--config", "none.toml"), {}, "none.toml: no such file"),
        (("migrate",), {"SERVER__PROT": "1"}, "POSTBACK_SERVER__PROT: there is no such setting"),
        (("migrate",), {"POSTGRES__DSN": "postgresql://u:s3cret@127.0.0.1:1/x"}, "nothing listens there"),
        (("sql", "select 1"), {"POSTGRES__DSN": "postgresql://u:s3cret@127.0.0.1:1/x"}, "nothing listens there"),
        (
            ("serve",),
            {"POSTGRES__DSN": "postgresql://u:s3cret@127.0.0.1:1/x", "REDIS__URL": "redis://:s3cret@127.0.0.1:1"},
            "nothing listens there",
        ),
    ],
)
def test_errors_say_what_to_do_and_no_password(
    command: Command, arguments: tuple[str, ...], settings: Mapping[str, str], words: str
) -> None:
    output, errors = command.run(*arguments, code=1, **settings)
    assert "error: " in errors
    assert words in errors
    assert "s3cret" not in output + errors


def test_usage_errors(command: Command) -> None:
    assert "No such command" in command.run("frobnicate", code=2)[1]
    assert "CAMPAIGN" in command.run("url", "x", "install", code=2)[1]
    assert "writer" in command.run("serve", "--sample", "--role", "writer", code=2)[1]
    assert command.run("--version")[0].startswith("postback ")
