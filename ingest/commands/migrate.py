"""`postback migrate`: bring the schema up to date."""

from __future__ import annotations

from ingest.commands.output import console
from ingest.commands.session import open_postgres
from ingest.config import Config
from ingest.engines import attached
from storage.migrate import migrate


async def migrate_database(config: Config) -> None:
    """Apply what is missing and name it."""
    async with attached(config) as urls, open_postgres(urls.postgres_dsn) as connection:
        applied = await migrate(connection)
    for name in applied:
        console().print(f"applied {name}")
    if not applied:
        console().print("up to date")
