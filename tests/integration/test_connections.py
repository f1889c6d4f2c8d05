"""Hostile connections against the running program: requests that could be read in two ways, requests that never end,
heads and bodies without bound. Never two requests out of one, never a hang, never one sender's harm to another."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import resource
import socket
import time
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Final

import pytest
from aiohttp import web

from ingest import connections
from ingest.connections import Guard, connection_limit
from ingest.http_server import bind, start_server
from ingest.metrics import Metrics
from tests import servers
from tests.eventually import eventually
from tests.platform import Client, load_sample
from tests.program import Program, running
from tests.servers import temporary_folder

SETTINGS: Final = {
    "SERVER__HEADER_TIMEOUT": "500ms",
    "SERVER__BODY_TIMEOUT": "500ms",
    "SERVER__KEEPALIVE": "1500ms",
    "SERVER__MAX_BODY": "256KiB",
    "SERVER__MAX_CONNECTIONS": "200",
}


@pytest.fixture(scope="module", params=["true", "false"], ids=["short-cut", "aiohttp"])
def program_and_dsn(
    request: pytest.FixtureRequest, postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer
) -> Iterator[tuple[Program, str]]:
    valkey_server.flush()
    with ExitStack() as stack:
        dsn = stack.enter_context(postgres_server.database(servers.TEMPLATE))
        folder = stack.enter_context(temporary_folder())
        asyncio.run(load_sample(dsn))
        settings = SETTINGS | {"SERVER__FAST_PATH": request.param}
        yield stack.enter_context(running(folder / "var", valkey_server.url, dsn, **settings)), dsn


async def connect(client: Client) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    host, port = client.program.url.removeprefix("http://").split(":")
    return await asyncio.open_connection(host, int(port))


async def exchange(client: Client, *pieces: bytes, within_s: float = 8) -> list[tuple[int, bytes]]:
    """Status and body of every answer until the other side closes. AssertionError if it does not."""
    reader, writer = await connect(client)
    try:
        for piece in pieces:
            writer.write(piece)
        received = b""
        try:
            async with asyncio.timeout(within_s):
                while data := await reader.read(65536):
                    received += data
        except TimeoutError:
            raise AssertionError(f"left open after {received!r}") from None
        except ConnectionError:  # a cut, with something of ours still on its way
            pass
    finally:
        writer.close()
    answers = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = int((re.search(rb"(?i)content-length: (\d+)", head) or [b"", b"0"])[1])
        answers.append((int(head.split(b" ", 2)[1]), rest[:length]))
        received = rest[length:]
    return answers


LATE_S: Final = 9.0
"""No limit of SETTINGS is as long, and no slow sender takes as long; what never ends takes longer."""

SMUGGLED: Final = b"GET /postback?click_id=smuggled HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def post(*headers: str, body: bytes = b"", line: str = "POST /postback?click_id=outer HTTP/1.1") -> bytes:
    head = [line, "Host: x", "Content-Type: application/x-www-form-urlencoded", *headers]
    return "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body


def get(*headers: str, line: str = "GET /postback?click_id=outer HTTP/1.1") -> bytes:
    return "\r\n".join([line, "Host: x", *headers]).encode("latin-1") + b"\r\n\r\n"


# Two readings of one request -----------------------------------------------------------------------------------------

CHUNKED: Final = b"0\r\n\r\n" + SMUGGLED
LENGTH: Final = f"Content-Length: {len(SMUGGLED)}"
TE: Final = "Transfer-Encoding: chunked"

REFUSED: Final = {
    "length and chunks": post("Content-Length: 4", TE, body=CHUNKED),
    "chunks and length": post(TE, f"Content-Length: {len(CHUNKED)}", body=CHUNKED),
    "two lengths": post("Content-Length: 0", LENGTH, body=SMUGGLED),
    "two lengths, reversed": post(LENGTH, "Content-Length: 0", body=SMUGGLED),
    "two equal lengths": post("Content-Length: 0", "Content-Length: 0", body=SMUGGLED),
    "a list of lengths": post(f"Content-Length: 0, {len(SMUGGLED)}", body=SMUGGLED),
    "length with a plus": post("Content-Length: +0", body=SMUGGLED),
    "length with a minus": post("Content-Length: -1", body=SMUGGLED),
    "length in hexadecimal": post("Content-Length: 0x0", body=SMUGGLED),
    "length with a blank": post("Content-Length: 1 1", body=SMUGGLED),
    "length with an underscore": post("Content-Length: 1_0", body=SMUGGLED),
    "empty length": post("Content-Length: ", body=SMUGGLED),
    "length without bound": post("Content-Length: " + "9" * 30, body=SMUGGLED),
    "no such coding": post("Transfer-Encoding: xchunked", body=CHUNKED),
    "identity": post("Transfer-Encoding: identity", body=SMUGGLED),
    "chunked is not last": post("Transfer-Encoding: chunked, identity", body=CHUNKED),
    "quoted coding": post('Transfer-Encoding: "chunked"', body=CHUNKED),
    "coding after a control character": post("Transfer-Encoding: \x0bchunked", body=CHUNKED),
    "coding given twice": post(TE, TE, body=CHUNKED),
    "blank before the colon": post("Transfer-Encoding : chunked", body=CHUNKED),
    "chunks in HTTP/1.0": post(TE, body=CHUNKED, line="POST /postback?click_id=outer HTTP/1.0"),
    "folded header": post("X-A: b\r\n Content-Length: 5", body=SMUGGLED),
    "folded coding": post("Transfer-Encoding:\r\n chunked", body=CHUNKED),
    "folded first header": b"GET /postback?click_id=outer HTTP/1.1\r\n Host: x\r\n\r\n" + SMUGGLED,
    "bare line feeds": post(LENGTH).replace(b"\r\n", b"\n") + SMUGGLED,
    "bare line feed in a header": get("X-A: b\nContent-Length: 5") + SMUGGLED,
    "bare carriage return": get("X-A: b\rContent-Length: 5") + SMUGGLED,
    "NUL in a value": get("X-A: b\0c") + SMUGGLED,
    "NUL in a name": get("X-\0A: b") + SMUGGLED,
    "NUL in the target": get(line="GET /postback?click_id=ou\0ter HTTP/1.1") + SMUGGLED,
    "no colon": get("X-A") + SMUGGLED,
    "blank in a name": get("X A: b") + SMUGGLED,
    "empty name": get(": b") + SMUGGLED,
    "tab before the colon": get("X-A\t: b") + SMUGGLED,
    "blank in the target": get(line="GET /postback?click_id=outer x HTTP/1.1") + SMUGGLED,
    "no host": b"GET /postback?click_id=outer HTTP/1.1\r\n\r\n" + SMUGGLED,
    "two hosts": get("Host: y") + SMUGGLED,
    "no such version": get(line="GET /postback?click_id=outer HTTP/9.9") + SMUGGLED,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(200) + SMUGGLED,
    "any bytes": bytes(range(256)) + SMUGGLED,
    "too many headers": get(*(f"X-{number}: y" for number in range(130))) + SMUGGLED,
    "long value": get("X-A: " + "b" * 9000) + SMUGGLED,
    "long name": get("X" * 9000 + ": a") + SMUGGLED,
    "long target": get(line="GET /postback?click_id=outer&x=" + "y" * 9000 + " HTTP/1.1") + SMUGGLED,
}
BAD_CHUNKS: Final = {
    "no size": b"zz\r\n",
    "negative size": b"-1\r\n",
    "empty size": b"\r\n0\r\n\r\n",
    "size with a prefix": b"0x5\r\nabcde\r\n0\r\n\r\n",
    "size without bound": b"f" * 17 + b"\r\n",
    "line feed in an extension": b"5;\nabcde\r\n0\r\n\r\n",
    "bare line feeds": b"5\nabcde\n0\n\n",
    "longer than its size": b"5\r\nabcdeXX0\r\n\r\n",
    "length in a trailer": b"5\r\nabcde\r\n0\r\nContent-Length: 5\r\n\r\n",
}
CODINGS: Final = ("gzip, chunked", "identity, chunked", "chunked;q=1, chunked")


async def assert_not_smuggled(client: Client) -> None:
    """Nothing was recorded for the request within the request, and the program goes on."""
    marker = f"after-{time.monotonic_ns()}"
    assert (await client.get(f"click_id={marker}"))[1]["reason"] == "unknown_click"
    await eventually(lambda: client.count("postback_log", f"click_id = '{marker}'"), lambda found: found == 1)
    assert await client.count("postback_log", "click_id = 'smuggled'") == 0


async def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(client: Client) -> None:
    said = {"status": "invalid", "reason": "bad_parameter", "detail": "request: not valid HTTP"}
    cases = REFUSED | {f"chunk: {name}": post(TE, body=body + SMUGGLED) for name, body in BAD_CHUNKS.items()}
    for name, request in cases.items():
        for pieces in ((request,), (request[:40], request[40:])):
            answers = await exchange(client, *pieces)
            assert [(status, json.loads(body)) for status, body in answers] == [(400, said)], name
    await assert_not_smuggled(client)
    assert await client.count("postback_log", "click_id = 'outer'") == 0


async def test_codings_that_are_not_read_are_refused(client: Client) -> None:
    for coding in CODINGS:
        answers = await exchange(client, post(f"Transfer-Encoding: {coding}", body=CHUNKED))
        assert [status for status, _ in answers] in ([400], [501]), coding
    await assert_not_smuggled(client)


async def test_what_is_within_a_body_is_no_request(client: Client) -> None:
    last = "Connection: close"
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED)
    for request, statuses in (
        (get(LENGTH, last) + SMUGGLED, [200]),
        (get(TE, last) + chunk, [200]),
        (post(LENGTH, last, body=SMUGGLED), [200]),
        (post(TE, last, body=chunk), [200]),
        (post(LENGTH, last, body=SMUGGLED, line="POST /nothing HTTP/1.1"), [404]),
        (post(LENGTH, last, body=SMUGGLED, line="PUT /postback HTTP/1.1"), [405]),
        (post(LENGTH, last, body=SMUGGLED, line="POST /clicks HTTP/1.1"), [401]),
        (post("Expect: 100-continue", LENGTH, last, body=SMUGGLED), [100, 200]),
        (post("Expect: something", LENGTH, last, body=SMUGGLED), [417]),
    ):
        assert [status for status, _ in await exchange(client, request)] == statuses, request[:60]
    await assert_not_smuggled(client)


async def test_an_upgrade_is_passed_over(client: Client) -> None:
    body = b"click_id=within&goal=x"
    for protocol in ("websocket", "h2c"):
        reader, writer = await connect(client)
        upgrade = ("Connection: Upgrade", f"Upgrade: {protocol}", f"Content-Length: {len(body)}")
        for request in (post(*upgrade, body=body, line="POST /postback HTTP/1.1"), get()):
            writer.write(request)
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert head.startswith(b"HTTP/1.1 200 ")
            length = re.search(rb"(?i)content-length: (\d+)", head)
            assert length
            await reader.readexactly(int(length[1]))
        writer.close()
    await eventually(lambda: client.count("postback_log", "click_id = 'within'"), lambda found: found >= 2)


# Slow senders --------------------------------------------------------------------------------------------------------


async def cuts(client: Client, why: str) -> float:
    _, text = (await exchange(client, get("Connection: close", line="GET /metrics HTTP/1.1")))[0]
    found = re.search(rf'^postback_connections_cut_total{{why="{why}"}} (\S+)$', text.decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0


async def drip(client: Client, data: bytes, *, first: bytes = b"", every_s: float = 0.1) -> tuple[float, bytes]:
    """Send byte by byte until the other side closes: after how many seconds, and what it said."""
    reader, writer = await connect(client)
    received = bytearray()
    writer.write(first)
    started = time.monotonic()

    async def read() -> None:
        try:
            while piece := await reader.read(65536):
                received.extend(piece)
        except ConnectionError:
            return

    reading = asyncio.create_task(read())
    for byte in data:
        if reading.done():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([reading], timeout=every_s)
    await asyncio.wait([reading], timeout=10)
    assert reading.done(), "left open"
    writer.close()
    return time.monotonic() - started, bytes(received)


async def test_a_head_that_comes_byte_by_byte_is_cut_off(client: Client) -> None:
    before = await cuts(client, "slow_head")
    alone, behind = await asyncio.gather(
        drip(client, get("X-A: " + "b" * 1000)),
        drip(client, get("X-A: " + "b" * 1000), first=get()),
    )
    for seconds, _ in (alone, behind):
        assert 0.4 < seconds < LATE_S, "half a second from the first byte, however many follow"
    assert alone[1] == b""
    assert behind[1].count(b"HTTP/1.1 200 ") == 1
    assert await cuts(client, "slow_head") == before + 2


async def test_a_head_that_stops_is_cut_off(client: Client) -> None:
    requests = (b"G", get()[:-1], post("Content-Length: 5")[:-2])
    for seconds, received in await asyncio.gather(*(drip(client, b"", first=request) for request in requests)):
        assert seconds < LATE_S
        assert received == b""


async def test_a_head_without_end_is_cut_off(client: Client) -> None:
    before = await cuts(client, "large_head")
    answers = await exchange(client, get()[:-2], *(f"X-{number}: {'y' * 400}\r\n".encode() for number in range(100)))
    assert answers == []
    assert await cuts(client, "large_head") == before + 1
    assert await exchange(client, *(b"\r\n" * 5_000 for _ in range(8))) == []
    assert await cuts(client, "large_head") == before + 2


async def test_silent_connections_are_closed(client: Client) -> None:
    (silent, said), (idle, _) = await asyncio.gather(drip(client, b""), drip(client, b"", first=get()))
    assert said == b""
    assert 1.3 < silent < LATE_S, "server.keepalive"
    assert 1.3 < idle < LATE_S


async def test_a_body_that_comes_byte_by_byte_is_cut_off(client: Client) -> None:
    firsts = (
        post("Content-Length: 1000"),
        post(TE) + b"3e8\r\n",
        post("Content-Length: 1000", line="PUT /postback HTTP/1.1"),
    )
    *cut, (seconds, refused) = await asyncio.gather(*(drip(client, b"a" * 1000, first=first) for first in firsts))
    for cut_after_s, received in cut:
        assert 0.4 < cut_after_s < LATE_S, "server.body_timeout, and a while for the answer to get through"
        assert received.startswith(b"HTTP/1.1 408 ")
    assert refused.startswith(b"HTTP/1.1 405 ")
    assert seconds < LATE_S


async def test_half_open_connections_do_not_starve_the_others(client: Client) -> None:
    """More than there is room for, each opened anew soon after it is cut, and a sender among them."""
    stop = asyncio.Event()

    async def attack() -> int:
        opened = 0
        while not stop.is_set():
            try:
                reader, writer = await connect(client)
            except OSError:
                await asyncio.sleep(0.1)
                continue
            opened += 1
            reading = asyncio.create_task(_rest(reader))
            writer.write(b"GET /postback?click_id=")
            while not stop.is_set() and not reading.done():
                writer.write(b"x")
                await asyncio.wait([reading], timeout=0.2)
            writer.close()
            reading.cancel()
            await asyncio.sleep(0.1)
        return opened

    attackers = [asyncio.create_task(attack()) for _ in range(250)]
    waits: list[float] = []
    failed = 0
    while len(waits) < 200:
        started = time.monotonic()
        try:
            answers = await exchange(client, get("Connection: close", line="GET /postback?click_id=s HTTP/1.1"))
        except ConnectionError:
            answers = []
        if [status for status, _ in answers] == [200]:
            waits.append(time.monotonic() - started)
        else:
            failed += 1
    stop.set()
    opened = await asyncio.gather(*attackers)
    assert sum(opened) > 300, "cut and opened anew"
    assert await cuts(client, "no_room") > 50
    assert failed < 10
    assert sorted(waits)[180] < 3, sorted(waits)[-20:]


async def _rest(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read()
    except ConnectionError:
        return b""


async def test_where_all_are_in_use_the_next_is_told_so(client: Client) -> None:
    used: list[asyncio.StreamWriter] = []

    async def ask() -> bytes:
        reader, writer = await connect(client)
        used.append(writer)
        writer.write(get())
        try:
            return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)
        except (ConnectionError, asyncio.IncompleteReadError):  # its own request crossed with the refusal
            return b"HTTP/1.1 503 "

    try:
        # At once: one after the other, the first would be idle for too long, and closed, before the last one comes.
        await asyncio.gather(*(ask() for _ in range(195)))
        refused = [await ask() for _ in range(20)]
    finally:
        for writer in used:
            writer.close()
    told = [head for head in refused if head.startswith(b"HTTP/1.1 503 ")]
    assert len(told) > 5
    assert any(b"Retry-After: 5" in head for head in told)
    await eventually(lambda: _status(client), lambda status: status == 200)


async def _status(client: Client) -> int:
    try:
        answers = await exchange(client, get("Connection: close"))
    except ConnectionError:
        return 0
    return answers[0][0] if answers else 0


# Bodies and keys -----------------------------------------------------------------------------------------------------


async def test_a_body_that_is_too_large_is_not_awaited(client: Client) -> None:
    many = b"".join(b"10000\r\n" + b"a" * 65536 + b"\r\n" for _ in range(16)) + b"0\r\n\r\n"
    requests = (post("Content-Length: 1000000000", body=b"a" * 1000), post(TE, body=many))
    for answers in await asyncio.gather(*(exchange(client, request) for request in requests)):
        assert [status for status, _ in answers] == [413]


async def test_a_body_that_unpacks_without_end_is_cut_off(client: Client) -> None:
    for coding, data in (
        ("gzip", gzip.compress(bytes(50_000_000), 9)),
        ("deflate", zlib.compress(bytes(50_000_000), 9)),
    ):
        packed = post(f"Content-Encoding: {coding}", f"Content-Length: {len(data)}", body=data)
        assert [status for status, _ in await exchange(client, packed)] == [413]
    for damaged in (b"not packed", gzip.compress(b"click_id=x")[:-9], gzip.compress(b"click_id=x") + b"more"):
        packed = post("Content-Encoding: gzip", f"Content-Length: {len(damaged)}", "Connection: close", body=damaged)
        answers = await exchange(client, packed)
        assert [status for status, _ in answers] in ([400], [200]), damaged
    unknown = post("Content-Encoding: zip", "Content-Length: 1", "Connection: close", body=b"a")
    assert [status for status, _ in await exchange(client, unknown)] in ([200], [400], [415])


async def test_deep_and_wide_json(client: Client) -> None:
    deep = b"[" * 100_000
    wide = b'{"click_id": "wide", ' + b", ".join(b'"k%d": 1' % number for number in range(15_000)) + b"}"
    nested = b'{"click_id": "nested", "a": ' + b'{"a": ' * 20_000 + b"1" + b"}" * 20_001
    number = b'{"click_id": "number", "sale_amount": ' + b"9" * 200_000 + b"}"
    for body, statuses in ((deep, [400]), (wide, [200]), (nested, [400, 200]), (number, [200])):
        head = (
            f"POST /postback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        )
        answers = await exchange(client, head.encode() + b"Connection: close\r\n\r\n" + body)
        assert [status for status, _ in answers] in ([status] for status in statuses)


@pytest.mark.parametrize("key", ["k" * 256, "k\xe9", "k\tk", "k\x7f"])
async def test_a_key_that_is_no_key_is_refused(client: Client, key: str) -> None:
    await client.register("key")
    for line in (
        "GET /postback?click_id=key&goal=ad_view HTTP/1.1",
        "POST /postback?click_id=key&goal=ad_view HTTP/1.1",
    ):
        answers = await exchange(client, get(f"Idempotency-Key: {key}", "Connection: close", line=line))
        assert [status for status, _ in answers] == [400]
    assert await client.count("conversions", "click_id = 'key'") == 0


async def test_a_key_speaks_for_its_own_click_and_goal_only(client: Client) -> None:
    await client.register("key-a", "key-b")
    key = {"Idempotency-Key": "1000:1"}
    said: list[Any] = []
    for click_id, goal in (("key-a", "ad_view"), ("key-b", "ad_view"), ("key-a", "install"), ("key-a", "ad_view")):
        said.append((await client.post("/postback", data={"click_id": click_id, "goal": goal}, headers=key))[1])
    assert [one["status"] for one in said] == ["accepted", "accepted", "accepted", "duplicate"]
    answers = await exchange(
        client,
        get(
            "Idempotency-Key: a",
            "Idempotency-Key: b",
            "Connection: close",
            line="GET /postback?click_id=key-a HTTP/1.1",
        ),
    )
    assert [status for status, _ in answers] == [400], "two keys"
    empty = get("Idempotency-Key: ", "Connection: close", line="GET /postback?click_id=key-a&goal=ad_view HTTP/1.1")
    assert json.loads((await exchange(client, empty))[0][1])["status"] == "accepted"


# What is left behind -------------------------------------------------------------------------------------------------


async def test_nothing_of_this_is_an_error_of_ours(client: Client) -> None:
    """The last of this module: no failure was logged, nor anything that was sent."""
    text = client.program.log_path.read_text(encoding="utf-8")
    assert "Traceback" not in text
    assert "smuggled" not in text
    assert not [line for line in client.program.log if line.get("level") == "error"]
    assert (await client.get("click_id=nobody"))[0] == 200


async def test_answers_that_nobody_reads_end_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, for its limit is not a setting."""
    monkeypatch.setattr(connections, "ANSWER_TIMEOUT_S", 0.3)
    metrics = Metrics()
    guard = Guard(metrics.counter("postback_connections_cut"), max_connections=10, header_timeout_s=5)

    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(30_000_000))

    app = web.Application()
    app.router.add_get("/", large)
    listening = bind("127.0.0.1", 0, shared=False)
    port = listening.getsockname()[1]
    server = await start_server(app, listening, guard, keepalive_s=5, finish_s=1)
    try:
        with socket.create_connection(("127.0.0.1", port)) as peer:
            peer.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

            async def count() -> float:
                return (
                    metrics.registry.get_sample_value("postback_connections_cut_total", {"why": "unread_answers"}) or 0
                )

            await eventually(count, lambda found: found == 1)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert len(await reader.readexactly(30_000_000)) == 30_000_000, "one that reads is not cut off"
        await asyncio.sleep(0.4)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n")
        writer.close()
    finally:
        await server.cleanup()


def test_the_number_of_connections_fits_the_limit_on_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, wanted: limits.update(now=wanted))
    assert connection_limit(500) == 500
    assert limits["now"] == (1024, 4096)
    assert connection_limit(3000) == 3000
    assert limits["now"] == (3256, 4096)
    assert connection_limit(10_000) == 4096 - connections.RESERVED_FILES
    limits["now"] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert connection_limit(10_000) == 10_000

    def refuse(_: object, __: object) -> None:
        raise ValueError("not allowed to raise maximum limit")

    limits["now"] = (100, 100)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert connection_limit(10_000) == 1
