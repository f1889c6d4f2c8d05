"""Where the engines of one data folder keep their files, and the lock that gives them one supervisor."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import msgspec

from ingest.engines.errors import EngineBusyError, EngineError

SOCKET_PATH_BYTES = 100
"""A socket's path is at most 103 bytes on macOS, 107 on Linux."""
LOCK_GRACE_S = 0.5


class EngineState(msgspec.Struct, frozen=True):
    """What `run/engines.json` says of the running engines: process ids by name, and where to reach them."""

    supervisor_pid: int
    pids: dict[str, int]
    redis_url: str
    postgres_dsn: str


@dataclass(frozen=True, slots=True)
class EngineFolders:
    """The files of the engines under one absolute `data` folder."""

    data: Path

    @property
    def postgres(self) -> Path:
        """The cluster's data."""
        return self.data / "postgres"

    @property
    def redis(self) -> Path:
        """The append-only file."""
        return self.data / "redis"

    @property
    def run(self) -> Path:
        """Lock, state, sockets: nothing that is missed after a stop."""
        return self.data / "run"

    @property
    def log(self) -> Path:
        """What the engines say."""
        return self.data / "log"

    def create(self) -> None:
        """Makes the folders. Raises EngineError where that is not allowed."""
        try:
            for folder in (self.data, self.run, self.log):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EngineError(
                f"the data folder cannot be made: {error}. Set data_dir to a folder that this user may write"
            ) from None
        for folder in (self.data, self.run, self.log, self.redis, self.postgres):
            if folder.exists() and not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
                raise EngineError(
                    f"{folder} belongs to user {folder.stat().st_uid} and this process is user {os.geteuid()}: start "
                    f"it as the user it ran as before, or give it the data: sudo chown -R {os.geteuid()} {self.data}"
                )

    def socket_folder(self, engine: str, socket_name: str) -> Path:
        """The folder of an engine's socket: in the data folder where the path is short enough for a socket, else in
        the temporary folder under a name that is always the same for this data folder."""
        near = self.run / engine
        if len(os.fsencode(near / socket_name)) < SOCKET_PATH_BYTES:
            return near
        digest = hashlib.sha256(os.fsencode(self.data)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"postback-{digest}-{engine}"

    def read_state(self) -> EngineState | None:
        """What the last supervisor wrote; None where nothing (readable) is there."""
        try:
            return msgspec.json.decode((self.run / "engines.json").read_bytes(), type=EngineState)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_state(self, state: EngineState) -> None:
        """Replaces the state file in one step."""
        partial = self.run / "engines.json.partial"
        partial.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
        partial.replace(self.run / "engines.json")

    def clear_state(self) -> None:
        """Forgets the state: nothing runs."""
        (self.run / "engines.json").unlink(missing_ok=True)


def prepare_private_folder(folder: Path, uid: int, gid: int) -> None:
    """Makes `folder` with mode 0700 for `uid`. Raises EngineError where somebody else has put something there."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {os.geteuid(), uid, 0}:
        raise EngineError(
            f"{folder} belongs to somebody else: remove it, or set data_dir to a shorter path "
            f"so that the engines' sockets fit into it"
        )
    if os.geteuid() == 0:
        os.chown(folder, uid, gid)
    folder.chmod(0o700)


class SupervisorLock:
    """Held by the one process that supervises the engines of a data folder; the kernel drops it when that ends."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    @classmethod
    async def acquire(cls, folders: EngineFolders) -> SupervisorLock:
        """Raises EngineBusyError naming the process that holds it."""
        file = _lock_path(folders).open("a+", encoding="ascii")
        deadline = asyncio.get_running_loop().time() + LOCK_GRACE_S
        while not _try_lock(file):
            if asyncio.get_running_loop().time() > deadline:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                file.close()
                raise EngineBusyError(
                    f"the engines of {folders.data} already run under process {holder}: stop that one first, "
                    f"or set data_dir to another folder"
                )
            await asyncio.sleep(0.05)  # `is_supervised` holds the lock for a moment
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        return cls(file)

    def release(self) -> None:
        """Lets the next one supervise."""
        self._file.close()


def is_supervised(folders: EngineFolders) -> bool:
    """Whether some process holds the lock."""
    try:
        with _lock_path(folders).open(encoding="ascii") as file:
            return not _try_lock(file)
    except FileNotFoundError:
        return False


def _lock_path(folders: EngineFolders) -> Path:
    return folders.run / "engines.lock"


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
