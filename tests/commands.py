"""`postback ...` as a process of its own, forked from one that has imported it: the tests start the program and run its
commands some two hundred times, and to import it takes most of a second of a processor each time. What starts as it
does for a user is in tests/integration/test_cli.py."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from ingest import cli, commands
from ingest.engines.launcher import PR_SET_PDEATHSIG

TIMEOUT_S: Final = 60.0
MOST_FILES: Final = 256
"""More than a process has open that has only imported things."""

_forks = multiprocessing.get_context("forkserver")
_forks.set_forkserver_preload(
    [__name__, *(f"{commands.__name__}.{path.stem}" for path in sorted(Path(commands.__path__[0]).glob("[a-z]*.py")))]
)


class Fork:
    """`postback ARGUMENTS` under way, its standard streams in files; what of `subprocess.Popen` the tests use."""

    def __init__(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdin: Path, stdout: Path, stderr: Path
    ) -> None:
        streams = (str(stdin), str(stdout), str(stderr))
        self._process = _forks.Process(target=_become, args=(list(arguments), dict(env), str(cwd), streams))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs, as far as is known; negative for a signal."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """The same, now."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Raises subprocess.TimeoutExpired."""
        wait([self._process.sentinel], timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("postback", timeout or 0.0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """To it, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def run_command(arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, typed: str = "") -> Done:
    """What `postback ARGUMENTS` says with `typed` on its standard input."""
    with TemporaryDirectory(prefix="pb-command-") as place:
        said = [Path(place) / name for name in ("typed", "output", "errors")]
        said[0].write_text(typed, encoding="utf-8")
        command = Fork(arguments, env=env, cwd=cwd, stdin=said[0], stdout=said[1], stderr=said[2])
        try:
            code = command.wait(TIMEOUT_S)
        finally:
            command.kill()
        return Done(code, *(path.read_text(encoding="utf-8") for path in said[1:]))


def _become(arguments: list[str], env: Mapping[str, str], cwd: str, streams: Sequence[str]) -> None:
    """In the fork: be the command. It is told to end when whoever forked it ends, and that one ends with pytest: so it
    must not hold the pipe by which the end of pytest is seen, nor hand it on."""
    os.closerange(3, MOST_FILES)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for descriptor, path in enumerate(streams):
        opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND if descriptor else os.O_RDONLY, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.argv = ["postback", *arguments]
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    cli.main()
