"""Processes are killed, stopped and ended under load: what was answered 2xx is counted once, whatever died."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import Client, client_of, load_sample, sample_is_known
from tests.program import Program, running
from tests.proxy import Mode, proxy_to
from tests.servers import free_port

LATE_S = 90.0


def _engines(program: Program) -> dict[str, Any]:
    """What the program says of its embedded engines: {"pids": {name: pid}, "postgres_dsn": ...}."""
    found: dict[str, Any] = json.loads((program.data_dir / "run" / "engines.json").read_bytes())
    return found


def _is_gone(pid: int) -> bool:
    try:
        with Path(f"/proc/{pid}/stat").open(encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"  # ended; who collects it is another's business
    except (FileNotFoundError, ProcessLookupError):
        return True


async def _all_gone(pids: list[int]) -> None:
    async def left() -> list[int]:
        return [pid for pid in pids if not _is_gone(pid)]

    await eventually(left, lambda found: not found, within_s=LATE_S)


async def _another(pid_now: Callable[[], int], before: int) -> None:
    async def ask() -> int:
        return pid_now()

    await eventually(ask, lambda now: now != before, within_s=LATE_S)


@pytest.mark.timeout(300)
async def test_processes_die_at_random_moments(tmp_path: Path) -> None:
    """Receivers, the writer and the embedded engines, by each signal; the supervisor brings them back, until it is
    killed itself."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    faults = [
        ("receiver", signal.SIGKILL),
        ("receiver", signal.SIGSTOP),
        ("receiver", signal.SIGTERM),
        ("writer", signal.SIGKILL),
        ("writer", signal.SIGSTOP),
        ("writer", signal.SIGTERM),
        ("redis", signal.SIGKILL),
        ("redis", signal.SIGSTOP),
        ("redis", signal.SIGTERM),
        ("postgres", signal.SIGKILL),
        ("postgres", signal.SIGSTOP),
        ("postgres", signal.SIGINT),
    ]
    chance.shuffle(faults)
    settings = {"SERVER__PORT": str(free_port()), "SERVER__RECEIVERS": "2", "SERVER__DRAIN": "500ms"}
    with running(tmp_path, **settings) as program:
        dsn = _engines(program)["postgres_dsn"]
        await load_sample(dsn)
        await sample_is_known(program, receivers=2)
        async with client_of(program, dsn) as client:
            load = Load(client, senders=8, name="die")
            await load.start()
            for target, number in faults:
                await load.until(chance.randrange(20, 120))
                print(target, number.name)

                def pid_now(target: str = target) -> int:
                    if target in {"receiver", "writer"}:
                        return program.workers(target)[0]
                    return int(_engines(program)["pids"][target])

                before = pid_now()
                os.kill(before, number)
                if number is signal.SIGSTOP:
                    await asyncio.sleep(chance.uniform(0.05, 0.5))  # the length of the fault
                    os.kill(before, signal.SIGCONT)
                else:
                    await _another(pid_now, before)
            await load.until(100)
            # At last the supervisor: neither its workers nor its engines outlive it, and the next one goes on.
            pids = _engines(program)["pids"].values()
            program.process.kill()
            await asyncio.to_thread(program.process.wait)
            # Its workers hold the port for a while, and its engines their data: whoever comes next waits for them.
            with running(tmp_path, **settings) as successor:
                await _all_gone([*program.workers(""), *pids])
                await load.until(100)
                ledger = await asyncio.wait_for(load.finish(), LATE_S)
                async with client_of(successor, dsn) as fresh:
                    await assert_kept(fresh, ledger, within_s=LATE_S)
                assert successor.stop() == 0


async def test_what_a_killed_supervisor_leaves_the_next_one_takes_up(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    """Its workers end by themselves; a filled spool and a filled queue are what they leave."""
    await load_sample(postgres_dsn)
    settings = {"SERVER__PORT": str(free_port()), "SERVER__RECEIVERS": "2"}
    with proxy_to(redis_url.removeprefix("unix://")) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}"
        with running(tmp_path, url, postgres_dsn, **settings) as program:
            async with client_of(program, postgres_dsn) as client:
                load = Load(client, senders=8, name="orphan")
                await load.start()
                await load.until(200)
                proxy.set(Mode.REFUSE)
                spooled = load.ledger.tries["202 spooled"]

                async def spooled_now() -> int:
                    return load.ledger.tries["202 spooled"]

                await eventually(spooled_now, lambda now: now >= spooled + 100)
                workers = program.workers("receiver") + program.workers("writer")
                assert len(workers) == 3
                program.process.kill()
                await asyncio.to_thread(program.process.wait)
                await _all_gone(workers)
                assert list((tmp_path / "spool").glob("*.spool"))
                proxy.set(Mode.PASS)
                with running(tmp_path, url, postgres_dsn, **settings) as successor:
                    await load.until(200)
                    ledger = await asyncio.wait_for(load.finish(), LATE_S)
                    await assert_kept(client, ledger, within_s=LATE_S)
                    assert not list((tmp_path / "spool").glob("*.spool"))
                    assert successor.stop() == 0


async def test_a_stopped_receiver_takes_no_other_down_and_is_replaced(
    tmp_path: Path, redis_url: str, postgres_dsn: str
) -> None:
    """Connections that the kernel gives to it hang; the supervisor kills it for its silence."""
    await load_sample(postgres_dsn)
    with running(tmp_path, redis_url, postgres_dsn, SERVER__RECEIVERS="2") as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register("stopped")
            before = program.workers("receiver")
            os.kill(before[0], signal.SIGSTOP)
            answers = await asyncio.gather(*(_on_a_new_connection(client, number) for number in range(20)))
            assert set(answers) <= {200, None}
            assert answers.count(200) > 0, "the other one answers"

            async def workers() -> list[int]:
                return program.workers("receiver")

            await eventually(workers, lambda now: before[0] not in now, within_s=LATE_S)
            answers = await asyncio.gather(*(_on_a_new_connection(client, number, 30) for number in range(20)))
            assert set(answers) == {200}
            assert any(line["event"] == "worker is stuck, killing it" for line in program.log)
            await eventually(lambda: client.count("conversions"), lambda found: found == 20)


async def _on_a_new_connection(client: Client, number: int, timeout_s: float = 2.0) -> int | None:
    """The status; None: no answer in time."""
    query = f"click_id=stopped&goal=purchase&txn_id={number}&sale_amount=1"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(timeout_s)) as http:
        try:
            async with http.get(f"{client.program.url}/postback?{query}") as response:
                return response.status
        except TimeoutError:
            return None
