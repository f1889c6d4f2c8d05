"""Whether servers given by URL are fit for the promises: read at start, each finding with what to do about it."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from redis.asyncio.cluster import ClusterNode
from redis.exceptions import NoPermissionError, ResponseError

from dedup.cluster import ClusterClient
from ingest.config import Ack
from storage.postgres import Connection

REDIS_LEAST = (6, 2)
WAITAOF_LEAST = (7, 2)
POSTGRES_LEAST = 15
PARTITIONS_EACH = 4
"""Partitions for each primary of a cluster: so that each gets its share, also after one more is added."""

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


@dataclass(frozen=True, slots=True)
class _OneOfCluster:
    """See RedisClient."""

    cluster: ClusterClient
    node: ClusterNode

    async def info(self, section: str | None = None) -> dict[str, Any]:
        found: dict[str, Any] = await self.cluster.info(section, target_nodes=self.node)
        return found

    async def config_get(self, pattern: str) -> Mapping[str | None, str | None]:
        found: Mapping[str | None, str | None] = await self.cluster.config_get(pattern, target_nodes=self.node)
        return found


async def check_redis(
    client: RedisClient | ClusterClient, *, partitions: int = 1, ack: Ack = Ack.WRITTEN
) -> list[Problem]:
    """The problems of one Redis or Valkey server, or of each primary of a cluster. Raises the client's errors."""
    if not isinstance(client, ClusterClient):
        return await _check_server(client, ack)
    await client.ping()
    primaries = client.get_primaries()
    where: dict[Problem, list[str]] = {}
    for node in primaries:
        for problem in await _check_server(_OneOfCluster(client, node), ack):
            where.setdefault(problem, []).append(str(node.name))
    problems = [Problem(one.severity, f"{', '.join(names)}: {one.message}") for one, names in where.items()]
    least = PARTITIONS_EACH * len(primaries)
    if partitions < least:
        problems.append(
            _warn(
                f"redis.partitions is {partitions} and the cluster has {len(primaries)} primaries: some would do most "
                f"of the work. Set redis.partitions to {least} or more, everywhere and while the queue is empty"
            )
        )
    return problems


async def _check_server(client: RedisClient, ack: Ack) -> list[Problem]:
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
    problems = _redis_fitness(facts) + _redis_confirms(facts, ack)
    if facts.get("aof_enabled"):
        problems += _redis_fsync(await _config_value(client, "appendfsync"))
    return problems


def _redis_fitness(facts: Mapping[str, Any]) -> list[Problem]:
    problems = []
    if _redis_version(facts) < REDIS_LEAST:
        problems.append(_refuse(f"Redis {facts.get('redis_version')} is too old: use Redis 6.2 or newer, or Valkey"))
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


def _redis_version(facts: Mapping[str, Any]) -> tuple[int, ...]:
    """Valkey says here which Redis it is compatible with."""
    return tuple(int(part) for part in str(facts.get("redis_version", "0")).split(".")[:2] if part.isdigit())


def _redis_confirms(facts: Mapping[str, Any], ack: Ack) -> list[Problem]:
    """Whether it can say what redis.ack asks for. Where it cannot, no postback is ever answered with 200."""
    match ack:
        case Ack.FSYNCED if _redis_version(facts) < WAITAOF_LEAST:
            return [
                _refuse(
                    f'redis.ack is "fsynced", and Redis {facts.get("redis_version")} does not know WAITAOF: use Redis '
                    f'7.2 or newer, or Valkey; or set redis.ack to "written"'
                )
            ]
        case Ack.FSYNCED if not facts.get("aof_enabled"):
            return [
                _refuse(
                    'redis.ack is "fsynced", and Redis keeps no append-only file: set appendonly yes, or redis.ack to '
                    '"written"'
                )
            ]
        case Ack.REPLICATED if not facts.get("connected_slaves"):
            return [
                _warn(
                    'redis.ack is "replicated", and Redis has no replica just now: until it has one, postbacks go to '
                    'the spool. Give it a replica, or set redis.ack to "written" or "fsynced"'
                )
            ]
        case _:
            return []


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
