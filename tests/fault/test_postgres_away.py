"""Postgres is cut off, frozen, slow, or gone in the middle of a commit: senders do not notice, each 2xx is a row."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from redis.asyncio import Redis

from storage.queue import GROUP, queue_key
from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running
from tests.proxy import Mode, Proxy, proxy_to
from tests.servers import PostgresServer

PROMPT_S = 2.5
"""Answers come within about a second, whatever Postgres does; the rest is for a machine that others use too."""
LATE_S = 90.0


@contextmanager
def proxied(dsn: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy in front of an embedded Postgres, and the DSN that leads through it."""
    target = urlsplit(dsn)
    given = parse_qs(target.query)
    with proxy_to(f"{given['host'][0]}/.s.PGSQL.{given['port'][0]}") as proxy:
        yield proxy, f"postgresql://postgres@127.0.0.1:{proxy.port}{target.path}"


@contextmanager
def stopped(server: PostgresServer) -> Iterator[None]:
    """SIGSTOP for the server and all its processes."""
    first = int((server.data_dir / "postgres" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    pids = [first]
    os.kill(first, signal.SIGSTOP)  # it makes no more of them from here on
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == first:
            pids.append(int(stat.parent.name))
            os.kill(pids[-1], signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@contextmanager
def in_mode(proxy: Proxy, mode: Mode) -> Iterator[None]:
    proxy.set(mode)
    try:
        yield
    finally:
        proxy.set(Mode.PASS)


@asynccontextmanager
async def watched(client: Client) -> AsyncIterator[list[float]]:
    """Meanwhile one postback after another, of a click that Redis holds: how long each takes, in seconds."""
    took: list[float] = []
    stop = asyncio.Event()

    async def watch() -> None:
        while not stop.is_set():
            started = time.monotonic()
            status, said = await client.get("click_id=watched&goal=purchase&txn_id=w&sale_amount=1")
            assert (status, said["status"] in {"accepted", "duplicate"}) == (200, True), said
            took.append(time.monotonic() - started)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield took
    stop.set()
    await watching


async def insert_clicks(client: Client, *click_ids: str) -> None:
    """Registered behind Redis' back: a receiver has to look them up."""
    await client.database.executemany(
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)"
        " VALUES ($1, 100, 10, date_trunc('second', now()) - interval '10 minutes', 'US')",
        [(click_id,) for click_id in click_ids],
    )


async def backlog_grows_beyond(redis: Redis, entries: int) -> None:
    async def length() -> int:
        return int(await redis.xlen(queue_key(0)))

    await eventually(length, lambda found: found > entries)


async def queue_is_empty(redis: Redis) -> None:
    async def left() -> tuple[int, int]:
        return await redis.xlen(queue_key(0)), (await redis.xpending(queue_key(0), GROUP))["pending"]

    await eventually(left, lambda found: found == (0, 0), within_s=LATE_S)


async def spool_is_empty(program: Program) -> None:
    async def segments() -> list[Path]:
        return list((program.data_dir / "spool").glob("*.spool"))

    await eventually(segments, lambda found: not found, within_s=LATE_S)


def said(program: Program, event: str) -> list[dict[str, object]]:
    """The log's lines of one kind."""
    return [line for line in program.log if line.get("event") == event]


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
                        await load.until(300)
                        await backlog_grows_beyond(redis, 200)
                    await load.until(100)
                late[name] = sum(one > PROMPT_S for one in took)
                assert len(took) > 10
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

                (error,) = await eventually(overdue, lambda found: len(found) > 0)
                assert re.fullmatch(r"PostgreSQL did not answer within 5 s", str(error))
                ledger = await load.finish()
            await queue_is_empty(redis)
            assert time.monotonic() - stuck < 30
            assert max(took) < PROMPT_S
            assert set(ledger.tries) == {"200 accepted"}
            ledger.attempted |= {("watched", "w"), ("seen", "u"), ("fresh", "u")}
            await assert_kept(client, ledger)
            await eventually(lambda: client.count("conversions", "txn_id = 'u'"), lambda found: found == 2)


async def test_a_slow_server_and_commits_of_unknown_outcome(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
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
                proxy.cut_at(None)
                await load.until(100)

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
                assert await redis.xlen(queue_key(0)) == 300
                async with client.http.get(
                    f"{program.url}/postback?click_id=full0-0&goal=purchase&txn_id=more&sale_amount=1"
                ) as response:
                    assert response.status == 503
                    assert int(response.headers["Retry-After"]) > 0
                assert await redis.xlen(queue_key(0)) == 300
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
                    asked = time.monotonic()
                    assert await asyncio.to_thread(program.stop) == 0
                    assert time.monotonic() - asked < 30
                    assert not said(program, "worker did not end in time, killing it")
                    left = await redis.xlen(queue_key(0))
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
        for role in ("receiver", "all"):
            with (
                pytest.raises(AssertionError, match=r"serve ended with 1:\n(?s:.*)error: .*postgres"),
                running(tmp_path, redis_url, dsn, role=role),
            ):
                pass
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
                assert await redis.xlen(queue_key(0)) == 20
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


async def _purchase(client: Client, number: int) -> tuple[int, dict[str, str]]:
    return await client.get(f"click_id=kept&goal=purchase&txn_id={number}&sale_amount={number}")
