"""Connections on loan from a pool: what is overdue or cancelled ends at once, also where the server hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from storage.batch_store import BatchStore
from storage.postgres import (
    CONNECT_TIMEOUT_S,
    IntegrityError,
    OverdueError,
    Pool,
    PostgresError,
    borrowed,
    close,
    open_pool,
)
from tests.outages import proxied
from tests.proxy import Mode, Proxy
from tests.writing import conversion, count, entry

Through = tuple[Proxy, Pool]


@pytest.fixture
def proxy_and_dsn(postgres_dsn: str) -> Iterator[tuple[Proxy, str]]:
    with proxied(postgres_dsn) as found:
        yield found


@pytest.fixture
async def through(proxy_and_dsn: tuple[Proxy, str]) -> AsyncIterator[Through]:
    """A pool of one connection, and the proxy it leads through."""
    proxy, dsn = proxy_and_dsn
    pool = await open_pool(dsn, 1)
    yield proxy, pool
    proxy.set(Mode.PASS)
    await close(pool)


async def _pid(pool: Pool) -> int:
    async with borrowed(pool, 30) as connection:
        pid: int = await connection.fetchval("SELECT pg_backend_pid()")
        return pid


async def test_a_pool_is_opened_while_the_server_is_away(proxy_and_dsn: tuple[Proxy, str]) -> None:
    proxy, dsn = proxy_and_dsn
    proxy.set(Mode.REFUSE)
    pool = await open_pool(dsn, 2)
    with pytest.raises(OSError, match=r"."):
        await _pid(pool)
    proxy.set(Mode.PASS)
    assert await _pid(pool) > 0
    await close(pool)


async def test_what_is_overdue_on_a_server_that_hangs(through: Through) -> None:
    proxy, pool = through
    before = await _pid(pool)
    proxy.freeze_open()
    async with asyncio.timeout(5):
        with pytest.raises(OverdueError, match=r"did not answer within 0\.2 s"):
            async with borrowed(pool, 0.2) as connection:
                await connection.fetchval("SELECT 1")
        assert await _pid(pool) != before


async def test_what_is_cancelled_on_a_server_that_hangs(through: Through) -> None:
    proxy, pool = through
    before = await _pid(pool)
    proxy.freeze_open()
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1), borrowed(pool, 30) as connection:
                await connection.fetchval("SELECT 1")
        assert await _pid(pool) != before


async def test_a_connection_cannot_be_had_in_time(through: Through) -> None:
    proxy, pool = through
    proxy.set(Mode.FREEZE)
    async with asyncio.timeout(CONNECT_TIMEOUT_S - 1):
        with pytest.raises(TimeoutError):
            async with borrowed(pool, 0.2):
                pass


async def test_an_error_of_the_data_costs_no_connection(through: Through) -> None:
    _, pool = through
    before = await _pid(pool)
    with pytest.raises(IntegrityError):
        async with borrowed(pool, 30) as connection:
            await connection.execute("INSERT INTO publishers (id, name) VALUES (0, '')")
    with pytest.raises(RuntimeError, match="ours"):
        async with borrowed(pool, 30):
            raise RuntimeError("ours")
    assert await _pid(pool) == before


async def test_a_session_that_the_server_ends_is_replaced(through: Through) -> None:
    _, pool = through
    before = await _pid(pool)
    with pytest.raises(PostgresError):
        async with borrowed(pool, 30) as connection:
            await connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await _pid(pool) != before


async def test_a_store_gives_a_slow_server_more_time(through: Through) -> None:
    """Each piece of the exchange takes 30 ms both ways: a batch takes more than the limit at first."""
    proxy, pool = through
    store = BatchStore(pool, timeout_s=0.25)
    seen: list[Exception] = []

    async def stored(number: int) -> None:
        batch = [entry(conversion(number))]
        try:
            await store.store(batch, lambda operation: operation(), lambda *_: None)
        except OverdueError as error:
            seen.append(error)
            await stored(number)

    proxy.delay(0.03)
    async with asyncio.timeout(20):
        await stored(1)
        assert seen
        overdue = len(seen)
        await stored(2)
    assert len(seen) == overdue, "the limit that was enough is kept"
    proxy.delay(0)
    assert await count(pool, "conversions") == 2
