"""Counted exactly once, through the whole program: copies at once, a lost Redis memory, killed processes, a drain."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path

import aiohttp
import pytest
import redis.asyncio

from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample, statuses
from tests.program import running


async def test_a_hundred_copies_at_once_are_one_conversion(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__RECEIVERS="2") as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register("copied")
            query = "click_id=copied&goal=purchase&txn_id=t1&sale_amount=49.99"
            answers = await asyncio.gather(*(client.get(query) for _ in range(100)))
            assert Counter(statuses(answers)) == {"accepted": 1, "duplicate": 99}
            assert len({said["conversion_id"] for _, said in answers}) == 1
            await eventually(client.both_counts, lambda found: found == (1, 99))
            row = await client.database.fetchrow("SELECT * FROM conversions")
            assert str(row["conversion_id"]) == answers[0][1]["conversion_id"]
            assert (row["revenue"], row["payout"]) == (Decimal("9.998000"), Decimal("6.998600"))


async def test_after_redis_lost_its_memory_nothing_is_counted_twice(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    events = [f"click_id=flush-{n}&goal=purchase&txn_id=t{n % 7}&sale_amount={n}.5" for n in range(300)]
    with running(tmp_path, redis_url, postgres_dsn) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register(*(f"flush-{n}" for n in range(300)))
            first = await asyncio.gather(*(client.get(query) for query in events))
            assert Counter(statuses(first)) == {"accepted": 300}
            await eventually(client.both_counts, lambda found: found == (300, 0))
            async with redis.asyncio.Redis.from_url(redis_url) as server:
                await server.flushall()
            again = await asyncio.gather(*(client.get(query) for query in events))
            assert {status for status, _ in again} == {200}
            assert [said["conversion_id"] for _, said in again] == [said["conversion_id"] for _, said in first]
            # Redis did not know them: Postgres did, and each repeat is in the log.
            await eventually(client.both_counts, lambda found: found == (300, 300))
            assert await client.count("postback_log", "outcome = 'duplicate'") == 300
            assert await client.database.fetchval("SELECT sum(sale_amount) FROM conversions") == sum(
                Decimal(f"{n}.5") for n in range(300)
            )


async def _send_steadily(client: Client, name: str, stop: asyncio.Event) -> dict[str, str]:
    """Until `stop`, one postback after another, each again until it is answered 200: the conversion ids by click."""
    recorded: dict[str, str] = {}
    number = 0
    while not stop.is_set():
        click_id = f"{name}-{number % 500}"
        try:
            status, said = await client.get(f"click_id={click_id}&goal=purchase&txn_id={number // 500}&sale_amount=1")
        except aiohttp.ClientError:
            await asyncio.sleep(0.01)
            continue
        if status != 200:
            assert status == 503, said
            await asyncio.sleep(0.01)
            continue
        assert said["status"] in {"accepted", "duplicate"}
        recorded[f"{click_id}:{number // 500}"] = said["conversion_id"]
        number += 1
    return recorded


@pytest.mark.parametrize("role", ["receiver", "writer"])
async def test_a_killed_worker_is_started_again_and_loses_nothing(
    tmp_path: Path, redis_url: str, postgres_dsn: str, role: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__RECEIVERS="2", WRITER__BATCH_AGE="50ms") as program:
        async with client_of(program, postgres_dsn) as client:
            names = [f"kill{n}" for n in range(8)]
            await client.register(*(f"{name}-{n}" for name in names for n in range(500)))
            stop = asyncio.Event()
            senders = [asyncio.create_task(_send_steadily(client, name, stop)) for name in names]
            for _ in range(3):
                before = program.workers(role)
                await eventually(lambda: client.count("conversions"), lambda found: found > 0)
                os.kill(before[0], signal.SIGKILL)

                async def workers() -> list[int]:
                    return program.workers(role)

                await eventually(workers, lambda now, old=before[0]: old not in now)  # type: ignore[misc]
            stop.set()
            recorded = {key: value for part in await asyncio.gather(*senders) for key, value in part.items()}
            ids = set(recorded.values())
            assert len(ids) == len(recorded) > 100

            async def stored() -> set[str]:
                return {str(row[0]) for row in await client.database.fetch("SELECT conversion_id FROM conversions")}

            await eventually(stored, lambda found: found >= ids)
            extra = await stored() - ids
            # A receiver that died between claim and answer may leave what its sender never sent again.
            assert len(extra) <= (3 * len(names) if role == "receiver" else 0)


async def test_a_drain_answers_what_is_under_way_and_writes_it(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__DRAIN="500ms") as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register(*(f"drain-{n}" for n in range(500)))
            stop = asyncio.Event()
            sender = asyncio.create_task(_send_steadily(client, "drain", stop))
            await eventually(lambda: client.count("conversions"), lambda found: found > 0)
            program.process.send_signal(signal.SIGTERM)

            async def ready() -> int:
                async with client.http.get(f"{program.url}/readyz") as response:
                    return response.status

            await eventually(ready, lambda status: status == 503, within_s=5)
            status, said = await client.get("click_id=drain-0&goal=install")
            assert (status, said["status"]) == (200, "accepted"), "while draining everything is still served"
            stop.set()
            recorded = await sender
            assert await asyncio.to_thread(program.process.wait, 30) == 0
            assert await client.count("conversions") == len(recorded) + 1


async def test_metrics_are_summed_over_all_processes(tmp_path: Path, redis_url: str, postgres_dsn: str) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__RECEIVERS="3") as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register(*(f"metric-{n}" for n in range(60)))
            await asyncio.gather(*(client.get(f"click_id=metric-{n}") for n in range(60)))
            await eventually(client.both_counts, lambda found: found == (60, 0))

            async def metrics() -> str:
                async with client.http.get(f"{program.url}/metrics") as response:
                    return await response.text()

            wanted = (
                'postback_outcomes_total{outcome="accepted",reason=""} 60.0',
                'postback_rows_total{result="new"} 60.0',
            )
            await eventually(metrics, lambda text: all(line in text for line in wanted))
            for path in ("/healthz", "/readyz"):
                async with client.http.get(program.url + path) as response:
                    assert response.status == 200


async def test_a_second_program_in_the_same_folder_is_refused(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    with running(tmp_path, redis_url, postgres_dsn) as program:
        for role in ("all", "receiver", "writer"):
            refusal = rf"data_dir: process {program.process.pid} runs the (receiver|writer)s of"
            with pytest.raises(AssertionError, match=refusal), running(tmp_path, redis_url, postgres_dsn, role=role):
                pass
        assert (tmp_path / "run" / "server.json").exists()
