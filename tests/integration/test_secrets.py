"""No secret anywhere: each is planted, the program lives through a mixed load with errors and outages, and then logs,
tables, Redis, metrics, answers, files, command lines and environments are searched for them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Container, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import redis

from tests import servers, signing
from tests.commands import run_command
from tests.eventually import eventually
from tests.platform import Client, catalog_of, client_of
from tests.program import ROOT, Program, wait_until_ready
from tests.proxy import Mode, Proxy, proxy_to

SECRETS: Final = {
    name: f"planted-{name.replace(' ', '-')}-{number:x}e5c0de"
    for number, name in enumerate(
        (
            "token",
            "old token",
            "token under an own name",
            "wrong token",
            "token of an unknown click",
            "spooled token",
            "signing secret",
            "second signing secret",
            "admin key",
            "wrong admin key",
            "redis password",
            "postgres password",
        ),
        start=0xA0,
    )
}
TOKEN, OWN, WRONG, UNKNOWN, SPOOLED = (
    SECRETS[name]
    for name in ("token", "token under an own name", "wrong token", "token of an unknown click", "spooled token")
)
CATALOG: Final = catalog_of(
    {
        100: f'security_tokens = ["{TOKEN}", "{SECRETS["old token"]}"]',
        200: f'security_tokens = ["{OWN}", "{SPOOLED}"]\naliases = {{ shop_key = "security_token", order = "txn_id" }}',
        300: f'signing_secrets = ["{SECRETS["signing secret"]}", "{SECRETS["second signing secret"]}"]',
    }
)


@dataclass
class World:
    """The program, what stands before its servers, and everything that was heard."""

    program: Program
    client: Client
    redis_proxy: Proxy
    postgres_proxy: Proxy
    redis: redis.Redis
    config: Path
    heard: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)

    async def say(self, method: str, path: str, **request: Any) -> int:
        async with self.client.http.request(method, f"{self.program.url}{path}", **request) as response:
            self.heard.append(f"{response.status} {dict(response.headers)} {await response.text()}")
            return response.status

    async def raw(self, data: bytes) -> None:
        """Bytes, and whatever comes back until the other side closes or says nothing for a while."""
        host, port = self.program.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        try:
            async with asyncio.timeout(3):
                self.heard.append((await reader.read(1 << 20)).decode("latin-1"))
        except (TimeoutError, ConnectionError):
            pass
        writer.close()

    def command(self, *arguments: str, status: int | None = 0, config: Path | None = None) -> str:
        """What `postback ...` says, on both of its channels."""
        options = ("--config", str(config or self.config))
        done = run_command([*arguments, *options], env=clean_environment(), cwd=ROOT)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        self.heard.append(done.stdout + done.stderr)
        return done.stdout


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("POSTBACK_")}


@contextmanager
def served(config: Path, data_dir: Path) -> Iterator[Program]:
    """`postback serve` with everything in its configuration file: nothing secret in the environment is ours to hide."""
    log_path = data_dir / "serve.log"
    with log_path.open("wb") as log:
        command = [sys.executable, "-m", "ingest.cli", "serve", "--config", str(config)]
        process = subprocess.Popen(command, env=clean_environment(), cwd=ROOT, stdout=log, stderr=log)
    try:
        url = wait_until_ready(process, data_dir / "run" / "server.json", log_path)
        yield Program(process, data_dir, url, log_path)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


@asynccontextmanager
async def the_world(tmp_path: Path, postgres_dsn: str, redis_server: servers.RedisServer) -> AsyncIterator[World]:
    redis_client = redis.Redis.from_url(redis_server.url)
    redis_client.config_set("slowlog-log-slower-than", 0)
    redis_client.config_set("slowlog-max-len", 100_000)
    redis_client.config_set("requirepass", SECRETS["redis password"])
    redis_client = redis.Redis.from_url(redis_server.url, password=SECRETS["redis password"])
    target = urlsplit(postgres_dsn)
    at = dict(part.split("=") for part in target.query.split("&"))
    data_dir = tmp_path / "var"
    data_dir.mkdir()
    admin_key = data_dir / "admin.key"
    admin_key.write_text(SECRETS["admin key"] + "\n")
    admin_key.chmod(0o600)
    with (
        proxy_to(("127.0.0.1", int(urlsplit(redis_server.url).port or 0))) as redis_proxy,
        proxy_to(f"{at['host'].replace('%2F', '/')}/.s.PGSQL.{at['port']}") as postgres_proxy,
    ):
        config = tmp_path / "config.toml"
        redis_url = f"redis://:{SECRETS['redis password']}@127.0.0.1:{redis_proxy.port}/0"
        dsn = f"postgresql://postgres:{SECRETS['postgres password']}@127.0.0.1:{postgres_proxy.port}{target.path}"
        config.write_text(
            f'data_dir = "{data_dir}"\n[server]\nport = 0\nheader_timeout = "500ms"\nbody_timeout = "500ms"\n'
            f'[log]\nformat = "json"\nlevel = "debug"\n[redis]\nurl = "{redis_url}"\n[postgres]\ndsn = "{dsn}"\n'
        )
        config.chmod(0o600)
        with served(config, data_dir) as program:
            async with client_of(program, postgres_dsn) as client:
                yield World(program, client, redis_proxy, postgres_proxy, redis_client, config)


# The load ------------------------------------------------------------------------------------------------------------


async def import_catalog(world: World, folder: Path) -> None:
    file = folder / "catalog.toml"
    file.write_text(CATALOG)
    world.command("catalog", "import", str(file))
    broken = folder / "broken.toml"
    for wrong in (
        CATALOG.replace('name = "Advertiser 1"', "name = 1"),
        CATALOG.replace(f'"{TOKEN}", ', f'"{TOKEN}", "{TOKEN}", '),
        CATALOG.replace(SECRETS["second signing secret"], SECRETS["signing secret"]),
        CATALOG.replace("signing_secrets", "signing_secret"),
        CATALOG.replace('"]\n', '"\n'),
    ):
        broken.write_text(wrong)
        world.command("catalog", "import", str(broken), status=1)
    exported = world.command("catalog", "export")
    assert exported.count("sha256:") == 4
    assert exported.count("enc:") == 2


async def register(world: World) -> None:
    clicks = [
        {
            "click_id": f"{name}-{number}",
            "campaign_id": number * 100,
            "publisher_id": 10,
            "clicked_at": int(time.time()) - 600,
        }
        for number in (1, 2, 3)
        for name in ("a", "b")
    ]
    for key, status in ((SECRETS["wrong admin key"], 401), (SECRETS["admin key"], 200)):
        headers = {"Authorization": f"Bearer {key}"}
        assert await world.say("POST", "/clicks", json=clicks, headers=headers) == status
    world.heard.append(str((await world.client.http.get(f"{world.program.url}/clicks")).status))
    bad = {"Authorization": f"Basic {SECRETS['admin key']}"}
    assert await world.say("POST", "/clicks", json=clicks, headers=bad) == 401


def postbacks() -> Iterator[tuple[str, dict[str, str]]]:
    """(token, everything else) in all the ways that go right and wrong."""
    for click, token_name, tokens in (
        ("a-1", "security_token", (TOKEN, SECRETS["old token"], WRONG)),
        ("a-2", "shop_key", (OWN, WRONG)),
        ("a-2", "security_token", (OWN, WRONG)),
        ("a-1", "shop_key", (TOKEN,)),
        ("nobody", "security_token", (UNKNOWN,)),
        ("nobody", "shop_key", (UNKNOWN,)),
        ("", "security_token", (UNKNOWN,)),
    ):
        for number, token in enumerate(tokens):
            for more in ({"sale_amount": "5"}, {"sale_amount": "1,99"}, {"goal": "none"}, {"status": "maybe"}, {}):
                yield token, {"click_id": click, token_name: token, "txn_id": f"{token_name}{number}"} | more


async def send_all(world: World) -> None:
    for _, sent in postbacks():
        await world.say("GET", "/postback", params=sent)
        await world.say("POST", "/postback", data=sent)
        await world.say("POST", "/postback", json=sent)
        await world.say("POST", "/postback", params=sent, json={"sub1": "x"}, headers={"X-Other": "aiohttp"})
    items = [sent for _, sent in postbacks()]
    await world.say("POST", "/postbacks", json=items)
    await world.say(
        "POST", "/postbacks", data="\n".join(map(json.dumps, items)), headers={"Content-Type": "application/x-ndjson"}
    )
    broken = "\n".join(json.dumps(item)[:-3] for item in items)
    await world.say("POST", "/postbacks", data=broken, headers={"Content-Type": "application/x-ndjson"})


async def send_odd_ones(world: World) -> None:
    both = f"security_token={TOKEN}&security_token={WRONG}"
    odd: list[tuple[str, dict[str, Any]]] = [
        (f"/postback?click_id=a-1&{both}", {}),
        (f"/postback?click_id=a-2&shop_key={OWN}&security_token={WRONG}", {}),
        (f"/postback?click_id=a-1&security_token={TOKEN * 100}", {}),
        (f"/postback?click_id=a-1&security_token=%00{TOKEN}%ff", {}),
        (f"/nothing?security_token={TOKEN}", {}),
        (f"/postback/{TOKEN}", {}),
        ("/postback", {"json": {"click_id": "a-1", "security_token": {"nested": TOKEN}}}),
        ("/postback", {"json": {"click_id": "a-1", "security_token": [TOKEN]}}),
        ("/postback", {"data": f'{{"security_token": "{TOKEN}"', "headers": {"Content-Type": "application/json"}}),
        ("/postback", {"data": f"security_token={TOKEN}", "headers": {"Content-Type": "text/plain"}}),
        ("/postback", {"data": BytesIO(f"security_token={TOKEN}".encode() + bytes(9 << 20))}),
        ("/postback", {"data": b"security_token=" + TOKEN.encode(), "headers": {"Content-Encoding": "gzip"}}),
    ]
    for path, request in odd:
        await world.say("POST", path, **request)
    line = f"/postback?click_id=a-1&security_token={TOKEN}"
    for data in (
        f"GET {line} HTTP/1.1\r\n\r\n",
        f"GET {line} HTTP/7.1\r\nHost: x\r\n\r\n",
        f"GET {line}\0 HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET {line} HTTP/1.1\r\nHost: x\r\nAuthorization\0: Bearer {SECRETS['admin key']}\r\n\r\n",
        f"GET {line} HTTP/1.1\r\nHost: x\r\n{TOKEN}\r\n\r\n",
        f"GET {line}&x={'y' * 9000} HTTP/1.1\r\nHost: x\r\n\r\n",
        f"POST {line} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n{TOKEN}",
        f"POST {line} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{TOKEN}\r\n",
        f"POST {line} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{TOKEN}",
        f"{TOKEN}\r\n\r\n",
        f"GET {line}",
    ):
        await world.raw(data.encode("latin-1"))


async def send_signed(world: World) -> None:
    now = int(time.time())
    for secret in (SECRETS["signing secret"], SECRETS["second signing secret"], WRONG):
        query = f"click_id=a-3&sale_amount=5&txn_id={len(world.signatures)}"
        value = signing.header(now, query, secret=secret)
        await world.say("GET", f"/postback?{query}", headers={"X-Postback-Signature": value})
        world.signatures.append(value.rpartition("=")[2])
        for click_id in ("a-3", "a-1", "nobody"):
            sent = signing.parameters(now, {"click_id": click_id, "txn_id": "s"}, secret=secret)
            await world.say("POST", "/postback", data=sent)
            await world.say("POST", "/postbacks", json=[sent, sent | {"txn_id": "changed"}])
            world.signatures.append(sent["signature"])


async def live_through_outages(world: World) -> None:
    """Redis away, Postgres away, both; a receiver killed; postbacks with tokens all the while."""
    sent = {"click_id": "b-2", "shop_key": SPOOLED, "sale_amount": "5"}
    spool = world.program.data_dir / "spool"
    for redis_mode, postgres_mode in (
        (Mode.REFUSE, Mode.PASS),
        (Mode.PASS, Mode.REFUSE),
        (Mode.REFUSE, Mode.REFUSE),
        (Mode.DROP_REPLIES, Mode.PASS),
    ):
        world.redis_proxy.set(redis_mode)
        world.postgres_proxy.set(postgres_mode)
        for number in range(20):
            await world.say("GET", "/postback", params=sent | {"order": f"{redis_mode}{postgres_mode}{number}"})
        await world.say("POST", "/postback", data=sent | {"click_id": "not-in-redis"})
        await world.say("GET", "/readyz")
        if redis_mode is Mode.REFUSE:
            segments = list(spool.glob("*.spool"))
            assert segments, "spooled"
            assert SPOOLED.encode() in b"".join(path.read_bytes() for path in segments), "it needs the token later"
            assert {path.stat().st_mode & 0o777 for path in segments} == {0o600}
            assert spool.stat().st_mode & 0o777 == 0o700
        world.redis_proxy.set(Mode.PASS)
        world.postgres_proxy.set(Mode.PASS)
        world.redis_proxy.cut()
        world.postgres_proxy.cut()

        async def segments_left() -> list[Path]:
            return list(spool.glob("*"))

        await eventually(segments_left, lambda found: not found)
    victim = world.program.workers("receiver")[-1]
    os.kill(victim, signal.SIGKILL)

    async def newest() -> int:
        return world.program.workers("receiver")[-1]

    await eventually(newest, lambda pid: pid != victim)


async def ask_everything(world: World) -> None:
    for path in ("/metrics", "/healthz", "/readyz"):
        await world.say("GET", path)
    world.command("info")
    world.command("status")
    world.command("status", "--json")
    world.command("dead-letters", "list")
    world.command("url", "200", "sale")
    world.command("sql", "select * from no_such_table", status=1)
    simulated = world.command("simulate", f"click_id=a-1&security_token={TOKEN}&sale_amount=5")
    assert "accepted" in simulated or "duplicate" in simulated
    world.command("simulate", f"click_id=a-1&security_token={WRONG}&sale_amount=5")
    wrong_config = world.config.with_name("wrong.toml")
    text = world.config.read_text()
    for wrong in (
        text.replace(f":{world.redis_proxy.port}/", ":1/"),
        text.replace(f":{world.postgres_proxy.port}/", ":1/"),
        text.replace("redis://", "http://"),
        text.replace("postgresql://", "mysql://"),
        text.replace("[redis]", "[rediss]"),
        text.replace("@127.0.0.1", "@no.such.host.invalid"),
    ):
        wrong_config.write_text(wrong)
        world.command("status", config=wrong_config, status=None)
    wrong_config.unlink()


# The search ----------------------------------------------------------------------------------------------------------


def descendants(pid: int) -> list[int]:
    """The process and all that it started."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


