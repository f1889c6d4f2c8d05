"""The engines of a benchmark: the product's own embedded ones on a disk, what is in them, and that they are durable."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from redis.exceptions import ResponseError

from benchmarks.measure import Cores, file_system, move_tree, tree_cpu_s
from dedup.client import connect as connect_redis
from dedup.port import CachedClick, Verdict
from dedup.port import Entry as Claim
from dedup.redis import RedisDeduplicator
from dedup.scripts import Client
from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from ingest.clicks import pack_click
from ingest.config import Config
from ingest.engines import Engines, EngineUrls
from ingest.engines.folders import EngineFolders
from ingest.sample import CATALOG
from storage.clicks import register_clicks
from storage.migrate import migrate
from storage.partitions import ensure_ahead
from storage.postgres import Pool, close, connect, open_pool
from storage.queue import GROUP, Entry, count_key, queue_key, read_backlog, read_entry
from storage.records import Kind
from storage.rollups import fold_all
from storage.rows import NewClick
from tests.eventually import eventually

_QUEUE: Final = queue_key(0)
_COUNT: Final = count_key(0)
_STAGED: Final = "pb:{0}:staged"
_STAGED_COUNT: Final = "pb:{0}:staged-count"
_READ: Final = 500
WINDOW_MS: Final = 90 * 86_400_000
_CHUNK: Final = 5_000
_TABLES: Final = ("conversions", "postback_log", "dead_letters")
_REWRITTEN_WITHIN_S: Final = 300.0
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_DURABLE: Final = {"appendonly": "yes", "appendfsync": "always"}
_DURABLE_POSTGRES: Final = ("fsync", "synchronous_commit", "full_page_writes")

_SINCE: Final = """
SELECT count(*) FROM conversions WHERE campaign_id = ANY (ARRAY(SELECT id FROM campaigns)) AND received_at >= $1
"""
"""By an index, however many rows there are."""


class NotDurableError(Exception):
    """An engine would answer before it has stored; such figures are not published."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What the tables hold."""

    conversions: int
    logged: int
    dead: int


