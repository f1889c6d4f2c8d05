"""Keeps worker processes alive: starts them, restarts a dead or silent one with backoff, ends them in order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from ingest.orders import Role

READY_TIMEOUT_S: Final = 30.0
BACKOFF_FIRST_S: Final = 0.2
BACKOFF_MOST_S: Final = 10.0
STEADY_S: Final = 30.0
"""A worker that lived so long begins anew with the first backoff."""
SILENT_S: Final = 10
"""A worker that has said nothing for so long is stuck: connections that it holds would hang for ever."""

log = structlog.get_logger()


class WorkerFailedError(Exception):
    """A worker ended before it was ready, at the first start: what it said is on standard error."""


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """One worker to keep alive. `orders` is the line for its standard input."""

    role: Role
    index: int
    orders: bytes

    @property
    def name(self) -> str:
        """For people: receiver-0."""
        return f"{self.role}-{self.index}"


class _Worker:
    """One worker and the task that keeps it alive."""

    def __init__(self, spec: WorkerSpec, environment: dict[str, str]) -> None:
        self.spec = spec
        self.ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._environment = environment
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False
        self._silent_s = 0
        self._task = asyncio.create_task(self._keep())

    async def stop(self, timeout_s: float) -> None:
        """SIGTERM, and SIGKILL if it is not gone in time."""
        self._stopping = True
        if self._process is not None and self._process.returncode is None:
            self._signal(self._process, signal.SIGTERM)
        else:
            self._task.cancel()
        done, _ = await asyncio.wait([self._task], timeout=timeout_s)
        if not done and self._process is not None:
            log.error("worker did not end in time, killing it", worker=self.spec.name)
            self._signal(self._process, signal.SIGKILL)
            await asyncio.wait([self._task], timeout=5)

    async def _keep(self) -> None:
        backoff_s = BACKOFF_FIRST_S
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            code = await self._run_once()
            if self._stopping:
                return
            if not self.ready.done():
                self.ready.set_exception(WorkerFailedError(f"{self.spec.name} ended with {code} before it was ready"))
                return
            if loop.time() - started > STEADY_S:
                backoff_s = BACKOFF_FIRST_S
            log.error("worker died, starting it again", worker=self.spec.name, code=code, after_s=backoff_s)
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, BACKOFF_MOST_S)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "ingest.worker",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=self._environment,
            # Of its own session: Ctrl-C on the terminal reaches the supervisor alone, which ends all in order.
            start_new_session=True,
        )
        self._process = process
        assert process.stdin is not None
        assert process.stdout is not None
        if self._stopping:
            self._signal(process, signal.SIGTERM)
        # The pipe stays open: its end tells the worker that the supervisor is gone.
        process.stdin.write(self.spec.orders)
        watching: asyncio.Task[None] | None = None
        while line := await process.stdout.readline():
            self._silent_s = 0
            if line == b"ready\n":
                log.info("worker ready", worker=self.spec.name, pid=process.pid)
                watching = asyncio.create_task(self._end_if_silent(process))
                if not self.ready.done():
                    self.ready.set_result(None)
        code = await process.wait()
        if watching is not None:
            watching.cancel()
        process.stdin.close()
        return code

    async def _end_if_silent(self, process: asyncio.subprocess.Process) -> None:
        """SIGKILL after SILENT_S. Only seconds that this process saw pass count: when it was stopped itself, or the
        machine slept, no worker is to blame."""
        while self._silent_s < SILENT_S:
            await asyncio.sleep(1)
            self._silent_s += 1
        log.error("worker is stuck, killing it", worker=self.spec.name, pid=process.pid, silent_s=self._silent_s)
        self._signal(process, signal.SIGKILL)

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
        if process.returncode is None:
            process.send_signal(number)


class Supervisor:
    """All workers of one `postback serve`."""

    def __init__(self, specs: Sequence[WorkerSpec], environment: dict[str, str] | None = None) -> None:
        self._environment = dict(os.environ) if environment is None else environment
        self._specs = specs
        self._workers: list[_Worker] = []

    async def start(self) -> None:
        """Start all and return when all are ready. Raises WorkerFailedError."""
        self._workers = [_Worker(spec, self._environment) for spec in self._specs]
        async with asyncio.timeout(READY_TIMEOUT_S):
            await asyncio.gather(*(worker.ready for worker in self._workers))

    async def stop(self, timeout_s: float) -> None:
        """End the receivers, then the writers, so that what was accepted last is still written."""
        for role in (Role.RECEIVER, Role.WRITER):
            await asyncio.gather(*(worker.stop(timeout_s) for worker in self._workers if worker.spec.role is role))
