"""The programs that are measured, as processes: the product and the baselines, each started where it is to run."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from benchmarks.measure import Cores, cpu_s, on_cores
from ingest.config import Config
from ingest.engines import EngineUrls
from tests.program import ROOT, running

START_TIMEOUT_S: Final = 30.0
AS_SHIPPED: Final = f"{Config().writer.batch_age}ms"


class ProgramError(Exception):
    """A program does not start or ended too soon; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """A program that serves on `port`; `pids` are the processes whose time counts, by role."""

    port: int
    pids: dict[str, int]

    def cpu_s(self) -> dict[str, float]:
        """Processor time so far, by role."""
        return {role: cpu_s(pid) for role, pid in self.pids.items()}


@contextmanager
def product(folder: Path, urls: EngineUrls, cores: Cores, *, role: str, **settings: str) -> Iterator[Running]:
    """`postback serve --role ROLE`, ready; ended in order."""
    with ExitStack() as stack:
        with on_cores(cores):
            settings = {"WRITER__BATCH_AGE": AS_SHIPPED} | settings  # tests are in more of a hurry
            program = stack.enter_context(running(folder, urls.redis_url, urls.postgres_dsn, role=role, **settings))
        roles = ("receiver", "writer") if role == "all" else (role,)
        yield Running(urlsplit(program.url).port or 0, {each: program.workers(each)[0] for each in roles})
        code = program.stop()
        if code != 0:
            raise ProgramError(f"postback serve ended with {code}: {program.log_path.read_text(encoding='utf-8')}")


@contextmanager
def baseline(name: str, folder: Path, cores: Cores, *arguments: str) -> Iterator[Running]:
    """A program of `benchmarks.servers`, ready; ended in order."""
    port = free_port()
    log_path = folder / f"{name}.log"
    with log_path.open("wb") as log, on_cores(cores):
        process = subprocess.Popen(
            [sys.executable, "-m", f"benchmarks.servers.{name}", str(port), *arguments],
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    try:
        _wait_until_open(process, port, log_path)
        yield Running(port, {"server": process.pid})
        if process.poll() is not None:
            raise ProgramError(f"{name} ended with {process.returncode}: {log_path.read_text(encoding='utf-8')}")
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_open(process: subprocess.Popen[bytes], port: int, log_path: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise ProgramError(f"{log_path.stem} does not start: {log_path.read_text(encoding='utf-8')}") from None
            time.sleep(0.02)
        else:
            return
