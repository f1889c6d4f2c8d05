"""The embedded Valkey: speaks Redis's protocol on a socket in a private folder, each write fsynced to its log."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path
from types import MappingProxyType

from ingest.engines.binaries import find_valkey
from ingest.engines.engine import Engine
from ingest.engines.folders import prepare_private_folder

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


# It is built with the C library's allocator, whose defaults cost it a quarter of its processor time: the hundreds of
# arguments of a script are more than are kept for the next call, and freed memory goes back to the system at once.
# https://www.gnu.org/software/libc/manual/html_node/Memory-Allocation-Tunables.html; other libraries
# ignore it.
_ALLOCATOR = {"tcache_count": 8_000, "trim_threshold": 256 << 20, "top_pad": 16 << 20, "mmap_threshold": 256 << 20}


class ValkeyEngine(Engine):
    """Valkey; it reads its append-only file before it takes commands."""

    name = "redis"
    product = "Valkey"
    socket_name = "redis.sock"
    stop_signal = signal.SIGTERM
    setting = "redis.url"
    environment = MappingProxyType(
        {"GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in _ALLOCATOR.items())}
    )

    @property
    def url(self) -> str:
        """As redis-py reads it."""
        return f"unix://{self._socket_path}"

    @property
    def _data(self) -> Path:
        return self._folders.redis

    @property
    def _socket_path(self) -> Path:
        return self._socket_folder / self.socket_name

    @property
    def _pid_path(self) -> Path:
        return self._folders.run / "redis.pid"

    async def start(self) -> None:
        self._folders.redis.mkdir(exist_ok=True)
        shutil.rmtree(self._socket_folder, ignore_errors=True)
        prepare_private_folder(self._socket_folder, os.geteuid(), os.getegid())
        settings = {
            **SETTINGS,
            "dir": str(self._folders.redis),
            "unixsocket": str(self._socket_path),
            "pidfile": str(self._pid_path),
        }
        options = [part for key, value in settings.items() for part in (f"--{key}", value)]
        await self._launch([find_valkey(), *options])

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
