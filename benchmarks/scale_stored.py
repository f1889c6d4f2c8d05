"""What is stored already: conversions in Postgres and clicks with a claim in Redis, made by their number alone.

The statement and the script make the same click of a number as `click_id_of`, and so what they made can be looked for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from benchmarks.engines import WINDOW_MS, Platform
from benchmarks.workload import DAY_MS, YOUNGEST_MS
from storage.postgres import Connection, close, connect

MOST: Final = 16_000_000
"""Lua's numbers are exact up to 2**53: the product of a number and a factor must be below."""

_PRIME: Final = (1 << 29) - 3
_FACTORS: Final = (366_834_071, 219_270_529, 481_036_337, 97_482_613)
"""Each word of a click's id is the number times one of these, modulo the prime: different for different numbers, and in
no order."""
SPAN_MS: Final = 87 * DAY_MS
"""Of the clicks of each call of `store`, in the order of their numbers, as conversions come: the last three months, and
all are still within the window."""

_ROWS: Final = 50_000
_CLAIMS: Final = 10_000
_SESSIONS: Final = 2
_LONG_S: Final = 900.0
_SAMPLE: Final = 200

_SESSION: Final = """
SET session_replication_role = replica;  -- no triggers: the rollups count what comes later
SET synchronous_commit = off;            -- a checkpoint comes before anything is measured
SET wal_compression = off
"""

_INSERT: Final = f"""
INSERT INTO conversions (
    conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id, goal_value, goal_version,
    click_id, txn_id, status, country, currency, sale_amount, revenue, payout, params
)
SELECT
    (lpad(to_hex(clicked_ms), 12, '0') || '8' || substr(click_id, 6, 3) || 'a' || substr(click_id, 10, 15))::uuid,
    timestamptz 'epoch' + clicked_ms * interval '1 millisecond',
    timestamptz 'epoch' + (clicked_ms + n % 600 * 1000) * interval '1 millisecond',
    1, 10 + n % 3, 100, CASE WHEN is_sale THEN 1001 ELSE 1000 END, CASE WHEN is_sale THEN 'purchase' ELSE 'install' END,
    1, click_id, 'GPA.' || n, 'approved', 'US', 'USD',
    CASE WHEN is_sale THEN sale END,
    CASE WHEN is_sale THEN sale * 0.2 ELSE 2 END,
    CASE WHEN is_sale THEN sale * 0.14 ELSE 1.4 END,
    jsonb_build_object(
        'device_model', (ARRAY['iPhone16,2', 'SM-S928B', 'Pixel 9 Pro'])[1 + n % 3],
        'os_version', n % 19 || '.' || n % 9,
        'ip', '203.0.113.' || n % 255,
        'campaign_name', 'Q' || n % 4 || ' | US | Lookalike ' || n % 10 || '%',
        'site_id', 'site_id_' || substr(click_id, 1, 6)
    )
FROM (
    SELECT
        n,
        {" || ".join(f"lpad(to_hex(n * {factor} % {_PRIME}), 8, '0')" for factor in _FACTORS)} AS click_id,
        $3::bigint + n * $4::bigint AS clicked_ms,
        n % 2 = 0 AS is_sale,
        n % 400 + 1.49 AS sale
    FROM generate_series($1::bigint, $2::bigint) AS n
) AS made
"""

_CLAIM: Final = f"""
local first, last, zero, step = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
for n = first, last do
    local id = string.format('{"%08x" * len(_FACTORS)}', {", ".join(f"n * {factor} % {_PRIME}" for factor in _FACTORS)})
    local clicked = zero + n * step
    local click = 'pb:{{0}}:click:' .. id
    local field, fact = '1000', ''
    if n % 2 == 0 then
        field, fact = '1001:GPA.' .. string.format('%d', n), string.format('%d.49USD', n % 400 + 1)
    end
    local packed = string.format('100,%d,%.0f,US', 10 + n % 3, clicked)
    redis.call('HSET', click, '.', packed, field, string.sub(id, 1, 7) .. fact)
    redis.call('PEXPIREAT', click, string.format('%.0f', clicked + {WINDOW_MS}))
end
"""

