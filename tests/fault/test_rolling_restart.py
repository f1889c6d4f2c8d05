"""Receivers behind a load balancer are restarted one after the other under load, and no sender notices."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import ROOT, Program, running
from tests.servers import free_port

DEPLOY = ROOT / "deploy"
CHECK_INTER_MS = 200
DRAIN = "1500ms"
ROUNDS = 1
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
RATE_S = 60
"""Requests a second, of each of the four kinds of sender."""


def _haproxy(folder: Path, front: int, receivers: list[int]) -> tuple[list[str], dict[str, str]]:
    environment = {
        "POSTBACK_FRONT": f"127.0.0.1:{front}",
        "POSTBACK_FIRST": f"127.0.0.1:{receivers[0]}",
        "POSTBACK_SECOND": f"127.0.0.1:{receivers[1]}",
        "POSTBACK_CHECK_INTER": f"{CHECK_INTER_MS}ms",
    }
    return ["haproxy", "-db", "-f", str(DEPLOY / "haproxy.cfg")], environment


@contextmanager
def _balancer(folder: Path, front: int, receivers: list[int]) -> Iterator[None]:
    program = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("no haproxy on this machine")
    command, environment = _haproxy(folder, front, receivers)
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([program, *command[1:]], env=environment, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (folder / "haproxy.log").read_text(encoding="utf-8")
    finally:
        process.terminate()
        process.wait(30)


@dataclass
class _OpenLoad:
    """Sends at a rate, whatever the answers. Nothing is sent twice: each failure is a failure of the system."""

    url: str
    sent: dict[str, Decimal] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    async def send(self, name: str, stop: asyncio.Event, *, keeps: bool, posts: bool) -> None:
        """One kind of sender, until `stop`."""
        connector = aiohttp.TCPConnector(limit=0, force_close=not keeps)
        requests: set[asyncio.Task[None]] = set()
        loop = asyncio.get_running_loop()
        async with aiohttp.ClientSession(connector=connector) as http:
            began, number = loop.time(), 0
            while not stop.is_set():
                request = asyncio.create_task(self._one(http, f"{name}{number}", number, posts=posts))
                requests.add(request)
                request.add_done_callback(requests.discard)
                number += 1
                await asyncio.sleep(max(0.0, began + number / RATE_S - loop.time()))
            if requests:
                await asyncio.wait(requests)

    async def _one(self, http: aiohttp.ClientSession, txn_id: str, number: int, *, posts: bool) -> None:
        fields = {"click_id": "roll", "goal": "purchase", "txn_id": txn_id, "sale_amount": f"{number}.25"}
        self.sent[txn_id] = Decimal(fields["sale_amount"])
        sending = {"data": fields} if posts else {"params": fields}
        try:
            async with http.request("POST" if posts else "GET", f"{self.url}/postback", **sending) as response:  # type: ignore[arg-type]
                said = await response.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            self.failures.append(f"{txn_id}: {error!r}")
            return
        # "accepted" and nothing else: neither the balancer nor the client may have sent it twice.
        if (response.status, said["status"]) != (200, "accepted"):
            self.failures.append(f"{txn_id}: {response.status} {said}")


@asynccontextmanager
async def _started(folder: Path, redis_url: str, postgres_dsn: str, port: int) -> AsyncIterator[Program]:
    """A receiver; its start does not block the load."""
    receiver = running(folder, redis_url, postgres_dsn, role="receiver", SERVER__PORT=str(port), SERVER__DRAIN=DRAIN)
    with ExitStack() as stack:
        program = await asyncio.to_thread(stack.enter_context, receiver)
        try:
            yield program
        finally:
            assert await asyncio.to_thread(program.stop) == 0


@pytest.mark.timeout(300)
async def test_restarted_one_after_the_other(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    front, ports = free_port(), [free_port(), free_port()]
    load = _OpenLoad(f"http://127.0.0.1:{front}")

    async def start(stack: AsyncExitStack, place: int) -> Program:
        folder = tmp_path / f"receiver{place}"
        return await stack.enter_async_context(_started(folder, redis_url, postgres_dsn, ports[place]))

    async with AsyncExitStack() as everything:
        everything.enter_context(_balancer(tmp_path, front, ports))
        everything.enter_context(running(tmp_path / "writer", redis_url, postgres_dsn, role="writer"))
        stacks = [await everything.enter_async_context(AsyncExitStack()) for _ in ports]
        program = await start(stacks[0], 0)
        await start(stacks[1], 1)
        client = await everything.enter_async_context(client_of(program, postgres_dsn))
        await client.register("roll")
        await _until_it_serves(client, load.url)
        stop = asyncio.Event()
        senders = [
            asyncio.create_task(
                load.send(f"{'k' if keeps else 'n'}{'p' if posts else 'g'}", stop, keeps=keeps, posts=posts)
            )
            for keeps in (True, False)
            for posts in (True, False)
        ]
        for round_ in range(ROUNDS):
            for place, stack in enumerate(stacks):
                await stack.aclose()
                print(f"round {round_}: receiver {place} ended; {len(load.sent)} sent, {len(load.failures)} failed")
                await start(stack, place)
                # The balancer must have it back before the other one goes.
                await _until_it_gets_requests(client, ports[place])
        stop.set()
        await asyncio.gather(*senders)
        assert not load.failures, (len(load.failures), load.failures[:5])
        assert len(load.sent) > 1000

        async def stored() -> dict[str, Decimal]:
            rows = await client.database.fetch("SELECT txn_id, sale_amount FROM conversions")
            return {row[0]: row[1] for row in rows}

        await eventually(stored, lambda found: found == load.sent, within_s=60)
        assert await client.both_counts() == (len(load.sent), 0)


async def test_a_drain_lets_kept_connections_go(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    """Each is told with its next answer, so that nobody sends on a connection which is about to be closed."""
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__DRAIN=DRAIN) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register("kept")
            told: list[str | None] = []
            for number in range(1_000_000):
                query = f"click_id=kept&goal=purchase&txn_id={number}&sale_amount=1"
                try:
                    async with client.http.post(f"{program.url}/postback", data=query, headers=FORM) as response:
                        assert response.status == 200
                        told.append(response.headers.get("Connection"))
                except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                    break  # a new connection, refused; or let in by the kernel just as the listener went, and reset
                if number == 20:
                    assert told == [None] * 21
                    program.process.send_signal(signal.SIGTERM)
            assert told[-1] == "close"
            assert {None, "close"} == set(told)
            assert told == sorted(told, key=lambda said: said is not None), "once it drains, every answer says so"
            assert await asyncio.to_thread(program.process.wait, 60) == 0
            assert await client.count("conversions") == len(told)


async def _until_it_serves(client: Client, url: str) -> None:
    async def status() -> int:
        try:
            async with client.http.get(f"{url}/readyz") as response:
                return response.status
        except aiohttp.ClientError:
            return 0

    await eventually(status, lambda found: found == 200)


async def _until_it_gets_requests(client: Client, port: int) -> None:
    async def outcomes() -> float:
        async with client.http.get(f"http://127.0.0.1:{port}/metrics") as response:
            lines = (await response.text()).splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("postback_outcomes_total"))

    await eventually(outcomes, lambda found: found > 20)
