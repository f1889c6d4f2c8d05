"""Through PgBouncer in transaction mode, with fewer sessions than the program has connections: the schema, the clicks,
the load, a change of the catalog; also while PgBouncer is killed and started again."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from redis.asyncio import Redis

from tests.commands import run_command
from tests.eventually import eventually
from tests.ledger import Ledger, Load, assert_kept
from tests.outages import insert_clicks, proxied, queue_is_empty
from tests.platform import Client, client_of, load_sample
from tests.program import ROOT, environment, running
from tests.servers import PostgresServer, free_port, temporary_folder

SESSIONS = 3
START_S = 20.0

_CONFIG = """
[databases]
* = host=127.0.0.1 port={postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
server_login_retry = 1
"""


class Bouncer:
    """A PgBouncer of Debian's, in front of a Postgres on a port of this machine."""

    def __init__(self, program: str, folder: Path, postgres_port: int) -> None:
        self.port = free_port()
        self._command = [program, str(folder / "config")]
        if os.geteuid() == 0:  # which it refuses
            self._command[1:1] = ["-u", "nobody"]
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None
        settings = _CONFIG.format(postgres_port=postgres_port, port=self.port, folder=folder, sessions=SESSIONS)
        (folder / "config").write_text(settings, encoding="utf-8")
        (folder / "users").write_text('"postgres" ""\n', encoding="utf-8")

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def said(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")


@contextmanager
def pooled(dsn: str) -> Iterator[tuple[Bouncer, str]]:
    """A PgBouncer before an embedded Postgres, and the DSN that leads through it."""
    program = shutil.which("pgbouncer")
    if program is None:
        pytest.skip("no pgbouncer on PATH")
    with temporary_folder() as folder, proxied(dsn) as (proxy, _), ExitStack() as stack:
        bouncer = Bouncer(program, folder, proxy.port)
        bouncer.start()
        stack.callback(bouncer.kill)
        yield bouncer, f"postgresql://postgres@127.0.0.1:{bouncer.port}{urlsplit(dsn).path}"


async def test_the_whole_program(tmp_path: Path, redis_url: str, postgres_server: PostgresServer) -> None:
    with postgres_server.database() as direct, pooled(direct) as (bouncer, dsn):
        await eventually(lambda: _migrate(tmp_path, dsn), lambda code: code == 0, within_s=START_S)
        await load_sample(dsn)
        with running(
            tmp_path, redis_url, dsn, SERVER__RECEIVERS="2", WRITER__PROCESSES="2", WRITER__BATCH_AGE="20ms"
        ) as program:
            async with client_of(program, direct) as client, Redis.from_url(redis_url) as redis:
                load = Load(client, senders=16, name="pooled")
                await load.start()  # 3,200 clicks: by COPY, through a temporary table
                changed = time.monotonic()
                await client.database.execute("UPDATE goals SET status = 'paused' WHERE value = 'install'")
                for batch in range(5):
                    unseen = [f"unseen-{batch}-{number}" for number in range(30)]
                    await insert_clicks(client, *unseen)
                    answers = await asyncio.gather(
                        *(client.get(f"click_id={one}&goal=purchase&txn_id=u&sale_amount=3") for one in unseen)
                    )
                    assert {body["status"] for _, body in answers} <= {"accepted", "spooled"}
                    load.ledger.attempted |= {(one, "u") for one in unseen}
                    await load.until(100)
                others = "datname = current_database() AND pid <> pg_backend_pid()"
                assert 0 < await client.count("pg_stat_activity", others) <= SESSIONS

                async def reason() -> object:
                    return (await client.get("click_id=pooled0-0&goal=install"))[1].get("reason")

                await eventually(reason, lambda found: found == "goal_inactive")
                assert time.monotonic() - changed < 50, "announcements do not come through a pooler: it is read often"

                bouncer.kill()
                await load.until(300)
                bouncer.start()
                await load.until(100)
                ledger = await load.finish()
                assert set(ledger.tries) == {"200 accepted"}
                await _assert_kept(client, redis, ledger, unseen=150)
            assert program.stop() == 0
        assert "not supported" not in bouncer.said()


async def _assert_kept(client: Client, redis: Redis, ledger: Ledger, *, unseen: int) -> None:
    await queue_is_empty(redis)
    installs = await client.database.fetch("DELETE FROM conversions WHERE goal_value = 'install' RETURNING 1")
    assert len(installs) <= 1, "before the change came"
    await eventually(lambda: client.count("conversions", "txn_id = 'u'"), lambda found: found == unseen)
    await assert_kept(client, ledger)
    assert await client.count("postback_log", "goal_value <> 'install'") == 0


async def _migrate(data_dir: Path, dsn: str) -> int:
    """The exit status of `postback migrate`."""
    env = environment(data_dir, "redis://unused.invalid", dsn, {})
    done = await asyncio.to_thread(run_command, ["migrate"], env=env, cwd=ROOT)
    print(done.stdout, done.stderr)
    return done.returncode
