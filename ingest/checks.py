"""What must hold of both servers before workers start."""

from __future__ import annotations

from typing import Final

from redis.exceptions import RedisError

from dedup.client import connect as connect_redis
from ingest.config import EMBEDDED, Config
from ingest.engines import EngineUrls
from ingest.engines.checks import Problem, Severity, check_postgres, check_redis
from ingest.engines.explain import explain_postgres_error, explain_redis_error
from storage.migrate import migrate, schema_state
from storage.postgres import AWAY, PostgresError
from storage.postgres import close as close_postgres
from storage.postgres import connect as connect_postgres

_CANNOT_CONNECT: Final[tuple[type[Exception], ...]] = (*AWAY, PostgresError, ValueError)
"""ValueError: a DSN that cannot be read."""


async def check_engines(
    config: Config, urls: EngineUrls, *, redis_may_be_away: bool, postgres_may_be_away: bool
) -> list[Problem]:
    """Everything that is wrong with either. An embedded Postgres' schema is brought up to date on the way.

    One that may be away is warned of where it does not answer, not refused: the workers wait for it.
    """
    return await _redis_problems(config, urls.redis_url, may_be_away=redis_may_be_away) + await _postgres_problems(
        urls.postgres_dsn, migrate_first=config.postgres.dsn == EMBEDDED, may_be_away=postgres_may_be_away
    )


async def _redis_problems(config: Config, url: str, *, may_be_away: bool) -> list[Problem]:
    client = connect_redis(url)
    try:
        return await check_redis(client, partitions=config.redis.partitions, ack=config.redis.ack)
    except (RedisError, OSError) as error:
        return [Problem(Severity.WARN if may_be_away else Severity.REFUSE, explain_redis_error(error, url))]
    finally:
        await client.aclose()


async def _postgres_problems(dsn: str, *, migrate_first: bool, may_be_away: bool) -> list[Problem]:
    away = Severity.WARN if may_be_away else Severity.REFUSE
    try:
        connection = await connect_postgres(dsn)
    except _CANNOT_CONNECT as error:
        return [Problem(away, explain_postgres_error(error, dsn))]
    try:
        problems = await check_postgres(connection)
        if any(problem.severity is Severity.REFUSE for problem in problems):
            return problems
        if migrate_first:
            await migrate(connection)
        state = await schema_state(connection)
        if state.problem is not None:
            problems.append(Problem(Severity.REFUSE, state.problem))
        return problems
    except AWAY as error:
        return [Problem(away, explain_postgres_error(error, dsn))]
    finally:
        await close_postgres(connection)
