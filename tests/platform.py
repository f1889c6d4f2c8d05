"""A small platform to send postbacks at: a catalog, clicks, and a client that speaks to the running program."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from ingest.sample import CATALOG
from storage.postgres import connect
from tests.eventually import eventually
from tests.program import Program

MINUTE_S: Final = 60
_PUBLISHER: Final = """
[[publishers]]
id = 10
name = "North Media"
"""
_ADVERTISER: Final = """
[[advertisers]]
id = {id}
name = "Advertiser {id}"
{settings}

[[campaigns]]
id = {campaign}
advertiser = {id}
name = "Campaign of {id}"
currency = "USD"

[[campaigns.goals]]
id = {campaign}0
title = "Sale"
value = "sale"
default = true

[[campaigns.goals.rates]]
revenue = {{ percent = "10" }}

[[campaigns.goals]]
id = {campaign}1
title = "View"
value = "view"
track_multiple = "yes"

[[campaigns.goals.rates]]
revenue = {{ fixed = "1" }}
"""


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


async def sample_is_known(program: Program, receivers: int = 1) -> None:
    """Return once so many receivers, one after the other, have said that they know the sample catalog."""

    async def loaded() -> int:
        log = await asyncio.to_thread(lambda: program.log)
        return sum(line.get("event") == "catalog loaded" and line.get("campaigns") == 3 for line in log)

    await eventually(loaded, lambda found: found >= receivers, within_s=30)


def catalog_of(settings: Mapping[int, str]) -> str:
    """A catalog file: publisher 10, and a campaign for each id, such as 300, whose advertiser, 3, has these settings.
    Its goals are `sale`, the default, of which we get 10 %, and `view`, of which each counts, for 1 USD."""
    parts = (_ADVERTISER.format(id=id_ // 100, campaign=id_, settings=lines) for id_, lines in settings.items())
    return _PUBLISHER + "".join(parts)


def statuses(answers: Sequence[tuple[int, Any]]) -> list[str]:
    """What each answer's body calls its status."""
    return [said["status"] for _, said in answers]
