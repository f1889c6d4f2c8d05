"""`postback simulate`: the whole decision for one postback, step by step. Nothing is claimed, cached or logged."""

from __future__ import annotations

import asyncio
import json
from ipaddress import ip_address

import msgspec

from dedup.caps import CapCounters
from dedup.port import QueueUnavailableError
from dedup.redis import RedisDeduplicator
from ingest.app import rules_of
from ingest.catalog_rows import load_snapshot
from ingest.commands.output import coloured, console, facts, table
from ingest.commands.session import CommandError, open_redis, prepared
from ingest.config import Config
from ingest.simulation import Simulation, simulate
from ingest.vault import ensure_vault
from storage.postgres import close, open_pool


async def show_simulation(config: Config, text: str, *, remote_ip: str | None, as_json: bool) -> None:
    """Decide `text`, a query, a URL or a JSON object, as if it came in now, and print how. Raises CommandError."""
    if not text.strip():
        raise CommandError("expected a postback's parameters, such as 'click_id=demo-us-1&goal=install'")
    if remote_ip is not None:
        _check_address(remote_ip)
    async with prepared(config) as urls, open_redis(urls.redis_url) as redis:
        claims = RedisDeduplicator(redis, partitions=config.redis.partitions, max_backlog=config.redis.max_backlog)
        pool = await open_pool(urls.postgres_dsn, 1)
        try:
            async with pool.acquire() as connection:
                vault = await asyncio.to_thread(ensure_vault, config.secret_key_path)
                snapshot = await load_snapshot(connection, vault)
            made = await simulate(
                text, snapshot, rules_of(config), claims, pool, remote_ip=remote_ip, caps=CapCounters(redis)
            )
        except QueueUnavailableError as error:
            raise CommandError(f"Redis: {error}") from None
        finally:
            await close(pool)
    if as_json:
        console().print(json.dumps(msgspec.to_builtins(made), ensure_ascii=False), soft_wrap=True)
    else:
        _show(made)


def _check_address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        raise CommandError(f"--from: expected an address such as 192.0.2.7, not {text!r}") from None


def _show(made: Simulation) -> None:
    out = console()
    out.print(table(("step", "found"), [(step.step, step.found) for step in made.steps]))
    summary = [("would be", coloured(made.verdict))]
    summary += [
        (name, coloured(value))
        for name, value in (("conversion", made.conversion_id), ("reason", made.reason), ("detail", made.detail))
        if value is not None
    ]
    out.print(facts(summary))
