"""What `redis.url` may say, and what becomes of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool, SentinelManagedSSLConnection

from dedup.address import Address, Topology, parse_address
from dedup.client import connect
from dedup.cluster import ClusterClient
from ingest.engines.explain import hide_password

CLUSTER, SENTINEL = Topology.CLUSTER, Topology.SENTINEL


@pytest.mark.parametrize("url", ["redis://h", "rediss://u:p@h:1/2?ssl_cert_reqs=none", "unix:///tmp/redis.sock?db=1"])
def test_a_single_server_is_left_to_the_client(url: str) -> None:
    assert parse_address(url) == Address(Topology.SINGLE, url)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis+cluster://h", Address(CLUSTER, "redis://h/0", (("h", 6379),))),
        ("redis+cluster://h:7000,i/", Address(CLUSTER, "redis://h:7000/0", (("h", 7000), ("i", 6379)))),
        ("redis+cluster://h:7000/0", Address(CLUSTER, "redis://h:7000/0", (("h", 7000),))),
        (
            "rediss+cluster://u:p%40@[::1]:7,i?a=b",
            Address(CLUSTER, "rediss://u:p%40@[::1]:7/0?a=b", (("::1", 7), ("i", 6379))),
        ),
        ("redis+sentinel://h/s", Address(SENTINEL, "redis://h/0", (("h", 26379),), "s")),
        ("redis+sentinel://h:1,i:2/my%20s/3", Address(SENTINEL, "redis://h:1/3", (("h", 1), ("i", 2)), "my s")),
        ("rediss+sentinel://:p@h/s?x=y", Address(SENTINEL, "rediss://:p@h/0?x=y", (("h", 26379),), "s")),
    ],
)
def test_several_servers(url: str, expected: Address) -> None:
    assert parse_address(url) == expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://h", "starts with redis://"),
        ("h:6379", "starts with redis://"),
        ("", "starts with redis://"),
        ("redis+cluster://", "host:port"),
        ("redis+cluster://h,", "host:port"),
        ("redis+cluster://h:port", "host:port"),
        ("redis+cluster://h:70000", "host:port"),
        ("redis+cluster://h/1", "no other database than 0"),
        ("redis+sentinel://h", "redis+sentinel://host:port,host:port/service"),
        ("redis+sentinel://h/s/x", "redis+sentinel://host:port,host:port/service"),
        ("redis+sentinel://h/s/0/1", "redis+sentinel://host:port,host:port/service"),
    ],
)
def test_what_cannot_be_read_says_what_to_write(url: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("+", r"\+")):
        parse_address(url)


@given(st.sampled_from(["redis+cluster", "rediss+sentinel", "redis"]), st.text())
def test_anything_is_read_or_refused_without_its_password(scheme: str, rest: str) -> None:
    try:
        parse_address(f"{scheme}://user:5ecre7{rest}")
    except ValueError as error:
        said = str(error)
    else:
        return
    assert said
    assert "5ecre7" not in said


def test_a_password_of_odd_characters_is_not_told() -> None:
    with pytest.raises(ValueError, match="percent-encode") as caught:
        parse_address("redis+cluster://user:5ecre7\u2100@h")
    assert "5ecre7" not in str(caught.value)


async def test_a_cluster_is_asked_with_its_password_over_tls() -> None:
    client = connect("rediss+cluster://user:pass%40word@h:7000,i:7001?ssl_cert_reqs=none")
    assert isinstance(client, ClusterClient)
    assert {(node.host, node.port) for node in client.startup_nodes} == {("h", 7000), ("i", 7001)}
    connection = client.startup_nodes[0].acquire_connection()
    assert (connection.username, connection.password) == ("user", "pass@word")
    assert type(connection).__name__ == "SSLConnection"
    await client.aclose()


async def test_sentinels_have_a_password_of_their_own() -> None:
    url = "rediss+sentinel://user:word@h:1,i:2/service/3?sentinel_username=guard&sentinel_password=other&client_name=me"
    client = connect(url, timeout_s=0.5)
    assert isinstance(client, Redis)
    pool = client.connection_pool
    assert isinstance(pool, SentinelConnectionPool)
    assert pool.connection_class is SentinelManagedSSLConnection
    kept = {name: pool.connection_kwargs.get(name) for name in ("username", "password", "db", "client_name")}
    assert kept == {"username": "user", "password": "word", "db": 3, "client_name": "me"}
    for sentinel, place in zip(pool.sentinel_manager.sentinels, (("h", 1), ("i", 2)), strict=True):
        theirs = sentinel.connection_pool.connection_kwargs
        assert (theirs["host"], theirs["port"]) == place
        assert (theirs["username"], theirs["password"], theirs["socket_timeout"]) == ("guard", "other", 0.5)
        assert theirs["retry"].get_retries() == 0
    await client.aclose()
    for secret in ("word@", "other"):
        assert secret not in hide_password(url)
