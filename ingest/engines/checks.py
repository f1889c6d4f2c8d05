"""Whether servers given by URL are fit for the promises: read at start, each finding with what to do about it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from redis.exceptions import NoPermissionError, ResponseError

from storage.postgres import Connection

REDIS_LEAST = (6, 2)
POSTGRES_LEAST = 15

_POSTGRES_FACTS = """
SELECT current_setting('server_version_num')::int AS version_num,
       current_setting('server_version') AS version,
       current_setting('fsync', true) AS fsync,
       current_setting('full_page_writes', true) AS full_page_writes,
       current_setting('synchronous_commit', true) AS synchronous_commit,
       current_setting('transaction_read_only', true) AS read_only,
       pg_is_in_recovery() AS standby
"""


class Severity(StrEnum):
    """`refuse`: the program does not start; `warn`: it starts and says so."""

    REFUSE = "refuse"
    WARN = "warn"


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding; `message` says what is wrong and what to do."""

    severity: Severity
    message: str


class RedisClient(Protocol):
    """The part of redis-py's asyncio client that is used here."""

    def info(self, section: str | None = ..., /) -> Awaitable[dict[str, Any]]: ...

    def config_get(self, pattern: str, /) -> Awaitable[Mapping[str | None, str | None]]: ...


def _refuse(message: str) -> Problem:
    return Problem(Severity.REFUSE, message)


def _warn(message: str) -> Problem:
    return Problem(Severity.WARN, message)


async def check_redis(client: RedisClient) -> list[Problem]:
    """The problems of one Redis or Valkey server. Raises the client's connection errors."""
    try:
        facts: dict[str, Any] = {}
        for section in ("server", "memory", "persistence", "replication"):
            facts |= await client.info(section)
    except NoPermissionError:
        return [
            _warn(
                "Redis does not let this user run INFO, so its eviction policy and append-only file could not be "
                "checked: allow it (ACL SETUSER <user> +info), or see to it that maxmemory-policy is noeviction and "
                "appendonly is yes"
            )
        ]
    problems = _redis_fitness(facts)
    if facts.get("aof_enabled"):
        problems += _redis_fsync(await _config_value(client, "appendfsync"))
    return problems


def _redis_fitness(facts: Mapping[str, Any]) -> list[Problem]:
    problems = []
    version = str(facts.get("redis_version", "0"))
    if tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < REDIS_LEAST:
        problems.append(_refuse(f"Redis {version} is too old: use Redis 6.2 or newer, or Valkey"))
    if facts.get("role") in {"slave", "replica"}:
        problems.append(_refuse("this Redis is a read-only replica: set redis.url to its primary"))
    policy = facts.get("maxmemory_policy")
    if policy is None:
        problems.append(_warn("Redis does not tell its maxmemory-policy: see to it that it is noeviction"))
    elif policy != "noeviction":
        problems.append(
            _refuse(
                f"Redis may throw keys away (maxmemory-policy {policy}): claims would vanish and repeats count twice. "
                f"Set maxmemory-policy noeviction"
            )
        )
    if not facts.get("aof_enabled"):
        problems.append(
            _warn(
                "Redis keeps no append-only file: when it restarts, postbacks that were already answered with 2xx are "
                "lost. Set appendonly yes and appendfsync always"
            )
        )
    return problems


def _redis_fsync(appendfsync: str | None) -> list[Problem]:
    match appendfsync:
        case "always":
            return []
        case None:
            return [
                _warn(
                    "Redis does not let this user run CONFIG GET, so appendfsync could not be checked: unless it is "
                    "always, a crash of the machine loses the last postbacks answered with 2xx. Ask who runs it"
                )
            ]
        case "everysec":
            lost = "up to two seconds of postbacks"
        case _:
            lost = "postbacks of the last half minute or so"
    return [
        _warn(
            f"Redis fsyncs its append-only file too seldom (appendfsync {appendfsync}): a crash of the machine or of "
            f"its power loses {lost} that were already answered with 2xx. Set appendfsync always"
        )
    ]


async def _config_value(client: RedisClient, name: str) -> str | None:
    """None where the server does not tell: managed services forbid CONFIG, or know no such command."""
    try:
        found = await client.config_get(name)
    except ResponseError:
        return None
    return found.get(name)


async def check_postgres(connection: Connection) -> list[Problem]:
    """The problems of one Postgres server. Raises the driver's errors."""
    facts = await connection.fetchrow(_POSTGRES_FACTS)
    assert facts is not None
    problems = []
    if facts["version_num"] < POSTGRES_LEAST * 10_000:
        problems.append(_refuse(f"PostgreSQL {facts['version']} is too old: use {POSTGRES_LEAST} or newer"))
    if facts["standby"]:
        problems.append(_refuse("this PostgreSQL is a read-only standby: set postgres.dsn to its primary"))
    elif facts["read_only"] == "on":
        problems.append(
            _refuse(
                "this PostgreSQL takes no writes from this user (default_transaction_read_only is on): switch it off "
                "for the user or the database, or set postgres.dsn to another"
            )
        )
    if facts["fsync"] == "off" or facts["full_page_writes"] == "off":
        name = "fsync" if facts["fsync"] == "off" else "full_page_writes"
        problems.append(
            _warn(
                f"PostgreSQL runs with {name} = off: a crash of the machine can destroy the database. Set {name} = on"
            )
        )
    if facts["synchronous_commit"] == "off":
        problems.append(
            _warn(
                "PostgreSQL runs with synchronous_commit = off: a crash loses the last commits, which are no longer in "
                "the queue then. Set synchronous_commit = on"
            )
        )
    return problems
