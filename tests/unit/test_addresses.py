"""Whose request it is, behind proxies."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.addresses import Addresses, client_address, parse_networks, stored_address

TRUSTED = parse_networks(["10.0.0.0/8", "192.0.2.1", "fd00::/8", "::1"])


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "expected"),
    [
        # The peer is not trusted: what it says of others is not read.
        ("198.51.100.7", None, "198.51.100.7"),
        ("198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("192.0.2.2", "203.0.113.9", "192.0.2.2"),
        # One proxy, several, and a client that made up the left end.
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("192.0.2.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.1.1.1", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, 203.0.113.9,10.1.1.1 , 10.2.2.2", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 203.0.113.9", "203.0.113.9"),
        # All are trusted: the farthest.
        ("10.0.0.1", "10.0.0.2, 10.0.0.3", "10.0.0.2"),
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        # No address ends the walk.
        ("10.0.0.1", "203.0.113.9, unknown", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "203.0.113.9,", "10.0.0.1"),
        ("10.0.0.1", "' OR 1=1 --", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9:http:", "10.0.0.1"),
        # Some proxies write the port too.
        ("10.0.0.1", "203.0.113.9:8080", "203.0.113.9"),
        ("10.0.0.1", "1.2.3.4, [2001:db8::7]:8080, 10.0.0.2:443", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7]", "2001:db8::7"),
        ("10.0.0.1", "[2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", "[]:80", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.999", "10.0.0.1"),
        # IPv6, also mapped and with a zone, which Postgres' inet does not take.
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("fd00::5", "2001:DB8:0:0::7", "2001:db8::7"),
        ("::ffff:10.0.0.1", "::ffff:203.0.113.9", "203.0.113.9"),
        ("::ffff:198.51.100.7", "203.0.113.9", "198.51.100.7"),
        ("fe80::1%eth0", None, "fe80::1"),
        ("10.0.0.1", "fe80::1%<script>", "fe80::1"),
        # No peer, as on a Unix socket.
        (None, None, None),
        (None, "203.0.113.9", None),
        ("", "203.0.113.9", None),
        ("somewhere", "203.0.113.9", None),
    ],
)
def test_client_address(peer: str | None, forwarded_for: str | None, expected: str | None) -> None:
    assert client_address(peer, forwarded_for, TRUSTED) == expected


def test_without_trusted_proxies_nobody_is_believed() -> None:
    assert client_address("10.0.0.1", "203.0.113.9", ()) == "10.0.0.1"


@given(st.text() | st.lists(st.ip_addresses().map(str) | st.text(max_size=5)).map(",".join))
def test_whatever_is_said_an_address_comes_out(forwarded_for: str) -> None:
    found = client_address("10.0.0.1", forwarded_for, TRUSTED)
    assert found is not None
    assert str(ip_address(found)) == found
    assert "%" not in found


def test_networks() -> None:
    assert [str(network) for network in parse_networks(["10.0.0.0/8", "192.0.2.1", "::1"])] == [
        "10.0.0.0/8",
        "192.0.2.1/32",
        "::1/128",
    ]
    assert parse_networks([]) == ()


@pytest.mark.parametrize("text", ["10.0.0.0/33", "somewhere", "", "10.0.0.1/8"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=text.replace(".", r"\.") or "''"):
        parse_networks(["10.0.0.0/8", text])


@pytest.mark.parametrize(
    ("address", "truncated"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1:2:3::4", "2001:db8:1::"),
        (None, None),
    ],
)
def test_what_is_stored_of_an_address(address: str | None, truncated: str | None) -> None:
    assert stored_address(address, Addresses.FULL) == address
    assert stored_address(address, Addresses.TRUNCATED) == truncated
    assert stored_address(address, Addresses.NONE) is None
