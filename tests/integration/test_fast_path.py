"""The short cut against aiohttp's way: the same bytes, split, pipelined, half-closed and damaged, must bring the same
answers, metrics and rows from a program with the short cut and from one without."""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Final

import pytest

from ingest.simple_request import SimpleHeaders, SimpleRequest, read_headers, read_simple
from tests import servers
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running
from tests.servers import temporary_folder

SEED: Final = 20261123
PATHS: Final = frozenset({b"/postback"})
SETTINGS: Final = {
    "SERVER__BODY_TIMEOUT": "500ms",
    "SERVER__MAX_BODY": "256KiB",
    "SERVER__TRUSTED_PROXIES": "127.0.0.1",
}


@dataclass(frozen=True)
class Pair:
    """The same program twice, with the short cut and without, and what each has behind it."""

    programs: tuple[Program, Program]
    dsns: tuple[str, str]


@pytest.fixture(scope="module")
def pair(postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer) -> Iterator[Pair]:
    valkey_server.flush()
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        programs, dsns = [], []
        for number, is_fast in enumerate(("true", "false")):
            dsn = stack.enter_context(postgres_server.database(servers.TEMPLATE))
            asyncio.run(load_sample(dsn))
            url = f"{valkey_server.url}?db={number}"
            settings = SETTINGS | {"SERVER__FAST_PATH": is_fast}
            programs.append(stack.enter_context(running(folder / is_fast, url, dsn, **settings)))
            dsns.append(dsn)
        yield Pair((programs[0], programs[1]), (dsns[0], dsns[1]))


