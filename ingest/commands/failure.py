"""Errors that a person meets, as one message each."""

from __future__ import annotations

from redis.exceptions import RedisError

from ingest.admin import AdminKeyError
from ingest.catalog_file import CatalogError
from ingest.commands.session import CommandError
from ingest.config import ConfigError
from ingest.engines import EngineError
from ingest.parquet_file import ParquetMissingError
from ingest.row_file import RowFileError
from ingest.serve import ServeError
from ingest.supervisor import WorkerFailedError
from ingest.vault import VaultError
from storage.migrate import MigrationError
from storage.postgres import DriverError, PostgresError

_SAID_WELL = (
    AdminKeyError,
    CommandError,
    ConfigError,
    EngineError,
    MigrationError,
    ParquetMissingError,
    RowFileError,
    ServeError,
    VaultError,
    WorkerFailedError,
)
"""Errors of our own, whose messages say what is wrong and what to do."""


def explain(error: Exception) -> str | None:
    """What to tell a person; None for a defect of ours, of which a traceback says more."""
    match error:
        case CatalogError():
            count = len(error.problems)
            problems = "\n".join(f"  {problem}" for problem in error.problems)
            return f"nothing was imported, {count} problem{'s' if count > 1 else ''}:\n{problems}"
        case _ if isinstance(error, _SAID_WELL):
            return str(error)
        case TimeoutError():
            return f"no answer in time{f': {error}' if str(error) else ''}; `postback status` shows what runs"
        case OSError():
            return f"{error.filename}: {error.strerror}" if error.filename else str(error)
        case _ if isinstance(error, PostgresError | DriverError):
            return f"PostgreSQL: {error}"
        case RedisError():
            return f"Redis: {error}"
        case _:
            return None
