"""The sample catalog and clicks: loaded by `postback serve --sample`, used by `postback demo`."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ingest.catalog_file import CatalogFile, parse_catalog
from ingest.catalog_import import import_catalog
from ingest.sample import CATALOG, sample_clicks
from storage.catalog_store import read_catalog
from storage.clicks import register_clicks
from storage.postgres import Connection, close, open_pool
from storage.rows import CatalogRows


@dataclass(frozen=True, slots=True)
class SampleLoad:
    """What became of the sample: `catalog` is imported, present (it was there), or other (another catalog is)."""

    catalog: str
    clicks: int


async def load_sample(dsn: str) -> SampleLoad:
    """Import the catalog into a database that has none, and register clicks for it."""
    sample = await _sample()
    pool = await open_pool(dsn, 1)
    try:
        async with pool.acquire() as connection:
            stored = await read_catalog(connection)
            if stored == CatalogRows():
                await import_catalog(connection, sample)
            elif not _holds(stored, sample):
                return SampleLoad("other", 0)
        registered = await register_clicks(pool, sample_clicks(time.time_ns() // 1_000_000))
        return SampleLoad("imported" if stored == CatalogRows() else "present", len(registered))
    finally:
        await close(pool)


async def has_sample(connection: Connection) -> bool:
    """Whether the sample's campaigns and goals are in the catalog."""
    return _holds(await read_catalog(connection), await _sample())


def _holds(stored: CatalogRows, sample: CatalogFile) -> bool:
    campaigns = {(row.id, row.name) for row in stored.campaigns}
    goals = {(row.id, row.campaign_id, row.value) for row in stored.goals}
    return campaigns >= {(row.id, row.name) for row in sample.rows.campaigns} and goals >= {
        (row.id, row.campaign_id, row.value) for row in sample.rows.goals
    }


async def _sample() -> CatalogFile:
    return parse_catalog(await asyncio.to_thread(CATALOG.read_text, encoding="utf-8"))
