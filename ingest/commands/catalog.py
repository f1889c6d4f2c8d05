"""`postback catalog import|export`: campaigns, goals and rates as a TOML file."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from ingest.catalog_file import parse_catalog
from ingest.catalog_import import ImportSummary, export_catalog, import_catalog
from ingest.commands.output import console, table
from ingest.commands.session import CommandError, open_database
from ingest.config import Config
from ingest.vault import ensure_vault

_KINDS = ("advertisers", "publishers", "campaigns", "goals", "exchange_rates")


async def import_catalog_file(config: Config, path: Path) -> None:
    """Create or update, all or nothing. Raises CatalogError."""
    try:
        text = await asyncio.to_thread(path.read_text, encoding="utf-8")
    except UnicodeDecodeError:
        raise CommandError(f"{path}: not valid UTF-8") from None
    catalog = parse_catalog(text, await asyncio.to_thread(ensure_vault, config.secret_key_path))
    async with open_database(config, may_migrate=True) as connection:
        summary = await import_catalog(connection, catalog)
    _report(summary)


def _report(summary: ImportSummary) -> None:
    counts = [(kind.replace("_", " "), getattr(summary, kind)) for kind in _KINDS]
    rows = [(kind, f"{of.created:,}", f"{of.updated:,}", f"{of.unchanged:,}") for kind, of in counts]
    numbers = ("created", "updated", "unchanged")
    console().print(table(("", *numbers), rows, right=numbers))


async def export_catalog_file(config: Config, path: Path | None) -> None:
    """The whole catalog into `path`, or to standard output."""
    async with open_database(config) as connection:
        text = await export_catalog(connection)
    if path is None:
        sys.stdout.write(text)
    else:
        await asyncio.to_thread(path.write_text, text, encoding="utf-8")
