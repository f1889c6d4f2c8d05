"""What the soak torments: engines of its own, proxies before them, and the program, started again when killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import RedisError

from ingest.config import Config
from ingest.engines import EngineError, Engines
from storage.migrate import migrate
from storage.postgres import connect
from tests.eventually import eventually
from tests.platform import load_sample
from tests.program import Program, running
from tests.proxy import Proxy, proxy_to
from tests.servers import free_port

PARTITIONS: Final = 2
SPOOL_BYTES: Final = 64 << 20
CATCH_UP_LIMIT_S: Final = 180.0
_POSTGRES_SOCKET: Final = ".s.PGSQL.5432"


def is_gone(pid: int) -> bool:
    """Whether a process has ended; who collects it is another's business."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@dataclass
class World:
    """One program on two receivers and two writers, with everything that can be broken."""

    folder: Path
    engines: Engines
    engine_pids: Path
    redis: Proxy
    postgres: Proxy
    server: Redis
    """Valkey, past the proxy."""
    port: int
    stack: ExitStack
    """Ends what was started."""
    program: Program = field(init=False)

    @property
    def dsn(self) -> str:
        """Postgres, past the proxy."""
        return self.engines.urls.postgres_dsn

    @property
    def spool(self) -> Path:
        """The spool's folder."""
        return self.folder / "var" / "spool"

    def workers(self) -> list[int]:
        """The pids of all workers."""
        return self.program.workers("receiver") + self.program.workers("writer")

    async def start(self) -> None:
        """The program, on the same data and port as before."""
        self.program = await asyncio.to_thread(self.stack.enter_context, _program(self))

    async def killed(self) -> None:
        """After the supervisor was killed: its workers end by themselves."""
        await asyncio.to_thread(self.program.process.wait)
        orphans = self.workers()

        async def left() -> list[int]:
            return [pid for pid in orphans if not is_gone(pid)]

        await eventually(left, lambda pids: not pids, within_s=CATCH_UP_LIMIT_S)

    async def caught_up(self) -> None:
        """Return once all that was taken until now is in Postgres, and every process is there."""
        before = set(self.spool.glob("*.spool"))

        async def old_segments() -> set[Path]:
            return before & set(self.spool.glob("*.spool"))

        await eventually(old_segments, lambda found: not found, within_s=CATCH_UP_LIMIT_S)
        for partition in range(PARTITIONS):
            key = f"pb:{{{partition}}}:queue"
            last = None
            while last is None:  # Valkey may be starting
                last = await self._queue(key, "last-generated-id")

            async def first(key: str = key) -> Any:
                return await self._queue(key, "first-entry")

            def is_later(entry: Any, last: bytes = last) -> bool:
                return entry is False or (entry is not None and _moment(entry[0]) > _moment(last))

            await eventually(first, is_later, within_s=CATCH_UP_LIMIT_S)

        async def missing() -> list[int]:
            return [pid for pid in self.workers() if is_gone(pid)]

        await eventually(missing, lambda pids: not pids, within_s=CATCH_UP_LIMIT_S)

    async def is_empty(self) -> bool:
        """Whether neither queue nor spool hold anything."""
        entries = [await self._queue(f"pb:{{{partition}}}:queue", "length") for partition in range(PARTITIONS)]
        return entries == [0] * PARTITIONS and not list(self.spool.glob("*.spool"))

    async def _queue(self, key: str, what: str) -> Any:
        """A fact of a stream. None: Valkey does not answer; False: there is no such thing."""
        try:
            found = await self.server.xinfo_stream(key)
        except (RedisError, OSError) as error:
            return (
                ({"length": 0, "last-generated-id": b"0-0"}.get(what, False)) if "no such key" in str(error) else None
            )
        return found[what] if found[what] is not None else False


def _moment(entry_id: bytes) -> tuple[int, ...]:
    return tuple(int(part) for part in entry_id.split(b"-"))


def _program(world: World) -> Any:
    return running(
        world.folder / "var",
        f"redis://127.0.0.1:{world.redis.port}",
        f"postgresql://postgres@127.0.0.1:{world.postgres.port}/postback",
        SERVER__PORT=str(world.port),
        SERVER__RECEIVERS="2",
        WRITER__PROCESSES="2",
        REDIS__PARTITIONS=str(PARTITIONS),
        SPOOL__MAX_BYTES=f"{SPOOL_BYTES}B",
    )


@asynccontextmanager
async def world_in(folder: Path) -> AsyncIterator[World]:
    """Everything, running, with the sample catalog."""
    engines = await Engines.start(Config(data_dir=str(folder / "engines")))
    keeping = asyncio.create_task(_keep(engines))
    try:
        urls = engines.urls
        valkey = urls.redis_url.removeprefix("unix://")
        socket = f"{urls.postgres_dsn.partition('host=')[2].partition('&')[0]}/{_POSTGRES_SOCKET}"
        with ExitStack() as stack:
            world = World(
                folder,
                engines,
                folder / "engines" / "run" / "engines.json",
                stack.enter_context(proxy_to(valkey)),
                stack.enter_context(proxy_to(socket)),
                Redis.from_url(urls.redis_url, socket_timeout=5),
                free_port(),
                stack,
            )
            connection = await connect(urls.postgres_dsn)
            await migrate(connection)
            await connection.close()
            await load_sample(urls.postgres_dsn)
            await world.start()
            yield world
            await asyncio.to_thread(stack.close)
            await world.server.aclose()
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        await engines.stop()


async def _keep(engines: Engines) -> None:
    """As `postback serve` does: start again what died."""
    while True:
        await engines.wait_failed()
        try:
            await engines.restart_dead()
        except EngineError as error:
            print(error)
            await asyncio.sleep(0.5)
