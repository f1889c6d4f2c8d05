"""One server process: started through the launcher, watched, ended within a bound. And the leftovers of a crash."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import IO

from ingest.engines import launcher
from ingest.engines.errors import EngineError

Command = Sequence[str | Path]
"""A program, by its path, and its arguments."""

SAME_USER = "same"
LOG_TAIL_LINES = 15
LOG_TAIL_BYTES = 16 << 10
LOG_KEPT_BYTES = 16 << 20
STOP_TIMEOUT_S = 30.0
KILL_TIMEOUT_S = 5.0
START_TIMEOUT_S = 300.0
"""Generous: recovery after a crash replays the log of what was written."""
POLL_S = 0.02


def launch_command(command: Command, *, death_signal: signal.Signals, identity: str = SAME_USER) -> list[str]:
    """`command` wrapped so that the server gets `death_signal` when this process ends. Spawn it from the main thread:
    the kernel looks at the life of the thread that spawned."""
    signal_number = int(death_signal) if sys.platform == "linux" else 0
    wrapper = [sys.executable, "-I", "-S", launcher.__file__, str(os.getpid()), str(signal_number), identity]
    return wrapper + [str(part) for part in command]


async def run_to_end(command: Command, *, identity: str, timeout_s: float, script: str = "") -> tuple[int, str]:
    """Exit status and combined output of a program that ends by itself; `script` is its standard input."""
    process = await asyncio.create_subprocess_exec(
        *launch_command(command, death_signal=signal.SIGKILL, identity=identity),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd="/",
        env=_environment(),
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate(script.encode())
    except TimeoutError:
        process.kill()
        await process.wait()
        return -signal.SIGKILL, f"still running after {timeout_s:g} s"
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace").strip()


class EngineProcess:
    """A running server. Its standard output and error go to `log_path`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._process = process
        self._exit = asyncio.create_task(process.wait(), name=f"exit of {name}")

    @classmethod
    async def spawn(
        cls,
        name: str,
        command: Command,
        *,
        log_path: Path,
        death_signal: signal.Signals,
        identity: str = SAME_USER,
        environment: Mapping[str, str] = MappingProxyType({}),
    ) -> EngineProcess:
        """Starts `command` in a session of its own, so that a Ctrl-C at the terminal reaches only the supervisor."""
        with _open_log(log_path) as log:
            process = await asyncio.create_subprocess_exec(
                *launch_command(command, death_signal=death_signal, identity=identity),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**_environment(), **environment},
                start_new_session=True,
            )
        return cls(name, process, log_path)

    @property
    def pid(self) -> int:
        """The server's process id."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for a signal."""
        return self._process.returncode

    async def exited(self, timeout_s: float | None = None) -> bool:
        """Waits until the server has ended; False when `timeout_s` passed before."""
        done, _ = await asyncio.wait({self._exit}, timeout=timeout_s)
        return bool(done)

    async def stop(self, stop_signal: signal.Signals, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Asks with `stop_signal`, kills after `timeout_s`. Returns when the process is gone."""
        if self.returncode is None:
            self._signal(stop_signal)
            if not await self.exited(timeout_s):
                self._signal(signal.SIGKILL)
        await self.exited()

    def _signal(self, number: signal.Signals) -> None:
        try:
            self._process.send_signal(number)
        except ProcessLookupError:
            return  # it ended between the look and the signal

    def log_tail(self) -> str:
        """The last lines of the server's log."""
        return log_tail(self.log_path)


def _open_log(path: Path) -> IO[bytes]:
    """To append to; what is too long is put aside first."""
    if path.exists() and path.stat().st_size > LOG_KEPT_BYTES:
        path.replace(path.with_suffix(".log.1"))
    return path.open("ab")


def log_tail(path: Path) -> str:
    """The last lines of a log file; empty where there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - LOG_TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
    except FileNotFoundError:
        return ""
    return "\n".join(lines[-LOG_TAIL_LINES:])


async def until_ready(
    process: EngineProcess, ready: Callable[[], Awaitable[bool]], *, advice: str, timeout_s: float = START_TIMEOUT_S
) -> None:
    """Returns once `ready` says so. Raises EngineError, with the end of the log, when it ends or takes too long."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while not await ready():
        if await process.exited(POLL_S):
            problem = f"ended with status {process.returncode} while starting"
        elif asyncio.get_running_loop().time() > deadline:
            problem = f"is not ready after {timeout_s:g} s"
        else:
            continue
        raise EngineError(
            f"{process.name} {problem}. {advice}\nThe end of its log, {process.log_path}:\n{process.log_tail()}"
        )


def command_line(pid: int) -> str | None:
    """How `pid` was started; None where there is no such process (or only its corpse)."""
    if pid <= 0:
        return None
    if Path("/proc/self/cmdline").exists():
        try:
            raw = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return raw.replace(b"\0", b" ").decode(errors="replace").strip() or None
    listed = subprocess.run(  # noqa: S603 - fixed program, numeric argument
        ["/bin/ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip() or None


def is_engine(pid: int, mark: str) -> bool:
    """Whether `pid` is a server that was started on the folder `mark`."""
    line = command_line(pid)
    return line is not None and f" {mark} " in f" {line} "


async def end_leftovers(name: str, pids: Iterable[int | None], mark: str, stop_signal: signal.Signals) -> bool:
    """Ends what a crashed supervisor left of a server; True where there was something. Other processes that have got
    one of the pids meanwhile are left alone. Raises EngineError where it may not or does not end."""
    ours = {pid for pid in pids if pid is not None and is_engine(pid, mark)}
    for pid in ours:
        await _end(name, pid, mark, stop_signal)
    return bool(ours)


async def _end(name: str, pid: int, mark: str, stop_signal: signal.Signals) -> None:
    for number, bound_s in ((stop_signal, STOP_TIMEOUT_S), (signal.SIGKILL, KILL_TIMEOUT_S)):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        except PermissionError:
            raise EngineError(
                f"{name} of this data folder is still running as process {pid} of another user: end it first "
                f"(kill -{int(stop_signal)} {pid})"
            ) from None
        deadline = asyncio.get_running_loop().time() + bound_s
        while asyncio.get_running_loop().time() < deadline:
            if not is_engine(pid, mark):
                return
            await asyncio.sleep(POLL_S)  # not our child: its end sends us no event
    raise EngineError(f"{name} of this data folder is still running as process {pid} and does not end")


def _environment() -> dict[str, str]:
    """What a server is told of our environment: PG* variables and secrets are none of its business."""
    kept = {name: value for name, value in os.environ.items() if name in {"PATH", "TMPDIR"}}
    return kept | {"LC_ALL": "C"}
