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


async def test_primaries_fail_and_nothing_replicated_is_lost(
    tmp_path: Path, guarded: Guarded, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, guarded.url, postgres_dsn, REDIS__ACK=Ack.REPLICATED.value) as program:
        async with client_of(program, postgres_dsn) as client:
            load = Load(client, senders=16, name="failing")
            await load.start()
            for fail in (Node.kill, Node.freeze):
                await load.until_answered("200 accepted", 200)
                old = guarded.primary
                fail(old)
                await load.until_answered("202 spooled", 200)
                await asyncio.to_thread(_replaced, guarded, old)
                if old.is_running:
                    old.thaw()  # it takes itself for the primary until the sentinels see it, some seconds later
                else:
                    old.spawn(replicaof=f"127.0.0.1 {guarded.primary.port}")
                    await asyncio.to_thread(guarded.settle)
            await load.until_answered("200 accepted", 200)
            ledger = await load.finish()
            await assert_kept(client, ledger)
        assert program.stop() == 0


def _replaced(guarded: Guarded, old: Node) -> None:
    wait_until(lambda: guarded.primary is not old, "another primary")
