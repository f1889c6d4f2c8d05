"""Real servers for tests: each in a folder of its own, on a socket or a free port, gone when the tests are.

The embedded ones are started by the product's own code, in a small host process (this module, run as a script) that
ends them and removes their data when its standard input closes: also when pytest is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import msgspec
import redis

from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.engines import Engines
from ingest.engines.binaries import find_postgres
from ingest.engines.process import launch_command
from storage.migrate import migrate
from storage.postgres import connect

ROOT = Path(__file__).resolve().parent.parent
TEMPLATE = "migrated"
EXTERNAL_REDIS = "redis://unused.invalid"
EXTERNAL_POSTGRES = "postgresql://unused.invalid/unused"
START_TIMEOUT_S = 60.0
ROOMY_BYTES = 4 << 30

_numbers = itertools.count(1)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder with a short path that other users may enter: PostgreSQL under root runs as one of them."""
    folder = Path(tempfile.mkdtemp(prefix="pb-", dir=_roomy_memory()))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _roomy_memory() -> Path | None:
    """A file system in memory where there is a large one: many small clusters are made and thrown away here, and a
    server killed by a test finds its files there as it would on a disk. None: the usual place."""
    memory = Path("/dev/shm")
    if not (memory.is_dir() and os.access(memory, os.W_OK)):
        return None
    mount = os.statvfs(memory)
    fit = mount.f_bavail * mount.f_frsize > ROOMY_BYTES and not mount.f_flag & os.ST_NOEXEC
    return memory if fit else None


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """An embedded PostgreSQL. `dsn` is its database `postback`, without tables."""

    dsn: str
    data_dir: Path

    def sql(self, script: str, database: str = "postgres") -> str:
        """Runs `script` with psql, without a transaction around it; what it prints, unaligned."""
        return self._psql(database, "-c", script)

    def dsn_of(self, database: str) -> str:
        """The DSN of another database of this server."""
        return self.dsn.replace("@/postback?", f"@/{quote(database)}?")

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[str]:
        """The DSN of a new database; dropped at the end, whoever is still connected."""
        name = f"test_{next(_numbers)}"
        # In memory files are copied in a tenth of the time that it takes to write the same to the log.
        self.sql(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        try:
            yield self.dsn_of(name)
        finally:
            self.sql(f"DROP DATABASE {name} WITH (FORCE)")

    def _psql(self, database: str, *arguments: str) -> str:
        psql = str(find_postgres().program("psql"))
        done = subprocess.run(
            [psql, "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", self.dsn_of(database), *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PGOPTIONS": "-c client_min_messages=warning"},
        )
        assert done.returncode == 0, f"psql: {done.stderr}"
        return done.stdout.strip()


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server that speaks Redis's protocol."""

    url: str

    def flush(self) -> None:
        """Forgets all data."""
        with redis.Redis.from_url(self.url) as client:
            client.flushall()


@contextmanager
def embedded(*, with_redis: bool, with_postgres: bool) -> Iterator[tuple[str, str, Path]]:
    """(redis URL, Postgres DSN, data folder) of engines in a host process."""
    config = Config(
        redis=RedisConfig() if with_redis else RedisConfig(url=EXTERNAL_REDIS),
        postgres=PostgresConfig() if with_postgres else PostgresConfig(dsn=EXTERNAL_POSTGRES),
    )
    command = [sys.executable, "-m", "tests.servers", config.redis.url, config.postgres.dsn]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdin is not None
        assert host.stdout is not None
        line = host.stdout.readline()
        assert line, "the embedded engines did not start; see above"
        redis_url, postgres_dsn, data_dir = msgspec.json.decode(line, type=tuple[str, str, str])
        try:
            yield redis_url, postgres_dsn, Path(data_dir)
        finally:
            host.stdin.close()
            host.wait(60)


@contextmanager
def postgres() -> Iterator[PostgresServer]:
    """An embedded PostgreSQL with a template database that has the migrations applied."""
    with embedded(with_redis=False, with_postgres=True) as (_, dsn, data_dir):
        server = PostgresServer(dsn, data_dir)
        server.sql(f"CREATE DATABASE {TEMPLATE}")
        asyncio.run(_migrate(server.dsn_of(TEMPLATE)))
        yield server


@contextmanager
def valkey() -> Iterator[RedisServer]:
    """An embedded Valkey, append-only file on."""
    with embedded(with_redis=True, with_postgres=False) as (url, _, _):
        yield RedisServer(url)


@contextmanager
def redis_program(program: str, *options: str) -> Iterator[RedisServer]:
    """A redis-server or valkey-server of the machine's own, on a free port; append-only file on unless `options`
    say otherwise."""
    with temporary_folder() as folder:
        port = free_port()
        settings = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder), "--save", ""]
        settings += ["--appendonly", "yes", "--appendfsync", "always", *options]
        command = launch_command([program, *settings], death_signal=signal.SIGKILL)
        with (folder / "server.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            _wait_for_ping(port, process, folder / "server.log")
            yield RedisServer(f"redis://127.0.0.1:{port}")
        finally:
            process.kill()
            process.wait()


def _wait_for_ping(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with redis.Redis(port=port) as client:
                client.execute_command("PING")
                return
        except redis.ConnectionError:
            assert process.poll() is None, f"the server ended: {log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, f"no PONG: {log.read_text(errors='replace')}"
            time.sleep(0.02)


async def _migrate(dsn: str) -> None:
    connection = await connect(dsn)
    try:
        await migrate(connection)
    finally:
        await connection.close()


async def _host(redis_url: str, postgres_dsn: str) -> None:
    with temporary_folder() as folder:
        data_dir = folder / "var"
        config = Config(
            data_dir=str(data_dir), redis=RedisConfig(url=redis_url), postgres=PostgresConfig(dsn=postgres_dsn)
        )
        engines = await Engines.start(config)
        try:
            answer = (engines.urls.redis_url, engines.urls.postgres_dsn, str(data_dir))
            sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
            sys.stdout.buffer.flush()
            closed = asyncio.Event()
            asyncio.get_running_loop().add_reader(sys.stdin.fileno(), closed.set)
            await closed.wait()
        finally:
            await engines.stop()


if __name__ == "__main__":
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # a Ctrl-C reaches pytest too, which closes the input when it is done
    asyncio.run(_host(*sys.argv[1:]))