_FOUND: Final = "SELECT count(*) FROM conversions WHERE click_id = ANY ($1)"
_BYTES: Final = "SELECT sum(pg_total_relation_size(relid))::bigint FROM pg_partition_tree('conversions')"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was stored in `seconds`: `rows` and as many clicks with a claim each, and what they take in each engine."""

    rows: int
    seconds: float
    redis_bytes: int
    postgres_bytes: int

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(
            self.rows + other.rows,
            self.seconds + other.seconds,
            self.redis_bytes + other.redis_bytes,
            self.postgres_bytes + other.postgres_bytes,
        )


class NotStoredError(Exception):
    """What should be stored now is not."""


def click_id_of(number: int) -> str:
    """The click of a number from 1 to MOST."""
    return "".join(f"{number * factor % _PRIME:08x}" for factor in _FACTORS)


@dataclass(frozen=True, slots=True)
class Times:
    """Of clicks by their number, epoch ms: `zero_ms` + number * `step_ms`."""

    zero_ms: int
    step_ms: int

    @classmethod
    def spread(cls, first: int, last: int, now_ms: int) -> Times:
        """Evenly over the span that ends at the youngest click."""
        step_ms = SPAN_MS // (last - first + 1)
        return cls(now_ms - YOUNGEST_MS - last * step_ms, step_ms)


async def store(platform: Platform, first: int, last: int, now_ms: int) -> Loaded:
    """Numbers from `first` to `last` into both engines, all indexes in place, and everything settled: statistics, a
    checkpoint, the append-only file. Raises NotStoredError where some are not there then."""
    began = time.perf_counter()
    before = await platform.redis_bytes(), await platform.pool.fetchval(_BYTES)
    keys = await platform.redis.dbsize()
    chunks = _chunks(first, last, _ROWS)
    times = Times.spread(first, last, now_ms)
    await platform.redis.config_set("appendonly", "no")  # the file is written at the end, at once
    await asyncio.gather(
        *(_insert(platform, chunks, times) for _ in range(_SESSIONS)), _claim(platform, first, last, times)
    )
    connection = await connect(platform.urls.postgres_dsn)
    try:
        await connection.execute("VACUUM (ANALYZE) conversions", timeout=_LONG_S)
        await connection.execute("CHECKPOINT", timeout=_LONG_S)
    finally:
        await close(connection)
    await platform.redis.config_set("appendonly", "yes")
    await platform.log_rewritten()
    seconds = time.perf_counter() - began
    claims = await platform.redis.dbsize() - keys
    if claims != last - first + 1:
        raise NotStoredError(f"{last - first + 1} clicks were stored, Redis has {claims} more")
    await _look_for(platform, first, last)
    after = await platform.redis_bytes(), await platform.pool.fetchval(_BYTES)
    return Loaded(last - first + 1, seconds, after[0] - before[0], after[1] - before[1])


async def _insert(platform: Platform, chunks: Iterator[tuple[int, int]], times: Times) -> None:
    connection: Connection = await connect(platform.urls.postgres_dsn)
    try:
        await connection.execute(_SESSION)
        for first, last in chunks:
            await connection.execute(_INSERT, first, last, times.zero_ms, times.step_ms, timeout=_LONG_S)
    finally:
        await close(connection)


async def _claim(platform: Platform, first: int, last: int, times: Times) -> None:
    for start, end in _chunks(first, last, _CLAIMS):
        await platform.redis.eval(_CLAIM, 0, start, end, times.zero_ms, times.step_ms)


async def _look_for(platform: Platform, first: int, last: int) -> None:
    """Some that were stored, in both engines."""
    ids = [
        click_id_of(number) for number in Random(last).sample(range(first, last + 1), min(_SAMPLE, last - first + 1))
    ]
    redis: Any = platform.redis
    async with redis.pipeline(transaction=False) as pipeline:
        for click_id in ids:
            pipeline.hlen(f"pb:{{0}}:click:{click_id}")
        fields = await pipeline.execute()
    rows = await platform.pool.fetchval(_FOUND, ids)
    if rows != len(ids) or fields != [2] * len(ids):
        raise NotStoredError(f"of {len(ids)} that were stored Postgres has {rows}, Redis {sum(map(bool, fields))}")


def _chunks(first: int, last: int, size: int) -> Iterator[tuple[int, int]]:
    return ((start, min(start + size - 1, last)) for start in range(first, last + 1, size))
