"""Fixtures of all tests: real servers, one of each kind a session, clean for each test that asks."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from storage.postgres import Connection, Pool, close, connect, open_pool
from tests import servers
from tests.platform import Client, client_of
from tests.program import Program


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[servers.PostgresServer]:
    """An embedded PostgreSQL."""
    with servers.postgres() as server:
        yield server


@pytest.fixture
def postgres_dsn(postgres_server: servers.PostgresServer) -> Iterator[str]:
    """A database of this test's own with all migrations applied."""
    with postgres_server.database(servers.TEMPLATE) as dsn:
        yield dsn


@pytest.fixture
async def pool(postgres_dsn: str) -> AsyncIterator[Pool]:
    """A few connections to this test's database."""
    pool = await open_pool(postgres_dsn, 4)
    yield pool
    await close(pool)


@pytest.fixture
async def connection(postgres_dsn: str) -> AsyncIterator[Connection]:
    """A connection to this test's database."""
    connection = await connect(postgres_dsn)
    yield connection
    await close(connection)


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[servers.RedisServer]:
    """An embedded Valkey, append-only file on."""
    with servers.valkey() as server:
        yield server


@pytest.fixture
def redis_url(valkey_server: servers.RedisServer) -> str:
    """The embedded Valkey, empty."""
    valkey_server.flush()
    return valkey_server.url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of the embedded Valkey, empty."""
    async with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
async def client(program_and_dsn: tuple[Program, str]) -> AsyncIterator[Client]:
    """Speaks to the program that a module starts for all its tests, in a fixture of its own."""
    async with client_of(*program_and_dsn) as client:
        yield client


@pytest.fixture(scope="session")
def debian_redis_server() -> Iterator[servers.RedisServer]:
    """A Redis of the machine's own, append-only file on."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on PATH")
    with servers.redis_program(program) as server:
        yield server


@pytest.fixture
def debian_redis_url(debian_redis_server: servers.RedisServer) -> str:
    """The machine's own Redis, empty."""
    debian_redis_server.flush()
    return debian_redis_server.url
