"""Publishers' postbacks: which conversions are sent, what is sent, and what becomes of it."""

from __future__ import annotations

import asyncio
import hmac
import json
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from random import Random
from uuid import UUID

import pytest

from ingest.commands.outbound import (
    make_secret,
    remove_postback,
    remove_secret,
    retry_messages,
    set_postback,
    show_messages,
    show_postbacks,
    try_postback,
)
from ingest.commands.session import CommandError
from ingest.config import Config, OutboundConfig, PostgresConfig, RedisConfig
from ingest.outbound.delivery import Delivery
from ingest.outbound.hosts import Hosts
from ingest.outbound.networks import parse_policy
from storage.activity import fetch_click_story
from storage.adjustments import StatusChange, insert_status_changes
from storage.holds import release_holds
from storage.outbox import (
    DueMessage,
    Looked,
    count_waiting,
    list_messages,
    look_at_touched,
    retry_given_up,
    take_due,
)
from storage.postgres import Pool, close, open_pool
from storage.publisher_postbacks import archive_postback, list_postbacks, put_secret
from storage.records import Kind, Record
from tests import servers
from tests.eventually import eventually
from tests.platform import client_of, load_sample
from tests.program import running
from tests.publishers import PACE, Observer, publisher, sending, set_up
from tests.writing import CLICKED_MS, conversion, count, entry, store

ROOT = Path(__file__).parents[2]
DAY_MS = 86_400_000


async def look(pool: Pool) -> Looked:
    async with pool.acquire() as connection:
        looked = await look_at_touched(connection, DAY_MS)
    assert looked is not None
    return looked


async def states(pool: Pool) -> list[str]:
    return [row[0] for row in await pool.fetch("SELECT state FROM outbound_messages ORDER BY conversion_id")]


async def waiting(pool: Pool) -> int:
    async with pool.acquire() as connection:
        return await count_waiting(connection)


async def say(pool: Pool, record: Record, status: str, number: int) -> None:
    """An operator gives a status."""
    async with pool.acquire() as connection:
        change = StatusChange(
            UUID(str(record.conversion_id)), CLICKED_MS, UUID(int=number), status, None, None, "somebody"
        )
        await insert_status_changes(connection, [change])


async def until_none_waits(pool: Pool) -> None:
    async def left() -> int:
        return await waiting(pool) + await count(pool, "outbound_touched")

    await eventually(left, lambda number: number == 0)


async def test_without_templates_nothing_is_touched(pool: Pool) -> None:
    await store(pool, [entry(conversion(1)), entry(conversion(1, status="=pending"), Kind.DUPLICATE)])
    assert await count(pool, "outbound_touched") == 0


async def test_only_approved_and_paid_conversions_are_sent(pool: Pool) -> None:
    await set_up(pool, "https://publisher.example/?c={click_id}")
    sent = [conversion(1), conversion(2, payout_micros=0)]  # a goal that pays nothing is told all the same
    not_sent = [
        conversion(3, status="=pending"),
        conversion(4, status="=rejected"),
        conversion(5, payout_micros=0, reason="goal_not_assigned"),
        conversion(6, payout_micros=0, reason="over_cap"),
        conversion(7, publisher_id=11),
    ]
    await store(pool, [entry(record) for record in (*sent, *not_sent)])
    assert await count(pool, "outbound_touched") == 4, "what can never be sent is not even looked at"
    assert await look(pool) == Looked(4, 2, 0)
    rows = await pool.fetch("SELECT conversion_id::text FROM outbound_messages")
    assert {row[0] for row in rows} == {record.conversion_id for record in sent}
    await store(pool, [entry(record) for record in sent])  # delivered again
    assert (await look(pool)).made == 0


@pytest.mark.parametrize("first", ["conversion", "change"])
async def test_what_is_approved_later_is_sent_then(pool: Pool, first: str) -> None:
    """By a repeat of the postback, whose row may even be there before the conversion's."""
    await set_up(pool, "https://publisher.example/")
    said = [entry(conversion(1, txn="t", status="=pending"))]
    approved = entry(conversion(2, txn="t", status="=approved"), Kind.DUPLICATE)
    for batch in (said, [approved]) if first == "conversion" else ([approved], said):
        assert await states(pool) == []
        await store(pool, batch)
        await look(pool)
    assert await states(pool) == ["waiting"]


async def test_holds_and_operators_have_it_sent_or_withdrawn(pool: Pool) -> None:
    await set_up(pool, "https://publisher.example/")
    await store(pool, [entry(conversion(1, status="held=1"))])
    assert await look(pool) == Looked(1, 0, 0)
    async with pool.acquire() as connection:
        assert await release_holds(connection) == 1
    assert await look(pool) == Looked(1, 1, 0)
    await say(pool, conversion(1), "rejected", 1)
    assert await look(pool) == Looked(1, 0, 1)
    assert await states(pool) == ["withdrawn"]
    await say(pool, conversion(1), "approved", 2)
    assert await look(pool) == Looked(1, 1, 0)
    assert await states(pool) == ["waiting"]


