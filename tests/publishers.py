"""A publisher's server for tests, which answers as it is told to and remembers what came; and senders in a hurry.

Run as a script, this is a sender in a process of its own, which can be killed.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from ingest.outbound.delivery import Delivery
from ingest.outbound.hosts import Hosts
from ingest.outbound.networks import parse_policy
from ingest.outbound.sender import Outbound, Pace
from storage.outbox import Attempt, Looked
from storage.postgres import Pool, open_pool
from storage.publisher_postbacks import put_postback

LOOPBACK = parse_policy(allow_http=True, networks=("127.0.0.0/8",), ports=tuple(range(1024, 65536)))
PACE = Pace(
    timeout_s=0.15,
    give_up_ms=86_400_000,
    at_once=64,
    at_once_each=8,
    first_retry_s=0.02,
    longest_retry_s=0.1,
    lease_extra_s=0.15,
    look_every_s=0.02,
)


class Observer:
    """Adds up what it is told."""

    def __init__(self) -> None:
        self.attempts: list[Attempt] = []
        self.gone = 0
        self.waits = 0
        self.most_resting = 0

    def attempted(self, attempt: Attempt) -> None:
        self.attempts.append(attempt)

    def looked(self, looked: Looked) -> None:
        pass

    def given_up(self, count: int) -> None:
        self.gone += count

    def waiting(self, count: int) -> None:
        self.waits = count

    def resting(self, hosts: int) -> None:
        self.most_resting = max(self.most_resting, hosts)


@asynccontextmanager
async def sending(
    pool: Pool, pace: Pace = PACE, observer: Observer | None = None, hosts: Hosts | None = None, secret: str = ""
) -> AsyncIterator[asyncio.Task[None]]:
    """A sender at work; at the end it is stopped, unless it was killed."""
    stop = asyncio.Event()
    async with Delivery(LOOPBACK, lambda sealed: secret, timeout_s=pace.timeout_s, connections=64) as delivery:
        sender = Outbound(pool, delivery.attempt, pace, observer or Observer(), hosts)
        task = asyncio.create_task(sender.run(stop))
        try:
            yield task
        finally:
            stop.set()
            with suppress(asyncio.CancelledError):
                await task


@dataclass
class Publisher:
    """`answer` is asked before each answer: a status; 0: the connection is reset; -1: nothing comes."""

    url: str = ""
    answer: Callable[[], int] = lambda: 200
    requests: list[web.BaseRequest] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    delivered: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        self.bodies.append(await request.read())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            match self.answer():
                case 0:
                    assert request.transport is not None
                    request.transport.abort()
                    return web.Response()
                case -1:
                    self.at_once -= 1  # its sender will have given up waiting
                    await asyncio.sleep(5)
                    self.at_once += 1
                    return web.Response(status=500)
                case status:
                    await asyncio.sleep(0)
                    if status == 200:
                        self.delivered[request.headers["Idempotency-Key"]] += 1
                    headers = {"Location": "http://127.0.0.1:1/"} if status == 302 else {}
                    return web.Response(status=status, headers=headers, body=b"x" * 100_000)
        finally:
            self.at_once -= 1


@asynccontextmanager
async def publisher() -> AsyncIterator[Publisher]:
    """On a free port of the loopback interface."""
    one = Publisher()
    server = web.Server(one.handle)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    one.url = f"http://127.0.0.1:{port}"
    try:
        yield one
    finally:
        await runner.cleanup()


async def set_up(
    pool: Pool, url: str, *, publisher_id: int = 10, goal_id: int | None = None, method: str = "GET"
) -> None:
    """A publisher with a template; its goal, if named, with what it needs."""
    async with pool.acquire() as connection:
        await connection.execute(
            f"INSERT INTO publishers (id, name) VALUES ({publisher_id}, 'North') ON CONFLICT DO NOTHING"
        )
        if goal_id is not None:
            await connection.execute("INSERT INTO advertisers (id, name) VALUES (1, 'A') ON CONFLICT DO NOTHING")
            await connection.execute(
                "INSERT INTO campaigns (id, advertiser_id, name, currency) VALUES (100, 1, 'C', 'USD')"
                " ON CONFLICT DO NOTHING"
            )
            await connection.execute(
                f"INSERT INTO goals (id, campaign_id, title, value) VALUES ({goal_id}, 100, 'G', 'g{goal_id}')"
                " ON CONFLICT DO NOTHING"
            )
        host = url.partition("://")[2].partition("/")[0].partition(":")[0]
        await put_postback(connection, publisher_id, goal_id, url, host, method, "test")


async def _send(dsn: str) -> None:
    async with sending(await open_pool(dsn, 2)) as task:
        await task


if __name__ == "__main__":
    asyncio.run(_send(sys.argv[1]))
