"""Where our requests may go: public addresses, and the ports and schemes that were allowed. Pure.

A publisher's URL is a stranger's: it must not make us call what only we can reach. The table is written out, so that it
is the same under every release of Python. Sources: IANA's registries of special-purpose addresses.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_REFUSED_V4: Final = tuple(
    map(
        IPv4Network,
        (
            "0.0.0.0/8",  # this network
            "10.0.0.0/8",  # private
            "100.64.0.0/10",  # carrier-grade NAT; a cloud's metadata, too
            "127.0.0.0/8",  # loopback
            "168.63.129.16/32",  # a public address, but inside Azure its metadata
            "169.254.0.0/16",  # link-local: most clouds' metadata
            "172.16.0.0/12",  # private
            "192.0.0.0/24",  # protocol assignments
            "192.0.2.0/24",  # documentation
            "192.31.196.0/24",  # AS112
            "192.52.193.0/24",  # AMT
            "192.88.99.0/24",  # relays to IPv6
            "192.168.0.0/16",  # private
            "192.175.48.0/24",  # AS112
            "198.18.0.0/15",  # benchmarks
            "198.51.100.0/24",  # documentation
            "203.0.113.0/24",  # documentation
            "224.0.0.0/4",  # multicast
            "240.0.0.0/4",  # reserved, and broadcast
        ),
    )
)
_PUBLIC_V6: Final = IPv6Network("2000::/3")
"""All that is not in it is refused: loopback, mapped IPv4, NAT64, link-local, unique local, multicast."""
_REFUSED_V6: Final = tuple(
    map(
        IPv6Network,
        (
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",  # documentation
            "2002::/16",  # 6to4: an IPv4 address inside
            "2620:4f:8000::/48",  # AS112
            "3fff::/20",  # documentation
        ),
    )
)
_PORTS: Final = {"http": 80, "https": 443}
_LIKE_A_NUMBER: Final = re.compile(r"(?:\d+|0x[0-9a-f]*)\.?", re.IGNORECASE | re.ASCII)


class RefusedError(ValueError):
    """A place that our requests may not go to; the message says why, and which setting would allow it."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What `[outbound]` allows: plain http, networks beside the public ones, ports."""

    allow_http: bool = False
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset(_PORTS.values())

    def check_place(self, scheme: str, host: str, port: int | None) -> None:
        """What can be said before the host is resolved; `port` None: the scheme's. Raises RefusedError."""
        if scheme not in _PORTS or (scheme == "http" and not self.allow_http):
            raise RefusedError("expected https://; outbound.allow_http allows http, too")
        if (port or _PORTS[scheme]) not in self.ports:
            raise RefusedError(f"port {port} is not one of outbound.ports")
        address = literal(host)
        if address is not None:
            self.check_address(address)
        elif _LIKE_A_NUMBER.fullmatch(host.rstrip(".").rpartition(".")[2]):
            raise RefusedError("expected a name, or an address in its usual form")

    def check_address(self, address: Address) -> None:
        """The address that a connection goes to. Raises RefusedError."""
        if any(address in network for network in self.networks):
            return
        if not is_public(address):
            raise RefusedError(f"{address} is not a public address; outbound.allow_networks allows others")


def parse_policy(*, allow_http: bool, networks: tuple[str, ...], ports: tuple[int, ...]) -> Policy:
    """From the configuration's values. Raises ValueError."""
    return Policy(allow_http, tuple(ip_network(network) for network in networks), frozenset(ports))


def literal(host: str) -> Address | None:
    """The address that a URL's host is; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def is_public(address: Address) -> bool:
    """Whether everybody may be called there."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    return address.scope_id is None and address in _PUBLIC_V6 and not any(address in network for network in _REFUSED_V6)