def get(query: str, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"GET /postback?{query} HTTP/{version}", "Host: tracker.example", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def post(body: bytes, content_type: str, *headers: str, length: int | None = None, query: str = "") -> bytes:
    length = len(body) if length is None else length
    lines = [f"POST /postback{query} HTTP/1.1", "Host: tracker.example", f"Content-Type: {content_type}"]
    lines += [f"Content-Length: {length}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


FORM: Final = "application/x-www-form-urlencoded"
BUY: Final = "click_id=diff-1&goal=purchase&txn_id="

CASES: Final = [
    get(BUY + "1&sale_amount=5"),
    get(BUY + "1&sale_amount=5"),
    get(BUY + "1&sale_amount=6"),
    get("click_id=diff-1"),
    get("click_id=nobody"),
    get(""),
    get("a"),
    get("click_id=diff-2&goal=ad_view&event_id=e1", "User-Agent: curl/8", "Accept: */*"),
    get("click_id=diff-2&goal=ad_view&event_id=e1", "user-agent: x", "ACCEPT: */*"),
    get("click_id=diff-shop&order=1&total=10&shop_key=demo-token"),
    get("click_id=diff-shop&order=1&total=10&shop_key=wrong"),
    get("lead_ref=diff-bank&result=application"),
    get("lead_ref=diff-bank&result=nothing"),
    get(BUY + "2&sale_amount=5", "X-Forwarded-For: 203.0.113.9"),
    get("click_id=nobody-ip", "X-Forwarded-For: 203.0.113.9, 198.51.100.7"),
    get("click_id=nobody-ip2", "X-Forwarded-For: 203.0.113.9", "X-Forwarded-For: 198.51.100.7"),
    get("click_id=nobody-ip3", "X-Forwarded-For: garbage"),
    get(BUY + "3&sale_amount=5", "Connection: close"),
    get(BUY + "4&sale_amount=5", "Connection: keep-alive"),
    get(BUY + "5&sale_amount=5", version="1.0"),
    get("click_id=diff-2&goal=ad_view", "Idempotency-Key: k1"),
    get("click_id=diff-2&goal=ad_view", "Idempotency-Key: k1"),
    get(BUY + "6&sale_amount=5", "Content-Length: 0"),
    get(BUY + "7&sale_amount=5", "Transfer-Encoding: chunked"),
    get(BUY + "8&sale_amount=5", "Expect: 100-continue"),
    get(BUY + "9&sale_amount=5", "Upgrade: websocket", "Connection: Upgrade"),
    get(BUY + "10&sale_amount=5", "X-Custom: anything"),
    get(BUY + "11&sale_amount=5", "Bad Header: x"),
    get(BUY + "12&sale_amount=5", "X-Empty:"),
    get(BUY + "13&sale_amount=5", "X-Obs: a\r\n folded"),
    get(BUY + "14&sale_amount=5", "Accept:no-blank"),
    get(BUY + "15&sale_amount=5", "Accept:   many   "),
    get(BUY + "16&sale_amount=5", "Host: twice.example"),
    get(BUY + "17&sale_amount=5", "Accept: \xe9"),
    get(BUY + '18&sale_amount=5&sub1="<>\\^`{|}'),
    get(BUY + "19&sale_amount=5&sub1=a#fragment"),
    get(BUY + "20&sale_amount=5&sub1=%C3%BC+%zz%"),
    get(BUY + "21&sale_amount=5&sub1=\xfc"),
    get(BUY + "22&sale_amount=5&sub1=" + "x" * 7000),
    get(BUY + "23&sale_amount=5&sub1=" + "x" * 9000),
    get(BUY + "24&sale_amount=5", "Cookie: a=b"),
    get(BUY + "25&sale_amount=5 "),
    get(BUY + "26&sale_amount=5").replace(b"Host: tracker.example\r\n", b""),
    get(BUY + "27&sale_amount=5").replace(b"\r\n", b"\n"),
    get(BUY + "28&sale_amount=5").replace(b"GET /postback?", b"GET http://x.example/postback?"),
    get(BUY + "29&sale_amount=5").replace(b"GET /postback?", b"GET //postback?"),
    get(BUY + "30&sale_amount=5").replace(b"GET /postback?", b"GET /%70ostback?"),
    get(BUY + "31&sale_amount=5").replace(b"GET ", b"get "),
    get(BUY + "32&sale_amount=5").replace(b"GET ", b"HEAD "),
    get(BUY + "33&sale_amount=5").replace(b"GET ", b"\r\nGET "),
    get(BUY + "34&sale_amount=5").replace(b"/postback?", b"/postback??"),
    b"GET /postback HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /nothing?click_id=diff-1 HTTP/1.1\r\nHost: x\r\n\r\n",
    post(b"click_id=diff-3&goal=purchase&txn_id=f1&sale_amount=1", FORM),
    post(b"click_id=diff-3&goal=purchase&txn_id=f1&sale_amount=1", FORM + "; charset=utf-8"),
    post(b"click_id=diff-3&goal=purchase&txn_id=f2&sale_amount=1", FORM.upper()),
    post(b"goal=purchase&txn_id=f3&sale_amount=1", FORM, query="?click_id=diff-3"),
    post(b'{"click_id": "diff-3", "goal": "purchase", "txn_id": "j1", "sale_amount": 1.10}', "application/json"),
    post(b'{"click_id": "diff-3", "goal": "purchase", "txn_id": "j1", "sale_amount": 1.1}', "application/json"),
    post(b'{"click_id": ', "application/json"),
    post(b"[]", "application/json"),
    post(b"click_id=diff-3", "text/plain"),
    post(b"", FORM),
    post(b"", FORM, query="?click_id=diff-3&goal=purchase&txn_id=f4&sale_amount=2"),
    post(b"click_id=diff-3&goal=purchase&txn_id=f5&sale_amount=1GET / HTTP/1.1\r\n\r\n", FORM, length=53),
    post(b"click_id=diff-3&goal=purchase&txn_id=f6&sale_amount=1", FORM, "Content-Encoding: gzip"),
    post(b"click_id=diff-3&goal=purchase&txn_id=f7&sale_amount=1", FORM, "Content-Length: 53"),
    post(b"click_id=diff-3&goal=purchase&txn_id=f8&sale_amount=1&sub1=" + b"y" * 70_000, FORM),
    post(b"click_id=diff-3&goal=purchase&txn_id=f9&sale_amount=1&sub1=" + b"y" * 300_000, FORM),
]
PLAIN: Final = [case for case in CASES if len(case) < 1000 and b"chunked" not in case]
"""What may be sent in any way, many times: for the rest of what claims to be chunked the program waits."""


async def exchange(program: Program, pieces: list[bytes], *, then: bytes, half_close: bool) -> list[bytes]:
    """What comes back on one connection for the pieces, sent one after the other, and after the first answer for
    `then`: status, headers and body each."""
    is_head = pieces[0].startswith(b"HEAD ")
    host, port = program.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.003)  # so that they arrive apart: the case under test
        if half_close:
            writer.write_eof()
        answers: list[bytes] = []
        while (answer := await _answer(reader, has_body=bool(answers) or not is_head)) is not None:
            answers.append(answer)
            if len(answers) == 1 and then and not writer.is_closing() and not reader.at_eof():
                writer.write(then)
        return answers
    finally:
        writer.close()


async def _answer(reader: asyncio.StreamReader, *, has_body: bool) -> bytes | None:
    try:
        async with asyncio.timeout(30):
            head = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)\r\ncontent-length: (\d+)", head)
            body = await reader.readexactly(int(length[1])) if length and has_body else b""
    except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
        return None
    status, *headers = head.rstrip().split(b"\r\n")
    shown = sorted(line for line in headers if not line.lower().startswith((b"date:", b"retry-after:")))
    return b"\n".join([status, *shown, b"", body])


