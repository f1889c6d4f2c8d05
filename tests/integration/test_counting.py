"""Counted exactly once, through the whole program: copies at once, a lost Redis memory, killed processes, a drain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest

from tests import servers
from tests.eventually import eventually
from tests.ledger import PAUSE_S
from tests.platform import Client, client_of, load_sample, statuses
from tests.program import Program, running


@pytest.fixture(scope="module")
def program_and_dsn(
    postgres_server: servers.PostgresServer, valkey_server: servers.RedisServer
) -> Iterator[tuple[Program, str]]:
    """One program on two receivers, which the tests leave alive."""
    valkey_server.flush()
    with postgres_server.database(servers.TEMPLATE) as dsn, servers.temporary_folder() as folder:
        asyncio.run(load_sample(dsn))
        with running(folder / "var", valkey_server.url, dsn, SERVER__RECEIVERS="2") as program:
            yield program, dsn


async def _counts(client: Client, clicks: str) -> tuple[int, int]:
    """Rows of conversions and of postback_log of clicks whose ids begin so."""
    where = f"starts_with(click_id, '{clicks}')"
    return await client.count("conversions", where), await client.count("postback_log", where)


async def test_a_hundred_copies_at_once_are_one_conversion(client: Client) -> None:
    await client.register("copied")
    query = "click_id=copied&goal=purchase&txn_id=t1&sale_amount=49.99"
    answers = await asyncio.gather(*(client.get(query) for _ in range(100)))
    assert Counter(statuses(answers)) == {"accepted": 1, "duplicate": 99}
    assert len({said["conversion_id"] for _, said in answers}) == 1
    await eventually(lambda: _counts(client, "copied"), lambda found: found == (1, 99))
    row = await client.database.fetchrow("SELECT * FROM conversions WHERE click_id = 'copied'")
    assert str(row["conversion_id"]) == answers[0][1]["conversion_id"]
    assert (row["revenue"], row["payout"]) == (Decimal("9.998000"), Decimal("6.998600"))


async def test_after_redis_lost_its_memory_nothing_is_counted_twice(
    client: Client, valkey_server: servers.RedisServer
) -> None:
    events = [f"click_id=flush-{n}&goal=purchase&txn_id=t{n % 7}&sale_amount={n}.5" for n in range(300)]
    await client.register(*(f"flush-{n}" for n in range(300)))
    first = await asyncio.gather(*(client.get(query) for query in events))
    assert Counter(statuses(first)) == {"accepted": 300}
    await eventually(lambda: _counts(client, "flush-"), lambda found: found == (300, 0))
    await asyncio.to_thread(valkey_server.flush)
    again = await asyncio.gather(*(client.get(query) for query in events))
    assert {status for status, _ in again} == {200}
    assert [said["conversion_id"] for _, said in again] == [said["conversion_id"] for _, said in first]
    # Redis did not know them: Postgres did, and each repeat is in the log.
    await eventually(lambda: _counts(client, "flush-"), lambda found: found == (300, 300))
    ours = "starts_with(click_id, 'flush-')"
    assert await client.count("postback_log", f"outcome = 'duplicate' AND {ours}") == 300
    assert await client.database.fetchval(f"SELECT sum(sale_amount) FROM conversions WHERE {ours}") == sum(
        Decimal(f"{n}.5") for n in range(300)
    )


async def _send_steadily(client: Client, name: str, stop: asyncio.Event) -> dict[str, str]:
    """Until `stop`, one postback after another, each again until it is answered 200: the conversion ids by click."""
    recorded: dict[str, str] = {}
    number = 0
    while not stop.is_set():
        click_id = f"{name}-{number % 500}"
        await asyncio.sleep(PAUSE_S)
        try:
            status, said = await client.get(f"click_id={click_id}&goal=purchase&txn_id={number // 500}&sale_amount=1")
        except aiohttp.ClientError:
            continue
        if status != 200:
            assert status == 503, said
            continue
        assert said["status"] in {"accepted", "duplicate"}
        recorded[f"{click_id}:{number // 500}"] = said["conversion_id"]
        number += 1
    return recorded


@pytest.mark.parametrize("role", ["receiver", "writer"])
async def test_a_killed_worker_is_started_again_and_loses_nothing(client: Client, role: str) -> None:
    program, where = client.program, f"starts_with(click_id, '{role}')"
    names = [f"{role}{n}" for n in range(8)]
    await client.register(*(f"{name}-{n}" for name in names for n in range(500)))
    stop = asyncio.Event()
    senders = [asyncio.create_task(_send_steadily(client, name, stop)) for name in names]
    for _ in range(3):
        before = program.workers(role)
        await eventually(lambda: client.count("conversions", where), bool)
        os.kill(before[0], signal.SIGKILL)

        async def workers() -> list[int]:
            return program.workers(role)

        await eventually(workers, lambda now, old=before[0]: old not in now)  # type: ignore[misc]
    stop.set()
    recorded = {key: value for part in await asyncio.gather(*senders) for key, value in part.items()}
    ids = set(recorded.values())
    assert len(ids) == len(recorded) > 100

    async def stored() -> set[str]:
        rows = await client.database.fetch(f"SELECT conversion_id FROM conversions WHERE {where}")
        return {str(row[0]) for row in rows}

    await eventually(stored, lambda found: found >= ids)
    extra = await stored() - ids
    # A receiver that died between claim and answer may leave what its sender never sent again.
    assert len(extra) <= (3 * len(names) if role == "receiver" else 0)


async def test_metrics_are_summed_over_all_processes(client: Client) -> None:
    counters = (
        'postback_outcomes_total{outcome="accepted",reason=""}',
        'postback_rows_total{result="new"}',
        'postback_clicks_total{result="accepted"}',
    )

    async def sums() -> list[float]:
        async with client.http.get(f"{client.program.url}/metrics") as response:
            lines = dict(line.rsplit(" ", 1) for line in (await response.text()).splitlines())
        return [float(lines.get(name, 0)) for name in counters]

    before = await sums()
    await client.register(*(f"metric-{n}" for n in range(60)))
    await asyncio.gather(*(client.get(f"click_id=metric-{n}") for n in range(60)))
    await eventually(lambda: _counts(client, "metric-"), lambda found: found == (60, 0))
    await eventually(sums, lambda now: now == [was + 60 for was in before])
    for path in ("/healthz", "/readyz"):
        async with client.http.get(client.program.url + path) as response:
            assert response.status == 200


def test_a_second_program_in_the_same_folder_is_refused(
    program_and_dsn: tuple[Program, str], valkey_server: servers.RedisServer
) -> None:
    first, dsn = program_and_dsn
    for role in ("all", "receiver", "writer"):
        refusal = rf"data_dir: process {first.process.pid} runs the (receiver|writer)s of"
        with (
            pytest.raises(AssertionError, match=refusal),
            running(first.data_dir, valkey_server.url, dsn, role=role),
        ):
            pass
    assert (first.data_dir / "run" / "server.json").exists()


async def test_a_drain_answers_what_is_under_way_and_writes_it(
    tmp_path: Path, valkey_server: servers.RedisServer, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    # A database of its own: the writer of the module's program would take its entries.
    with running(tmp_path, f"{valkey_server.url}?db=5", postgres_dsn, SERVER__DRAIN="1500ms") as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register(*(f"drain-{n}" for n in range(500)))
            stop = asyncio.Event()
            sender = asyncio.create_task(_send_steadily(client, "drain", stop))
            await eventually(lambda: client.count("conversions"), lambda found: found > 0)
            program.process.send_signal(signal.SIGTERM)

            async def ready() -> int:
                async with client.http.get(f"{program.url}/readyz") as response:
                    return response.status

            await eventually(ready, lambda status: status == 503)
            status, said = await client.get("click_id=drain-0&goal=install")
            assert (status, said["status"]) == (200, "accepted"), "while draining everything is still served"
            stop.set()
            recorded = await sender
            assert await asyncio.to_thread(program.process.wait, 60) == 0
            assert await client.count("conversions") == len(recorded) + 1
