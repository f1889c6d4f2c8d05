"""A small platform to send postbacks at: a catalog, clicks, and a client that speaks to the running program."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from ingest.sample import CATALOG
from storage.postgres import connect
from tests.program import Program

MINUTE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Client:
    """Speaks to one program and its database."""

    program: Program
    http: aiohttp.ClientSession
    database: Any

    async def register(
        self, *click_ids: str, campaign_id: int = 100, publisher_id: int = 10, country: str = "US"
    ) -> None:
        """Clicks of ten minutes ago."""
        clicked_at = time.time() - 10 * MINUTE_S
        rows = [
            {
                "click_id": click_id,
                "campaign_id": campaign_id,
                "publisher_id": publisher_id,
                "clicked_at": clicked_at,
                "country": country,
            }
            for click_id in click_ids
        ]
        status, said = await self.post("/clicks", json=rows, key=self.program.admin_key)
        assert status == 200, said

    async def get(self, query: str) -> tuple[int, Any]:
        """GET /postback?query: status and JSON."""
        async with self.http.get(f"{self.program.url}/postback?{query}") as response:
            return response.status, await response.json()

    async def post(self, path: str, *, key: str | None = None, **request: Any) -> tuple[int, Any]:
        """POST: status and JSON."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        headers |= request.pop("headers", {})
        async with self.http.post(f"{self.program.url}{path}", headers=headers, **request) as response:
            return response.status, await response.json()

    async def count(self, table: str, where: str = "true") -> int:
        """Rows of a table."""
        found: int = await self.database.fetchval(f"SELECT count(*) FROM {table} WHERE {where}")
        return found

    async def both_counts(self) -> tuple[int, int]:
        """Rows of conversions and of postback_log."""
        return await self.count("conversions"), await self.count("postback_log")


@asynccontextmanager
async def client_of(program: Program, dsn: str) -> AsyncIterator[Client]:
    """A client with as many connections as it wants."""
    database = await connect(dsn)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        try:
            yield Client(program, http, database)
        finally:
            await database.close()


async def load_sample(dsn: str) -> None:
    """The sample catalog."""
    connection = await connect(dsn)
    try:
        await import_catalog(connection, parse_catalog(CATALOG.read_text(encoding="utf-8")))
    finally:
        await connection.close()


def statuses(answers: Sequence[tuple[int, Any]]) -> list[str]:
    """What each answer's body calls its status."""
    return [said["status"] for _, said in answers]
