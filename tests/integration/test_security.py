"""Signatures and addresses against the running program, also through the spool and a trusted proxy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from yarl import URL

from ingest.catalog_file import parse_catalog
from ingest.catalog_import import export_catalog, import_catalog
from ingest.vault import Vault, ensure_vault
from storage.postgres import connect
from tests import servers, signing
from tests.eventually import eventually
from tests.platform import Client, catalog_of, client_of
from tests.program import Program, running
from tests.proxy import Mode, proxy_to
from tests.servers import temporary_folder
from tests.signing import OTHER_SECRET, SECRET

OPEN, SIGNING, INSIDE, STRICT, OUTSIDE = 100, 200, 300, 400, 500
SECURITY: Final = {
    OPEN: "",
    SIGNING: f'signing_secrets = ["{SECRET}", "{OTHER_SECRET}"]\naliases = {{ ref = "click_id" }}',
    INSIDE: 'allowed_addresses = ["203.0.113.0/24", "2001:db8::/32"]',
    STRICT: f'allowed_addresses = ["127.0.0.1"]\nsecurity_tokens = ["strict-token"]\nsigning_secrets = ["{SECRET}"]\n'
    'signature_window = "60s"',
    OUTSIDE: 'allowed_addresses = ["198.51.100.0/24"]',
}
CATALOG: Final = catalog_of(SECURITY)
JSON: Final = {"Content-Type": "application/json"}


async def load(dsn: str, text: str, vault: Vault) -> None:
    connection = await connect(dsn)
    try:
        await import_catalog(connection, parse_catalog(text, vault))
    finally:
        await connection.close()


@contextmanager
def started(postgres: servers.PostgresServer, redis_url: str, **settings: str) -> Iterator[tuple[Program, str]]:
    with postgres.database(servers.TEMPLATE) as dsn, temporary_folder() as folder:
        asyncio.run(load(dsn, CATALOG, ensure_vault(folder / "var" / "secret.key")))
        with running(folder / "var", redis_url, dsn, **settings) as program:
            yield program, dsn


@pytest.fixture(scope="module")
def program_and_dsn(
    postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer
) -> Iterator[tuple[Program, str]]:
    valkey_server.flush()
    with started(postgres_server, valkey_server.url, SERVER__TRUSTED_PROXIES="127.0.0.1,10.0.0.0/8") as both:
        yield both


def now() -> int:
    return int(time.time())


async def say(client: Client, query: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """GET, the query as it is."""
    url = URL(f"{client.program.url}/postback?{query}", encoded=True)
    async with client.http.get(url, headers=headers) as response:
        return response.status, await response.json()


async def signed(client: Client, query: str, **how: Any) -> tuple[int, Any]:
    t = how.pop("t", now())
    return await say(client, query, {"X-Postback-Signature": signing.header(t, query, **how)})


async def logged(client: Client, click_id: str, reason: str) -> dict[str, Any]:
    """The params of the log's last row for the click and reason."""
    where = f"click_id = '{click_id}' AND reason = '{reason}'"
    await eventually(lambda: client.count("postback_log", where), bool)
    query = f"SELECT params FROM postback_log WHERE {where} ORDER BY received_at DESC LIMIT 1"
    found: dict[str, Any] = json.loads(await client.database.fetchval(query))
    return found


# Signatures ----------------------------------------------------------------------------------------------------------


async def test_a_signed_get(client: Client) -> None:
    await client.register("get", campaign_id=SIGNING)
    query = "click_id=get&txn_id=1&sale_amount=10&sub1=%C3%BC+x"
    status, said = await say(client, query)
    assert (status, said) == (
        403,
        {"status": "invalid", "reason": "bad_signature", "detail": "signature: missing"},
    )
    for how, detail in (
        ({"secret": "another secret"}, "not accepted"),
        ({"route": "postbacks"}, "not accepted"),
        ({"key": "k"}, "not accepted"),
        ({"t": now() - 400}, "too old"),
        ({"t": now() + 400}, "its time is in the future"),
    ):
        status, said = await signed(client, query, **how)
        assert (status, said["reason"], said["detail"]) == (403, "bad_signature", f"signature: {detail}"), how
    t = now()
    header = {"X-Postback-Signature": signing.header(t, query)}
    for changed in (query.replace("=10", "=99"), query + "&x=", query.replace("%C3%BC+", "%c3%bc+"), query[:-1]):
        status, said = await say(client, changed, header)
        assert (status, said["detail"]) == (403, "signature: not accepted"), changed
    assert await client.count("conversions", "click_id = 'get'") == 0
    assert (await say(client, query, header))[1]["status"] == "accepted"
    assert (await say(client, query, header))[1]["status"] == "duplicate", "sent again, it counts once"
    assert (await signed(client, query, secret=OTHER_SECRET))[1]["status"] == "duplicate", "the other live secret"
    await eventually(lambda: client.count("conversions", "click_id = 'get'"), lambda found: found == 1)
    assert (await logged(client, "get", "bad_signature"))["_detail"] == "signature: not accepted"


