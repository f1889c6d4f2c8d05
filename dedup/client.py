"""Connections to Redis, with a time limit on everything."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, TypedDict, TypeVar

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry as RedisRetry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import AbstractBackoff, ExponentialWithJitterBackoff, NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from dedup.address import Address, Topology, parse_address
from dedup.cluster import ClusterClient
from dedup.packing import with_packing
from dedup.scripts import Client

_SENTINELS_OWN: Final = {"sentinel_username": "username", "sentinel_password": "password"}
"""Options of the URL that are for the sentinels, and what redis-py calls them."""

T = TypeVar("T")


class Retry(RedisRetry):
    """Knows uvloop's word for writing on a connection that the other side has just closed: a RuntimeError, which
    redis-py would let through as a defect. And READONLY: the server has become a replica, and the name in the URL may
    be another server's by now, so the connection is closed as after any other failure."""

    def __init__(self, backoff: AbstractBackoff, retries: int) -> None:
        super().__init__(backoff, retries, (RedisConnectionError, RedisTimeoutError, ReadOnlyError))

    async def call_with_retry(self, do: Callable[[], Awaitable[T]], *args: Any, **kwargs: Any) -> T:
        """See redis-py."""

        async def told() -> T:
            try:
                return await do()
            except RuntimeError as error:
                raise RedisConnectionError(str(error)) from error

        return await super().call_with_retry(told, *args, **kwargs)


class _Limits(TypedDict):
    socket_timeout: float
    socket_connect_timeout: float
    max_connections: int
    retry: Retry
    protocol: int


def connect(url: str, *, timeout_s: float = 1.0, connections: int = 16, retries: int = 1) -> Client:
    """A client for `url`; `dedup.address` says what that may be. Does no I/O yet. Raises ValueError.

    A command whose reply is lost is sent again `retries` times within about 100 ms: claims are idempotent by their
    token, the rest of a receiver's by nature. A queue's reader takes 0: entries of a reply that was lost must be asked
    for anew. A server that hangs costs (1 + retries) times `timeout_s`; redis-py's health checks would multiply that
    without end, and the command itself finds a dead connection.
    """
    address = parse_address(url)
    limits = _Limits(
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        max_connections=connections,
        retry=Retry(ExponentialWithJitterBackoff(cap=0.1, base=0.02), retries=retries),
        protocol=2,
    )
    match address.topology:
        case Topology.CLUSTER:
            nodes = [ClusterNode(host, port) for host, port in address.nodes]
            return ClusterClient(startup_nodes=nodes, **limits, **_options(address.plain))
        case Topology.SENTINEL:
            return _of_sentinels(address, limits)
        case Topology.SINGLE:
            return with_packing(Redis.from_url(address.plain, **limits))


def _options(url: str) -> dict[str, Any]:
    """What a URL says beside host and port, as redis-py's clients of several servers take it."""
    options: dict[str, Any] = {**parse_url(url)}
    for name in ("host", "port"):
        options.pop(name, None)
    if options.pop("connection_class", None) is SSLConnection:
        options["ssl"] = True
    return options


def _of_sentinels(address: Address, limits: _Limits) -> Redis:
    """The primary that the sentinels name, asked at each new connection."""
    options = _options(address.plain)
    theirs: dict[str, Any] = {
        "socket_timeout": limits["socket_timeout"],
        "socket_connect_timeout": limits["socket_connect_timeout"],
        "retry": Retry(NoBackoff(), 0),  # the next one is asked instead
        "protocol": 2,
        **{name: value for name, value in options.items() if name.startswith("ssl")},
    }
    for name, their_name in _SENTINELS_OWN.items():
        if name in options:
            theirs[their_name] = options.pop(name)
    # redis-py leaves both untyped.
    sentinel = Sentinel(address.nodes, sentinel_kwargs=theirs)  # type: ignore[no-untyped-call]
    pool = SentinelConnectionPool(address.service, sentinel, **limits, **options)  # type: ignore[no-untyped-call]
    return _SentinelClient.from_pool(pool)


class _SentinelClient(Redis):
    """Closes its connections to the sentinels too."""

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        pool = self.connection_pool
        assert isinstance(pool, SentinelConnectionPool)
        await pool.sentinel_manager.aclose()