async def test_conversions_of_before_are_not_sent(pool: Pool) -> None:
    await store(pool, [entry(conversion(1)), entry(conversion(2, status="=pending"))])
    await set_up(pool, "https://publisher.example/")
    await say(pool, conversion(1), "approved", 1)
    await say(pool, conversion(2), "approved", 2)
    assert await look(pool) == Looked(2, 1, 0)


async def test_the_goals_own_template_goes_first(pool: Pool) -> None:
    await set_up(pool, "https://a.example/", goal_id=None)
    await set_up(pool, "https://b.example/", goal_id=1000)
    await store(pool, [entry(conversion(1)), entry(conversion(2, goal_id=1001))])
    await look(pool)
    async with pool.acquire() as connection:
        messages = await list_messages(connection)
        assert sorted(message.host for message in messages) == ["a.example", "b.example"]
        assert await archive_postback(connection, 10, 1000, "somebody") == 1
        assert await archive_postback(connection, 10, 1000, "somebody") is None
        (left,) = await list_postbacks(connection)
    assert (left.goal_id, left.waiting, left.given_up, left.is_signed) == (None, 1, 0, False)


async def test_what_is_sent(pool: Pool) -> None:
    macros = (
        "{click_id}&{goal}&{payout}&{currency}&{txn_id}&{status}&{country}&{event_time}&{sub1}&{click.aff_click}&{sub2}"
    )
    query = "&".join(f"p{place}={macro}" for place, macro in enumerate(macros.split("&")))
    record = conversion(1, click="a/b c", txn="ü&1", event_ms=1_767_312_000_000)
    async with publisher() as one:
        await set_up(pool, f"{one.url}/back/{{conversion_id}}?{query}", method="POST")
        await pool.execute(
            "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, params) VALUES"
            """ ('a/b c', 100, 10, now(), '{"sub1": "s=1", "aff_click": "their own"}')"""
        )
        async with pool.acquire() as connection:
            await put_secret(connection, 10, "enc:sealed", "somebody")
        await store(pool, [entry(record)])
        async with sending(pool, secret="s3cret"):
            await eventually(lambda: states(pool), lambda found: found == ["sent"])
        (request,) = one.requests
        (body,) = one.bodies
    assert (request.method, request.path_qs) == ("POST", f"/back/{record.conversion_id}")
    assert body.decode() == (
        "p0=a%2Fb%20c&p1=purchase&p2=0.1&p3=USD&p4=%C3%BC%261&p5=approved&p6=US&p7=2026-01-02T00%3A00%3A00Z"
        "&p8=s%3D1&p9=their%20own&p10="
    )
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert request.headers["Idempotency-Key"] == record.conversion_id
    time, _, given = request.headers["X-Postback-Signature"].removeprefix("t=").partition(",v1=")
    lines = ("POST", time, request.path_qs, str(record.conversion_id), sha256(body).hexdigest())
    assert given == hmac.new(b"s3cret", "\n".join(lines).encode(), "sha256").hexdigest()


async def test_each_is_delivered_though_half_of_all_fails_and_a_sender_is_killed(pool: Pool, postgres_dsn: str) -> None:
    random = Random(7)
    records = [conversion(number, click=f"c{number}") for number in range(160)]
    command = [sys.executable, "-m", "tests.publishers", postgres_dsn]
    async with publisher() as one:
        await set_up(pool, f"{one.url}/?c={{click_id}}")
        await store(pool, [entry(record) for record in records[:80]])
        observer = Observer()
        killed = await asyncio.create_subprocess_exec(*command, cwd=ROOT)

        def answer() -> int:
            if len(one.delivered) >= 20 and killed.returncode is None:  # several may have come since the last look
                killed.kill()  # before it can note what it is answered now
                return 200
            return random.choice([200] * 8 + [500, 503, 404, 429, 0, 0, 302, -1])

        one.answer = answer
        assert await asyncio.wait_for(killed.wait(), 30) == -signal.SIGKILL
        async with sending(pool, observer=observer, hosts=Hosts(8, opens_after=50)), sending(pool, observer=observer):
            await store(pool, [entry(record) for record in records[80:]])
            await until_none_waits(pool)
        async with pool.acquire() as connection:
            messages = await list_messages(connection, limit=1000)
    assert one.delivered.keys() == {record.conversion_id for record in records}, "each at least once, none skipped"
    assert {message.state for message in messages} == {"sent"}
    assert len(messages) == 160
    assert one.most_at_once <= 16, "eight of each"
    assert {"http_status", "redirect", "connection", "timeout", None} <= {one.error for one in observer.attempts}
    assert 160 < sum(one.delivered.values()) < 240, "twice only what was answered as its sender was killed, or too late"
    for message in messages:
        assert message.log[-1].error is None
        assert all(attempt.error is not None for attempt in message.log[:-1])
        assert len(message.log) == min(message.attempts, 20)


