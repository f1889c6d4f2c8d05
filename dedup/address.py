"""What `redis.url` says: one server, the nodes of a cluster, or the sentinels of a service. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

SENTINEL_PORT: Final = 26379
REDIS_PORT: Final = 6379


class Topology(Enum):
    """How many servers, and who says which one to ask."""

    SINGLE = auto()
    CLUSTER = auto()
    SENTINEL = auto()


_SCHEMES: Final = {
    "redis": (Topology.SINGLE, "redis"),
    "rediss": (Topology.SINGLE, "rediss"),
    "unix": (Topology.SINGLE, "unix"),
    "redis+cluster": (Topology.CLUSTER, "redis"),
    "rediss+cluster": (Topology.CLUSTER, "rediss"),
    "redis+sentinel": (Topology.SENTINEL, "redis"),
    "rediss+sentinel": (Topology.SENTINEL, "rediss"),
}


@dataclass(frozen=True, slots=True)
class Address:
    """`nodes` (host, port) are the cluster's or the sentinels; none for a single server. `plain` is what redis-py reads
    for one server, with user, password, database and options; its host is only the first node's."""

    topology: Topology
    plain: str
    nodes: tuple[tuple[str, int], ...] = ()
    service: str = ""


def parse_address(url: str) -> Address:
    """Raises ValueError, which says what to write instead and holds no password."""
    try:
        parts = urlsplit(url)
    except ValueError:  # its words may hold the password
        raise ValueError("it cannot be read: percent-encode special characters of user and password") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError(
            "expected a URL that starts with redis://, rediss://, unix://, redis+cluster://, rediss+cluster://, "
            "redis+sentinel:// or rediss+sentinel://"
        )
    topology, scheme = _SCHEMES[parts.scheme]
    if topology is Topology.SINGLE:
        return Address(topology, url)
    user, at, hosts = parts.netloc.rpartition("@")
    default_port = SENTINEL_PORT if topology is Topology.SENTINEL else REDIS_PORT
    nodes = tuple(_node(host, default_port) for host in hosts.split(","))
    service, database = _path(topology, parts)
    first = hosts.partition(",")[0]
    plain = urlunsplit((scheme, f"{user}{at}{first}", f"/{database}", parts.query, ""))
    return Address(topology, plain, nodes, service)


def _path(topology: Topology, parts: SplitResult) -> tuple[str, int]:
    """The service (sentinels only) and the number of the database."""
    words = [unquote(word) for word in parts.path.split("/") if word]
    if topology is Topology.CLUSTER:
        if words and words != ["0"]:
            raise ValueError("a cluster has no other database than 0: write redis+cluster://host:port,host:port")
        return "", 0
    if not 1 <= len(words) <= 2 or not (words[1:] or ["0"])[0].isdecimal():
        raise ValueError(
            "sentinels are asked for a service by its name: write redis+sentinel://host:port,host:port/service, and "
            "/number behind it for another database than 0"
        )
    return words[0], int((words[1:] or ["0"])[0])


def _node(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host:
        raise ValueError("each server is host:port, with commas between and without spaces; an IPv6 host in [ ]")
    return host, default_port if port is None else port
