"""The embedded PostgreSQL: one cluster in the data folder, reachable only through a socket in a private folder."""

from __future__ import annotations

import asyncio
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

from ingest.engines.binaries import POSTGRES_MAJOR, find_postgres
from ingest.engines.engine import Engine
from ingest.engines.errors import EngineError
from ingest.engines.folders import prepare_private_folder
from ingest.engines.identity import Identity, choose_identity, give_to
from ingest.engines.process import Command, command_line, is_engine, run_to_end

DATABASE = "postback"
INITDB_TIMEOUT_S = 120.0
OLD_SESSIONS = "pre-existing shared memory block"
"""In the log when sessions of a killed server still run: they end with the query they are at."""
OLD_SESSIONS_TIMEOUT_S = 60.0
OLD_SESSIONS_PAUSE_S = 0.25

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_compression": "pglz",
    "max_wal_size": "2GB",
    "shared_buffers": "128MB",
    "max_connections": "100",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "%m [%p] ",
}
"""On the command line, so that they hold whatever an older data folder's postgresql.conf says."""


class PostgresEngine(Engine):
    """PostgreSQL; its cluster is made where it is missing."""

    name = "postgres"
    product = "PostgreSQL"
    socket_name = ".s.PGSQL.5432"
    stop_signal = signal.SIGINT  # "fast": ends the sessions, then shuts down in order
    setting = "postgres.dsn"

    @property
    def url(self) -> str:
        """The DSN, as asyncpg and libpq read it. The port names the socket's file: PGPORT must not."""
        return f"postgresql://postgres@/{DATABASE}?host={quote(str(self._socket_folder))}&port=5432"

    @property
    def _data(self) -> Path:
        return self._folders.postgres

    async def start(self) -> None:
        identity = await choose_identity(find_postgres(), self._folders)
        self._check_version()
        await self._create_cluster(identity)
        give_to(identity, self._folders.postgres)
        self._forget_foreign_pid()
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        prepare_private_folder(self._socket_folder, identity.uid, identity.gid)
        deadline = asyncio.get_running_loop().time() + OLD_SESSIONS_TIMEOUT_S
        while True:
            try:
                return await self._launch(self._command(identity), identity=identity.spec)
            except EngineError as error:
                if OLD_SESSIONS not in str(error) or asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(OLD_SESSIONS_PAUSE_S)  # not our children: their end sends us no event

    def _command(self, identity: Identity) -> Command:
        settings = {**SETTINGS, "unix_socket_directories": f'"{self._socket_folder}"'}
        options = [f"--{key}={value}" for key, value in settings.items()]
        return [identity.binaries.program("postgres"), "-D", self._folders.postgres, *options]

    def _check_version(self) -> None:
        try:
            found = (self._folders.postgres / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            return
        if found != str(POSTGRES_MAJOR):
            raise EngineError(
                f"{self._folders.postgres} was written by PostgreSQL {found}, this release carries {POSTGRES_MAJOR}: "
                f"move the data with pg_dump and pg_restore, or install the release that wrote it"
            )

    async def _create_cluster(self, identity: Identity) -> None:
        """The cluster with its database: whole, or not there at all."""
        if self._folders.postgres.exists():
            return
        new = self._folders.data / "postgres.new"
        shutil.rmtree(new, ignore_errors=True)  # what an interrupted first start left
        new.mkdir(mode=0o700)
        give_to(identity, new)
        initdb: Command = [
            identity.binaries.program("initdb"),
            "-D",
            new,
            "-U",
            "postgres",
            "-A",
            "trust",
            "-E",
            "UTF8",
        ]
        locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"]
        await self._must_run([*initdb, *locale], identity)
        alone: Command = [
            identity.binaries.program("postgres"),
            "--single",
            "-D",
            new,
            "-c",
            "exit_on_error=on",
            "postgres",
        ]
        await self._must_run(alone, identity, script=f"CREATE DATABASE {DATABASE}\n")
        new.rename(self._folders.postgres)

    async def _must_run(self, command: Command, identity: Identity, script: str = "") -> None:
        status, output = await run_to_end(command, identity=identity.spec, timeout_s=INITDB_TIMEOUT_S, script=script)
        if status != 0:
            raise EngineError(
                f"the PostgreSQL cluster could not be made under {self._folders.data}: free disk space or memory, or "
                f"set data_dir to another folder. {Path(command[0]).name} ended with status {status}:\n{output}"
            )

    async def _is_ready(self) -> bool:
        lines = self._pid_file_lines()
        return (
            self.process is not None
            and len(lines) >= 8
            and lines[0].strip() == str(self.process.pid)
            and lines[7].strip() == "ready"
        )

    def _pid_file_lines(self) -> list[str]:
        try:
            return self._pid_path.read_text().splitlines()
        except FileNotFoundError:
            return []

    def _pid_in_file(self) -> int | None:
        lines = self._pid_file_lines()
        return int(lines[0]) if lines and lines[0].strip().isdigit() else None

    @property
    def _pid_path(self) -> Path:
        return self._folders.postgres / "postmaster.pid"

    def _forget_foreign_pid(self) -> None:
        """Removes a pid file whose pid now belongs to some other program, as after the restart of a container:
        PostgreSQL would take that for a server on the same data. All else it judges by itself, and better."""
        pid = self._pid_in_file()
        if pid is not None and command_line(pid) is not None and not is_engine(pid, str(self._folders.postgres)):
            self._pid_path.unlink()
