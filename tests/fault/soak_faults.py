"""The faults of the soak, each by name: begins, lasts, and is lifted when it returns."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.eventually import eventually
from tests.fault.soak_load import Load
from tests.fault.soak_world import CATCH_UP_LIMIT_S, SPOOL_BYTES, World, is_gone
from tests.proxy import Mode, Proxy

LATENCY_S: Final = 0.08


class Faults:
    """Breaks things in `world` for a random time of up to `longest_s`."""

    def __init__(self, world: World, load: Load, chance: random.Random, *, longest_s: float) -> None:
        self._world = world
        self._load = load
        self._chance = chance
        self._longest_s = longest_s

    def kinds(self) -> dict[str, Callable[[], Awaitable[None]]]:
        """Every fault there is."""
        redis, postgres = self._world.redis, self._world.postgres
        return {
            "Redis refuses connections": lambda: self._mode(Mode.REFUSE, redis),
            "Redis frozen": lambda: self._mode(Mode.FREEZE, redis),
            "Redis: open connections go dead": lambda: self._half_open(redis),
            "Redis: replies lost": lambda: self._mode(Mode.DROP_REPLIES, redis),
            "Redis: connections reset, again and again": lambda: self._cuts(redis),
            "Redis slow (80 ms each way)": lambda: self._slow(redis),
            "Valkey killed (SIGKILL)": lambda: self._kill_engine("redis"),
            "Valkey stopped (SIGSTOP)": lambda: self._stop(self._engine("redis")),
            "Valkey forgets everything (FLUSHALL), queue empty": self._flush,
            "Postgres refuses connections": lambda: self._mode(Mode.REFUSE, postgres),
            "Postgres frozen": lambda: self._mode(Mode.FREEZE, postgres),
            "Postgres: open connections go dead": lambda: self._half_open(postgres),
            "Postgres: replies lost": lambda: self._mode(Mode.DROP_REPLIES, postgres),
            "Postgres: cut before or after COMMIT": self._commits,
            "Postgres slow (80 ms each way)": lambda: self._slow(postgres),
            "Postgres killed (SIGKILL)": lambda: self._kill_engine("postgres"),
            "Redis and Postgres refuse connections": lambda: self._mode(Mode.REFUSE, redis, postgres),
            "Redis away and the spool full": self._spool_full,
            "receiver killed (SIGKILL)": lambda: self._kill_workers("receiver", 1),
            "all receivers killed": lambda: self._kill_workers("receiver", 2),
            "receiver stopped (SIGSTOP)": lambda: self._stop(self._worker("receiver")),
            "receiver ended (SIGTERM)": lambda: self._kill_workers("receiver", 1, signal.SIGTERM),
            "writer killed (SIGKILL)": lambda: self._kill_workers("writer", 1),
            "writer stopped (SIGSTOP)": lambda: self._stop(self._worker("writer")),
            "receivers killed while Redis is away": self._killed_with_a_spool,
            "supervisor killed, program started again": self._kill_supervisor,
            "program ended (SIGTERM) and started again": self._restart,
        }

    async def _last(self) -> None:
        """The length of a fault."""
        await asyncio.sleep(self._longest_s * self._chance.uniform(0.2, 1.0))

    async def _mode(self, mode: Mode, *proxies: Proxy) -> None:
        for proxy in proxies:
            proxy.set(mode)
        await self._last()
        for proxy in proxies:
            proxy.set(Mode.PASS)

    async def _half_open(self, proxy: Proxy) -> None:
        proxy.freeze_open()
        await self._last()

    async def _cuts(self, proxy: Proxy) -> None:
        for _ in range(10):
            proxy.cut()
            await asyncio.sleep(self._longest_s / 10 * self._chance.random())

    async def _slow(self, proxy: Proxy) -> None:
        proxy.delay(LATENCY_S)
        await self._last()
        proxy.delay(0)

    async def _commits(self) -> None:
        self._world.postgres.cut_at(b"COMMIT")
        await self._last()
        self._world.postgres.cut_at(None)

    def _engine(self, name: str) -> int:
        return int(json.loads(self._world.engine_pids.read_bytes())["pids"][name])

    def _worker(self, role: str) -> int:
        return self._chance.choice(self._world.program.workers(role))

    async def _kill_engine(self, name: str) -> None:
        before = self._engine(name)
        os.kill(before, signal.SIGKILL)

        async def now() -> int:
            return self._engine(name)

        await eventually(now, lambda pid: pid != before, within_s=CATCH_UP_LIMIT_S)

    async def _stop(self, pid: int) -> None:
        os.kill(pid, signal.SIGSTOP)
        await self._last()
        os.kill(pid, signal.SIGCONT)

    async def _kill_workers(self, role: str, count: int, number: signal.Signals = signal.SIGKILL) -> None:
        pids = self._chance.sample(self._world.program.workers(role), count)
        for pid in pids:
            os.kill(pid, number)

        async def still_there() -> set[int]:
            return set(pids) & set(self._world.program.workers(role))

        await eventually(still_there, lambda found: not found, within_s=CATCH_UP_LIMIT_S)

    async def _flush(self) -> None:
        """Only with nothing queued: what only Redis holds is lost with its memory, which no program can prevent."""
        await self._load.pause()
        await eventually(self._world.is_empty, bool, within_s=CATCH_UP_LIMIT_S)
        await self._world.server.flushall()
        self._load.go_on()
        await self._last()

    async def _spool_full(self) -> None:
        self._world.spool.mkdir(exist_ok=True)
        ballast = self._world.spool / "ballast"
        with ballast.open("wb") as file:
            file.truncate(SPOOL_BYTES - (256 << 10))  # sparse: no room is taken from the disk
        try:
            await self._mode(Mode.REFUSE, self._world.redis)
        finally:
            ballast.unlink()

    async def _killed_with_a_spool(self) -> None:
        self._world.redis.set(Mode.REFUSE)

        async def segments() -> list[Path]:
            return list(self._world.spool.glob("*.spool"))

        await eventually(segments, bool, within_s=CATCH_UP_LIMIT_S)
        await self._last()
        await self._kill_workers("receiver", 2)
        self._world.redis.set(Mode.PASS)

    async def _kill_supervisor(self) -> None:
        self._world.program.process.kill()
        await self._world.killed()
        await self._world.start()

    async def _restart(self) -> None:
        assert await asyncio.to_thread(self._world.program.stop) == 0
        assert all(is_gone(pid) for pid in self._world.workers())
        await self._world.start()
