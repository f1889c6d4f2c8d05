"""External servers: unfit settings are found on real servers, connection errors become words without a password."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import pytest
import redis
import redis.asyncio
from hypothesis import given
from hypothesis import strategies as st

from ingest.engines.checks import Problem, Severity, check_postgres, check_redis
from ingest.engines.explain import explain_postgres_error, explain_redis_error, hide_password
from tests.servers import PostgresServer, RedisServer, free_port


@asynccontextmanager
async def settings(url: str, **values: str) -> AsyncIterator[redis.asyncio.Redis]:
    """A client of a server whose settings are changed for the duration."""
    async with redis.asyncio.Redis.from_url(url) as client:
        names = {name.replace("_", "-"): value for name, value in values.items()}
        before: dict[str, str] = {}
        for name, value in names.items():
            found: Any = await client.config_get(name)
            before[name] = found[name]
            await client.config_set(name, value)
        try:
            yield client
        finally:
            for name, value in before.items():
                await client.config_set(name, value)


def the_one(problems: list[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


async def test_embedded_servers_pass_their_own_checks(redis_url: str, postgres_dsn: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url) as client:
        assert await check_redis(client) == []
    connection = await asyncpg.connect(postgres_dsn)
    try:
        assert await check_postgres(connection) == []
    finally:
        await connection.close()


@pytest.fixture(params=["valkey_server", "debian_redis_server"])
def server(request: pytest.FixtureRequest) -> RedisServer:
    """Each kind of server in turn."""
    found: RedisServer = request.getfixturevalue(request.param)
    return found


async def test_eviction_is_refused(server: RedisServer) -> None:
    async with settings(server.url, maxmemory_policy="allkeys-lru") as client:
        problem = the_one(await check_redis(client))
    assert problem.severity is Severity.REFUSE
    assert "allkeys-lru" in problem.message
    assert "maxmemory-policy noeviction" in problem.message


async def test_missing_append_only_file_is_a_warning(server: RedisServer) -> None:
    async with settings(server.url, appendonly="no") as client:
        problem = the_one(await check_redis(client))
    assert problem.severity is Severity.WARN
    assert "already answered with 2xx are lost" in problem.message
    assert "appendonly yes" in problem.message


@pytest.mark.parametrize(("value", "lost"), [("everysec", "two seconds"), ("no", "half minute")])
async def test_seldom_fsync_is_a_warning(server: RedisServer, value: str, lost: str) -> None:
    async with settings(server.url, appendfsync=value) as client:
        problem = the_one(await check_redis(client))
    assert problem.severity is Severity.WARN
    assert lost in problem.message
    assert "appendfsync always" in problem.message


async def test_text_replies_are_understood_too(redis_url: str) -> None:
    async with redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client:
        assert await check_redis(client) == []


@pytest.mark.parametrize(
    ("forbidden", "unchecked"), [("-config", "appendfsync could not be checked"), ("-info", "eviction policy")]
)
async def test_a_forbidden_look_is_a_warning(server: RedisServer, forbidden: str, unchecked: str) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "limited", "on", ">secret", "~*", "+@all", forbidden)
        try:
            async with redis.asyncio.Redis.from_url(server.url, username="limited", password="secret") as client:
                problem = the_one(await check_redis(client))
        finally:
            admin.execute_command("ACL", "DELUSER", "limited")
    assert problem.severity is Severity.WARN
    assert unchecked in problem.message


class OldReplica:
    """What a server says that none here is: too old, and a replica."""

    async def info(self, section: str | None = None, /) -> dict[str, Any]:
        facts: dict[str | None, dict[str, Any]] = {
            "server": {"redis_version": "5.0.14"},
            "memory": {"maxmemory_policy": "noeviction"},
            "persistence": {"aof_enabled": 1},
            "replication": {"role": "slave"},
        }
        return facts[section]

    async def config_get(self, pattern: str, /) -> dict[str | None, str | None]:
        return {pattern: "always"}


async def test_old_redis_and_replicas_are_refused() -> None:
    problems = await check_redis(OldReplica())
    assert [problem.severity for problem in problems] == [Severity.REFUSE, Severity.REFUSE]
    assert "5.0.14 is too old" in problems[0].message
    assert "replica" in problems[1].message


async def test_a_real_replica_is_refused(debian_redis_server: RedisServer) -> None:
    async with redis.asyncio.Redis.from_url(debian_redis_server.url) as client:
        await client.replicaof("127.0.0.1", str(free_port()))
        try:
            problem = the_one(await check_redis(client))
        finally:
            await client.replicaof("NO", "ONE")
    assert problem.severity is Severity.REFUSE
    assert "set redis.url to its primary" in problem.message


@pytest.mark.parametrize(
    ("option", "severity", "words"),
    [
        ("synchronous_commit=off", Severity.WARN, "Set synchronous_commit = on"),
        ("default_transaction_read_only=on", Severity.REFUSE, "takes no writes"),
    ],
)
async def test_unfit_postgres_settings(postgres_dsn: str, option: str, severity: Severity, words: str) -> None:
    name, _, value = option.partition("=")
    connection = await asyncpg.connect(postgres_dsn, server_settings={name: value})
    try:
        problem = the_one(await check_postgres(connection))
    finally:
        await connection.close()
    assert problem.severity is severity
    assert words in problem.message


class Row(dict[str | int, Any]):
    """A result row by column name."""


class OldStandby:
    """What a server says that none here is."""

    async def fetchrow(self, query: str, *args: object) -> Row:
        return Row(
            version_num=140_011, version="14.11", fsync="off", full_page_writes="on",
            synchronous_commit="on", read_only="on", standby=True,
        )  # fmt: skip


async def test_old_standby_without_fsync() -> None:
    problems = await check_postgres(OldStandby())  # type: ignore[arg-type]  # the check only fetches one row
    assert [problem.severity for problem in problems] == [Severity.REFUSE, Severity.REFUSE, Severity.WARN]
    assert "14.11 is too old" in problems[0].message
    assert "standby" in problems[1].message
    assert "Set fsync = on" in problems[2].message


# Connection errors --------------------------------------------------------------------------------------------------


async def postgres_explanation(dsn: str) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - any kind: the explanation is what is tested
        await asyncpg.connect(dsn, timeout=5)
    return explain_postgres_error(caught.value, dsn)


async def redis_explanation(url: str) -> str:
    with pytest.raises((redis.RedisError, ValueError)) as caught:
        async with redis.asyncio.Redis.from_url(url, retry=None) as client:
            await client.flushall()
    return explain_redis_error(caught.value, url)


async def test_postgres_refused_connection() -> None:
    text = await postgres_explanation(f"postgresql://me:hunter2@127.0.0.1:{free_port()}/x")
    assert "nothing listens there" in text
    assert "postgresql://me:***@127.0.0.1" in text
    assert "hunter2" not in text


async def test_postgres_missing_database(postgres_server: PostgresServer) -> None:
    text = await postgres_explanation(postgres_server.dsn_of("nosuch"))
    assert "no such database" in text
    assert "CREATE DATABASE" in text


async def test_postgres_unknown_user(postgres_server: PostgresServer) -> None:
    text = await postgres_explanation(postgres_server.dsn.replace("://postgres@", "://nobody:hunter2@"))
    assert "may not log in" in text
    assert "hunter2" not in text


async def test_postgres_missing_socket() -> None:
    assert "no such socket" in await postgres_explanation("postgresql://postgres@/x?host=/nosuch")


async def test_postgres_unknown_host() -> None:
    text = await postgres_explanation("postgresql://me:hunter2@nosuch.invalid/x")
    assert "host's name is not known" in text


@pytest.mark.parametrize("password", ["hun#ter2", "hun/ter2", "hun?ter2", "hun@ter2", "hun:ter2", "%ZZter2"])
async def test_a_badly_encoded_password_stays_hidden(password: str) -> None:
    text = await postgres_explanation(f"postgresql://me:{password}@127.0.0.1:1/x?host=/nosuch")
    assert "ter2" not in text
    assert "hun" not in text


def test_wrong_password_is_known_by_its_code() -> None:
    error = asyncpg.InvalidPasswordError("password authentication failed for user hunter2")
    text = explain_postgres_error(error, "postgresql://me:hunter2@db/x")
    assert "the password is wrong" in text
    assert "hunter2" not in text


async def test_redis_refused_connection() -> None:
    text = await redis_explanation(f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    assert "nothing listens there" in text
    assert "redis://:***@127.0.0.1" in text
    assert "hunter2" not in text


async def test_redis_wrong_password(server: RedisServer) -> None:
    separator = "&" if "?" in server.url else "?"
    text = await redis_explanation(f"{server.url}{separator}username=me&password=hunter2")
    assert "password (or user) is wrong" in text
    assert "hunter2" not in text


async def test_redis_missing_socket() -> None:
    assert "no such socket" in await redis_explanation("unix:///nosuch/redis.sock")


async def test_redis_unknown_host() -> None:
    assert "host's name is not known" in await redis_explanation("redis://nosuch.invalid:6379")


async def test_redis_no_such_database(redis_url: str) -> None:
    assert "no such database number" in await redis_explanation(f"{redis_url}?db=999")


async def test_redis_command_not_allowed(server: RedisServer) -> None:
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "reader", "on", ">hunter2", "~*", "+@read")
        try:
            text = await redis_explanation(f"{server.url}?username=reader&password=hunter2")
        finally:
            admin.execute_command("ACL", "DELUSER", "reader")
    assert "may not do that" in text
    assert "ACL SETUSER" in text


async def test_redis_unreadable_url() -> None:
    text = await redis_explanation("redis://:hunter2@host:port/0")
    assert "redis.url cannot be read" in text
    assert "hunter2" not in text


@given(
    scheme=st.sampled_from(["postgresql", "redis", "rediss", "redis+cluster"]),
    user=st.from_regex(r"[a-z]{0,5}", fullmatch=True),
    password=st.text(st.sampled_from("XYZ/?#@:%&= "), min_size=1),
    host=st.from_regex(r"[a-z]{1,5}(:[0-9]{1,4})?", fullmatch=True),
)
def test_no_password_passes(scheme: str, user: str, password: str, host: str) -> None:
    hidden = hide_password(f"{scheme}://{user}:{password}@{host}/0")
    assert hidden == f"{scheme}://{user}:***@{host}/0"


@given(url=st.from_regex(r"(redis|postgresql)://([a-z]{1,5}@)?[a-z.]{1,9}(:[0-9]{1,5})?/[a-z0-9]*", fullmatch=True))
def test_urls_without_a_password_stay(url: str) -> None:
    assert hide_password(url) == url


def test_password_in_the_query() -> None:
    hidden = hide_password("postgresql://h/db?user=me&password=hunter2&sslmode=require")
    assert re.search(r"password=\*\*\*&sslmode=require$", hidden)
