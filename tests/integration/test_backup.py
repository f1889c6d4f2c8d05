"""Backups as docs/operations.md tells to make them, and what comes of restoring them: nothing lost, nothing doubled."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from pathlib import Path

import redis

from ingest.config import Config
from ingest.engines import running_urls
from ingest.engines.binaries import find_postgres
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample
from tests.program import Program, running
from tests.servers import PostgresServer, temporary_folder

BEFORE = [f"before-{number}" for number in range(20)]
AFTER = [f"after-{number}" for number in range(20)]


def _dsn(program: Program) -> str:
    urls = running_urls(Config(data_dir=str(program.data_dir)))
    assert urls is not None
    return urls.postgres_dsn


async def _send(client: Client, txn_ids: list[str]) -> set[str]:
    """A purchase each; the verdicts."""
    items = [{"click_id": "kept", "goal": "purchase", "txn_id": txn_id, "sale_amount": "10"} for txn_id in txn_ids]
    status, said = await client.post("/postbacks", json=items)
    assert status == 200, said
    return {item["status"] for item in said}


async def _stored(client: Client, txn_ids: list[str]) -> int:
    return await client.count("conversions", f"txn_id = ANY('{{{','.join(txn_ids)}}}')")


async def _all_stored(client: Client, txn_ids: list[str]) -> None:
    await eventually(lambda: _stored(client, txn_ids), lambda count: count == len(txn_ids))


def _move(place: Path, other: Path) -> None:
    """A copy with owners and modes, since under root PostgreSQL's files are another user's; the original is gone."""
    subprocess.run(["cp", "-a", place, other], check=True)
    shutil.rmtree(place)


async def _has_catalog(program: Program) -> None:
    async def loaded() -> list[object]:
        return [line["campaigns"] for line in program.log if line.get("event") == "catalog loaded"]

    await eventually(loaded, any)


async def test_a_cold_copy_of_the_data_folder_carries_the_queue_with_it() -> None:
    with temporary_folder() as folder:
        # Without a writer: what comes stays in the queue.
        with running(folder / "var", role="receiver") as program:
            await load_sample(_dsn(program))
            await _has_catalog(program)
            async with client_of(program, _dsn(program)) as client:
                await client.register("kept")
                assert await _send(client, BEFORE) == {"accepted"}
                assert await _stored(client, BEFORE) == 0
            assert program.stop() == 0
        await asyncio.to_thread(_move, folder / "var", folder / "copy")

        with running(folder / "copy") as program:
            async with client_of(program, _dsn(program)) as client:
                await _all_stored(client, BEFORE)
                assert await _send(client, BEFORE) == {"duplicate"}
                # What came between the copy and the loss: senders repeat it.
                assert await _send(client, AFTER) == {"accepted"}
                await _all_stored(client, AFTER)
                assert await client.count("conversions") == len(BEFORE) + len(AFTER)


async def test_a_dump_is_restored_under_a_redis_that_is_ahead_of_it(
    tmp_path: Path, postgres_server: PostgresServer, postgres_dsn: str, redis_url: str
) -> None:
    await load_sample(postgres_dsn)
    dump = tmp_path / "postback.dump"
    with running(tmp_path / "var", redis_url, postgres_dsn) as program:
        async with client_of(program, postgres_dsn) as client:
            await client.register("kept")
            assert await _send(client, BEFORE) == {"accepted"}
            await _all_stored(client, BEFORE)
            _postgres("pg_dump", "--format=custom", f"--file={dump}", postgres_dsn)
            assert await _send(client, AFTER) == {"accepted"}
            await _all_stored(client, AFTER)
        assert program.stop() == 0

    with postgres_server.database("template0") as restored:
        _postgres("pg_restore", "--exit-on-error", "--no-owner", f"--dbname={restored}", str(dump))
        with running(tmp_path / "var", redis_url, restored) as program:
            async with client_of(program, restored) as client:
                assert await client.both_counts() == (len(BEFORE), 0)
                # Why Redis has to forget its claims: it answers for rows that are gone.
                assert await _send(client, AFTER) == {"duplicate"}
                assert await _stored(client, AFTER) == 0

                await eventually(lambda: client.count("postback_log"), lambda count: count == len(AFTER))
                with redis.Redis.from_url(redis_url) as server:
                    server.flushall()
                assert await _send(client, BEFORE + AFTER) == {"accepted"}
                await _all_stored(client, AFTER)
                await eventually(lambda: client.count("postback_log"), lambda count: count == len(BEFORE + AFTER))
                assert await client.count("conversions") == len(BEFORE) + len(AFTER)


def _postgres(program: str, *arguments: str) -> None:
    done = subprocess.run([find_postgres().program(program), *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
