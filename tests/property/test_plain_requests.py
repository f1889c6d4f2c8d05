"""Requests read by compiled code against those read without: whatever the bytes, the same postback or none."""

from __future__ import annotations

import random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.addresses import parse_networks
from ingest.arrival import Arrival, Unread
from ingest.compiled import is_built
from ingest.plain_requests import PlainRequests
from tests.property.test_plain import many

pytestmark = pytest.mark.skipif(not is_built(), reason="the compiled code is not built")

PATHS: Final = ("/postback", "/p", "/postback/in", "/")
TARGETS: Final = (
    b"/postback?click_id=c1&goal=install", b"/p?a=b", b"/?a=b", b"/postback", b"/postback?", b"/postback?&&",
    b"/other?a=b", b"/postback?a=%41+b", b"/postback?a=b#c", b"/postback?a=\xc3\xbc", b"/postback?a b",
    b"/postback?" + b"a=b&" * 5000, b"http://host/postback?a=b", b"*", b"/postback?a=b?c", b"//postback?a=b", b"?a=b",
)  # fmt: skip
HEADERS: Final = (
    b"Host: h\r\n", b"User-Agent: x\r\n", b"X-Forwarded-For: 203.0.113.7\r\n",
    b"X-Forwarded-For: 10.0.0.1, 203.0.113.8\r\n", b"Content-Length: 0\r\n", b"Content-Length: 3\r\n",
    b"Content-Type: application/json\r\n", b"Connection: close\r\n", b"Idempotency-Key: k\r\n",
    b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n", b"Upgrade: x\r\n", b"bad\r\n",
    b"Postback-Signature: t=1,v1=00\r\n", b" folded\r\n", b"Accept: */*\n",
)  # fmt: skip


def request_of(rng: random.Random) -> bytes:
    """A request, often with something wrong in it, and sometimes cut or with more after it."""
    method = rng.choice([b"GET", b"GET", b"GET", b"POST", b"get", b"HEAD"])
    version = rng.choice([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.1 "])
    headers = b"".join([HEADERS[0], *rng.sample(HEADERS[1:], rng.choice([0, 0, 1, 3]))])
    data = b"%b %b %b\r\n%b\r\n" % (method, rng.choice(TARGETS[: rng.choice([1, 17])]), version, headers)
    for _ in range(rng.choice([0, 0, 1, 2])):
        at = rng.randint(0, min(len(data), 80))
        new = rng.choice([b"", rng.randbytes(1), b"\r", b"\n", b"\r\n", b" ", b"?", b"&", b"\x00", b"\x7f"])
        data = data[:at] + new + data[at + rng.randint(0, 1) :]
    return data[: rng.choice([None, None, None, rng.randint(0, len(data))])] + rng.choice([b"", b"", b"x"])


def said(read: Arrival | Unread | None) -> object:
    """All but the receipt's id and time."""
    if isinstance(read, Unread):
        return read.receipt.remote_ip, read.query
    if isinstance(read, Arrival):
        return read.receipt.remote_ip, read.sent, read.idempotency_key, read.fault, read.signed
    return None


@many(200)
@given(st.integers(0, 2**64))
def test_requests_are_read_the_same(seed: int) -> None:
    from ingest.compiled.requests import Requests

    rng = random.Random(seed)
    others = PlainRequests(PATHS, parse_networks(["10.0.0.0/8"]))
    compiled = Requests(others)
    for _ in range(20):
        data, peer = request_of(rng), rng.choice(["192.0.2.7", "10.0.0.2", "::1", None])
        for _ in range(rng.choice([1, 2])):  # headers that come again are known
            assert said(compiled.read(data, peer)) == said(others.read(data, peer)), data


def test_a_request_of_each_kind_is_read() -> None:
    from ingest.compiled.requests import Requests

    plain = PlainRequests(PATHS, ())
    read = Requests(plain).read(b"GET /postback?a=b HTTP/1.1\r\nHost: h\r\n\r\n", "192.0.2.7")
    assert isinstance(read, Unread)
    assert said(read) == ("192.0.2.7", "a=b")
