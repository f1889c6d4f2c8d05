"""The catalog in a running receiver: loaded once, then again whenever it changes, whatever becomes of Postgres."""

from __future__ import annotations

import asyncio
import random
from operator import eq
from pathlib import Path
from typing import Final

import structlog

from ingest.catalog import Snapshot
from ingest.catalog_kept import keep_rows, kept_rows
from ingest.catalog_rows import build_snapshot
from ingest.logs import said
from ingest.vault import Vault
from storage.catalog_store import read_catalog
from storage.postgres import AWAY, Connection, PostgresError, close, connect
from storage.rows import CatalogRows

CHANNEL: Final = "catalog"
DEBOUNCE_S: Final = 0.05
POLL_S: Final = 60.0
POOLED_POLL_S: Final = 10.0
"""Behind a pooler, which hands a session's announcements to nobody or to somebody else."""
START_S: Final = 10.0
FIRST_RETRY_S: Final = 0.25
LAST_RETRY_S: Final = 5.0

_log = structlog.get_logger()


class CatalogUnavailableError(Exception):
    """There is no catalog to start with; the message says why and what to do."""


class CatalogFeed:
    """Holds the snapshot. Between `start` and `close` a task of its own keeps it fresh, over a connection of its own.

    A change is announced on the channel `catalog`; for announcements that got lost the catalog is also read every
    `poll_s`, and every 10 s behind a pooler, which swallows them. While Postgres is away the last snapshot stays.
    `kept` is the file that the last good catalog is kept in; `vault` opens signing secrets.
    """

    def __init__(self, dsn: str, kept: Path, *, vault: Vault | None = None, poll_s: float = POLL_S) -> None:
        self._dsn = dsn
        self._kept = kept
        self._vault = vault
        self._poll_s = poll_s
        self._is_pooled = False
        self._rows: CatalogRows | None = None
        self._snapshot: Snapshot | None = None
        self._changed = asyncio.Event()
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def snapshot(self) -> Snapshot:
        """The catalog of this moment; replaced as a whole."""
        assert self._snapshot is not None, "start() comes first"
        return self._snapshot

    async def start(self) -> None:
        """Load the catalog: from Postgres, or while that is away from the kept file. Raises CatalogUnavailableError,
        and VaultError where a signing secret cannot be opened."""
        try:
            async with asyncio.timeout(START_S):
                self._connection = await self._connect()
        except (*AWAY, PostgresError) as error:
            await self._load_kept(error)
        self._task = asyncio.create_task(self._run(), name="catalog feed")

    async def close(self) -> None:
        """Stop keeping it fresh; the snapshot stays."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        await self._disconnect()

    async def _run(self) -> None:
        """For ever: follow one connection until it fails, then make another. Never raises but for cancellation."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                if self._connection is None:
                    self._connection = await self._connect()
                    _log.info("catalog connection is back")
                retry_s = FIRST_RETRY_S
                await self._follow(self._connection)
            except (*AWAY, PostgresError) as error:
                _log.warning("catalog cannot be read; going on with the last one", error=said(error))
            except Exception:  # noqa: BLE001  logged; receivers outlive whatever it is
                _log.exception("catalog in Postgres cannot be used; going on with the last one")
            await self._disconnect()
            await asyncio.sleep(retry_s * random.uniform(0.5, 1.0))  # noqa: S311  only spreads reconnections
            retry_s = min(retry_s * 2, LAST_RETRY_S)

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await close(connection)

    async def _connect(self) -> Connection:
        """A connection that listens, with the catalog loaded: listening first, so that no change falls between."""
        connection = await connect(self._dsn)
        try:
            await connection.add_listener(CHANNEL, self._on_notification)
            connection.add_termination_listener(self._on_notification)
            self._is_pooled = await connection.fetchval("SELECT pg_backend_pid()") != connection.get_server_pid()
            await self._load(connection)
        except BaseException:
            connection.terminate()
            raise
        return connection

    def _on_notification(self, *_: object) -> None:
        self._changed.set()

    async def _follow(self, connection: Connection) -> None:
        """Load whenever a change is announced or the time has come. Raises when the connection fails."""
        poll_s = min(self._poll_s, POOLED_POLL_S) if self._is_pooled else self._poll_s
        while True:
            try:
                async with asyncio.timeout(poll_s):
                    await self._changed.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(DEBOUNCE_S)  # an import announces each table
            self._changed.clear()
            await self._load(connection)

    async def _load(self, connection: Connection) -> None:
        rows = await read_catalog(connection)
        if await asyncio.to_thread(eq, rows, self._rows):
            return
        await self._use(rows)
        try:
            await asyncio.to_thread(keep_rows, self._kept, rows)
        except OSError as error:
            _log.warning("catalog cannot be kept on disk", path=str(self._kept), error=said(error))

    async def _load_kept(self, why: Exception) -> None:
        try:
            rows = await asyncio.to_thread(kept_rows, self._kept)
        except (OSError, ValueError) as error:
            if not isinstance(error, FileNotFoundError):
                _log.warning("kept catalog cannot be used", path=str(self._kept), error=said(error))
            raise CatalogUnavailableError(
                f"Postgres cannot be read ({said(why)}), and {self._kept} holds no catalog of before to start with:"
                " start Postgres or set postgres.dsn, then run `postback migrate`"
            ) from why
        await self._use(rows)
        _log.warning("Postgres is away; starting with the kept catalog", path=str(self._kept), error=said(why))

    async def _use(self, rows: CatalogRows) -> None:
        self._snapshot = await asyncio.to_thread(build_snapshot, rows, self._vault)
        self._rows = rows
        _log.info("catalog loaded", campaigns=len(rows.campaigns), goals=len(rows.goals))