async def tables(world: World) -> AsyncIterator[tuple[str, str]]:
    names = await world.client.database.fetch(
        "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND relnamespace = 'public'::regnamespace"
    )
    for (name,) in names:
        rows = await world.client.database.fetch(f"SELECT t::text FROM {name} AS t")
        yield f"table {name}", "\n".join(text for (text,) in rows)
    activity = await world.client.database.fetch("SELECT a::text FROM pg_stat_activity AS a")
    yield "pg_stat_activity", "\n".join(text for (text,) in activity)


def redis_contents(world: World) -> Iterator[tuple[str, str]]:
    for key in world.redis.scan_iter():
        match world.redis.type(key):
            case b"hash":
                value: object = world.redis.hgetall(key)
            case b"stream":
                value = (world.redis.xrange(key), world.redis.xinfo_stream(key, full=True))
            case _:
                value = world.redis.dump(key)
        yield f"Redis key {key!r}", f"{key!r} {value!r}"
    yield "Redis clients", repr(world.redis.client_list())
    yield "Redis log of commands", repr(world.redis.slowlog_get(100_000))


async def places(world: World, redis_folder: Path) -> list[tuple[str, str]]:
    found = [(f"heard {number}", text) for number, text in enumerate(world.heard)]
    found += [place async for place in tables(world)]
    found += list(redis_contents(world))
    found += list(processes(world.program.process.pid))
    found += list(files(world.program.data_dir, besides={"admin.key", "secret.key"}))
    found += list(files(redis_folder))
    return found


