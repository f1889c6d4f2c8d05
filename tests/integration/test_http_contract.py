"""The HTTP contract, over real sockets: answers, bad input, bulk, clicks. Every bad input names its field and leaves
nothing half-done."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests import servers
from tests.eventually import eventually
from tests.platform import Client, load_sample
from tests.program import Program, running
from tests.servers import temporary_folder

SMALL = {"SERVER__MAX_BODY": "256KiB", "SERVER__BODY_TIMEOUT": "500ms", "SERVER__PATHS": "/postback,/aff_lsr"}


@pytest.fixture(scope="module")
def program_and_dsn(
    postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer
) -> Iterator[tuple[Program, str]]:
    valkey_server.flush()
    with postgres_server.database(servers.TEMPLATE) as dsn, temporary_folder() as folder:
        asyncio.run(load_sample(dsn))
        with running(folder / "var", valkey_server.url, dsn, **SMALL) as program:
            yield program, dsn


async def _raw(client: Client, request: bytes) -> tuple[int, bytes]:
    """Status and body of one request sent as bytes."""
    host, port = client.program.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(request)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        return int(head.split(b" ", 2)[1]), await asyncio.wait_for(reader.readexactly(length), 10)
    finally:
        writer.close()


REJECTED = [
    ("click_id=nobody", "unknown_click", "click_id"),
    ("goal=install", "missing_click_id", "click_id"),
    ("click_id=&goal=install", "missing_click_id", "click_id"),
    ("click_id={click_id}&goal=install", "missing_click_id", "click_id"),
    ("click_id=" + "x" * 4096, "bad_parameter", "click_id"),
    ("click_id=a%00b", "bad_parameter", "click_id"),
    ("click_id=%ff%fe", "bad_parameter", "click_id"),
    ("click_id=a%zz%g1%", "unknown_click", "click_id"),
    ("click_id=bad&click_id=other", "bad_parameter", "click_id"),
    ("click_id=bad&txn_id=1&txn_id=2", "bad_parameter", "txn_id"),
    ("click_id=bad&txn_id=%ff", "bad_parameter", "txn_id"),
    ("click_id=bad&txn_id=" + "y" * 4096, "bad_parameter", "txn_id"),
    ("click_id=bad&status=maybe", "bad_parameter", "status"),
    ("click_id=bad&goal=nothing", "unknown_goal", "goal"),
    ("click_id=bad&goal=level_10", "goal_inactive", "goal"),
    ("click_id=bad&goal=purchase", "missing_sale_amount", "sale_amount"),
    ("click_id=bad&goal=purchase&sale_amount=%7Bamount%7D", "missing_sale_amount", "sale_amount"),
    *(
        (f"click_id=bad&goal=purchase&sale_amount={amount}", "bad_amount", "sale_amount")
        for amount in (
            *("NaN", "Infinity", "-Infinity", "1e400", "1,99", "-1", "1.2345678", "1000000000000", "abc", "%2B1"),
            *("0x10", "1_000", "%D9%A1", "1.2.3", "9" * 400),
        )
    ),
    ("click_id=bad&goal=purchase&sale_amount=1&currency=XXQ", "bad_currency", "currency"),
    ("click_id=bad&goal=purchase&sale_amount=1&currency=dollars", "bad_currency", "currency"),
    ("click_id=bad&goal=purchase&sale_amount=1&currency=JPY", "no_exchange_rate", "currency"),
]


@pytest.mark.parametrize(("query", "reason", "field"), REJECTED)
async def test_a_bad_postback_is_stored_with_its_reason(client: Client, query: str, reason: str, field: str) -> None:
    await client.register("bad")
    before = await client.count("postback_log", f"reason = '{reason}'")
    conversions = await client.count("conversions")
    status, said = await client.get(query)
    assert (status, said["status"], said["reason"]) == (200, "rejected", reason)
    assert said["detail"].startswith(f"{field}: ")
    await eventually(lambda: client.count("postback_log", f"reason = '{reason}'"), lambda found: found == before + 1)
    assert await client.count("conversions") == conversions


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/json", b"", 400),
        ("application/json", b"{", 400),
        ("application/json", b"[1]", 400),
        ("application/json", b'"text"', 400),
        ("application/json", b'{"click_id": NaN}', 400),
        ("application/json", b'{"click_id": "\xff"}', 400),
        ("application/json", b'{"a":' * 40_000, 400),
        ("application/json", b"[" * 100_000, 400),
        ("text/plain", b"click_id=x", 415),
        ("application/octet-stream", b"\x00\x01", 415),
        ("multipart/form-data; boundary=x", b"--x--", 415),
        ("application/x-www-form-urlencoded", b"click_id=" + b"x" * 300_000, 413),
    ],
)
async def test_what_cannot_be_read_is_invalid(client: Client, content_type: str, body: bytes, status: int) -> None:
    answered, said = await client.post("/postback", data=body, headers={"Content-Type": content_type})
    assert (answered, said["status"]) == (status, "invalid"), said
    assert said["reason"] in {"bad_parameter", "missing_click_id"}
    assert said["detail"]


async def test_a_request_that_names_nothing_is_invalid(client: Client) -> None:
    status, said = await client.get("")
    assert (status, said["status"], said["reason"]) == (400, "invalid", "missing_click_id")


async def test_ten_thousand_parameters_are_cut_and_counted(client: Client) -> None:
    await client.register("many")
    body = "click_id=many&goal=install&" + "&".join(f"p{n}=v" for n in range(10_000))
    status, said = await client.post(
        "/postback", data=body, headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (status, said["status"]) == (200, "accepted")
    await eventually(lambda: client.count("conversions", "click_id = 'many'"), lambda found: found == 1)
    params = json.loads(await client.database.fetchval("SELECT params FROM conversions WHERE click_id = 'many'"))
    assert params["_dropped"] == 10_000 - 32
    assert len(params) == 33


async def test_a_slow_body_is_cut_off(client: Client) -> None:
    head = b"POST /postback HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
    started = time.monotonic()
    status, body = await _raw(client, head)
    assert status == 408
    assert json.loads(body)["detail"].startswith("body: ")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/postback", "/aff_lsr", "/postbacks", "/clicks"])
async def test_other_methods_are_refused_and_record_nothing(client: Client, method: str, path: str) -> None:
    await client.register("method")
    async with client.http.request(method, f"{client.program.url}{path}?click_id=method") as response:
        assert response.status == 405
        assert "POST" in response.headers["Allow"]
    assert await client.count("conversions", "click_id = 'method'") == 0


async def test_unknown_paths_are_404_and_nothing_redirects(client: Client) -> None:
    for path in ("/", "/postback/", "//postback", "/postback/x", "/admin", "/%2e%2e/etc/passwd"):
        async with client.http.get(f"{client.program.url}{path}?click_id=a", allow_redirects=False) as response:
            assert response.status == 404, path
            assert (await response.json())["detail"].startswith("path: ")


async def test_get_form_and_json_say_the_same(client: Client) -> None:
    await client.register("ways")
    fields = {
        "click_id": "ways",
        "goal": "purchase",
        "sale_amount": "10.50",
        "sub1": "ü & co",
        "event_time": "1790000000",
    }
    answers = [
        await client.get(
            "click_id=ways&goal=purchase&sale_amount=10.50&sub1=%C3%BC+%26+co&event_time=1790000000&txn_id=g"
        ),
        await client.post("/postback", data=fields | {"txn_id": "f"}),
        await client.post("/postback", json=fields | {"txn_id": "j", "sale_amount": 10.50}),
        await client.post("/aff_lsr?txn_id=m", data={**fields}),
    ]
    assert [said["status"] for _, said in answers] == ["accepted"] * 4
    await eventually(lambda: client.count("conversions", "click_id = 'ways'"), lambda found: found == 4)
    rows = await client.database.fetch(
        "SELECT DISTINCT sale_amount, revenue, payout, params, event_at, currency FROM conversions"
        " WHERE click_id = 'ways'"
    )
    assert len(rows) == 1
    assert json.loads(rows[0]["params"]) == {"sub1": "ü & co"}


async def test_a_json_number_keeps_every_digit(client: Client) -> None:
    await client.register("digits")
    body = b'{"click_id": "digits", "goal": "purchase", "sale_amount": 123456789012.123456}'
    status, said = await client.post("/postback", data=body, headers={"Content-Type": "application/json"})
    assert (status, said["status"]) == (200, "accepted"), said
    await eventually(lambda: client.count("conversions", "click_id = 'digits'"), lambda found: found == 1)
    assert str(await client.database.fetchval("SELECT sale_amount FROM conversions WHERE click_id = 'digits'")) == (
        "123456789012.123456"
    )


async def test_tokens_and_own_names(client: Client) -> None:
    await client.register("shop", campaign_id=200, country="DE")
    good = "click_id=shop&order=o1&total=100&currency=EUR"
    for query, reason in ((good, "missing"), (f"{good}&security_token=wrong", "not accepted")):
        status, said = await client.get(query)
        assert (status, said["reason"]) == (403, "bad_token")
        assert said["detail"] == f"security_token: {reason}"
    first = await client.get(f"{good}&shop_key=demo-token")
    second = await client.get(f"{good}&security_token=demo-token-old")
    assert [(status, said["status"]) for status, said in (first, second)] == [(200, "accepted"), (200, "duplicate")]
    await eventually(lambda: client.count("conversions", "click_id = 'shop'"), lambda found: found == 1)
    row = await client.database.fetchrow("SELECT * FROM conversions WHERE click_id = 'shop'")
    assert (row["txn_id"], str(row["revenue"]), str(row["payout"])) == ("o1", "10.500000", "8.500000")
    everything = await client.database.fetch(
        "SELECT params::text FROM conversions UNION ALL SELECT params::text FROM postback_log"
    )
    assert not [text for (text,) in everything if "demo-token" in text or "wrong" in text]


async def test_the_text_profile(client: Client) -> None:
    await client.register("lead", campaign_id=300, publisher_id=11, country="GB")
    url = f"{client.program.url}/postback?lead_ref=lead&result="
    async with client.http.get(url + "application") as response:
        assert (response.status, await response.text()) == (200, "success=true;")
    async with client.http.get(url + "nothing") as response:
        assert (response.status, await response.text()) == (200, "success=false; err_msg=unknown_goal")


async def test_conflict_keeps_both_amounts(client: Client) -> None:
    await client.register("conflict")
    first = await client.get("click_id=conflict&goal=purchase&txn_id=1&sale_amount=10")
    second = await client.get("click_id=conflict&goal=purchase&txn_id=1&sale_amount=10.00")
    third = await client.get("click_id=conflict&goal=purchase&txn_id=1&sale_amount=12")
    assert [said["status"] for _, said in (first, second, third)] == ["accepted", "duplicate", "conflict"]
    assert len({said["conversion_id"] for _, said in (first, second, third)}) == 1
    where = "click_id = 'conflict' AND outcome = 'conflict'"
    await eventually(lambda: client.count("postback_log", where), lambda found: found == 1)
    params = json.loads(await client.database.fetchval(f"SELECT params FROM postback_log WHERE {where}"))
    assert (params["claimed"], params["sent"]) == ("10USD", "12USD")


@pytest.mark.parametrize("media", ["application/json", "application/x-ndjson"])
async def test_bulk_gives_one_verdict_each_and_the_bad_do_not_harm_the_good(client: Client, media: str) -> None:
    name = "bulk-" + media[-6:].replace("/", "-")
    await client.register(name)
    items: list[Any] = [
        {"click_id": name, "goal": "purchase", "txn_id": "1", "sale_amount": 5},
        42,
        {"click_id": name, "goal": "purchase", "txn_id": "1", "sale_amount": "5.0"},
        {"click_id": name, "goal": "purchase", "txn_id": "2", "sale_amount": "NaN"},
        {"goal": "purchase"},
        {"click_id": name, "goal": "purchase", "txn_id": "3", "sale_amount": {"value": 1}},
        {"click_id": name, "goal": "purchase", "txn_id": "4", "sale_amount": "6"},
    ]
    body = json.dumps(items) if media.endswith("/json") else "\n".join(json.dumps(item) for item in items) + "\n"
    status, said = await client.post("/postbacks", data=body, headers={"Content-Type": media})
    assert status == 200
    assert [(verdict["status"], verdict.get("reason")) for verdict in said] == [
        ("accepted", None),
        ("rejected", "bad_parameter"),
        ("duplicate", None),
        ("rejected", "bad_amount"),
        ("rejected", "missing_click_id"),
        ("rejected", "bad_parameter"),
        ("accepted", None),
    ]
    await eventually(lambda: client.count("conversions", f"click_id = '{name}'"), lambda found: found == 2)


async def test_bulk_that_cannot_be_read_changes_nothing(client: Client) -> None:
    for media, body, wanted in (
        ("application/json", b'[{"click_id": "half"}', 400),
        ("application/json", b"null", 400),
        ("text/csv", b"a", 415),
        ("application/x-ndjson", b'{"click_id":"half"}\n' * 10_001, 413),
    ):
        status, said = await client.post("/postbacks", data=body, headers={"Content-Type": media})
        assert (status, said["status"]) == (wanted, "invalid")
    status, said = await client.post("/postbacks", json=[])
    assert (status, said) == (200, [])
    await client.get("click_id=after-half")
    await eventually(lambda: client.count("postback_log", "click_id = 'after-half'"), lambda found: found == 1)
    assert await client.count("postback_log", "click_id = 'half'") == 0


async def test_event_id_and_idempotency_key_make_a_retry_harmless(client: Client) -> None:
    await client.register("views")
    query = "click_id=views&goal=ad_view"
    plain = [await client.get(query) for _ in range(2)]
    assert len({said["conversion_id"] for _, said in plain}) == 2
    named = [await client.get(f"{query}&event_id=e1") for _ in range(2)]
    assert [said["status"] for _, said in named] == ["accepted", "duplicate"]
    keyed = [
        await client.post("/postback", json={"click_id": "views", "goal": "ad_view"}, headers={"Idempotency-Key": "k1"})
        for _ in range(2)
    ]
    assert [said["status"] for _, said in keyed] == ["accepted", "duplicate"]
    items = [{"click_id": "views", "goal": "ad_view"}] * 3
    bulk = [await client.post("/postbacks", json=items, headers={"Idempotency-Key": "k2"}) for _ in range(2)]
    assert [[item["status"] for item in said] for _, said in bulk] == [["accepted"] * 3, ["duplicate"] * 3]
    await eventually(lambda: client.count("conversions", "click_id = 'views'"), lambda found: found == 7)


async def test_a_client_that_hangs_up_loses_nothing(client: Client) -> None:
    await client.register("hangup")
    host, port = client.program.url.removeprefix("http://").split(":")
    for number in range(20):
        _, writer = await asyncio.open_connection(host, int(port))
        query = f"click_id=hangup&goal=purchase&txn_id={number}&sale_amount=1"
        writer.write(f"GET /postback?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await writer.drain()
        writer.transport.abort() if number % 2 else writer.close()
    _, said = await client.get("click_id=hangup&goal=purchase&txn_id=last&sale_amount=1")
    assert said["status"] == "accepted"
    # A reset may overtake the request; a close does not.
    await eventually(lambda: client.count("conversions", "click_id = 'hangup'"), lambda found: found >= 11)


class TestClicks:
    async def test_needs_the_key(self, client: Client) -> None:
        click = {"click_id": "x", "campaign_id": 100, "publisher_id": 10, "clicked_at": time.time()}
        for key in (None, "wrong"):
            status, said = await client.post("/clicks", json=click, key=key)
            assert (status, said["status"]) == (401, "invalid")
            assert client.program.admin_key not in json.dumps(said)
        assert await client.count("clicks", "click_id = 'x'") == 0

    async def test_the_first_registration_wins(self, client: Client) -> None:
        key = client.program.admin_key
        now = int(time.time())
        click = {"click_id": "first", "campaign_id": 100, "publisher_id": 10, "clicked_at": now - 100, "country": "US"}
        assert (await client.post("/clicks", json=click, key=key))[1]["status"] == "accepted"
        other = click | {"clicked_at": now - 50, "publisher_id": 11}
        assert (await client.post("/clicks", json=other, key=key))[1]["status"] == "duplicate"
        _, said = await client.get("click_id=first")
        await eventually(lambda: client.count("conversions", "click_id = 'first'"), lambda found: found == 1)
        row = await client.database.fetchrow("SELECT * FROM conversions WHERE click_id = 'first'")
        assert (row["publisher_id"], row["clicked_at"].timestamp()) == (10, now - 100)
        assert int(said["conversion_id"].replace("-", "")[:12], 16) == (now - 100) * 1000

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"click_id": ""}, "click_id"),
            ({"click_id": "y" * 256}, "click_id"),
            ({"click_id": "a\u0000b"}, "click_id"),
            ({"campaign_id": "x"}, "campaign_id"),
            ({"campaign_id": -1}, "campaign_id"),
            ({"publisher_id": 2**63}, "publisher_id"),
            ({"clicked_at": "yesterday"}, "clicked_at"),
            ({"clicked_at": None}, "clicked_at"),
            ({"clicked_at": "1999-12-31T23:59:59Z"}, "clicked_at"),
            ({"clicked_at": 4_000_000_000}, "clicked_at"),
            ({"country": "XX"}, "country"),
            ({"country": "USA"}, "country"),
        ],
    )
    async def test_a_bad_click_names_its_field_and_the_others_stand(
        self, client: Client, change: dict[str, Any], field: str
    ) -> None:
        good = {"click_id": f"good-{time.monotonic_ns()}", "campaign_id": 100, "publisher_id": 10}
        good |= {"clicked_at": "2026-11-20T12:00:00Z", "country": "US"}
        bad = {**good, "click_id": f"bad-{time.monotonic_ns()}"} | change
        status, said = await client.post("/clicks", json=[good, bad], key=client.program.admin_key)
        assert status == 400
        assert said[0]["status"] == "accepted"
        assert said[1]["status"] == "invalid"
        assert said[1]["detail"].startswith(f"{field}: ")
        assert await client.count("clicks", f"click_id = '{good['click_id']}'") == 1
        status, said = await client.post("/clicks", json=bad, key=client.program.admin_key)
        assert (status, said["status"]) == (400, "invalid")

    async def test_a_click_is_known_at_once_even_after_a_miss(self, client: Client) -> None:
        assert (await client.get("click_id=late"))[1]["reason"] == "unknown_click"
        await client.register("late")
        assert (await client.get("click_id=late"))[1]["status"] == "accepted"