class Platform:
    """Both engines, and ways to fill, empty and count them."""

    def __init__(self, urls: EngineUrls, pids: dict[str, int], redis: Client, pool: Pool) -> None:
        self.urls = urls
        self.pool = pool
        self.redis: Any = redis
        self._pids = pids
        self.divide(1)

    def divide(self, partitions: int) -> None:
        """From now on clicks and queue are in so many partitions. What is there is not moved: reset."""
        self.partitions = partitions
        self._deduplicator = RedisDeduplicator(self.redis, partitions=partitions, max_backlog=5_000_000)

    def move(self, cores: Cores) -> None:
        """Run the engines on these cores."""
        for pid in self._pids.values():
            move_tree(pid, cores)

    def cpu_s(self) -> dict[str, float]:
        """Processor time that each engine has taken so far."""
        return {name: tree_cpu_s(pid) for name, pid in self._pids.items()}

    async def settings(self) -> dict[str, str]:
        """What makes them durable, as they say themselves. Raises NotDurableError."""
        said: dict[str, str] = {}
        for name, wanted in _DURABLE.items():
            said[name] = (await self.redis.config_get(name))[name]
            if said[name] != wanted:
                raise NotDurableError(f"redis runs with {name} {said[name]}: set it to {wanted}")
        for name in _DURABLE_POSTGRES:
            said[name] = await self.pool.fetchval(f"SHOW {name}")
            if said[name] != "on":
                raise NotDurableError(f"postgres runs with {name} = {said[name]}: set it to on")
        return said

    async def register(self, clicks: Sequence[NewClick]) -> None:
        """Into Postgres, as POST /clicks does; into the rollups too, or the first writer's row would pay for that."""
        for some in _chunks(clicks):
            await register_clicks(self.pool, some)
        async with self.pool.acquire() as connection:
            await fold_all(connection)

    async def reset(self, clicks: Sequence[NewClick] = ()) -> None:
        """No postback was ever received; these clicks are in the cache, as POST /clicks puts them there. No rewrite of
        the append-only file is under way."""
        await self.redis.flushall()
        await self.pool.execute(f"TRUNCATE {', '.join(_TABLES)}")
        await self.cache(clicks)
        await self.rewrite_log()
        await self.pool.execute("CHECKPOINT")

    async def cache(self, clicks: Sequence[NewClick]) -> None:
        """Into Redis, as POST /clicks does."""
        for some in _chunks(clicks):
            await self._deduplicator.cache([_cached(click) for click in some])

    async def rewrite_log(self) -> None:
        """Redis' append-only file holds what there is, no more."""
        while True:
            await self.log_rewritten()
            try:
                await self.redis.bgrewriteaof()
                break
            except ResponseError as error:
                if "already in progress" not in str(error):  # Redis began one by itself, just now
                    raise
        await self.log_rewritten()

    async def log_rewritten(self) -> None:
        """No rewrite of that file is under way or to come."""
        said = await eventually(
            lambda: self.redis.info("persistence"),
            lambda said: not said["aof_rewrite_in_progress"] and not said["aof_rewrite_scheduled"],
            within_s=_REWRITTEN_WITHIN_S,
        )
        assert said["aof_last_bgrewrite_status"] == "ok", "the append-only file was not rewritten; the disk may be full"

    async def redis_bytes(self) -> int:
        """What Redis' data takes."""
        said = await self.redis.info("memory")
        return int(said["used_memory"]) - int(said["mem_clients_normal"])

    async def backlog(self) -> int:
        """Rows in the queue."""
        return sum([(await read_backlog(self.redis, number)).waiting for number in range(self.partitions)])

    async def kinds(self) -> dict[str, int]:
        """Rows in the queue by kind."""
        counts = dict.fromkeys((kind.value for kind in Kind), 0)
        for number in range(self.partitions):
            async for row in self.rows(number):
                counts[row.kind.decode()] += 1
        return counts

    async def rows(self, partition: int = 0) -> AsyncIterator[Entry]:
        """Those in the queue, each by itself."""
        after = "-"
        while found := await self.redis.xrange(queue_key(partition), after, "+", count=_READ):
            for entry_id, fields in found:
                for row in read_entry(entry_id, fields).split():
                    yield row
            after = "(" + found[-1][0].decode()

    async def queue(self, lines: Sequence[bytes]) -> None:
        """Conversions into the queue of the only partition, as receivers put them there, but without claims."""
        entries = [Claim("", b"", b"", 0, Kind.CONVERSION.encode(), line) for line in lines]
        assert set(await self._deduplicator.claim(entries)) == {Verdict.ACCEPTED}

    async def stage_queue(self) -> None:
        """Put the queue aside, with what is counted of it and the group that writers share."""
        await self.redis.rename(_QUEUE, _STAGED)
        await self.redis.rename(_COUNT, _STAGED_COUNT)
        await self.redis.xgroup_create(_STAGED, GROUP, id="0")

    async def unstage_queue(self) -> None:
        """Everything that was put aside is in the queue, at once."""
        await self.redis.rename(_STAGED_COUNT, _COUNT)
        await self.redis.rename(_STAGED, _QUEUE)

    async def until_written(self, within_s: float) -> None:
        """Return when the queue is empty: each row is in a table and acknowledged. Raises AssertionError."""
        await eventually(self.backlog, lambda rows: rows == 0, within_s=within_s)

    async def stored(self, since: datetime | None = None) -> Stored:
        """Rows in the tables; of conversions only those received at `since` or later."""
        conversions, *others = [f"SELECT count(*) FROM {table}" for table in _TABLES]
        counted = await (self.pool.fetchval(conversions) if since is None else self.pool.fetchval(_SINCE, since))
        return Stored(counted, *[await self.pool.fetchval(other) for other in others])


def durable_disk(folder: Path) -> str:
    """The type of the file system that holds a folder. Raises NotDurableError where that is in memory."""
    disk = file_system(folder)
    if disk in _IN_MEMORY:
        raise NotDurableError(f"the data would be on {disk}, in memory: choose a folder on a disk with --data-dir")
    return disk


@asynccontextmanager
async def platform(folder: Path) -> AsyncIterator[Platform]:
    """Engines under `folder`, with the schema and the sample catalog; they are gone at the end."""
    config = Config(data_dir=str(folder))
    engines = await Engines.start(config)
    try:
        state = EngineFolders(config.data_path).read_state()
        assert state is not None, "the engines that we started are announced"
        connection = await connect(engines.urls.postgres_dsn)
        try:
            await migrate(connection)
            await import_catalog(connection, parse_catalog(CATALOG.read_text(encoding="utf-8")))
            await ensure_ahead(connection, datetime.now(UTC), WINDOW_MS)
        finally:
            await close(connection)
        pool = await open_pool(engines.urls.postgres_dsn, 2)
        redis = connect_redis(engines.urls.redis_url, timeout_s=30.0, connections=4)
        try:
            yield Platform(engines.urls, state.pids, redis, pool)
        finally:
            await redis.aclose()
            await close(pool)
    finally:
        await engines.stop()


def _chunks(clicks: Sequence[NewClick]) -> Iterator[Sequence[NewClick]]:
    for start in range(0, len(clicks), _CHUNK):
        yield clicks[start : start + _CHUNK]


def _cached(click: NewClick) -> CachedClick:
    packed = pack_click(click.campaign_id, click.publisher_id, click.clicked_ms, click.country)
    return CachedClick(click.click_id, packed, click.clicked_ms + WINDOW_MS)
