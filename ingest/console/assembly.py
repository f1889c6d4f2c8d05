"""The console put together from what it needs. A process builds it in a thread: templates are compiled, files read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from redis.exceptions import RedisError

from dedup.scripts import Client
from ingest.addresses import Network
from ingest.api.requests import ReadBody
from ingest.api_keys import KeyRing
from ingest.catalog import Snapshot
from ingest.catalog_service import CatalogService
from ingest.console.campaigns import Campaigns
from ingest.console.clicks import Clicks
from ingest.console.goals import Goals
from ingest.console.handlers import Console
from ingest.console.live import LiveFeed
from ingest.console.log_page import LogPage, latest_of, postbacks_of
from ingest.console.overview import Overview, Waiting
from ingest.console.pages import Pages
from ingest.console.postbacks import Postbacks
from ingest.console.sessions import Sessions
from ingest.console.throttle import LoginThrottle
from ingest.console.visits import Surroundings
from ingest.decide import Rules
from ingest.simulation import Claims, Taken
from ingest.spool import used_bytes
from ingest.vault import Vault
from storage.postgres import Pool
from storage.queue import read_backlog

WAITING_LIMIT_S = 1.0
"""For what is under way."""


def build_console(
    pages: Pages,
    service: CatalogService,
    keys: KeyRing,
    vault: Vault,
    pool: Pool,
    *,
    claims: Claims,
    caps: Taken,
    snapshot: Callable[[], Snapshot],
    rules: Rules,
    redis: Client,
    partitions: int,
    spool: Path,
    path: str,
    trusted: tuple[Network, ...],
    read_body: ReadBody,
) -> Console:
    """`pool`: of the console alone, for what it reads. `spool`: this machine's folder. `path`: where postbacks are
    taken."""
    sessions = Sessions(vault, keys, time.time)
    feed = LiveFeed(latest_of(pool), postbacks_of(pool), lambda entry: pages.part("macros.html", "postback_row", entry))

    async def waiting() -> Waiting:
        return Waiting(await _backlog(redis, partitions), await _spooled(spool))

    groups = (
        Overview(service, pool, waiting),
        Campaigns(service),
        Goals(service, vault),
        Postbacks(service, pool, claims, caps, snapshot, rules, path),
        LogPage(service, pool, feed, sessions),
        Clicks(pool),
    )
    return Console(
        pages,
        sessions,
        LoginThrottle(time.monotonic),
        Surroundings(trusted),
        read_body,
        [route for group in groups for route in group.routes()],
        feed.close,
    )


async def _backlog(redis: Client, partitions: int) -> int | None:
    """Postbacks in the queue, of all partitions."""
    try:
        async with asyncio.timeout(WAITING_LIMIT_S):
            return sum([(await read_backlog(redis, partition)).waiting for partition in range(partitions)])
    except (RedisError, OSError):
        return None


async def _spooled(folder: Path) -> int | None:
    """Bytes in the spool."""
    try:
        return await asyncio.to_thread(used_bytes, folder)
    except OSError:
        return None