async def test_signed_bodies(client: Client) -> None:
    await client.register("body", campaign_id=SIGNING)
    for number, (media_type, body) in enumerate(
        (
            ("application/x-www-form-urlencoded", b"click_id=body&sale_amount=10&txn_id=f"),
            ("application/json", b'{"click_id": "body", "sale_amount": 10, "txn_id": "j", "deep": {"a": [1]}}'),
        )
    ):
        header = signing.header(now(), f"x={number}", key="k1", media_type=media_type, body=body)
        path = f"/postback?x={number}"
        right = {
            "X-Postback-Signature": header,
            "Content-Type": f"{media_type}; charset=utf-8",
            "Idempotency-Key": "k1",
        }
        wrongs: list[dict[str, Any]] = [
            {"data": body.replace(b"10", b"99")},
            {"headers": right | {"Idempotency-Key": "k2"}},
            {"headers": {name: value for name, value in right.items() if name != "Idempotency-Key"}},
            {"headers": right | {"Content-Type": "application/vnd.x+json"}} if number else {"data": body + b"&x="},
        ]
        for wrong in wrongs:
            request: dict[str, Any] = {"data": body, "headers": right} | wrong
            status, said = await client.post(path, **request)
            assert (status, said.get("reason")) == (403, "bad_signature"), wrong
        status, said = await client.post("/postback?x=other", data=body, headers=right)
        assert (status, said["reason"]) == (403, "bad_signature")
        status, said = await client.post(path, data=body, headers=right)
        assert (status, said["status"]) == (200, "accepted")


async def test_signed_parameters(client: Client) -> None:
    await client.register("param", campaign_id=SIGNING)
    sent = signing.parameters(now(), {"click_id": "param", "sale_amount": "10", "sub1": "ü & x~"})
    for wrong in (
        sent | {"sale_amount": "99"},
        sent | {"extra": "1"},
        {name: value for name, value in sent.items() if name != "sub1"},
        signing.parameters(now() - 400, {"click_id": "param"}),
        signing.parameters(now(), {"click_id": "param"}, secret="another secret"),
    ):
        async with client.http.get(f"{client.program.url}/postback", params=wrong) as response:
            assert response.status == 403, wrong
            assert (await response.json())["reason"] == "bad_signature"
    status, said = await client.post("/postback", data=sent, headers={"Idempotency-Key": "k"})
    assert (status, said["detail"]) == (403, "signature: cannot be read")
    verdicts = []
    async with client.http.get(f"{client.program.url}/postback", params=sent) as response:
        verdicts.append((await response.json())["status"])
    verdicts.append((await client.post("/postback", data=sent))[1]["status"])
    verdicts.append((await client.post("/postback", json=sent))[1]["status"])
    assert verdicts == ["accepted", "duplicate", "duplicate"]
    await eventually(lambda: client.count("conversions", "click_id = 'param'"), lambda found: found == 1)
    stored = json.loads(await client.database.fetchval("SELECT params FROM conversions WHERE click_id = 'param'"))
    assert stored == {"sub1": "ü & x~", "timestamp": sent["timestamp"]}


async def test_own_names_are_signed_as_they_are_sent(client: Client) -> None:
    await client.register("own", campaign_id=SIGNING)
    sent = signing.parameters(now(), {"ref": "own", "sale_amount": "10"})
    assert (await client.post("/postback", data=sent))[1]["status"] == "accepted"
    assert (await signed(client, "ref=own&sale_amount=10"))[1]["status"] == "duplicate"


