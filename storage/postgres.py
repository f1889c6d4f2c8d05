"""How Postgres is reached: time-limited connections, the types that stand for them, and which errors mean it is away.

The only module that knows the driver. Statements are never cached on the server: our queries are few and each carries
a whole batch, and so every connection also works through PgBouncer in transaction mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types; the protocols below are the part we use

from storage import sqlfiles

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 5.0

PostgresError: type[Exception] = asyncpg.PostgresError
"""What the server answered with an error."""

DriverError: type[Exception] = asyncpg.InterfaceError
"""What the driver found wrong by itself: mostly a connection that is gone."""

IntegrityError: type[Exception] = asyncpg.IntegrityConstraintViolationError
"""A row that the schema refuses for what stands in other rows, or for its own values."""

AWAY: Final[tuple[type[Exception], ...]] = (
    OSError,  # refused, reset, timed out (TimeoutError is one)
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a command just after the server has ended the session
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,  # shutting down, starting up
    asyncpg.InsufficientResourcesError,  # too many connections, disk full
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)
"""Errors that say nothing about the data: the same call may succeed later."""


class Row(Protocol):
    """One row of a result."""

    def __getitem__(self, key: str | int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection, or a pool's loan of one."""

    async def execute(self, query: str, *args: object, timeout: float = ...) -> str: ...  # noqa: ASYNC109  the driver's

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *args: object) -> Row | None: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def executemany(self, command: str, args: Sequence[Sequence[object]]) -> None: ...

    async def copy_records_to_table(self, table_name: str, *, records: Iterable[Sequence[object]]) -> str: ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...

    async def add_listener(self, channel: str, callback: Callable[..., object]) -> None: ...

    def add_termination_listener(self, callback: Callable[..., object]) -> None: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...


class Pool(Protocol):
    """A bounded set of connections."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def execute(self, query: str, *args: object) -> str: ...

    def acquire(self) -> AbstractAsyncContextManager[Connection]: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...


async def open_pool(dsn: str, size: int) -> Pool:
    """A pool of up to `size` connections, opened as they are needed: one at once. Raises one of AWAY.

    A connection is made within 5 s, a command answered within 30 s, or they raise TimeoutError.
    """
    await asyncio.to_thread(sqlfiles.preload)
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=1,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        statement_cache_size=0,
        server_settings={"application_name": "postback"},
    )
    return pool


async def connect(dsn: str) -> Connection:
    """One connection of its own, with the same limits. Raises one of AWAY."""
    await asyncio.to_thread(sqlfiles.preload)
    connection: Connection = await asyncpg.connect(
        dsn,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        statement_cache_size=0,
        server_settings={"application_name": "postback"},
    )
    return connection


async def close(target: Pool | Connection) -> None:
    """Close politely, and within 5 s in any case: a server that hangs cannot hold us."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await target.close()
    except AWAY:
        target.terminate()
