"""Postgres is cut off, frozen, slow, or gone in the middle of a commit: senders do not notice, each 2xx is a row."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.outages import (
    LATE_S,
    PROMPT_S,
    backlog_grows_beyond,
    in_mode,
    insert_clicks,
    proxied,
    queue_is_empty,
    said,
    spool_is_empty,
    stopped,
    watched,
)
from tests.platform import Client, client_of, load_sample
from tests.program import running
from tests.proxy import Mode
from tests.queued import waiting
from tests.servers import PostgresServer


async def test_outages(tmp_path: Path, redis_url: str, postgres_dsn: str, postgres_server: PostgresServer) -> None:
    """Cut off, frozen on the way, frozen itself: known clicks are counted all the time, others wait in the spool."""
    await load_sample(postgres_dsn)
    with (
        proxied(postgres_dsn) as (proxy, dsn),
        running(tmp_path, redis_url, dsn, SERVER__RECEIVERS="2", WRITER__BATCH_AGE="50ms") as program,
    ):
        async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
            await client.register("watched")
            load = Load(client, senders=16, name="away")
            await load.start()
            faults: dict[str, Callable[[], AbstractContextManager[None]]] = {
                "refused": lambda: in_mode(proxy, Mode.REFUSE),
                "frozen": lambda: in_mode(proxy, Mode.FREEZE),
                "stopped": lambda: stopped(postgres_server),
            }
            late: Counter[str] = Counter()
            for name, fault in faults.items():
                await load.until(100)
                unseen = [f"{name}-{number}" for number in range(20)]
                await insert_clicks(client, *unseen)
                async with watched(client) as took:
                    with fault():
                        asked = time.monotonic()
                        answers = await asyncio.gather(
                            *(client.get(f"click_id={one}&goal=purchase&txn_id=u&sale_amount=3") for one in unseen)
                        )
                        assert {(status, body["status"]) for status, body in answers} == {(202, "spooled")}, name
                        assert time.monotonic() - asked < PROMPT_S
                        if name == "refused":
                            new = {"click_id": "new", "campaign_id": 100, "publisher_id": 10, "clicked_at": time.time()}
                            assert (await client.post("/clicks", json=new, key=program.admin_key))[0] == 503
                        await load.until(300)
                        await backlog_grows_beyond(redis, 200)
                    await load.until(100)
                late[name] = sum(one > PROMPT_S for one in took)
                assert took
            ledger = await load.finish()
            print(dict(ledger.tries))
            assert not late.total(), late
            assert set(ledger.tries) == {"200 accepted"}
            ledger.attempted |= {(f"{name}-{number}", "u") for name in faults for number in range(20)}
            ledger.attempted.add(("watched", "w"))
            await assert_kept(client, ledger)
            await eventually(lambda: client.count("conversions", "txn_id = 'u'"), lambda found: found == 60)
            await spool_is_empty(program)
            await queue_is_empty(redis)
            assert await client.count("postback_log", "click_id <> 'watched'") == 0
        assert program.stop() == 0


async def test_a_frozen_connection_is_cut_and_the_batch_goes_over_another(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with proxied(postgres_dsn) as (proxy, dsn), running(tmp_path, redis_url, dsn) as program:
        async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
            await client.register("watched")
            load = Load(client, senders=8, name="stuck")
            await load.start()
            await insert_clicks(client, "seen", "fresh")
            assert (await client.get("click_id=seen&goal=purchase&txn_id=u&sale_amount=3"))[0] == 200
            await load.until(100)
            async with watched(client) as took:
                stuck = time.monotonic()
                proxy.freeze_open()
                # The receiver's one connection hangs as well: the next look-up finds that, its postback is spooled.
                assert (await client.get("click_id=fresh&goal=purchase&txn_id=u&sale_amount=3"))[0] == 202
                await backlog_grows_beyond(redis, 100)

                async def overdue() -> list[object]:
                    return [line["error"] for line in said(program, "writer waits for an engine")]

                # On a busy machine batches take longer, and the writer's patience is four times that: 5 to 20 s.
                error, *_ = await eventually(overdue, lambda found: len(found) > 0, within_s=45)
                assert re.fullmatch(r"PostgreSQL did not answer within [0-9.]+ s", str(error))
                ledger = await load.finish()
            await queue_is_empty(redis)
            assert time.monotonic() - stuck < 60
            assert max(took) < PROMPT_S
            assert set(ledger.tries) == {"200 accepted"}
            ledger.attempted |= {("watched", "w"), ("seen", "u"), ("fresh", "u")}
            await assert_kept(client, ledger)
            await eventually(lambda: client.count("conversions", "txn_id = 'u'"), lambda found: found == 2)


async def test_commits_of_unknown_outcome_writers_that_die_and_a_slow_server(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with (
        proxied(postgres_dsn) as (proxy, dsn),
        running(tmp_path, redis_url, dsn, WRITER__PROCESSES="2", WRITER__BATCH_AGE="20ms") as program,
    ):
        async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
            await client.register("watched")
            load = Load(client, senders=8, name="cut")
            await load.start()
            async with watched(client) as took:
                proxy.cut_at(b"COMMIT")
                for _ in range(10):  # every other commit arrives before the connection is reset
                    before = proxy.cuts

                    async def cuts() -> int:
                        return proxy.cuts

                    await eventually(cuts, lambda now, then=before: now > then, within_s=LATE_S)  # type: ignore[misc]
                dead, still = program.workers("writer")
                os.kill(dead, signal.SIGKILL)
                os.kill(still, signal.SIGSTOP)
                proxy.cut_at(None)
                await load.until(200)
                os.kill(still, signal.SIGCONT)

                proxy.delay(0.1)
                unseen = [f"slow-{number}" for number in range(20)]
                await insert_clicks(client, *unseen)
                answers = [client.get(f"click_id={one}&goal=purchase&txn_id=u&sale_amount=3") for one in unseen]
                assert {status for status, _ in await asyncio.gather(*answers)} <= {200, 202}
                await load.until(300)
                proxy.delay(0)
            ledger = await load.finish()
            assert max(took) < PROMPT_S
            assert set(ledger.tries) == {"200 accepted"}
            ledger.attempted |= {(one, "u") for one in unseen} | {("watched", "w")}
            await assert_kept(client, ledger)
            await eventually(lambda: client.count("conversions", "txn_id = 'u'"), lambda found: found == len(unseen))
            await queue_is_empty(redis)
            # What was delivered again is known for what it is: no postback is logged as the duplicate of itself.
            assert await client.count("postback_log", "click_id <> 'watched'") == 0


async def test_a_full_backlog_is_503_and_changes_nothing(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with (
        proxied(postgres_dsn) as (proxy, dsn),
        running(tmp_path, redis_url, dsn, REDIS__MAX_BACKLOG="300") as program,
    ):
        async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
            load = Load(client, senders=16, name="full")
            await load.start()
            await load.until(100)
            with in_mode(proxy, Mode.REFUSE):

                async def refused() -> int:
                    return load.ledger.tries["503 unavailable"]

                await eventually(refused, lambda found: found > 200)
                assert await waiting(redis) == 300
                async with client.http.get(
                    f"{program.url}/postback?click_id=full0-0&goal=purchase&txn_id=more&sale_amount=1"
                ) as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) > 0
                assert await waiting(redis) == 300
                claims = await redis.hkeys("pb:{0}:click:full0-0")
                assert not [claim for claim in claims if b"more" in claim]
            await load.until(300)
            ledger = await load.finish()
            # Claims of what was refused would make duplicates of the next attempts.
            assert set(ledger.tries) == {"200 accepted", "503 unavailable"}
            await assert_kept(client, ledger)
            await queue_is_empty(redis)
            assert await client.count("postback_log") == 0


async def test_a_stop_while_postgres_is_frozen(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with proxied(postgres_dsn) as (proxy, dsn):
        with running(tmp_path, redis_url, dsn) as program:
            async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
                load = Load(client, senders=8, name="end")
                await load.start()
                await load.until(100)
                with in_mode(proxy, Mode.FREEZE):
                    await backlog_grows_beyond(redis, 200)
                    ledger = await load.finish()
                    assert await asyncio.to_thread(program.stop) == 0
                    assert not said(program, "worker did not end in time, killing it")
                    left = await waiting(redis)
                    assert left > 200
        with running(tmp_path, redis_url, dsn) as program:
            async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
                await assert_kept(client, ledger)
                await queue_is_empty(redis)
                assert await client.count("postback_log") == 0


async def test_starts_while_postgres_is_away(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    """Nothing was kept: refused, saying why. Then each role starts, serves from the kept catalog, and waits."""
    await load_sample(postgres_dsn)
    with proxied(postgres_dsn) as (proxy, dsn):
        proxy.set(Mode.REFUSE)
        refusals = [asyncio.to_thread(_refusal, tmp_path / role, redis_url, dsn, role) for role in ("receiver", "all")]
        for refusal in await asyncio.gather(*refusals):
            assert re.search(r"^error: PostgreSQL at postgresql:.*postgres\.dsn", refusal, re.MULTILINE)
        proxy.set(Mode.PASS)
        with running(tmp_path, redis_url, dsn, role="receiver") as program:
            async with client_of(program, postgres_dsn) as client:
                await client.register("kept")
            assert program.stop() == 0
        proxy.set(Mode.REFUSE)
        with running(tmp_path, redis_url, dsn) as program:
            async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
                for number in range(20):
                    assert (await _purchase(client, number))[1]["status"] == "accepted"
                assert await waiting(redis) == 20
            assert await asyncio.to_thread(program.stop) == 0
        with (
            running(tmp_path, redis_url, dsn, role="receiver") as program,
            running(tmp_path, redis_url, dsn, role="writer") as writer,
        ):
            assert [line["level"] for line in said(program, "Postgres is away; starting with the kept catalog")] == [
                "warning"
            ]
            assert any(dsn.rpartition("@")[2].partition("/")[0] in str(line) for line in writer.log)
            async with client_of(program, postgres_dsn) as client, Redis.from_url(redis_url) as redis:
                for number in range(20, 40):
                    assert (await _purchase(client, number))[1]["status"] == "accepted"
                assert (await _purchase(client, 7))[1]["status"] == "duplicate"
                assert await client.count("conversions") == 0
                proxy.set(Mode.PASS)
                await eventually(lambda: client.count("conversions"), lambda found: found == 40, within_s=LATE_S)
                await queue_is_empty(redis)
                await client.database.execute("UPDATE campaigns SET status = 'paused' WHERE id = 100")

                async def reason() -> object:
                    return (await _purchase(client, 99))[1].get("reason")

                await eventually(reason, lambda found: found == "campaign_inactive", within_s=LATE_S)


def _refusal(data_dir: Path, redis_url: str, dsn: str, role: str) -> str:
    """What `serve` says that does not start."""
    with (
        pytest.raises(AssertionError, match="serve ended with 1") as refused,
        running(data_dir, redis_url, dsn, role=role),
    ):
        pass
    return str(refused.value)


async def _purchase(client: Client, number: int) -> tuple[int, dict[str, str]]:
    return await client.get(f"click_id=kept&goal=purchase&txn_id={number}&sale_amount={number}")
