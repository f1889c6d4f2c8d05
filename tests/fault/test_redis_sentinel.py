"""Sentinels: the primary is found through them, and a new one after the old has died or hung."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from dedup.client import connect
from ingest.config import Ack
from tests.clusters import SERVICE, Guarded, Node, guarded_valkey, wait_until
from tests.ledger import Load, assert_kept
from tests.platform import client_of, load_sample
from tests.program import running

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    with guarded_valkey() as guarded:
        yield guarded


async def test_the_primary_is_found(guarded: Guarded) -> None:
    dead_sentinel = "127.0.0.1:1"
    client = connect(guarded.url.replace("redis+sentinel://", f"redis+sentinel://{dead_sentinel},"))
    try:
        assert await client.set("key", "value")
        assert (await client.info("replication"))["role"] == "master"
    finally:
        await client.aclose()


async def test_another_service_is_not(guarded: Guarded) -> None:
    client = connect(guarded.url.replace(f"/{SERVICE}", "/unknown"))
    try:
        with pytest.raises(RedisConnectionError, match="No master found for 'unknown'"):
            await client.ping()
    finally:
        await client.aclose()


@pytest.mark.parametrize("fault", ["killed", "frozen"])
async def test_the_primary_fails_and_nothing_replicated_is_lost(
    tmp_path: Path, guarded: Guarded, postgres_dsn: str, fault: str
) -> None:
    await load_sample(postgres_dsn)
    old = guarded.primary
    old.run("FLUSHALL")
    with running(tmp_path, guarded.url, postgres_dsn, REDIS__ACK=Ack.REPLICATED.value) as program:
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=16, name=fault)
            await load.start()
            await load.until(300)
            if fault == "killed":
                old.kill()
            else:
                old.freeze()
            await asyncio.to_thread(wait_until, lambda: guarded.primary is not old, "another primary")
            await load.until(300)
            assert load.ledger.tries["202 spooled"] > 0
            new = guarded.primary
            await _comes_back(old, new, guarded)
            await load.until_answered("200 accepted", 200)
            ledger = await load.finish()
            await assert_kept(client, ledger)
        assert program.stop() == 0


async def _comes_back(old: Node, new: Node, guarded: Guarded) -> None:
    """As the replica of the new one. A sentinel that finds it as a primary makes it one, in its own time."""
    if old.is_running:
        old.thaw()
    else:
        old.spawn(replicaof=f"127.0.0.1 {new.port}")
    await asyncio.to_thread(guarded.settle)