END: Final = get("click_id=diff-end", "Connection: close")


async def both(pair: Pair, *pieces: bytes, then: bytes = b"", half_close: bool = False) -> None:
    ours, theirs = await asyncio.gather(
        *(exchange(program, list(pieces), then=then, half_close=half_close) for program in pair.programs)
    )
    if not (half_close and (not ours or not theirs)):
        assert ours == theirs, (pieces, ours, theirs)


async def register(pair: Pair) -> None:
    clicked_at = int(time.time()) - 600
    for program, dsn in zip(pair.programs, pair.dsns, strict=True):
        async with client_of(program, dsn) as client:
            rows = [
                {"click_id": name, "campaign_id": campaign, "publisher_id": publisher, "country": country}
                for name, campaign, publisher, country in (
                    *((f"diff-{n}", 100, 10, "US") for n in range(1, 10)),
                    ("diff-shop", 200, 10, "DE"),
                    ("diff-bank", 300, 11, "GB"),
                )
            ]
            body = [row | {"clicked_at": clicked_at} for row in rows]
            status, said = await client.post("/clicks", json=body, key=program.admin_key)
            assert status == 200, said


async def outcomes_of(client: Client) -> list[str]:
    async with client.http.get(f"{client.program.url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return sorted(line for line in lines if line.startswith(("postback_outcomes_total", "postback_unreadable_total")))


async def conversions_of(client: Client) -> list[tuple[object, ...]]:
    """What was counted, but for what each request counts anew."""
    rows = await client.database.fetch(
        "SELECT conversion_id, click_id, txn_id, goal_value, sale_amount, revenue, payout, params, status"
        " FROM conversions WHERE goal_value <> 'ad_view' OR params ? 'event_id' ORDER BY 1"
    )
    return [tuple(row) for row in rows]


async def log_of(client: Client) -> list[tuple[object, ...]]:
    """What was logged, without its times and ids."""
    rows = await client.database.fetch(
        "SELECT outcome, reason, click_id, txn_id, goal_value, conversion_id, remote_ip, params FROM postback_log"
        " WHERE click_id NOT LIKE 'marker%' OR click_id IS NULL ORDER BY 1, 2, 3, 4, 5, 6, 7, 8"
    )
    return [tuple(row) for row in rows]


async def written(client: Client, name: str) -> None:
    """Return when all that was queued until now is in the tables."""
    await client.get(f"click_id=marker-{name}")
    await eventually(lambda: client.count("postback_log", f"click_id = 'marker-{name}'"), bool)


async def test_the_short_cut_answers_what_aiohttp_answers(pair: Pair) -> None:
    await register(pair)
    rng = random.Random(SEED)
    for case in CASES:
        await both(pair, case, then=END)
    for _ in range(40):
        case = rng.choice(PLAIN)
        at = rng.randrange(1, len(case))
        await both(pair, case[:at], case[at:], then=END)
        await both(pair, rng.choice(PLAIN) + rng.choice(PLAIN), then=END)
    found = []
    for program, dsn in zip(pair.programs, pair.dsns, strict=True):
        async with client_of(program, dsn) as client:
            await written(client, "alike")
            found.append((await conversions_of(client), await log_of(client), await outcomes_of(client)))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]
    assert found[0][2] == found[1][2]
    assert len(found[0][0]) > 25
    assert len(found[0][1]) > 25


