"""`postback status`: what runs, whether it is ready, what waits, and what became of the last hour's postbacks."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import aiohttp
from redis.exceptions import RedisError, ResponseError

from ingest.commands.output import coloured, console, facts, table
from ingest.commands.servers import Server, running_servers
from ingest.commands.session import CommandError, open_postgres, open_redis
from ingest.config import Config
from ingest.engines import EngineUrls, running_urls
from ingest.engines.explain import explain_redis_error, hide_password
from ingest.logs import said
from storage.migrate import schema_state
from storage.postgres import AWAY, Connection, PostgresError
from storage.queue import GROUP, queue_key, read_backlog

ANSWER_S: Final = 3.0
NOT_RUNNING: Final = "not running"

_LAST_HOUR: Final = """
SELECT 'conversions' AS place, recent.status AS outcome, recent.reason, count(*) AS rows
FROM campaigns CROSS JOIN LATERAL (
    SELECT status, reason FROM conversions
    WHERE conversions.campaign_id = campaigns.id AND received_at > now() - interval '1 hour'
) AS recent
GROUP BY 2, 3
UNION ALL
SELECT 'postback_log', outcome, reason, count(*)
FROM postback_log WHERE received_at > now() - interval '1 hour'
GROUP BY 2, 3
UNION ALL
SELECT 'dead_letters', kind, NULL, count(*)
FROM dead_letters WHERE failed_at > now() - interval '1 hour'
GROUP BY 2
ORDER BY 1, 2, 3
"""
"""By campaign: that is what the index on received_at begins with."""


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One `postback serve`; `problem` None: it takes traffic."""

    role: str
    url: str
    pid: int
    problem: str | None


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """One partition of the queue: the postbacks in it, how many entries of it, of up to 64 postbacks each, a writer has
    taken and not settled, and how long the oldest has waited; None where there is none."""

    partition: int
    backlog: int
    pending: int
    oldest_age_s: float | None = None


@dataclass(frozen=True, slots=True)
class RowCount:
    """Rows of the last hour."""

    place: str
    outcome: str
    reason: str | None
    rows: int


@dataclass(slots=True)
class Status:
    """All of it. URLs without passwords; a problem that is None is none."""

    servers: list[ServerStatus] = field(default_factory=list)
    redis: str = NOT_RUNNING
    redis_problem: str | None = NOT_RUNNING
    postgres: str = NOT_RUNNING
    postgres_problem: str | None = NOT_RUNNING
    schema_version: int | None = None
    schema_wanted: int | None = None
    queue: list[PartitionStatus] = field(default_factory=list)
    last_hour: list[RowCount] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        """Whether a server runs, each that runs takes traffic, and both engines are fit."""
        problems = [self.redis_problem, self.postgres_problem, *(server.problem for server in self.servers)]
        return bool(self.servers) and not any(problems)


async def show_status(config: Config, *, as_json: bool) -> int:
    """Print it; the exit status: 1 unless everything is ready."""
    status = await look(config)
    if as_json:
        console().print(json.dumps({"ready": status.is_ready, **asdict(status)}), soft_wrap=True)
    else:
        _show(status)
    return 0 if status.is_ready else 1


async def look(config: Config, *, with_hour: bool = True) -> Status:
    """How all is now; the rows of the last hour only if they are asked for: to count them takes a while."""
    status = Status()
    status.servers = await asyncio.gather(*(_server_status(server) for server in running_servers(config)))
    urls = running_urls(config)
    if urls is not None:
        await asyncio.gather(_look_at_redis(status, config, urls), _look_at_postgres(status, urls, with_hour))
    return status


async def _server_status(server: Server) -> ServerStatus:
    problem: str | None = None
    try:
        timeout = aiohttp.ClientTimeout(total=ANSWER_S)
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(f"{server.url}/readyz") as answer:
            if answer.status != 200:
                body = await answer.json()
                problem = str(body.get("detail") or f"answered {answer.status}")
    except (aiohttp.ClientError, TimeoutError, ValueError, AttributeError) as error:
        problem = f"does not answer: {said(error)}"
    return ServerStatus(server.role, server.url, server.pid, problem)


async def _look_at_redis(status: Status, config: Config, urls: EngineUrls) -> None:
    status.redis = hide_password(urls.redis_url)
    try:
        async with open_redis(urls.redis_url) as client:
            for partition in range(config.redis.partitions):
                backlog = (await read_backlog(client, partition)).waiting
                try:
                    pending = int((await client.xpending(queue_key(partition), GROUP))["pending"])
                except ResponseError:  # no writer has ever read it
                    pending = 0
                age_s = _age_s(await client.xrange(queue_key(partition), count=1))
                status.queue.append(PartitionStatus(partition, backlog, pending, age_s))
        status.redis_problem = None
    except (RedisError, OSError, ValueError) as error:
        status.redis_problem = explain_redis_error(error, urls.redis_url)


def _age_s(entries: Sequence[Any] | None) -> float | None:
    """Of the first, (id, fields), by the time in its id, which is Redis' clock."""
    if not entries:
        return None
    return max(0.0, time.time() - int(entries[0][0].partition(b"-")[0]) / 1_000)


async def _look_at_postgres(status: Status, urls: EngineUrls, with_hour: bool) -> None:
    status.postgres = hide_password(urls.postgres_dsn)
    try:
        async with open_postgres(urls.postgres_dsn) as connection:
            schema = await schema_state(connection)
            status.schema_version, status.schema_wanted = schema.found, schema.wanted
            status.postgres_problem = schema.problem
            if schema.problem is None and with_hour:
                status.last_hour = await _last_hour(connection)
    except CommandError as error:
        status.postgres_problem = str(error)
    except (*AWAY, PostgresError) as error:
        status.postgres_problem = f"PostgreSQL: {said(error)}"


async def _last_hour(connection: Connection) -> list[RowCount]:
    rows = await connection.fetch(_LAST_HOUR)
    return [RowCount(row["place"], row["outcome"], row["reason"], row["rows"]) for row in rows]


def _show(status: Status) -> None:
    out = console()
    rows = [("state", coloured("ready" if status.is_ready else "not ready"))]
    if not status.servers:
        rows.append(("server", coloured("not running: start it with `postback serve`")))
    for server in status.servers:
        rows.append((f"server ({server.role})", coloured(f"{server.url}, process {server.pid}")))
        if server.problem:
            rows.append(("", coloured(f"not ready: {server.problem}")))
    for name, where, problem in (
        ("redis", status.redis, status.redis_problem),
        ("postgres", status.postgres, status.postgres_problem),
    ):
        rows.append((name, coloured(where)))
        if problem and problem != where:
            rows.append(("", coloured(problem)))
    if status.schema_version is not None:
        rows.append(("schema version", coloured(f"{status.schema_version} of {status.schema_wanted}")))
    out.print(facts(rows))
    if status.queue:
        counts = [
            (
                str(part.partition),
                f"{part.backlog:,}",
                f"{part.pending:,}",
                "" if part.oldest_age_s is None else f"{part.oldest_age_s:,.1f} s",
            )
            for part in status.queue
        ]
        columns = ("partition", "backlog", "entries pending", "oldest")
        out.print(table(columns, counts, right=columns))
    if status.postgres_problem is None:
        if status.last_hour:
            hour = [(row.place, coloured(row.outcome), row.reason or "", f"{row.rows:,}") for row in status.last_hour]
            out.print(table(("last hour", "outcome", "reason", "rows"), hour, right=("rows",)))
        else:
            out.print("no postbacks in the last hour")
