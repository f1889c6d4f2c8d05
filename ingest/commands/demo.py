"""`postback demo`: postbacks at a running server that show every verdict, and the rows they come to."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import Any, Final, assert_never

import aiohttp
from rich.text import Text

from ingest.admin import ensure_admin_key
from ingest.commands.demo_postbacks import CLICKS, POSTBACKS, DemoPostback
from ingest.commands.output import coloured, console, table
from ingest.commands.sample import has_sample
from ingest.commands.servers import Server, running_servers
from ingest.commands.session import CommandError, open_postgres, require_schema
from ingest.config import Config
from ingest.engines import running_urls
from storage.postgres import Connection

COMMIT_S: Final = 15.0
"""How long the rows are waited for."""
_POLL_S: Final = 0.1

_ROWS: Final = """
SELECT click_id, goal_value, txn_id, trim_scale(sale_amount)::text AS sale_amount, trim_scale(revenue)::text AS revenue,
       trim_scale(payout)::text AS payout, currency, trim_scale(original_amount)::text AS original_amount,
       original_currency, reason
FROM conversions WHERE click_id = ANY($1::text[]) ORDER BY received_at
"""
_LOGGED: Final = "SELECT count(*) FROM postback_log WHERE click_id = ANY($1::text[])"


async def run_demo(config: Config) -> int:
    """The exit status: 1 if the rows were not committed in time."""
    servers = [server for server in running_servers(config) if server.role != "writer"]
    urls = running_urls(config)
    if not servers or urls is None:
        raise CommandError("no server runs on this data_dir: start one with `postback serve --sample`, then try again")
    async with open_postgres(urls.postgres_dsn) as connection:
        await require_schema(connection)
        if not await has_sample(connection):
            raise CommandError(
                "the sample campaigns are not in the catalog: start the server with `postback serve --sample` on an "
                "empty catalog, or run `postback catalog import` with the file ingest/sample/catalog.toml"
            )
        try:
            return await _Demo(config, servers[0], connection).run()
        except aiohttp.ClientError as error:
            raise CommandError(f"the server at {servers[0].url} does not answer: {error}") from None


class _Demo:
    """One run, on clicks of its own."""

    def __init__(self, config: Config, server: Server, connection: Connection) -> None:
        self._config = config
        self._server = server
        self._connection = connection
        self._prefix = f"demo-{secrets.token_hex(3)}"
        self._verdicts: list[str] = []

    async def run(self) -> int:
        out = console()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
            await self._register_clicks(session)
            rows = [row for postback in POSTBACKS for row in await self._send(session, postback)]
        to = f"{self._server.url}{self._config.server.paths[0]}, in bulk to /postbacks"
        out.print(f"{len(self._verdicts)} postbacks to {to}", soft_wrap=True)
        out.print(table(("what", "sent", "HTTP", "verdict", "reason"), rows))
        complete = await self._wait_for_rows()
        found = await self._connection.fetch(_ROWS, self._click_ids())
        columns = ("click_id", "goal", "txn_id", "sale", "revenue", "payout", "currency", "sent as", "reason")
        out.print("what was counted: select * from conversions")
        out.print(table(columns, [_cells(row) for row in found], right=("sale", "revenue", "payout")))
        if not complete:
            console(stderr=True).print(
                f"not every row was committed within {COMMIT_S:g} s: `postback status` shows whether a writer runs"
            )
        return 0 if complete else 1

    def _click_ids(self) -> list[str]:
        return [f"{self._prefix}-{name}" for name in (*CLICKS, "nobody")]

    async def _register_clicks(self, session: aiohttp.ClientSession) -> None:
        now_ms = time.time_ns() // 1_000_000
        clicks = [
            {
                "click_id": f"{self._prefix}-{name}",
                "campaign_id": click.campaign_id,
                "publisher_id": click.publisher_id,
                "country": click.country,
                "clicked_at": now_ms - click.age_ms,
            }
            for name, click in CLICKS.items()
        ]
        key = await asyncio.to_thread(ensure_admin_key, self._config.admin_key_path)
        headers = {"Authorization": f"Bearer {key}"}
        async with session.post(f"{self._server.url}/clicks", json=clicks, headers=headers) as answer:
            if answer.status != 200:
                raise CommandError(f"POST /clicks answered {answer.status}: {await answer.text()}")

    async def _send(self, session: aiohttp.ClientSession, postback: DemoPostback) -> list[tuple[str | Text, ...]]:
        """One row of the table for each verdict."""
        path = "/postbacks" if postback.form == "bulk" else self._config.server.paths[0]
        items = [{name: self._filled(value) for name, value in item.items()} for item in postback.items]
        first = items[0]
        shown = "&".join(f"{name}={value}" for name, value in first.items())
        match postback.form:
            case "get":
                request = session.get(self._server.url + path, params=first)
                lines = [f"GET {shown}"]
            case "form":
                request = session.post(self._server.url + path, data=first)
                lines = [f"form {shown}"]
            case "json":
                request = session.post(self._server.url + path, json=first)
                lines = [f"JSON {json.dumps(first)}"]
            case "bulk":
                request = session.post(self._server.url + path, json=items)
                lines = [f"JSON {json.dumps(item)}" for item in items]
            case _:
                assert_never(postback.form)
        async with request as answer:
            said = await answer.text()
        verdicts = _verdicts(answer.content_type, said)
        if len(verdicts) != len(lines):
            raise CommandError(f"the server answered {answer.status} to {lines[0]}: {said}")
        self._verdicts += [verdict for verdict, _ in verdicts]
        return [
            (postback.what if place == 0 else "", line, str(answer.status), coloured(verdict), reason)
            for place, (line, (verdict, reason)) in enumerate(zip(lines, verdicts, strict=True))
        ]

    def _filled(self, value: str) -> str:
        return value.replace("*", self._prefix)

    async def _wait_for_rows(self) -> bool:
        """Until there is a row for each postback: in conversions for what was accepted, in the log for the rest."""
        counted = self._verdicts.count("accepted")
        deadline = time.monotonic() + COMMIT_S
        while time.monotonic() < deadline:
            rows = await self._connection.fetch(_ROWS, self._click_ids())
            logged = await self._connection.fetchval(_LOGGED, self._click_ids())
            if len(rows) >= counted and logged >= len(self._verdicts) - counted:
                return True
            await asyncio.sleep(_POLL_S)
        return False


def _verdicts(content_type: str, said: str) -> list[tuple[str, str]]:
    """(verdict, reason) of each postback of a request."""
    if content_type != "application/json":  # the profile text
        return [("accepted" if said == "success=true;" else "rejected", said)]
    loaded: Any = json.loads(said)
    return [(item["status"], item.get("reason", "")) for item in (loaded if isinstance(loaded, list) else [loaded])]


def _cells(row: Any) -> tuple[str, ...]:
    sent_as = f"{row['original_amount']} {row['original_currency']}" if row["original_amount"] else ""
    names = ("click_id", "goal_value", "txn_id", "sale_amount", "revenue", "payout", "currency")
    return (*(row[name] or "" for name in names), sent_as, row["reason"] or "")