def _now(ask: Callable[[], int]) -> Callable[[], Awaitable[int]]:
    async def asked() -> int:
        return ask()

    return asked


async def test_the_breaker_spares_a_host_that_fails_and_finds_it_well_again(pool: Pool) -> None:
    observer = Observer()
    hosts = Hosts(4, opens_after=5, first_rest_s=0.3, longest_rest_s=0.3)
    async with publisher() as one, publisher() as other:
        one.answer = lambda: 503
        await set_up(pool, f"{one.url}/")
        await set_up(pool, f"{other.url.replace('127.0.0.1', 'localhost')}/", publisher_id=11)
        await store(pool, [entry(conversion(number, click=f"c{number}")) for number in range(30)])
        async with sending(pool, observer=observer, hosts=hosts):
            await eventually(_now(lambda: observer.most_resting), lambda number: number == 1)
            asked = len(one.requests)
            assert asked <= 5 + 4, "not more than were under way"
            await store(pool, [entry(conversion(99, publisher_id=11))])
            await eventually(_now(lambda: sum(other.delivered.values())), lambda number: number == 1)
            one.answer = lambda: 200
            await until_none_waits(pool)
    assert hosts.resting() == []
    assert sum(one.delivered.values()) == 30


async def test_what_is_given_up_is_seen_and_can_be_tried_again(pool: Pool) -> None:
    observer = Observer()
    async with publisher() as one:
        one.answer = lambda: 500
        await set_up(pool, f"{one.url}/")
        await store(pool, [entry(conversion(1))])
        in_a_hurry = replace(PACE, give_up_ms=200)
        async with sending(pool, in_a_hurry, observer, Hosts(8, opens_after=99)):
            await eventually(lambda: states(pool), lambda found: found == ["given_up"])
            await eventually(_now(lambda: observer.gone), lambda number: number == 1)
            one.answer = lambda: 200
            async with pool.acquire() as connection:
                (message,) = await list_messages(connection, state="given_up", publisher_id=10)
                assert message.attempts == len(one.requests) == len(observer.attempts)
                assert (message.log[0].status, message.log[0].error) == (500, "http_status")
                assert message.done_at is not None
                ((click_id,),) = await connection.fetch("SELECT click_id FROM conversions")
                assert (await fetch_click_story(pool, click_id)).messages == [message]
                assert await retry_given_up(connection, 10, DAY_MS) == 1
            await eventually(lambda: states(pool), lambda found: found == ["sent"])


async def test_what_may_not_be_called_is_not_connected_to(pool: Pool) -> None:
    """By name and by address: the check stands where the socket is made."""
    async with publisher() as one:
        port = one.url.rpartition(":")[2]
        async with Delivery(
            parse_policy(allow_http=True, networks=(), ports=(int(port),)),
            lambda sealed: sealed,
            timeout_s=2,
            connections=4,
        ) as delivery:
            for host, error in (("localhost", "address_refused"), ("127.0.0.1", "url_refused")):
                attempt = await delivery.attempt(due(f"http://{host}:{port}/"))
                assert (attempt.status, attempt.error) == (None, error)
            assert (await delivery.attempt(due("https://no.such.host.invalid:" + port))).error == "dns"
            assert (await delivery.attempt(due("https://localhost/"))).error == "url_refused", "port 443 is not allowed"
        assert one.requests == []


def due(url: str) -> DueMessage:
    return DueMessage(
        "id", datetime.now(UTC), 0, DAY_MS, 10, url, "host", "GET", None, "c", "g", 1, "", "", "USD", 0,
        datetime.now(UTC), {},
    )  # fmt: skip


async def test_a_lease_keeps_others_away_until_it_ends(pool: Pool) -> None:
    await set_up(pool, "https://publisher.example/")
    await store(pool, [entry(conversion(number, click=f"c{number}")) for number in range(10)])
    await look(pool)

    async def take(limit: int, lease_ms: int, **room: int) -> int:
        async with pool.acquire() as connection:
            hosts = {host.replace("_", "."): number for host, number in room.items()}
            return len(await take_due(connection, hosts, others=8, limit=limit, lease_ms=lease_ms))

    assert await take(4, 60_000) == 4
    assert await take(64, 1, publisher_example=2) == 2
    assert await take(64, 60_000) == 6, "what was not taken, and what another held for a millisecond"
    assert await take(64, 60_000) == 0
    assert await take(64, 60_000, publisher_example=0) == 0


