"""How Postgres is reached: time-limited connections, the types that stand for them, and which errors mean it is away.

The only module that knows the driver. Statements are never cached on the server: our queries are few and each carries
a whole batch, and so every connection also works through PgBouncer in transaction mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any, Final, Protocol

import asyncpg  # type: ignore[import-untyped]  # it ships no types; the protocols below are the part we use

from storage import sqlfiles

CONNECT_TIMEOUT_S: Final = 5.0
COMMAND_TIMEOUT_S: Final = 30.0
CLOSE_TIMEOUT_S: Final = 2.0

PostgresError: type[Exception] = asyncpg.PostgresError
"""What the server answered with an error."""

DriverError: type[Exception] = asyncpg.InterfaceError
"""What the driver found wrong by itself: mostly a connection that is gone."""

IntegrityError: type[Exception] = asyncpg.IntegrityConstraintViolationError
"""A row that the schema refuses for what stands in other rows, or for its own values."""

PresentError: type[Exception] = asyncpg.UniqueViolationError
"""A row whose key is there already."""

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


class OverdueError(TimeoutError):
    """A block of commands took longer than it may, and its connection was cut. It may have committed all the same."""


class Row(Protocol):
    """One row of a result."""

    def __getitem__(self, key: str | int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """A connection, or a pool's loan of one."""

    async def execute(self, query: str, *args: object, timeout: float = ...) -> str: ...  # noqa: ASYNC109  the driver's

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchrow(self, query: str, *args: object, timeout: float = ...) -> Row | None: ...  # noqa: ASYNC109  as above

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def executemany(self, command: str, args: Sequence[Sequence[object]]) -> None: ...

    async def copy_records_to_table(self, table_name: str, *, records: Iterable[Sequence[object]]) -> str: ...

    def transaction(
        self, *, isolation: str | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...

    async def add_listener(self, channel: str, callback: Callable[..., object]) -> None: ...

    def add_termination_listener(self, callback: Callable[..., object]) -> None: ...

    def get_server_pid(self) -> int: ...

    def is_closed(self) -> bool: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...


class Pool(Protocol):
    """A bounded set of connections."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...

    async def fetchval(self, query: str, *args: object) -> Any: ...

    async def execute(self, query: str, *args: object) -> str: ...

    def acquire(self, *, timeout: float | None = None) -> AbstractAsyncContextManager[Connection]: ...

    def terminate(self) -> None: ...

    async def close(self) -> None: ...


def rows_of(status: str) -> int:
    """The number of rows in a command's status: "INSERT 0 5" is 5."""
    return int(status.rpartition(" ")[2])


async def open_pool(dsn: str, size: int) -> Pool:
    """A pool of up to `size` connections, each opened when it is first needed: only then is a server missed.

    A connection is made within 5 s, a command answered within 30 s, or they raise TimeoutError.
    """
    await asyncio.to_thread(sqlfiles.preload)
    pool: Pool = await asyncpg.create_pool(
        dsn,
        min_size=0,
        max_size=size,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=COMMAND_TIMEOUT_S,
        statement_cache_size=0,
        server_settings={"application_name": "postback"},
    )
    return pool


@asynccontextmanager
async def borrowed(pool: Pool, limit_s: float) -> AsyncIterator[Connection]:
    """A connection of the pool for a block of commands that may take `limit_s` in all; OverdueError after that.

    What is overdue, cancelled or broken takes its connection along, at once: to cancel a command the driver asks the
    server and waits for its word, which a server that hangs never gives.
    """
    is_overdue = False

    def give_up() -> None:
        nonlocal is_overdue
        is_overdue = True
        _cut(connection)

    try:
        # The limit holds for making a connection and for handing it back too, which asks the server to reset it.
        async with pool.acquire(timeout=limit_s) as connection:
            watchdog = asyncio.get_running_loop().call_later(limit_s, give_up)
            try:
                yield connection
            except BaseException as error:
                if isinstance(error, AWAY) or not isinstance(error, Exception):
                    _cut(connection)
                raise
            finally:
                watchdog.cancel()
    except Exception as error:
        if is_overdue or isinstance(error, TimeoutError):
            raise OverdueError(f"PostgreSQL did not answer within {limit_s:g} s") from error
        raise


def _cut(connection: Connection) -> None:
    with suppress(DriverError):  # it is closed, and back in the pool
        connection.terminate()


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
    """Close politely, and within 2 s in any case: a server that hangs cannot hold us."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await target.close()
    except AWAY:
        target.terminate()
