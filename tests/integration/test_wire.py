"""The connection that is kept busy, to a real server through a proxy that cuts and freezes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from urllib.parse import parse_qs, urlsplit

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dedup.client import connect
from dedup.scripts import Script
from dedup.wire import Wire
from tests.eventually import eventually
from tests.proxy import Mode, Proxy, proxy_to

TIMEOUT_S = 0.3
DATABASE = 5
"""Of these tests alone: nobody else uses it."""


@pytest.fixture
def proxy(redis_url: str) -> Iterator[Proxy]:
    where = urlsplit(redis_url)
    path = where.path if where.scheme == "unix" else None
    with proxy_to(path or (str(where.hostname), where.port or 6379)) as proxy:
        yield proxy


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[Redis]:
    made = connect(f"redis://127.0.0.1:{proxy.port}/{DATABASE}", timeout_s=TIMEOUT_S)
    assert isinstance(made, Redis)
    await made.flushdb()
    yield made
    await made.aclose()


@pytest.fixture
async def wire(client: Redis) -> AsyncIterator[Wire]:
    made = Wire(client, timeout_s=TIMEOUT_S)
    yield made
    await made.aclose()


async def test_many_are_under_way_and_each_gets_its_reply(wire: Wire) -> None:
    replies = await asyncio.gather(*(wire.execute_command("ECHO", b"%d" % number) for number in range(500)))
    assert replies == [b"%d" % number for number in range(500)]


async def test_it_speaks_to_the_database_of_the_url(wire: Wire, redis_url: str) -> None:
    await wire.execute_command("SET", "here", "1")
    plain, query = redis_url.partition("?")[0], parse_qs(urlsplit(redis_url).query)
    assert "db" not in query
    async with Redis.from_url(f"{plain}?db={DATABASE}") as other:
        assert await other.get("here") == b"1"


async def test_an_error_is_its_own_callers(wire: Wire) -> None:
    await wire.execute_command("SET", "text", "a")
    found = await asyncio.gather(
        wire.execute_command("GET", "text"),
        wire.execute_command("INCR", "text"),
        wire.execute_command("GET", "text"),
        return_exceptions=True,
    )
    first, error, last = found
    assert (first, last) == (b"a", b"a")
    assert isinstance(error, ResponseError)


async def test_a_script_that_the_server_does_not_know_is_sent(wire: Wire) -> None:
    script = Script("return {KEYS[1], ARGV[1]}", "0" * 40)
    with pytest.raises(NoScriptError):
        await wire.execute_command("EVALSHA", script.sha, 0)
    assert await script.run(wire, [b"k"], [7]) == [b"k", b"7"]


async def test_what_lost_its_reply_is_sent_again(client: Redis, proxy: Proxy, redis_url: str) -> None:
    patient = Wire(client, timeout_s=TIMEOUT_S, retries=200)
    await patient.execute_command("PING")
    proxy.set(Mode.DROP_REPLIES)
    counting = asyncio.create_task(patient.execute_command("INCR", "counted"))
    plain = redis_url.partition("?")[0]
    async with Redis.from_url(f"{plain}?db={DATABASE}") as other:
        await eventually(lambda: other.get("counted"), lambda found: found is not None)
    proxy.set(Mode.PASS)
    assert await counting > 1, "it ran, its reply was lost, and it ran again"
    await patient.aclose()


async def test_and_then_it_fails(wire: Wire, proxy: Proxy) -> None:
    await wire.execute_command("PING")
    proxy.set(Mode.REFUSE)
    with pytest.raises(RedisConnectionError):
        await wire.execute_command("PING")
    proxy.set(Mode.PASS)
    assert await wire.execute_command("PING") == b"PONG"


async def test_a_server_that_hangs_costs_two_time_limits_however_many_wait(wire: Wire, proxy: Proxy) -> None:
    await wire.execute_command("PING")
    proxy.set(Mode.FREEZE)
    loop = asyncio.get_running_loop()
    began = loop.time()
    found = await asyncio.gather(*(wire.execute_command("PING") for _ in range(50)), return_exceptions=True)
    assert {type(one) for one in found} == {RedisTimeoutError}
    assert 2 * TIMEOUT_S <= loop.time() - began < 2 * TIMEOUT_S + 2
    proxy.set(Mode.PASS)
    assert await wire.execute_command("PING") == b"PONG"


async def test_a_caller_that_goes_away_harms_nobody(wire: Wire, proxy: Proxy) -> None:
    await wire.execute_command("PING")
    proxy.delay(0.05)
    gone = asyncio.create_task(wire.execute_command("ECHO", "gone"))
    staying = asyncio.create_task(wire.execute_command("ECHO", "staying"))
    await asyncio.sleep(0)  # both are sent
    gone.cancel()
    assert await staying == b"staying"
    with pytest.raises(asyncio.CancelledError):
        await gone


@pytest.mark.parametrize(
    "said",
    ["READONLY You can not write", "ERR Error running script (f_0): @user_script:1: -READONLY You can not"],
)
async def test_a_replica_is_left(wire: Wire, said: str) -> None:
    number = await wire.execute_command("CLIENT", "ID")
    assert await wire.execute_command("CLIENT", "ID") == number
    with pytest.raises(ResponseError):
        await wire.execute_command("EVAL", "return redis.error_reply(ARGV[1])", 0, said)
    assert await wire.execute_command("CLIENT", "ID") != number


async def test_closing_fails_what_is_under_way(wire: Wire, proxy: Proxy) -> None:
    await wire.execute_command("PING")
    proxy.set(Mode.FREEZE)
    waiting = asyncio.create_task(wire.execute_command("PING"))
    await asyncio.sleep(0)  # it is sent
    proxy.set(Mode.REFUSE)
    await wire.aclose()
    with pytest.raises(RedisConnectionError):
        await waiting