async def test_a_half_closed_or_damaged_request_is_refused_alike_or_counted_alike(pair: Pair) -> None:
    """aiohttp may see the end before it has looked at the request, and drop it; the short cut never does. So answers
    are compared where both gave one, and what is counted once every plain request has been sent whole."""
    await register(pair)
    rng = random.Random(SEED + 1)
    for number in range(90):
        case = rng.choice(PLAIN)
        at = rng.randrange(1, len(case))
        match number % 3:
            case 0:
                sent = case
            case 1:
                sent = case[:at] + bytes([rng.randrange(256)]) + case[at + 1 :]
            case _:
                sent = case[:at]
        await both(pair, sent, half_close=True)
    for case in CASES:
        await asyncio.gather(*(exchange(program, [case], then=END, half_close=False) for program in pair.programs))
    found = []
    for program, dsn in zip(pair.programs, pair.dsns, strict=True):
        async with client_of(program, dsn) as client:
            await written(client, "closed")
            found.append({row[0] for row in await conversions_of(client)})
    assert len(found[0] & found[1]) > 25
    # What a damaged byte made another event of, one of them may have counted and the other dropped.
    assert len(found[0] ^ found[1]) <= 10


def test_what_is_read_simply() -> None:
    assert read_simple(get("click_id=1&x=%20"), PATHS) == SimpleRequest("click_id=1&x=%20", None, SimpleHeaders())
    body = b"click_id=1"
    assert read_simple(post(body, FORM, "X-Forwarded-For: 10.0.0.1"), PATHS) == SimpleRequest(
        "", body, SimpleHeaders(FORM, len(body), "10.0.0.1")
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        get("a=1")[:-1],
        get("a=1") + b"G",
        get("a=1").replace(b"1.1", b"1.0"),
        get("a=1", "Connection: close"),
        get("a=1", "Content-Length: 1"),
        get("a=1", "X-Unknown: 1"),
        get("a=1", "Host: again"),
        get("a=1#b"),
        get("a=\x7f"),
        get("a=" + "1" * 9000),
        get("a=1").replace(b"/postback", b"/postbacks"),
        post(b"a=1", FORM, length=2),
        post(b"a=1", FORM, length=4),
        post(b"", FORM),
        post(b"a" * 70_000, FORM),
        post(b"a=1", FORM, "Transfer-Encoding: chunked"),
    ],
)
def test_what_is_left_to_the_parser(data: bytes) -> None:
    assert read_simple(data, PATHS) is None


def test_headers_are_remembered_and_bounded() -> None:
    read_headers.cache_clear()
    for _ in range(3):
        read_simple(get("a=1"), PATHS)
    assert read_headers.cache_info().hits == 2
    assert read_headers.cache_info().maxsize is not None
