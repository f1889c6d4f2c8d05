"""What commands share: the configuration they run under, connections to both servers."""

from __future__ import annotations

import getpass
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from dedup.client import connect as connect_redis
from dedup.scripts import Client
from ingest.config import EMBEDDED, Config, LogFormat, LogLevel, load_config
from ingest.engines import EngineUrls, attached
from ingest.engines.explain import explain_postgres_error
from ingest.logs import configure_logging
from storage.migrate import migrate, schema_state
from storage.postgres import AWAY, Connection, PostgresError
from storage.postgres import close as close_postgres
from storage.postgres import connect as connect_postgres

DEFAULT_FILE: Final = Path("config.toml")
CANNOT_CONNECT: Final[tuple[type[Exception], ...]] = (*AWAY, PostgresError, ValueError)
"""What connecting to Postgres raises; ValueError: a DSN that cannot be read."""


class CommandError(Exception):
    """A command cannot do what was asked; the message says why and what to do."""


def configured(path: Path | None) -> Config:
    """The configuration of `path`, of ./config.toml if there is one, else the defaults. Raises ConfigError."""
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    return load_config(path)


def quietly(path: Path | None) -> Config:
    """The same, for commands that answer a person: only what went wrong is logged, as text, to standard error."""
    config = configured(path)
    level = LogLevel.ERROR if config.log.level is LogLevel.ERROR else LogLevel.WARNING
    configure_logging(msgspec.structs.replace(config.log, level=level, format=LogFormat.CONSOLE))
    return config


@asynccontextmanager
async def open_postgres(dsn: str) -> AsyncIterator[Connection]:
    """A connection. Raises CommandError where there is none to be had."""
    try:
        connection = await connect_postgres(dsn)
    except CANNOT_CONNECT as error:
        raise CommandError(explain_postgres_error(error, dsn)) from None
    try:
        yield connection
    finally:
        await close_postgres(connection)


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[Client]:
    """A client, not connected yet."""
    client = connect_redis(url, connections=4)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def prepared(config: Config, *, may_migrate: bool = False) -> AsyncIterator[EngineUrls]:
    """The servers, Postgres with a schema that fits. Embedded ones are started where they do not run, and brought up to
    date if that `may_migrate`. Raises EngineError, MigrationError, CommandError."""
    async with attached(config) as urls:
        async with open_postgres(urls.postgres_dsn) as connection:
            if may_migrate and config.postgres.dsn == EMBEDDED:
                await migrate(connection)
            await require_schema(connection)
        yield urls


@asynccontextmanager
async def open_database(config: Config, *, may_migrate: bool = False) -> AsyncIterator[Connection]:
    """A connection to the Postgres of `prepared`."""
    async with prepared(config, may_migrate=may_migrate) as urls, open_postgres(urls.postgres_dsn) as connection:
        yield connection


async def require_schema(connection: Connection) -> None:
    """Raises CommandError where the database does not fit this program."""
    state = await schema_state(connection)
    if state.problem is not None:
        raise CommandError(state.problem)


def login_name() -> str:
    """Who is on record for what a command does, where nobody is named."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a uid that no passwd file knows
        return "operator"
