"""Connections to Redis, with a time limit on everything."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff

from dedup.scripts import Client

CLUSTER_SCHEME = "redis+cluster://"


def connect(url: str, *, timeout_s: float = 1.0, connections: int = 16, retries: int = 1) -> Client:
    """A client for `url` (redis://, rediss://, unix:// or redis+cluster://). Does no I/O yet.

    A command whose reply is lost is sent again `retries` times within about 100 ms: claims are idempotent by their
    token, the rest of a receiver's by nature. A queue's reader takes 0: entries of a reply that was lost must be asked
    for anew. A server that hangs costs (1 + retries) times `timeout_s`; redis-py's health checks would multiply that
    without end, and the command itself finds a dead connection.
    """
    retry = Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.02), retries=retries)
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
