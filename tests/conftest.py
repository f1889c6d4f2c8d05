"""Fixtures of all tests: real servers, one of each kind a session, clean for each test that asks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests import servers


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
