"""The obvious program, written well: for each request a GET of the click, a SET NX of the dedup key, one INSERT.

    python -m benchmarks.servers.obvious PORT REDIS_URL POSTGRES_DSN

It does less than the product: two goals' worth of arithmetic, no catalog, no log of what it refuses, and a claim that
is lost from the table if it dies between the two.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Final
from uuid import uuid4

import asyncpg  # type: ignore[import-untyped]  # it ships no types
import orjson
import uvloop
from aiohttp import web
from redis.asyncio import BlockingConnectionPool, Redis

TABLE: Final = """
CREATE TABLE IF NOT EXISTS obvious_conversions (
    conversion_id uuid PRIMARY KEY,
    clicked_at    timestamptz NOT NULL,
    received_at   timestamptz NOT NULL DEFAULT now(),
    publisher_id  bigint NOT NULL,
    campaign_id   bigint NOT NULL,
    goal          text NOT NULL,
    click_id      text NOT NULL,
    txn_id        text,
    currency      text NOT NULL,
    sale_amount   numeric(18,6),
    revenue       numeric(18,6) NOT NULL,
    payout        numeric(18,6) NOT NULL,
    params        jsonb NOT NULL
);
CREATE INDEX IF NOT EXISTS obvious_campaign_received ON obvious_conversions (campaign_id, received_at);
CREATE INDEX IF NOT EXISTS obvious_click_id ON obvious_conversions (click_id);
"""
_INSERT: Final = """
INSERT INTO obvious_conversions (conversion_id, clicked_at, publisher_id, campaign_id, goal, click_id, txn_id, currency,
    sale_amount, revenue, payout, params)
VALUES ($1, to_timestamp($2 / 1000.0), $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
_CLICK_NAMES: Final = ("click_id", "lead_ref")
_EXPIRES_S: Final = 30 * 86_400
_ACCEPTED: Final = b'{"status":"accepted"}'
_CONNECTIONS: Final = 16


class Obvious:
    """One handler on two pools."""

    def __init__(self, redis: Redis, dsn: str) -> None:
        self._redis = redis
        self._dsn = dsn
        self._pool: Any = None

    async def connected(self, _: web.Application) -> AsyncIterator[None]:
        """Both pools, while the server runs."""
        self._pool = await asyncpg.create_pool(self._dsn, min_size=_CONNECTIONS, max_size=_CONNECTIONS)
        yield
        await self._pool.close()
        await self._redis.aclose()

    async def postback(self, request: web.Request) -> web.Response:
        """Answered when the row is committed."""
        query = request.query
        click_id = next((query[name] for name in _CLICK_NAMES if name in query), "")
        goal = query.get("goal") or query.get("result") or "install"
        txn_id = query.get("txn_id") or query.get("order")
        packed = await self._redis.get(f"obvious:click:{click_id}")
        if packed is None:
            return _answer(b'{"status":"rejected","reason":"unknown_click"}')
        click = orjson.loads(packed)
        key = f"obvious:seen:{click_id}:{goal}:{txn_id or query.get('event_id', '')}"
        if not await self._redis.set(key, b"1", nx=True, ex=_EXPIRES_S):
            return _answer(b'{"status":"duplicate"}')
        text = query.get("sale_amount") or query.get("total")
        amount = Decimal(text) if text else None
        revenue = Decimal(2) if amount is None else amount / 5
        await self._pool.execute(
            _INSERT,
            uuid4(),
            click["clicked_ms"],
            click["publisher_id"],
            click["campaign_id"],
            goal,
            click_id,
            txn_id,
            query.get("currency", "USD"),
            amount,
            revenue,
            revenue * 7 / 10,
            orjson.dumps(dict(query)).decode(),
        )
        return _answer(_ACCEPTED)


def _answer(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")


async def _health(_: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    """Serve until SIGTERM."""
    port, redis_url, dsn = sys.argv[1:]
    pool: BlockingConnectionPool = BlockingConnectionPool.from_url(
        redis_url, max_connections=_CONNECTIONS, timeout=None
    )
    program = Obvious(Redis(connection_pool=pool), dsn)
    app = web.Application()
    app.cleanup_ctx.append(program.connected)
    app.router.add_get("/postback", program.postback)
    app.router.add_get("/healthz", _health)
    loop = uvloop.new_event_loop()
    web.run_app(app, host="127.0.0.1", port=int(port), access_log=None, print=None, backlog=4096, loop=loop)


if __name__ == "__main__":
    main()
