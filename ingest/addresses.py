"""Whose request it is: the peer's address, or what a trusted proxy says of it. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final

Network = IPv4Network | IPv6Network

_KEPT_BITS: Final = {4: 24, 6: 48}


class Addresses(StrEnum):
    """What is stored of a sender's address: all of it, its network (/24, of IPv6 /48), or nothing."""

    FULL = "full"
    TRUNCATED = "truncated"
    NONE = "none"


_FULL: Final = Addresses.FULL


def parse_networks(texts: Sequence[str]) -> tuple[Network, ...]:
    """Addresses and networks such as "10.0.0.0/8"; ValueError names the one that is neither."""
    return tuple(ip_network(text) for text in texts)


def is_in(address: str | None, networks: Sequence[Network]) -> bool:
    """Whether an address as `client_address` gives it lies in one of the networks; no address lies in none."""
    if address is None:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in networks)


def client_address(peer: str | None, forwarded_for: str | None, trusted: Sequence[Network]) -> str | None:
    """The nearest address that is not a trusted proxy's, read from the right of X-Forwarded-For; None where the peer
    has none (a Unix socket). An entry that is no address ends the walk: what stands left of it cannot be believed."""
    address = _normal(peer)
    if address is None or not trusted or not forwarded_for or not is_in(address, trusted):
        return address
    for entry in reversed(forwarded_for.split(",")):
        candidate = _normal(entry.strip())
        if candidate is None:
            break
        address = candidate
        if not is_in(address, trusted):
            break
    return address


def stored_address(address: str | None, kept: Addresses) -> str | None:
    """What is stored of an address that `client_address` gave: `203.0.113.0` for `203.0.113.7`, truncated."""
    if kept is _FULL:
        return address
    return None if address is None or kept is Addresses.NONE else _truncated(address)


@lru_cache(maxsize=4096)
def _truncated(address: str) -> str:
    bits = _KEPT_BITS[ip_address(address).version]
    return str(ip_network(f"{address}/{bits}", strict=False).network_address)


@lru_cache(maxsize=4096)
def _normal(text: str | None) -> str | None:
    if not text:
        return None
    if text.startswith("["):  # [address]:port, as some proxies write it
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:  # address:port
        text = text.partition(":")[0]
    try:
        # Without the zone of a link-local IPv6 address: it means nothing elsewhere, and Postgres' inet refuses it.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
