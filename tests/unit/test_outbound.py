"""The pure parts of publishers' postbacks: templates, where they may go, signatures, breakers."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.outbound.hosts import Hosts
from ingest.outbound.networks import Policy, RefusedError, is_public, parse_policy
from ingest.outbound.signing import new_secret, signature
from ingest.outbound.templates import MACROS, MAX_URL_BYTES, TemplateError, parse_template, render

POLICY = Policy()
OPEN = parse_policy(allow_http=True, networks=("127.0.0.0/8", "fd00::/8"), ports=(80, 443, 8080))

REFUSED = (
    "0.0.0.0", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.255", "168.63.129.16",
    "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1",
    "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::ffff:8.8.8.8", "::ffff:127.0.0.1", "::8.8.8.8", "64:ff9b::8.8.8.8", "64:ff9b:1::1", "100::1",
    "2001::1", "2001:db8::1", "2002:7f00:1::1", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
    "2606:4700::1%eth0", "fec0::1", "ff02::1",
)  # fmt: skip
PUBLIC = (
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "2606:4700::1111",
    "2a00::1",
)


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    assert not is_public(ip_address(address))
    with pytest.raises(RefusedError, match="not a public address"):
        POLICY.check_address(ip_address(address))


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address: str) -> None:
    POLICY.check_address(ip_address(address))


@given(st.ip_addresses(v=4))
def test_no_more_is_allowed_than_is_global(address: IPv4Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
    assert not is_public(IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)), "mapped"
    assert not is_public(IPv6Address(b"\x20\x02" + address.packed + b"\0" * 10)), "6to4"


@given(st.ip_addresses(v=6))
def test_no_more_of_ipv6_is_allowed_than_is_global(address: IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert address.ipv4_mapped is None
        assert address.sixtofour is None
        assert address.teredo is None


def test_what_is_allowed_by_the_configuration_is() -> None:
    OPEN.check_address(ip_address("127.0.0.1"))
    OPEN.check_address(ip_address("fd00::1"))
    with pytest.raises(RefusedError):
        OPEN.check_address(ip_address("10.0.0.1"))
    with pytest.raises(RefusedError):
        OPEN.check_address(ip_address("::ffff:127.0.0.1"))


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("http://p.example/", "outbound.allow_http"),
        ("ftp://p.example/", "expected https"),
        ("https://p.example:8443/", "outbound.ports"),
        ("https://127.0.0.1/", "not a public address"),
        ("https://[::1]/", "not a public address"),
        ("https://2130706433/", "usual form"),
        ("https://0x7f.1/", "usual form"),
        ("https://127.1/", "usual form"),
        ("https://p.example.0x7f/", "usual form"),
        ("https://user:password@p.example/", "name or password"),
        ("https://user@p.example/", "name or password"),
        ("https://{sub1}/", "cannot stand in the host"),
        ("https://{sub1}.example/", "cannot stand in the host"),
        ("https://p.example:{sub1}/", "cannot stand in the host"),
        ("https:///x", "expected a URL"),
        ("p.example/x", "expected a URL"),
        ("https:\\\\p.example", "expected a URL"),
        ("https://p.example/?{sub1}=1", "only stand in a value"),
        ("https://p.example/?{sub1}", "only stand in a value"),
        ("https://p.example/{nothing}", "is not known"),
        ("https://p.example/{revenue}", "is not known"),
        ("https://p.example/{sub21}", "is not known"),
        ("https://p.example/{sub1", "without its partner"),
        ("https://p.example/sub1}", "without its partner"),
        ("https://p.example/#x", "fragment"),
        ("https://p.example/a b", "blanks"),
        ("https://p.example/\r\nX: y", "blanks"),
        ("https://p.example/ü", "beyond ASCII"),
        ("https://p.example/%zz", "percent-encode"),
        ("https://p.example/a\\b", "percent-encode"),
        ("https://p.example/" + "x" * 2048, "longer than"),
    ],
)
def test_a_template_that_cannot_be_used_is_refused(template: str, why: str) -> None:
    with pytest.raises((TemplateError, RefusedError), match=why):
        parse_template(template, POLICY)


@pytest.mark.parametrize(
    "template",
    [
        "https://p.example/",
        "https://p.example:443/a/{click_id}?c={sub1}-{sub20}&x=1&y&z=%20",
        "https://[2606:4700::1111]/{click.aff_click-id}",
        "https://8.8.8.8/?a=" + "".join(f"{{{macro}}}" for macro in MACROS),
    ],
)
def test_a_template_stays_what_it_was(template: str) -> None:
    assert parse_template(template, POLICY).text == template


def test_hosts_are_written_in_one_way() -> None:
    template = parse_template("HTTPS://P.Example?c={click_id}", POLICY)
    assert (template.scheme, template.host, template.text) == ("https", "p.example", "https://p.example/?c={click_id}")


@given(st.text(max_size=300), st.text(max_size=300))
def test_no_value_leaves_its_place(first: str, second: str) -> None:
    template = parse_template("https://p.example/a/x{click_id}/b?c={sub1}&d=e", POLICY)
    try:
        target = render(template, {"click_id": first, "sub1": second})
    except TemplateError:
        assert len(first.encode()) + len(second.encode()) > MAX_URL_BYTES / 3 - 100
        return
    url = urlsplit(f"{target.origin}{target.path}?{target.query}")
    assert (url.scheme, url.netloc, url.fragment) == ("https", "p.example", "")
    assert [unquote(part) for part in url.path.split("/")] == ["", "a", f"x{first}", "b"]
    assert parse_qsl(url.query, keep_blank_values=True, separator="&") == [("c", second), ("d", "e")]


@pytest.mark.parametrize("value", [".", "..", "%2e", "%2E%2e"])
def test_no_value_leads_upwards(value: str) -> None:
    template = parse_template("https://p.example/a/{click_id}/b", POLICY)
    if "%" in value:
        assert render(template, {"click_id": value}).path == f"/a/{value.replace('%', '%25')}/b"
    else:
        with pytest.raises(TemplateError, match="path"):
            render(template, {"click_id": value})


def test_a_signature_covers_all_that_is_sent() -> None:
    secret = new_secret()
    plain = ("GET", "/a?b=c", "id", b"")
    name, value = signature(secret, *plain, 1_790_000_000)
    assert name == "X-Postback-Signature"
    assert value.startswith("t=1790000000,v1=")
    changed = (("POST", *plain[1:]), ("GET", "/a?b=d", "id", b""), ("GET", "/a?b=c", "other", b""), (*plain[:3], b"x"))
    others = {signature(secret, *one, 1_790_000_000)[1] for one in changed}
    others |= {signature(secret, *plain, 1_790_000_001)[1][2:], signature(new_secret(), *plain, 1_790_000_000)[1]}
    assert len(others - {value}) == 6


def test_a_breaker_opens_rests_longer_each_time_and_closes() -> None:
    hosts = Hosts(3, opens_after=2, first_rest_s=10, longest_rest_s=30)

    def attempt(now_s: float, *, is_well: bool) -> None:
        hosts.started("h")
        hosts.finished("h", now_s, is_well=is_well, chance=0.0)

    attempt(0, is_well=False)
    assert hosts.room(0) == {"h": 3}
    attempt(0, is_well=False)
    assert (hosts.room(9), hosts.room(10), hosts.resting()) == ({"h": 0}, {"h": 1}, ["h"])
    now_s = 10.0
    for rests_s in (20, 30, 30):
        hosts.started("h")
        assert hosts.room(now_s) == {"h": 0}, "one attempt decides"
        hosts.finished("h", now_s, is_well=False, chance=0.0)
        now_s += rests_s
        assert (hosts.room(now_s - 1), hosts.room(now_s)) == ({"h": 0}, {"h": 1})
    attempt(now_s, is_well=True)
    assert (hosts.room(now_s), hosts.resting()) == ({}, []), "nothing is kept of a host that is well"


def test_what_was_under_way_when_a_breaker_opened_makes_no_longer_rest() -> None:
    hosts = Hosts(5, opens_after=2, first_rest_s=10, longest_rest_s=100)
    for _ in range(5):
        hosts.started("h")
    for _ in range(5):
        hosts.finished("h", 0, is_well=False, chance=0.0)
    assert hosts.room(10) == {"h": 1}


def test_a_host_that_is_called_has_less_room() -> None:
    hosts = Hosts(3)
    hosts.started("a")
    hosts.started("a")
    assert hosts.room(0) == {"a": 1}
    hosts.finished("a", 0, is_well=True, chance=0.5)
    assert hosts.room(0) == {"a": 2}