async def test_bulk(client: Client) -> None:
    await client.register("bulk", campaign_id=SIGNING)
    await client.register("bulk-open", campaign_id=OPEN)
    items: list[dict[str, str]] = [
        {"click_id": "bulk", "sale_amount": "1", "txn_id": "a"},
        signing.parameters(now(), {"click_id": "bulk", "sale_amount": "1", "txn_id": "b"}),
        {"click_id": "bulk-open", "sale_amount": "1", "txn_id": "c"},
    ]
    body = json.dumps(items).encode()

    async def verdicts(**headers: str) -> list[str]:
        status, said = await client.post("/postbacks", data=body, headers=JSON | headers)
        assert status == 200
        return [item.get("reason", item["status"]) for item in said]

    assert await verdicts() == ["bad_signature", "accepted", "accepted"], "an item's own signature, or none"
    right = {"media_type": "application/json", "body": body}
    header = signing.header(now(), route="postbacks", **right)  # type: ignore[arg-type]
    assert await verdicts(**{"X-Postback-Signature": header}) == ["accepted", "duplicate", "duplicate"]
    for wrong in (
        signing.header(now(), **right),  # type: ignore[arg-type]
        signing.header(now(), route="postbacks", **(right | {"body": body + b" "})),  # type: ignore[arg-type]
    ):
        said = await verdicts(**{"X-Postback-Signature": wrong})
        assert said == ["bad_signature", "bad_signature", "duplicate"]
    single = b'{"click_id": "bulk", "goal": "view"}'
    one = signing.header(now(), media_type="application/json", body=single, key="k1")
    status, (moved,) = await client.post(
        "/postbacks", data=single, headers=JSON | {"X-Postback-Signature": one, "Idempotency-Key": "k1"}
    )
    assert (status, moved["reason"]) == (200, "bad_signature"), "one for /postback is none for /postbacks"


async def test_a_signature_is_kept_nowhere(client: Client) -> None:
    await client.register("nowhere", campaign_id=SIGNING)
    sent = signing.parameters(now(), {"click_id": "nowhere", "sale_amount": "10"})
    unknown = signing.parameters(now(), {"click_id": "nobody-signs", "sub1": "kept"})
    for parameters in (sent, sent | {"sub1": "wrong"}, unknown):
        await client.post("/postback", data=parameters)
    assert (await logged(client, "nobody-signs", "unknown_click"))["sub1"] == "kept"
    assert (await logged(client, "nowhere", "bad_signature"))["sub1"] == "wrong"
    await eventually(lambda: client.count("conversions", "click_id = 'nowhere'"), bool)
    everything = await client.database.fetch(
        "SELECT params::text FROM conversions UNION ALL SELECT params::text FROM postback_log"
    )
    for signature in (sent["signature"], unknown["signature"]):
        assert not [text for (text,) in everything if signature in text]


async def test_the_export_shows_no_secret_and_can_be_imported(
    client: Client, program_and_dsn: tuple[Program, str]
) -> None:
    program, dsn = program_and_dsn
    connection = await connect(dsn)
    try:
        text = await export_catalog(connection)
        assert SECRET not in text
        assert OTHER_SECRET not in text
        assert text.count("enc:") == 3
        summary = await import_catalog(connection, parse_catalog(text, ensure_vault(program.data_dir / "secret.key")))
        assert (summary.advertisers.updated, summary.advertisers.unchanged) == (0, len(SECURITY))
    finally:
        await connection.close()


async def test_a_secret_is_changed_without_a_gap(client: Client, program_and_dsn: tuple[Program, str]) -> None:
    program, dsn = program_and_dsn
    await client.register("rotate", campaign_id=SIGNING)
    vault = ensure_vault(program.data_dir / "secret.key")
    query = "click_id=rotate&sale_amount=10&txn_id="
    newer = "the-secret-after-that"

    async def status_with(secret: str, number: str) -> int:
        return (await signed(client, query + number, secret=secret))[0]

    both, after = (f'"{SECRET}", "{newer}"', f'"{newer}"')
    try:
        await load(dsn, CATALOG.replace(f'"{SECRET}", "{OTHER_SECRET}"', both), vault)
        await eventually(lambda: status_with(newer, "1"), lambda found: found == 200)
        assert await status_with(SECRET, "2") == 200
        await load(dsn, CATALOG.replace(f'"{SECRET}", "{OTHER_SECRET}"', after), vault)
        await eventually(lambda: status_with(SECRET, "3"), lambda found: found == 403)
        assert await status_with(newer, "3") == 200
    finally:
        await load(dsn, CATALOG, vault)
        await eventually(lambda: status_with(SECRET, "4"), lambda found: found == 200)