async def test_commands(pool: Pool, postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Set, tried, signed, looked at, tried again and removed by hand."""
    async with publisher() as one:
        port = int(one.url.rpartition(":")[2])
        config = Config(
            data_dir=str(tmp_path),
            postgres=PostgresConfig(dsn=postgres_dsn),
            redis=RedisConfig(url="redis://unused.invalid"),
            outbound=OutboundConfig(allow_http=True, allow_networks=("127.0.0.0/8",), ports=(port,)),
        )
        with pytest.raises(CommandError, match="no publisher 10"):
            await set_postback(config, 10, f"{one.url}/?c={{click_id}}", None, "GET")
        await pool.execute("INSERT INTO publishers (id, name) VALUES (10, 'North')")
        with pytest.raises(CommandError, match="no publisher 10, or no goal 5"):
            await set_postback(config, 10, f"{one.url}/?c={{click_id}}", 5, "GET")
        with pytest.raises(CommandError, match=r"\{click\} is not known"):
            await set_postback(config, 10, f"{one.url}/?c={{click}}", None, "GET")
        with pytest.raises(CommandError, match=r"outbound\.ports"):
            await set_postback(config, 10, "https://publisher.example/", None, "GET")
        await set_postback(config, 10, f"{one.url}/old", None, "GET")
        await set_postback(config, 10, f"{one.url}/?c={{click_id}}&s={{sub1}}", None, "GET")
        await make_secret(config, 10)
        secret = capsys.readouterr().out.split()[-1]
        stored = await pool.fetchval("SELECT secret FROM publisher_secrets")
        assert stored.startswith("enc:")
        assert secret not in stored
        assert await try_postback(config, 10, None, dry_run=True) == 0
        assert one.requests == []
        assert await try_postback(config, 10, 1000, dry_run=False) == 0, "the one for all goals"
        (request,) = one.requests
        assert request.path_qs == "/?c=test-click&s=test-sub1"
        assert "X-Postback-Signature" in request.headers
        one.answer = lambda: 500
        assert await try_postback(config, 10, None, dry_run=False) == 1
        assert capsys.readouterr().out.endswith("http_status 500\n")

        await store(pool, [entry(conversion(1))])
        await look(pool)
        await pool.execute("UPDATE outbound_messages SET state = 'given_up', done_at = now()")
        await retry_messages(config, 10)
        await show_postbacks(config, as_json=True)
        said = capsys.readouterr().out
        assert said.startswith("1 wait again, for 1d at most\n")
        (row,) = json.loads(said.partition("\n")[2])
        assert (row["url"], row["is_signed"], row["waiting"]) == (f"{one.url}/?c={{click_id}}&s={{sub1}}", True, 1)
        conversion_id = str(conversion(1).conversion_id)
        for of in (None, conversion_id):
            await show_messages(config, state=None, publisher_id=None, conversion=of, limit=9, as_json=False)
            said = capsys.readouterr().out
            assert conversion_id in said
            assert "waiting" in said
        with pytest.raises(CommandError, match="not a conversion's id"):
            await show_messages(config, state=None, publisher_id=None, conversion="x", limit=9, as_json=False)
        await remove_secret(config, 10)
        await remove_postback(config, 10, None)
        assert "1 were withdrawn" in capsys.readouterr().out
        with pytest.raises(CommandError, match="has no postback for all goals"):
            await remove_postback(config, 10, None)
        with pytest.raises(CommandError, match="has no postback"):
            await try_postback(config, 10, None, dry_run=True)


async def test_a_running_program_tells_the_publisher(
    postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer
) -> None:
    """From the advertiser's postback to the publisher's."""
    valkey_server.flush()
    async with publisher() as one:
        settings = {
            "OUTBOUND__ALLOW_HTTP": "true",
            "OUTBOUND__ALLOW_NETWORKS": "127.0.0.0/8",
            "OUTBOUND__PORTS": one.url.rpartition(":")[2],
        }
        with postgres_server.database(servers.TEMPLATE) as dsn, servers.temporary_folder() as folder:
            await load_sample(dsn)
            pool = await open_pool(dsn, 1)
            await set_up(pool, f"{one.url}/?c={{click_id}}&payout={{payout}}")
            await close(pool)
            with running(folder / "var", valkey_server.url, dsn, **settings) as program:
                async with client_of(program, dsn) as client:
                    await client.register("told")
                    _, said = await client.get("click_id=told&goal=install")
                    await eventually(_now(lambda: len(one.delivered)), lambda number: number == 1)
                    (request,) = one.requests
                    assert request.headers["Idempotency-Key"] == said["conversion_id"]
                    payout = await client.database.fetchval("SELECT trim_scale(payout)::text FROM conversions")
                    assert request.path_qs == f"/?c=told&payout={payout}"
                    await eventually(
                        lambda: client.count("outbound_messages", "state = 'sent'"), lambda number: number == 1
                    )
