"""Starts, watches and stops the embedded engines of one data folder; servers given by URL are left alone."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from ingest.config import EMBEDDED, Config
from ingest.engines.engine import Engine
from ingest.engines.errors import EngineBusyError, EngineError, EngineFailure
from ingest.engines.folders import EngineFolders, EngineState, SupervisorLock, is_supervised
from ingest.engines.postgres import PostgresEngine
from ingest.engines.valkey import ValkeyEngine

ATTACH_PATIENCE_S = 30.0


@dataclass(frozen=True, slots=True)
class EngineUrls:
    """Where the servers are: never "embedded"."""

    redis_url: str
    postgres_dsn: str


class Engines:
    """The engines this process supervises; none of them where both servers are given by URL.

    Start it on the main thread: on Linux the engines end when the thread that spawned them does."""

    def __init__(
        self, urls: EngineUrls, folders: EngineFolders, engines: tuple[Engine, ...], lock: SupervisorLock | None
    ) -> None:
        self.urls = urls
        self._folders = folders
        self._engines = engines
        self._lock = lock
        self._announced = False

    @classmethod
    async def start(cls, config: Config, *, announce: bool = True) -> Engines:
        """Starts what the configuration calls embedded, after ending what a crash left behind; returns when all take
        connections. Unless `announce`, `running_urls` elsewhere does not tell of them. Raises EngineError,
        EngineBusyError where another process runs them."""
        folders = EngineFolders(config.data_path)
        valkey = ValkeyEngine(folders) if config.redis.url == EMBEDDED else None
        postgres = PostgresEngine(folders) if config.postgres.dsn == EMBEDDED else None
        urls = EngineUrls(
            redis_url=valkey.url if valkey else config.redis.url,
            postgres_dsn=postgres.url if postgres else config.postgres.dsn,
        )
        chosen = tuple(engine for engine in (valkey, postgres) if engine is not None)
        if not chosen:
            return cls(urls, folders, chosen, None)
        folders.create()
        engines = cls(urls, folders, chosen, await SupervisorLock.acquire(folders))
        try:
            await engines._start_all()
            engines._announced = announce
            engines._write_state()
        except BaseException:
            await engines.stop()
            raise
        return engines

    async def wait_failed(self) -> EngineFailure:
        """Returns when an engine has ended though nobody asked it to; waits for ever where there is none."""
        running = {
            asyncio.create_task(engine.process.exited()): engine.process
            for engine in self._engines
            if engine.process is not None
        }
        if not running:
            await asyncio.get_running_loop().create_future()
        try:
            done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in running:
                task.cancel()
        process = running[done.pop()]
        assert process.returncode is not None
        return EngineFailure(process.name, process.returncode, process.log_tail())

    async def restart_dead(self) -> None:
        """Starts again, on the same data and URL, each engine that has ended. Raises EngineError."""
        for engine in self._engines:
            if engine.process is None or engine.process.returncode is not None:
                await engine.start()
                _log().warning("engine_restarted", engine=engine.name)
        self._write_state()

    async def stop(self) -> None:
        """Stops the engines in order, each within a bound."""
        try:
            for engine in self._engines:
                await engine.stop()
            if self._lock is not None:
                self._folders.clear_state()
        finally:
            if self._lock is not None:
                self._lock.release()

    async def _start_all(self) -> None:
        left = self._folders.read_state()
        self._folders.clear_state()
        for engine in self._engines:
            if await engine.end_leftover(left.pids.get(engine.name) if left else None):
                _log().warning("engine_leftover_ended", engine=engine.name)
            await engine.start()

    def _write_state(self) -> None:
        if not self._announced:
            return
        pids = {engine.name: engine.process.pid for engine in self._engines if engine.process is not None}
        self._folders.write_state(EngineState(os.getpid(), pids, self.urls.redis_url, self.urls.postgres_dsn))


def running_urls(config: Config) -> EngineUrls | None:
    """Where the servers of this configuration are; None where an embedded one is needed and not running."""
    if EMBEDDED not in (config.redis.url, config.postgres.dsn):
        return EngineUrls(config.redis.url, config.postgres.dsn)
    folders = EngineFolders(config.data_path)
    state = folders.read_state()
    if state is None or not is_supervised(folders):
        return None
    urls = EngineUrls(
        redis_url=state.redis_url if config.redis.url == EMBEDDED else config.redis.url,
        postgres_dsn=state.postgres_dsn if config.postgres.dsn == EMBEDDED else config.postgres.dsn,
    )
    needed = {
        name
        for name, url in ((ValkeyEngine.name, config.redis.url), (PostgresEngine.name, config.postgres.dsn))
        if url == EMBEDDED
    }
    if not needed <= state.pids.keys():
        missing = ", ".join(sorted(needed - state.pids.keys()))
        raise EngineError(
            f"the engines of {folders.data} run under process {state.supervisor_pid} without {missing}: "
            f"use that process's configuration"
        )
    return urls


@asynccontextmanager
async def attached(config: Config) -> AsyncIterator[EngineUrls]:
    """The running servers; embedded ones that do not run are started for the duration. Those are not announced, since
    they end with this block: a second such command waits for its turn."""
    deadline = asyncio.get_running_loop().time() + ATTACH_PATIENCE_S
    while (urls := running_urls(config)) is None:
        try:
            engines = await Engines.start(config, announce=False)
        except EngineBusyError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            continue  # each attempt waits a moment by itself
        try:
            yield engines.urls
        finally:
            await engines.stop()
        return
    yield urls


def _log() -> structlog.stdlib.BoundLogger:
    logger: structlog.stdlib.BoundLogger = structlog.get_logger("engines")
    return logger