# Addresses -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("forwarded", "is_allowed"),
    [
        ([], False),
        (["203.0.113.9"], True),
        (["203.0.114.9"], False),
        # What the client writes stands left of what the proxy adds.
        (["203.0.113.9, 192.0.2.1"], False),
        (["192.0.2.1, 203.0.113.9"], True),
        (["203.0.113.9, 192.0.2.1, 10.1.2.3"], False),
        (["192.0.2.1, 203.0.113.9, 10.1.2.3"], True),
        # A proxy that adds a line of its own.
        (["203.0.113.9", "192.0.2.1"], False),
        (["192.0.2.1", "203.0.113.9"], True),
        (["203.0.113.9, unknown"], False),
        (["unknown, 203.0.113.9"], True),
        (["203.0.113.9, 192.0.2.1:4711"], False),
        (["[2001:db8::9]:4711"], True),
        (["::ffff:203.0.113.9"], True),
        ([""], False),
        (["203.0.113.9,"], False),
        (["203.0.113.9 192.0.2.1"], False),
        (["2001:db8::1%203.0.113.9"], True),
    ],
)
async def test_forwarded_addresses(client: Client, forwarded: list[str], is_allowed: bool) -> None:
    """From the trusted peer 127.0.0.1, by the short cut and by aiohttp's way."""
    await client.register("inside", campaign_id=INSIDE)
    for way in ("Accept: */*", "X-Other: aiohttp"):
        status, said = await raw_get(client, "click_id=inside&sale_amount=1", forwarded, way)
        if is_allowed:
            assert (status, said["status"]) in {(200, "accepted"), (200, "duplicate")}
        else:
            assert (status, said["reason"], said["detail"]) == (
                403,
                "address_not_allowed",
                "address: not one of the advertiser's",
            )


async def raw_get(client: Client, query: str, forwarded: list[str], *headers: str) -> tuple[int, Any]:
    host, port = client.program.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    lines = [f"GET /postback?{query} HTTP/1.1", "Host: x", *(f"X-Forwarded-For: {one}" for one in forwarded), *headers]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    writer.close()
    return int(head.split(b" ", 2)[1]), json.loads(body)


async def test_other_headers_name_no_address(client: Client) -> None:
    await client.register("named", campaign_id=INSIDE)
    for header in ("Forwarded: for=203.0.113.9", "X-Real-IP: 203.0.113.9", "X_Forwarded_For: 203.0.113.9"):
        status, _ = await raw_get(client, "click_id=named&sale_amount=1", [], header)
        assert status == 403, header


async def test_the_address_is_in_the_log(client: Client) -> None:
    await client.register("where", campaign_id=OUTSIDE)
    await raw_get(client, "click_id=where&sale_amount=1", ["198.51.100.7, 192.0.2.44"])
    assert (await logged(client, "where", "address_not_allowed"))["sale_amount"] == "1"
    ip = await client.database.fetchval("SELECT host(remote_ip) FROM postback_log WHERE click_id = 'where'")
    assert ip == "192.0.2.44"


async def test_address_token_and_signature_come_first(client: Client) -> None:
    await client.register("strict", campaign_id=STRICT)
    query = "click_id=strict&goal=no+such+goal"
    assert (await raw_get(client, query, ["192.0.2.1"]))[1]["reason"] == "address_not_allowed"
    assert (await say(client, query))[1]["reason"] == "bad_token"
    query += "&security_token=strict-token"
    assert (await say(client, query))[1]["reason"] == "bad_signature"
    assert (await signed(client, query, t=now() - 90))[1]["detail"] == "signature: too old", "a window of its own"
    assert (await signed(client, query))[1]["reason"] == "unknown_goal"


