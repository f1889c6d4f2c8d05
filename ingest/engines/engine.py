"""What the embedded engines have in common: a process on a folder of its own, reached through a socket in another."""

from __future__ import annotations

import shutil
import signal
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from ingest.engines.folders import EngineFolders
from ingest.engines.process import SAME_USER, Command, EngineProcess, end_leftovers, until_ready


class Engine(ABC):
    """The server of one data folder. Its methods are for the one supervisor."""

    name: ClassVar[str]
    """In files' names, and in what the supervisor writes of itself."""
    product: ClassVar[str]
    """For people."""
    socket_name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    """Ends the sessions, then the server in order."""
    setting: ClassVar[str]
    """Where the configuration names another server instead."""
    environment: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """What the server is told besides the usual."""

    def __init__(self, folders: EngineFolders) -> None:
        self._folders = folders
        self._socket_folder = folders.socket_folder(self.name, self.socket_name)
        self.process: EngineProcess | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """As its clients read it."""

    @property
    @abstractmethod
    def _data(self) -> Path:
        """The server's folder, by which a leftover is known."""

    @abstractmethod
    async def start(self) -> None:
        """Returns when the server takes commands. Raises EngineError."""

    @abstractmethod
    async def _is_ready(self) -> bool: ...

    @abstractmethod
    def _pid_in_file(self) -> int | None: ...

    async def end_leftover(self, known_pid: int | None) -> bool:
        """Ends what a crashed supervisor left running; True where there was something."""
        return await end_leftovers(self.product, (known_pid, self._pid_in_file()), str(self._data), self.stop_signal)

    async def _launch(self, command: Command, *, identity: str = SAME_USER) -> None:
        """Runs the server. Raises EngineError unless it gets ready."""
        self.process = await EngineProcess.spawn(
            self.product,
            command,
            log_path=self._folders.log / f"{self.name}.log",
            death_signal=self.stop_signal,
            identity=identity,
            environment=self.environment,
        )
        await until_ready(
            self.process,
            self._is_ready,
            advice="Its data is untouched. Free the disk or memory it asks for, or set "
            f"{self.setting} to another server.",
        )

    async def stop(self) -> None:
        """Ends the server in order; kills it if that takes too long (what it has confirmed is in its log)."""
        if self.process is not None:
            await self.process.stop(self.stop_signal)
            shutil.rmtree(self._socket_folder, ignore_errors=True)
