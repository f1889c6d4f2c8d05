"""The schema grows by migrations: files `storage/migrations/NNNN_name.sql`, each applied once, in order.

Each runs in a transaction of its own, under a lock that lives as long as the transaction: so several programs may start
at once, also behind PgBouncer, and a migration that fails leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from storage.postgres import Connection

FOLDER: Final = Path(__file__).parent / "migrations"
MIGRATION_TIMEOUT_S: Final = 3600.0
_FILE: Final = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql", re.ASCII)

_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtextextended('postback migrations', 0))"
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    version    int PRIMARY KEY,
    name       text NOT NULL,
    checksum   text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE schema_migrations IS 'The migrations applied so far, with the SHA-256 of each file.';
"""
_APPLIED: Final = "SELECT version, name, checksum FROM schema_migrations ORDER BY version"
_RECORD: Final = "INSERT INTO schema_migrations (version, name, checksum) VALUES ($1, $2, $3)"


class MigrationError(Exception):
    """The schema cannot be brought up to date; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the text, however its lines end."""
        return sha256("\n".join(self.sql.splitlines()).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class SchemaState:
    """The version that the database has (0: none) and the one that this program is made for.

    `problem` None: they fit. Else what is wrong and what to do.
    """

    found: int
    wanted: int
    problem: str | None


def load_migrations(folder: Path = FOLDER) -> list[Migration]:
    """The migrations in order. Raises MigrationError for a gap, a repeated number or a stray name."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path.name}: a migration is named like 0002_add_caps.sql")
        migrations.append(Migration(int(match[1]), match[2], path.read_text(encoding="utf-8")))
    for number, migration in enumerate(migrations, 1):
        if migration.version != number:
            raise MigrationError(f"{migration.version:04}_{migration.name}.sql: expected number {number:04} here")
    if not migrations:
        raise MigrationError("the installation holds no migrations: install the program again")
    return migrations


async def migrate(connection: Connection, folder: Path = FOLDER) -> list[str]:
    """Apply what is missing; the names of what was applied. Raises MigrationError, or what Postgres answers.

    The connection must not be in a transaction.
    """
    migrations = await asyncio.to_thread(load_migrations, folder)
    applied: list[str] = []
    while (name := await _migrate_once(connection, migrations)) is not None:
        applied.append(name)
    return applied


async def _migrate_once(connection: Connection, migrations: list[Migration]) -> str | None:
    """Apply the first that is missing; its name, None where none is."""
    async with connection.transaction():
        await connection.execute(_LOCK)
        await connection.execute(_TABLE)
        found = await _applied(connection)
        problem = _conflict(found, migrations)
        if problem is not None:
            raise MigrationError(problem)
        if len(found) == len(migrations):
            return None
        migration = migrations[len(found)]
        await connection.execute(migration.sql, timeout=MIGRATION_TIMEOUT_S)
        await connection.execute(_RECORD, migration.version, migration.name, migration.checksum)
        return f"{migration.version:04}_{migration.name}"


async def schema_state(connection: Connection, folder: Path = FOLDER) -> SchemaState:
    """Whether the database fits this program. Changes nothing."""
    migrations = await asyncio.to_thread(load_migrations, folder)
    known = await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL")
    found = await _applied(connection) if known else {}
    problem = _conflict(found, migrations)
    if problem is None and len(found) < len(migrations):
        problem = f"the database has schema version {len(found)}, {len(migrations)} is needed: run `postback migrate`"
    return SchemaState(max(found, default=0), len(migrations), problem)


async def _applied(connection: Connection) -> dict[int, tuple[str, str]]:
    """(name, checksum) of the migrations applied so far, by version."""
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(_APPLIED)}


def _conflict(found: dict[int, tuple[str, str]], migrations: list[Migration]) -> str | None:
    """Why the migrations found are not the beginning of ours; None where they are."""
    newest = max(found, default=0)
    if newest > len(migrations):
        return (
            f"the database has schema version {newest}, this program knows {len(migrations)}:"
            " this program is older than the schema: upgrade it"
        )
    if len(found) != newest:
        return "table schema_migrations lacks a row before its last: restore it, or start from an empty database"
    for migration in migrations[:newest]:
        name, checksum = found[migration.version]
        if checksum != migration.checksum:
            return (
                f"migration {migration.version:04}_{name} was applied from another file than this program's"
                f" {migration.version:04}_{migration.name}.sql: install the release that the database was made by,"
                " or start from an empty database"
            )
    return None
