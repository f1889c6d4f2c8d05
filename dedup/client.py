"""Connections to Redis, with a time limit on everything."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from dedup.scripts import Client

CLUSTER_SCHEME = "redis+cluster://"


def connect(url: str, *, timeout_s: float = 2.0, connections: int = 16) -> Client:
    """A client for `url` (redis://, rediss://, unix:// or redis+cluster://). Does no I/O yet.

    A command is tried again twice within about 100 ms: claims are idempotent by their token, the rest by nature. So a
    server that hangs costs three times `timeout_s`; redis-py's health checks would multiply that without end, and the
    command itself finds a dead connection.
    """
    retry = Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.02), retries=2)
    if url.startswith(CLUSTER_SCHEME):
        return RedisCluster.from_url(
            url.replace(CLUSTER_SCHEME, "redis://", 1),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            max_connections=connections,
            retry=retry,
        )
    return Redis.from_url(
        url,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=connections,
        retry=retry,
        protocol=2,
    )