def processes(pid: int) -> Iterator[tuple[str, str]]:
    for one in descendants(pid):
        for name in ("cmdline", "environ"):
            yield f"/proc/{one}/{name}", Path(f"/proc/{one}/{name}").read_bytes().decode("utf-8", "replace")


def files(folder: Path, besides: Container[str] = ()) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in besides:
            yield str(path.relative_to(folder)), path.read_bytes().decode("utf-8", "replace")


async def test_no_secret_is_found_anywhere(tmp_path: Path, postgres_dsn: str) -> None:
    program = shutil.which("redis-server")
    if program is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a redis-server that takes a password, and /proc")
    with servers.redis_program(program) as redis_server:
        async with the_world(tmp_path, postgres_dsn, redis_server) as world:
            await import_catalog(world, tmp_path)

            async def campaigns() -> int:
                return sum(line.get("campaigns") == 3 for line in world.program.log)

            await eventually(campaigns, bool)
            await register(world)
            await send_all(world)
            await send_odd_ones(world)
            await send_signed(world)
            await live_through_outages(world)
            await send_signed(world)
            world.redis.xadd("pb:{0}:queue", {"c1": TOKEN[:4] + "\tno record at all"})
            await eventually(lambda: world.client.count("dead_letters"), bool)
            await ask_everything(world)
            redis_folder = Path(str(world.redis.config_get("dir")["dir"]))
            await eventually(lambda: world.client.count("conversions", "click_id = 'b-2'"), lambda found: found >= 60)
            found = await places(world, redis_folder)
            key = (world.program.data_dir / "secret.key").read_text().strip()
            hidden = SECRETS | {"key of the signing secrets": key[:40]}
            hidden |= {f"signature {number}": value for number, value in enumerate(world.signatures)}
            assert len(world.signatures) == 24
            leaks = [(name, place) for place, text in found for name, secret in hidden.items() if secret in text]
            assert leaks == []
            # The search itself works: what is no secret was found in all these places.
            assert_searched(found)
            for name in ("admin.key", "secret.key", "catalog.snapshot"):
                assert (world.program.data_dir / name).stat().st_mode & 0o777 == 0o600, name
            assert await world.client.count("postback_log", "reason = 'bad_token'") > 20
            assert await world.client.count("postback_log", "reason = 'bad_signature'") > 5


def assert_searched(found: list[tuple[str, str]]) -> None:
    def somewhere(pattern: str, words: str) -> bool:
        return any(re.search(pattern, place) and words in text for place, text in found)

    assert somewhere("^heard", "unknown_click")
    assert somewhere("^table postback_log", "nobody")
    assert somewhere("^table conversions", "a-2")
    assert somewhere("^table advertisers", "sha256:")
    assert somewhere("^Redis key .*click", "a-2") or somewhere("^Redis key", "a-2")
    assert somewhere("^Redis log", "EVALSHA") or somewhere("^Redis log", "evalsha")
    assert somewhere("cmdline$", "ingest.worker")
    assert somewhere("environ$", "PROMETHEUS_MULTIPROC_DIR")
    assert somewhere("serve.log", "catalog loaded")
    assert somewhere("serve.log", "Redis is away")
    assert somewhere("catalog.snapshot", "enc:")
    assert somewhere("appendonly", "a-2")
