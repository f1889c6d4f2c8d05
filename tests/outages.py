"""What fault tests of Postgres share: a proxy before it, a way to stop it, and what must come true afterwards."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from redis.asyncio import Redis

from storage.queue import GROUP, queue_key
from tests.eventually import eventually
from tests.platform import Client
from tests.program import Program
from tests.proxy import Mode, Proxy, proxy_to
from tests.queued import waiting
from tests.servers import PostgresServer

PROMPT_S = 4.5
"""Answers come within about a second, whatever Postgres does: the rest is for a machine that others use too. Whoever
waited for Postgres would wait for 5 s at least, the least time limit there is."""
LATE_S = 90.0


@contextmanager
def proxied(dsn: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of an embedded Postgres, and the DSN that leads through it."""
    target = urlsplit(dsn)
    given = parse_qs(target.query)
    with proxy_to(f"{given['host'][0]}/.s.PGSQL.{given['port'][0]}") as proxy:
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}{target.path}"


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """SIGSTOP for the server and all its processes."""
    first = int((server.data_dir / "postgres" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    pids = [first]
    os.kill(first, signal.SIGSTOP)  # it makes no more of them from here on
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == first:
            pids.append(int(stat.parent.name))
            os.kill(pids[-1], signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def in_mode(proxy: Proxy, mode: Mode) -> Iterator[None]:
    proxy.set(mode)
    try:
        yield
    finally:
        proxy.set(Mode.PASS)


@asynccontextmanager
async def watched(client: Client) -> AsyncIterator[list[float]]:
    """Meanwhile one postback after another, of a click that Redis holds: how long each takes, in seconds."""
    took: list[float] = []
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            started = time.monotonic()
            status, said = await client.get("click_id=watched&goal=purchase&txn_id=w&sale_amount=1")
            assert (status, said["status"] in {"accepted", "duplicate"}) == (200, True), said
            took.append(time.monotonic() - started)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield took
    stop.set()
    await watching


async def insert_clicks(client: Client, *click_ids: str) -> None:
    """Registered behind Redis' back: a receiver has to look them up."""
    await client.database.executemany(
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)"
        " VALUES ($1, 100, 10, date_trunc('second', now()) - interval '10 minutes', 'US')",
        [(click_id,) for click_id in click_ids],
    )


async def backlog_grows_beyond(redis: Redis, rows: int) -> None:
    await eventually(lambda: waiting(redis), lambda found: found > rows)


async def queue_is_empty(redis: Redis) -> None:
    async def left() -> tuple[int, int]:
        return await redis.xlen(queue_key(0)), (await redis.xpending(queue_key(0), GROUP))["pending"]

    await eventually(left, lambda found: found == (0, 0), within_s=LATE_S)


async def spool_is_empty(program: Program) -> None:
    async def segments() -> list[Path]:
        return list((program.data_dir / "spool").glob("*.spool"))

    await eventually(segments, lambda found: not found, within_s=LATE_S)


def said(program: Program, event: str) -> list[dict[str, object]]:
    """The log's lines of one kind."""
    return [line for line in program.log if line.get("event") == event]