def test_an_untrusted_peer_is_not_believed(
    postgres_server: servers.PostgresServer, debian_redis_server: servers.RedisServer
) -> None:
    debian_redis_server.flush()

    async def check(program: Program, dsn: str) -> None:
        async with client_of(program, dsn) as client:
            await client.register("spoof", campaign_id=INSIDE)
            await client.register("local", campaign_id=STRICT)
            for way in ("Accept: */*", "X-Other: aiohttp"):
                status, said = await raw_get(client, "click_id=spoof&sale_amount=1", ["203.0.113.9"], way)
                assert (status, said["reason"]) == (403, "address_not_allowed")
                status, said = await raw_get(client, "click_id=local", ["192.0.2.1"], way)
                assert said["reason"] == "bad_token", "the peer itself is on the list"

    with started(postgres_server, debian_redis_server.url) as (program, dsn):
        asyncio.run(check(program, dsn))


# The spool, and the key's file ---------------------------------------------------------------------------------------


async def test_a_spooled_postback_is_judged_by_when_it_came(
    tmp_path: Path, valkey_server: servers.RedisServer, postgres_dsn: str
) -> None:
    """Redis is away for longer than the signature's window: what was right on arrival counts, what was not does not."""
    short = CATALOG.replace(f'"{OTHER_SECRET}"]', f'"{OTHER_SECRET}"]\nsignature_window = "2s"')
    await load(postgres_dsn, short, ensure_vault(tmp_path / "secret.key"))
    with (
        proxy_to(valkey_server.url.removeprefix("unix://")) as proxy,
        # A database of its own: the writer of the module's program would take its entries.
        running(tmp_path, f"redis://127.0.0.1:{proxy.port}/7", postgres_dsn) as program,
    ):
        async with client_of(program, postgres_dsn) as client:
            await client.register("spooled", campaign_id=SIGNING)
            proxy.set(Mode.REFUSE)
            query = "click_id=spooled&sale_amount=1&txn_id="
            sent = signing.parameters(now(), {"click_id": "spooled", "sale_amount": "1", "txn_id": "parameters"})
            body = json.dumps([{"click_id": "spooled", "sale_amount": "1", "txn_id": "bulk"}] * 2).encode()
            header = signing.header(now(), route="postbacks", media_type="application/json", body=body)
            assert [
                (await signed(client, query + "right"))[0],
                (await signed(client, query + "old", t=now() - 60))[0],
                (await say(client, query + "unsigned"))[0],
                (await client.post("/postback", data=sent))[0],
            ] == [202] * 4
            _, said = await client.post("/postbacks", data=body, headers=JSON | {"X-Postback-Signature": header})
            assert statuses_of(said) == ["spooled", "spooled"]
            await asyncio.sleep(4)  # longer than the window
            assert (await signed(client, query + "late", t=now() - 4))[0] == 202
            proxy.set(Mode.PASS)
            await eventually(client.both_counts, lambda found: found == (3, 4))
            rows = await client.database.fetch("SELECT txn_id FROM conversions ORDER BY 1")
            assert [txn_id for (txn_id,) in rows] == ["bulk", "parameters", "right"]
            log = await client.database.fetch("SELECT txn_id, outcome, reason FROM postback_log ORDER BY 1")
            assert [tuple(row) for row in log] == [
                ("bulk", "duplicate", None),
                ("late", "rejected", "bad_signature"),
                ("old", "rejected", "bad_signature"),
                ("unsigned", "rejected", "bad_signature"),
            ]
        assert program.stop() == 0


async def test_a_receiver_that_cannot_open_a_secret_does_not_start(
    tmp_path: Path, valkey_server: servers.RedisServer, postgres_dsn: str
) -> None:
    await load(postgres_dsn, CATALOG, ensure_vault(tmp_path / "another.key"))
    redis_url = f"{valkey_server.url}?db=8"
    with pytest.raises(AssertionError) as caught, running(tmp_path, redis_url, postgres_dsn):
        pass
    said = str(caught.value)
    assert "advertiser 2 (Advertiser 2): a signing secret was encrypted with another key" in said
    assert "admin.secret_key_file" in said
    assert SECRET not in said


def statuses_of(said: list[dict[str, str]]) -> list[str]:
    return [item["status"] for item in said]
