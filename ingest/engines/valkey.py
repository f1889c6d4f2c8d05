"""The embedded Valkey: speaks Redis's protocol on a socket in a private folder, each write fsynced to its log."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

from ingest.engines.binaries import find_valkey
from ingest.engines.folders import EngineFolders, prepare_private_folder
from ingest.engines.process import EngineProcess, end_leftovers, until_ready

NAME = "redis"
SOCKET_NAME = "redis.sock"
STOP_SIGNAL = signal.SIGTERM
PING_TIMEOUT_S = 1.0

SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
    "save": "",
    "daemonize": "no",
    # The process list keeps showing the data folder, by which a leftover is known.
    "set-proc-title": "no",
}


class ValkeyEngine:
    """The server of one data folder. Its methods are for the one supervisor."""

    name = NAME

    def __init__(self, folders: EngineFolders) -> None:
        self._folders = folders
        self._socket_folder = folders.socket_folder(NAME, SOCKET_NAME)
        self.process: EngineProcess | None = None

    @property
    def url(self) -> str:
        """As redis-py reads it."""
        return f"unix://{self._socket_path}"

    @property
    def _socket_path(self) -> Path:
        return self._socket_folder / SOCKET_NAME

    @property
    def _pid_path(self) -> Path:
        return self._folders.run / "redis.pid"

    async def end_leftover(self, known_pid: int | None) -> bool:
        """Ends what a crashed supervisor left running; True where there was something."""
        pids = (known_pid, self._pid_in_file())
        return await end_leftovers("Valkey", pids, str(self._folders.redis), STOP_SIGNAL)

    async def start(self) -> None:
        """Returns when commands are taken, so after the append-only file was read."""
        self._folders.redis.mkdir(exist_ok=True)
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        prepare_private_folder(self._socket_folder, os.geteuid(), os.getegid())
        settings = {
            **SETTINGS,
            "dir": str(self._folders.redis),
            "unixsocket": str(self._socket_path),
            "pidfile": str(self._pid_path),
        }
        self.process = await EngineProcess.spawn(
            "Valkey",
            [find_valkey(), *(part for key, value in settings.items() for part in (f"--{key}", value))],
            log_path=self._folders.log / "redis.log",
            death_signal=STOP_SIGNAL,
        )
        await until_ready(
            self.process,
            self._is_ready,
            advice="Its data is untouched. Free the disk or memory it asks for, or set redis.url to another server.",
        )

    async def stop(self) -> None:
        """Ends the server in order; kills it if that takes too long (what was answered is on disk)."""
        if self.process is not None:
            await self.process.stop(STOP_SIGNAL)
            shutil.rmtree(self._socket_folder, ignore_errors=True)

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(PING_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._socket_path)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"  # while reading its file it says -LOADING
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    def _pid_in_file(self) -> int | None:
        try:
            text = self._pid_path.read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text.isdigit() else None
