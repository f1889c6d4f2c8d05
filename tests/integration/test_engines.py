"""The embedded engines on real servers: start, restart, crash, leftovers, ownership, failure."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import pytest
import redis.asyncio
import uvloop

from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.engines import EngineBusyError, EngineError, Engines, EngineUrls, attached, identity, running_urls
from ingest.engines.binaries import find_postgres
from ingest.engines.folders import EngineFolders
from ingest.engines.process import command_line
from tests.servers import EXTERNAL_POSTGRES, EXTERNAL_REDIS, ROOT, temporary_folder

IS_ROOT = os.geteuid() == 0
NOBODY = 65534

SUPERVISOR = """
import asyncio, json, os, sys
from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.engines import Engines, process

data_dir, redis_url, dsn, mode = sys.argv[1:]
if mode == "orphans":  # as on macOS: nothing tells the engines that their supervisor is gone
    armed = process.launch_command
    process.launch_command = lambda *args, **more: [*(a := armed(*args, **more))[:5], "0", *a[6:]]

async def main():
    config = Config(data_dir=data_dir, redis=RedisConfig(url=redis_url), postgres=PostgresConfig(dsn=dsn))
    engines = await Engines.start(config)
    pids = [engine.process.pid for engine in engines._engines]
    print(json.dumps([engines.urls.redis_url, engines.urls.postgres_dsn, pids]), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await engines.stop()

asyncio.run(main())
"""


@pytest.fixture
def empty_folder() -> Iterator[Path]:
    """A folder for `data_dir` that other users may enter."""
    with temporary_folder() as path:
        yield path


@pytest.fixture(scope="session")
def cluster() -> Iterator[Path]:
    """A PostgreSQL cluster as the first start leaves it. Making one takes a while."""
    with temporary_folder() as path:
        with supervisor(only_postgres(path)) as process:
            announcement(process)
            process.communicate("")
        assert process.returncode == 0
        yield path / "var" / "postgres"


@pytest.fixture
def folder(empty_folder: Path, cluster: Path) -> Path:
    """`empty_folder` as after a first start."""
    shutil.copytree(cluster, empty_folder / "var" / "postgres")
    return empty_folder


def both(folder: Path) -> Config:
    return Config(data_dir=str(folder / "var"))


def only_redis(folder: Path) -> Config:
    return Config(data_dir=str(folder / "var"), postgres=PostgresConfig(dsn=EXTERNAL_POSTGRES))


def only_postgres(folder: Path) -> Config:
    return Config(data_dir=str(folder / "var"), redis=RedisConfig(url=EXTERNAL_REDIS))


@asynccontextmanager
async def started(config: Config) -> AsyncIterator[Engines]:
    engines = await Engines.start(config)
    try:
        yield engines
    finally:
        await engines.stop()


@contextmanager
def supervisor(config: Config, mode: str = "plain", prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """Another process that supervises the engines of `config` until its input closes."""
    arguments = [config.data_dir, config.redis.url, config.postgres.dsn, mode]
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", SUPERVISOR, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def announcement(process: subprocess.Popen[str]) -> tuple[EngineUrls, list[int]]:
    """Waits for the other process's engines: their URLs and process ids."""
    assert process.stdout is not None
    assert process.stderr is not None
    line = process.stdout.readline()
    assert line, process.stderr.read()
    redis_url, dsn, pids = json.loads(line)
    return EngineUrls(redis_url, dsn), pids


async def gone(pid: int) -> None:
    """Returns when the process has ended."""
    async with asyncio.timeout(20):
        while command_line(pid) is not None:  # noqa: ASYNC110 - another process's child: no event
            await asyncio.sleep(0.02)


@contextmanager
def unrelated_process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            yield process
        finally:
            process.kill()


def set_mode(folder: Path, mode: int) -> None:
    folder.chmod(mode)


def owner(folder: Path) -> int:
    return folder.stat().st_uid


async def write(urls: EngineUrls, value: str) -> None:
    """Leaves a trace in both servers."""
    async with redis.asyncio.Redis.from_url(urls.redis_url) as client:
        await client.rpush("trace", value)
    await on_postgres(urls, "CREATE TABLE IF NOT EXISTS trace (value text)")
    await on_postgres(urls, f"INSERT INTO trace VALUES ('{value}')")


async def read(urls: EngineUrls) -> tuple[list[str], list[str]]:
    """The traces in both servers."""
    async with redis.asyncio.Redis.from_url(urls.redis_url, decode_responses=True) as client:
        in_redis = [str(item) for item in await client.lrange("trace", 0, -1)]
    return in_redis, await on_postgres(urls, "SELECT value FROM trace ORDER BY value")


async def on_postgres(urls: EngineUrls, query: str) -> list[str]:
    connection = await asyncpg.connect(urls.postgres_dsn)
    try:
        return [row[0] for row in await connection.fetch(query)]
    finally:
        await connection.close()


# Start, stop, restart -----------------------------------------------------------------------------------------------


async def test_engines_are_durable_and_private(empty_folder: Path) -> None:
    async with started(both(empty_folder)) as engines:
        for name, value in {
            "fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": "",
            "server_encoding": "UTF8", "TimeZone": "UTC", "max_connections": "100",
        }.items():  # fmt: skip
            assert await on_postgres(engines.urls, f"SHOW {name}") == [value]
        assert await on_postgres(engines.urls, "SELECT current_database()") == ["postback"]
        async with redis.asyncio.Redis.from_url(engines.urls.redis_url) as client:
            for name, value in {
                "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0", "save": "",
            }.items():  # fmt: skip
                assert (await client.config_get(name))[name] == value
        state = EngineFolders(empty_folder / "var").read_state()
        assert state is not None
        assert state.supervisor_pid == os.getpid()
        for name, pid in state.pids.items():
            assert stat.S_IMODE((empty_folder / "var" / "run" / name).stat().st_mode) == 0o700
            assert os.getsid(pid) == pid, "a Ctrl-C at the terminal would reach the server"
    for pid in state.pids.values():
        assert command_line(pid) is None
    assert EngineFolders(empty_folder / "var").read_state() is None


async def test_restart_keeps_data_and_urls(folder: Path) -> None:
    async with started(both(folder)) as engines:
        await write(engines.urls, "a")
        first = engines.urls
    async with started(both(folder)) as engines:
        assert engines.urls == first
        assert await read(engines.urls) == (["a"], ["a"])


def test_uvloop(folder: Path) -> None:
    async def start_and_stop() -> None:
        async with started(both(folder)) as engines:
            await write(engines.urls, "a")

    uvloop.run(start_and_stop())


async def test_environment_for_libpq_does_not_lead_astray(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nosuch")
    async with started(only_postgres(folder)) as engines:
        assert await on_postgres(engines.urls, "SELECT 'yes'") == ["yes"]


async def test_long_data_dir(empty_folder: Path) -> None:
    deep = empty_folder / ("long-name-" * 8) / ("folder " * 6)
    async with started(both(deep)) as engines:
        await write(engines.urls, "a")
        sockets = Path(engines.urls.redis_url.removeprefix("unix://")).parent
        assert not sockets.is_relative_to(deep)
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    assert not sockets.exists()
    async with started(both(deep)) as engines:
        assert await read(engines.urls) == (["a"], ["a"])


async def test_an_interrupted_first_start_is_repeated(empty_folder: Path) -> None:
    half = empty_folder / "var" / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    async with started(only_postgres(empty_folder)) as engines:
        assert await on_postgres(engines.urls, "SELECT 'yes'") == ["yes"]
    assert not half.exists()


# Engines that die ---------------------------------------------------------------------------------------------------


async def test_a_killed_engine_is_noticed_and_restarted(folder: Path) -> None:
    async with started(both(folder)) as engines:
        await write(engines.urls, "a")
        waiting = asyncio.create_task(engines.wait_failed())
        for name, label in (("postgres", "PostgreSQL"), ("redis", "Valkey")):
            state = EngineFolders(folder / "var").read_state()
            assert state is not None
            os.kill(state.pids[name], signal.SIGKILL)
            failure = await waiting
            assert (failure.name, failure.returncode) == (label, -signal.SIGKILL)
            assert "ready to accept connections" in failure.log_tail.lower()
            await engines.restart_dead()
            assert await read(engines.urls) == (["a"], ["a"])
            waiting = asyncio.create_task(engines.wait_failed())
        done, _ = await asyncio.wait({waiting}, timeout=0.2)
        assert not done
        waiting.cancel()


async def test_sessions_of_a_killed_server_are_waited_for(folder: Path) -> None:
    async with started(only_postgres(folder)) as engines:
        busy = await asyncpg.connect(engines.urls.postgres_dsn)
        query = asyncio.create_task(busy.fetchval("SELECT count(*) FROM generate_series(1, 8000000)"))
        running = "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        while not await on_postgres(engines.urls, running):  # noqa: ASYNC110 - the server tells no event
            await asyncio.sleep(0.01)
        state = EngineFolders(folder / "var").read_state()
        assert state is not None
        os.kill(state.pids["postgres"], signal.SIGKILL)
        await engines.wait_failed()
        await engines.restart_dead()
        await asyncio.wait({query})
        busy.terminate()
        assert await on_postgres(engines.urls, "SELECT 'yes'") == ["yes"]
    assert "pre-existing shared memory block" in (folder / "var" / "log" / "postgres.log").read_text()


# Supervisors that die -----------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is a thing of Linux")
async def test_no_orphans_after_a_killed_supervisor(folder: Path) -> None:
    with supervisor(both(folder)) as process:
        urls, pids = announcement(process)
        await write(urls, "a")
        process.kill()
    async with started(both(folder)) as engines:  # at once: the old ones may still be ending
        assert await read(engines.urls) == (["a"], ["a"])
    for pid in pids:
        await gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is a thing of Linux")
async def test_engines_end_with_their_supervisor(folder: Path) -> None:
    with supervisor(both(folder)) as process:
        _, pids = announcement(process)
        process.kill()
    for pid in pids:
        await gone(pid)
    assert "database system is shut down" in (folder / "var" / "log" / "postgres.log").read_text()


@pytest.mark.parametrize("state_file", ["kept", "lost"])
async def test_leftovers_are_ended_and_their_data_kept(folder: Path, state_file: str) -> None:
    with supervisor(both(folder), "orphans") as process:
        urls, pids = announcement(process)
        process.kill()
    await write(urls, "a")  # they still run, with nobody in charge
    if state_file == "lost":
        (folder / "var" / "run" / "engines.json").unlink()
    assert running_urls(both(folder)) is None
    async with started(both(folder)) as engines:
        assert [command_line(pid) for pid in pids] == [None, None]
        assert await read(engines.urls) == (["a"], ["a"])


async def test_a_foreign_process_under_an_old_pid_is_left_alone(folder: Path) -> None:
    """Process ids are given anew, in a restarted container nearly always the same ones."""
    config = both(folder)
    with supervisor(config, "orphans") as process:
        _, pids = announcement(process)
        process.kill()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    for pid in pids:
        await gone(pid)
    with unrelated_process() as other:
        folders = EngineFolders(folder / "var")
        state = folders.run / "engines.json"
        stale = state.read_text()
        for pid in pids:
            stale = stale.replace(str(pid), str(other.pid))
        state.write_text(stale)
        (folders.run / "redis.pid").write_text(f"{other.pid}\n")
        lines = (folders.postgres / "postmaster.pid").read_text().splitlines()
        (folders.postgres / "postmaster.pid").write_text("\n".join([str(other.pid), *lines[1:]]) + "\n")
        async with started(config) as engines:
            await write(engines.urls, "a")
        assert other.poll() is None


async def test_a_second_supervisor_is_refused(empty_folder: Path) -> None:
    with supervisor(only_redis(empty_folder)) as process:
        announcement(process)
        with pytest.raises(EngineBusyError, match=f"already run under process {process.pid}"):
            await Engines.start(only_redis(empty_folder))


# Commands beside a server -------------------------------------------------------------------------------------------


async def test_running_urls_and_attached(folder: Path) -> None:
    config = both(folder)
    assert running_urls(config) is None
    async with started(config) as engines:
        assert running_urls(config) == engines.urls
        async with attached(config) as urls:
            assert urls == engines.urls
            await write(urls, "a")
        assert await read(engines.urls) == (["a"], ["a"])  # detaching stops nothing
    assert running_urls(config) is None


async def test_attached_starts_what_does_not_run(folder: Path) -> None:
    config = both(folder)
    order: list[str] = []

    async def use(name: str) -> None:
        async with attached(config) as urls:
            order.append(f"{name} in")
            assert running_urls(config) is None, "others must not rely on engines that are about to end"
            await write(urls, name)
            order.append(f"{name} out")

    await asyncio.gather(use("a"), use("b"))
    first, second = ("a", "b") if order[0] == "a in" else ("b", "a")
    assert order == [f"{first} in", f"{first} out", f"{second} in", f"{second} out"]
    async with started(config) as engines:
        assert await read(engines.urls) == ([first, second], ["a", "b"])


async def test_external_servers_are_left_alone(empty_folder: Path) -> None:
    config = Config(
        data_dir=str(empty_folder / "var"),
        redis=RedisConfig(url=EXTERNAL_REDIS),
        postgres=PostgresConfig(dsn=EXTERNAL_POSTGRES),
    )
    expected = EngineUrls(EXTERNAL_REDIS, EXTERNAL_POSTGRES)
    assert running_urls(config) == expected
    async with started(config) as engines, attached(config) as urls:
        assert engines.urls == urls == expected
        waiting = asyncio.create_task(engines.wait_failed())
        done, _ = await asyncio.wait({waiting}, timeout=0.05)
        assert not done
        waiting.cancel()
    assert not (empty_folder / "var").exists()


async def test_a_command_that_needs_more_than_what_runs_says_so(folder: Path) -> None:
    async with started(only_redis(folder)):
        with pytest.raises(EngineError, match="without postgres"):
            running_urls(both(folder))


# Starts that fail ---------------------------------------------------------------------------------------------------


async def test_damaged_data_names_the_log(folder: Path) -> None:
    async with started(only_postgres(folder)):
        pass
    control = folder / "var" / "postgres" / "global" / "pg_control"
    control.unlink()
    with pytest.raises(EngineError) as caught:
        await Engines.start(only_postgres(folder))
    text = str(caught.value)
    assert "ended with status" in text
    assert "postgres.log" in text
    assert "could not find the database system" in text
    assert "set postgres.dsn" in text


async def test_a_failed_start_leaves_nothing_running(empty_folder: Path) -> None:
    config = both(empty_folder)
    (empty_folder / "var" / "postgres").mkdir(parents=True)
    (empty_folder / "var" / "postgres" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EngineError, match=r"written by PostgreSQL 17.*pg_dump"):
        await Engines.start(config)
    shutil.rmtree(empty_folder / "var" / "postgres")
    pid = int((empty_folder / "var" / "log" / "redis.log").read_text().split(":")[0])
    assert command_line(pid) is None
    async with started(config):  # the lock is free again
        pass


async def test_data_folder_that_cannot_be_made(empty_folder: Path) -> None:
    (empty_folder / "var").write_text("a file")
    with pytest.raises(EngineError, match="Set data_dir to"):
        await Engines.start(both(empty_folder))


# Who PostgreSQL runs as ---------------------------------------------------------------------------------------------


def owner_of_postgres(folder: Path) -> int:
    state = EngineFolders(folder / "var").read_state()
    assert state is not None
    return os.stat(f"/proc/{state.pids['postgres']}").st_uid  # noqa: PTH116 - no file


@pytest.mark.skipif(not IS_ROOT, reason="only root drops to another user")
async def test_root_becomes_another_user(empty_folder: Path) -> None:
    async with started(only_postgres(empty_folder)) as engines:
        assert owner_of_postgres(empty_folder) != 0
        assert (empty_folder / "var" / "postgres").stat().st_uid == owner_of_postgres(empty_folder)
        assert await on_postgres(engines.urls, "SELECT 'yes'") == ["yes"]
    assert owner(empty_folder) == 0


@pytest.mark.skipif(not IS_ROOT, reason="only root drops to another user")
async def test_unreadable_binaries_are_copied(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = find_postgres()
    hidden = folder / "venv"
    hidden.mkdir(mode=0o700)
    for part in real.parts:
        (hidden / part.name).symlink_to(part)
    monkeypatch.setattr("ingest.engines.postgres.find_postgres", lambda: real.moved_to(hidden))
    async with started(only_postgres(folder)) as engines:
        assert owner_of_postgres(folder) != 0
        assert await on_postgres(engines.urls, "SELECT 'yes'") == ["yes"]
    copies = [path.name for path in (folder / "var" / "programs").iterdir()]
    assert copies == [f"postgres-{real.version}"]


@pytest.mark.skipif(not IS_ROOT, reason="only root needs a user namespace")
async def test_closed_data_folder_takes_a_user_namespace(folder: Path) -> None:
    async with started(only_postgres(folder)) as engines:
        await on_postgres(engines.urls, "CREATE TABLE kept AS SELECT 'yes' AS value")
    set_mode(folder, 0o700)
    if isinstance(await identity._namespaced(find_postgres(), EngineFolders(folder / "var")), str):
        pytest.skip("no user namespaces here")
    async with started(only_postgres(folder)) as engines:
        assert owner_of_postgres(folder) == 0
        assert await on_postgres(engines.urls, "SELECT value FROM kept") == ["yes"]
    set_mode(folder, 0o755)
    async with started(only_postgres(folder)) as engines:  # and back
        assert await on_postgres(engines.urls, "SELECT value FROM kept") == ["yes"]


@pytest.mark.skipif(not IS_ROOT, reason="only root has to try")
async def test_when_nothing_works_the_attempts_are_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def forbidden(*_: object, **__: object) -> tuple[int, str]:
        return 126, "Operation not permitted"

    monkeypatch.setattr(identity, "run_to_end", forbidden)
    with pytest.raises(EngineError) as caught:
        await Engines.start(only_postgres(folder))
    text = str(caught.value)
    assert "as user" in text
    assert "in a user namespace: Operation not permitted" in text
    assert "set postgres.dsn" in text


@pytest.mark.skipif(not IS_ROOT or shutil.which("setpriv") is None, reason="needs root and setpriv")
@pytest.mark.parametrize("uid", [NOBODY, 54321], ids=["nobody", "no passwd entry"])
async def test_ordinary_user(empty_folder: Path, uid: int) -> None:
    os.chown(empty_folder, uid, uid)
    # The interpreter of these tests may lie in a folder of root's: the one right that is kept lets it be read.
    caps = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search")
    prefix = ("setpriv", "--reuid", str(uid), "--regid", str(uid), "--clear-groups", *caps)
    for round_ in (1, 2):
        with supervisor(both(empty_folder), prefix=prefix) as process:
            urls, pids = announcement(process)
            await write(urls, str(round_))
            assert {os.stat(f"/proc/{pid}").st_uid for pid in pids} == {uid}  # noqa: PTH116 - no file
            process.kill()
        for pid in pids:
            await gone(pid)
    assert {path.stat().st_uid for path in (empty_folder / "var").iterdir()} == {uid}


@pytest.mark.skipif(not IS_ROOT or shutil.which("setpriv") is None, reason="needs root and setpriv")
async def test_another_users_data_is_refused_in_words(empty_folder: Path) -> None:
    async with started(only_redis(empty_folder)):
        pass
    os.chown(empty_folder, NOBODY, NOBODY)
    caps = ("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search")
    prefix = ("setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups", *caps)
    with supervisor(only_redis(empty_folder), prefix=prefix) as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        text = process.stderr.read()
    assert "belongs to user 0 and this process is user 65534" in text
    assert "sudo chown -R 65534" in text
