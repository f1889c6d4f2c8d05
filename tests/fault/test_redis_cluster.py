"""Redis Cluster: counting over several primaries, failovers and resharding under load."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import count
from pathlib import Path
from zlib import crc32

import pytest
from msgspec.structs import replace

from dedup.client import connect
from dedup.cluster import ClusterClient
from dedup.durability import CONFIRM_MS, Durability
from dedup.port import CachedClick, Entry, Verdict
from dedup.redis import DOUBT_S, RedisDeduplicator
from ingest.config import Ack
from ingest.engines.checks import Severity, check_redis
from storage.queue import queue_key, read_backlog
from tests.clusters import NODE_TIMEOUT_MS, Cluster, ClusterNode, Node, valkey_cluster, wait_until
from tests.eventually import eventually
from tests.ledger import Load, assert_kept
from tests.platform import client_of, load_sample
from tests.program import Program, running
from tests.queued import waiting

PARTITIONS = 12
FAR_MS = int(time.time() * 1000) + 86_400_000
ACCEPTED, DUPLICATE, CONFLICT = Verdict.ACCEPTED, Verdict.DUPLICATE, Verdict.CONFLICT
UNAVAILABLE = Verdict.UNAVAILABLE
PATIENT_MS = 60_000
"""A node timeout that no busy machine exceeds, for tests without a failover."""

_tokens = count()

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def formed() -> Iterator[Cluster]:
    with valkey_cluster() as cluster:
        yield cluster


@pytest.fixture
def cluster(formed: Cluster) -> Cluster:
    """Whole and empty."""
    formed.heal()
    formed.configure("cluster-node-timeout", str(NODE_TIMEOUT_MS))
    formed.flush()
    return formed


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[ClusterClient]:
    client = connect(cluster.url)
    assert isinstance(client, ClusterClient)
    yield client
    await client.aclose()


def deduplicator(client: ClusterClient, durability: Durability = Durability.WRITTEN) -> RedisDeduplicator:
    return RedisDeduplicator(client, partitions=PARTITIONS, max_backlog=1_000_000, durability=durability)


def entry(click_id: str, fact: bytes = b"5USD") -> Entry:
    return Entry(click_id, b"1000", next(_tokens).to_bytes(7, "big") + fact, FAR_MS, b"c1", b"row")


def sent_again(entries: Sequence[Entry]) -> list[Entry]:
    return [replace(one, value=next(_tokens).to_bytes(7, "big") + one.fact) for one in entries]


def partition_of(click_id: str) -> int:
    return crc32(click_id.encode()) % PARTITIONS


def clicks_of(partition: int, number: int) -> list[str]:
    """Click ids of one partition."""
    found = (f"click-{place}" for place in count())
    return [next(one for one in found if partition_of(one) == partition) for _ in range(number)]


# Deduplication ---------------------------------------------------------------------------------------------------


async def test_each_partition_counts(client: ClusterClient) -> None:
    dedup = deduplicator(client, Durability.REPLICATED)
    ids = [f"click-{number}" for number in range(300)]
    await dedup.cache([CachedClick(click_id, click_id.encode(), FAR_MS) for click_id in ids])
    assert await dedup.clicks([*ids, "none"]) == [*(click_id.encode() for click_id in ids), None]
    batch = [entry(click_id) for click_id in ids]
    assert await dedup.claim(batch) == [ACCEPTED] * 300
    assert await dedup.claim(batch) == [ACCEPTED] * 300
    assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 300
    assert await dedup.claim([entry(click_id, b"6USD") for click_id in ids]) == [CONFLICT] * 300
    waits = [(await read_backlog(client, partition)).waiting for partition in range(PARTITIONS)]
    assert sum(waits) == 900
    assert all(waits)


async def test_a_replica_that_takes_over_knows_the_claims_but_no_script(
    cluster: Cluster, client: ClusterClient
) -> None:
    dedup = deduplicator(client, Durability.REPLICATED)
    batch = [entry(f"click-{number}") for number in range(100)]
    assert await dedup.claim(batch) == [ACCEPTED] * 100
    dead = cluster.owner(queue_key(0))
    dead.kill()
    hit = [one for one in batch if cluster.owner(queue_key(partition_of(one.click_id))) is dead]
    assert hit
    assert set(await dedup.claim(sent_again(hit))) == {UNAVAILABLE}
    assert await dedup.problem() is not None

    written = deduplicator(client)

    async def claimed() -> list[Verdict]:
        return await written.claim(sent_again(batch))

    verdicts = await eventually(claimed, lambda found: UNAVAILABLE not in found)
    assert verdicts == [DUPLICATE] * 100
    assert await written.claim([entry(f"new-{number}") for number in range(100)]) == [ACCEPTED] * 100
    await eventually(dedup.problem, lambda problem: problem is None)
    await asyncio.sleep(DOUBT_S)
    assert set(await dedup.claim(sent_again(hit))) == {UNAVAILABLE}, "there is no replica left to confirm it"
    took = []
    for _ in range(5):
        started = time.monotonic()
        assert set(await dedup.claim(sent_again(batch))) == {DUPLICATE, UNAVAILABLE}
        took.append(time.monotonic() - started)
        assert await dedup.problem() is None, "the other primaries confirm"
    assert min(took) < CONFIRM_MS[Durability.REPLICATED] / 1_000, "nobody waits for the partitions that cannot"

    dead.spawn()
    await asyncio.to_thread(cluster.settle)

    async def confirmed() -> list[Verdict]:
        assert await dedup.problem() is None
        return await dedup.claim(sent_again(batch))

    assert await eventually(confirmed, lambda found: UNAVAILABLE not in found) == [DUPLICATE] * 100


async def test_a_slot_on_its_way_to_a_node_that_owns_none(cluster: Cluster, client: ClusterClient) -> None:
    dedup = deduplicator(client)
    ids = clicks_of(0, 40)
    await dedup.cache([CachedClick(click_id, b"packed", FAR_MS) for click_id in ids])
    batch = [entry(click_id) for click_id in ids]
    assert await dedup.claim(batch) == [ACCEPTED] * 40
    source, slot = cluster.owner(queue_key(0)), cluster.slot(queue_key(0))

    steps = cluster.move_keys(slot, source, cluster.spare, keys_each=20)
    next(steps)
    half = await dedup.claim(sent_again(batch))
    assert set(half) == {UNAVAILABLE}, "keys on both nodes: TRYAGAIN"
    next(steps)
    next(steps)
    assert await dedup.problem() is None
    calls = await asyncio.gather(*(dedup.claim([one]) for one in sent_again(batch)))
    assert calls == [[DUPLICATE]] * 40, "all keys have moved, the slot has not: ASK"
    assert await dedup.clicks(ids) == [b"packed"] * 40
    assert await waiting(client) == 80
    assert list(steps) == []
    assert cluster.owner(queue_key(0)) is cluster.spare
    assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 40
    assert await dedup.claim([entry(f"new-{number}") for number in range(100)]) == [ACCEPTED] * 100

    assert list(cluster.move_keys(slot, cluster.spare, source, keys_each=1_000))
    assert await dedup.claim(sent_again(batch)) == [DUPLICATE] * 40


async def test_each_primary_is_checked(cluster: Cluster, client: ClusterClient) -> None:
    assert await check_redis(client, partitions=PARTITIONS, ack=Ack.REPLICATED) == []
    assert await check_redis(client, partitions=PARTITIONS, ack=Ack.FSYNCED) == []
    (few,) = await check_redis(client, partitions=PARTITIONS - 1)
    assert few.severity is Severity.WARN
    assert "redis.partitions is 11" in few.message
    assert "Set redis.partitions to 12" in few.message

    one, other, _ = cluster.primaries
    one.run("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    other.run("CONFIG", "SET", "appendfsync", "everysec")
    try:
        problems = await check_redis(client, partitions=PARTITIONS)
    finally:
        one.run("CONFIG", "SET", "maxmemory-policy", "noeviction")
        other.run("CONFIG", "SET", "appendfsync", "always")
    refused = [problem.message for problem in problems if problem.severity is Severity.REFUSE]
    warned = [problem.message for problem in problems if problem.severity is Severity.WARN]
    assert len(refused) == len(warned) == 1
    assert refused[0].startswith(f"{one.address}: Redis may throw keys away")
    assert warned[0].startswith(f"{other.address}: Redis fsyncs its append-only file too seldom")


# The program -----------------------------------------------------------------------------------------------------


async def _everything_is_written(program: Program, redis: ClusterClient) -> None:
    async def left() -> int:
        spooled = len(list((program.data_dir / "spool").glob("*.spool")))
        return spooled + sum([await redis.xlen(queue_key(partition)) for partition in range(PARTITIONS)])

    await eventually(left, lambda found: found == 0, within_s=90)


def _partition_settings(ack: Ack) -> dict[str, str]:
    return {"REDIS__PARTITIONS": str(PARTITIONS), "REDIS__ACK": ack.value}


async def test_primaries_fail_and_nothing_replicated_is_lost(
    tmp_path: Path, cluster: Cluster, client: ClusterClient, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, cluster.url, postgres_dsn, **_partition_settings(Ack.REPLICATED)) as program:
        async with client_of(program, postgres_dsn) as sender:
            load = Load(sender, senders=16, name="failing")
            await load.start()
            for fail, come_back in ((Node.kill, Node.spawn), (Node.freeze, Node.thaw)):
                await load.until_answered("200 accepted", 200)
                old = cluster.owner(queue_key(0))
                fail(old)
                await load.until_answered("202 spooled", 200)
                await asyncio.to_thread(_replaced, cluster, old)
                come_back(old)
                await asyncio.to_thread(cluster.settle)
            await load.until_answered("200 accepted", 200)
            ledger = await load.finish()
            await assert_kept(sender, ledger)
            await _everything_is_written(program, client)
            assert await sender.count("conversions") == len(ledger.attempted)
        assert program.stop() == 0


def _replaced(cluster: Cluster, old: ClusterNode) -> None:
    wait_until(lambda: cluster.owner(queue_key(0)) is not old, "the replica took over")


async def test_a_primary_is_killed_and_nothing_is_doubled_where_only_it_had_claims(
    tmp_path: Path, cluster: Cluster, client: ClusterClient, postgres_dsn: str
) -> None:
    await load_sample(postgres_dsn)
    with running(tmp_path, cluster.url, postgres_dsn, **_partition_settings(Ack.WRITTEN)) as program:
        async with client_of(program, postgres_dsn) as sender:
            load = Load(sender, senders=16, name="killed")
            await load.start()
            await load.until(300)
            dead = cluster.owner(queue_key(0))
            dead.kill()
            await load.until_answered("200 accepted", 200)  # the replica serves alone
            dead.spawn()
            await asyncio.to_thread(cluster.settle)
            ledger = await load.finish()
            await _everything_is_written(program, client)
            rows = await sender.database.fetch("SELECT click_id, txn_id, sale_amount FROM conversions")
            stored = {(row[0], row[1]): row[2] for row in rows}
            assert len(stored) == len(rows), "counted twice"
            assert stored.keys() <= ledger.attempted
            lost = ledger.stored.keys() - stored.keys()
            assert all(stored[key] == amount for key, amount in ledger.stored.items() if key not in lost)
            print(f"lost {len(lost)} of {len(ledger.stored)}")
            # Only what the replica had not been sent yet: a moment's worth.
            assert len(lost) <= 32, f"{len(lost)} of {len(ledger.stored)}"


async def test_slots_move_under_load(tmp_path: Path, cluster: Cluster, postgres_dsn: str) -> None:
    cluster.configure("cluster-node-timeout", str(PATIENT_MS))
    await load_sample(postgres_dsn)
    slots = [cluster.slot(queue_key(partition)) for partition in range(3)]
    owners = [cluster.owner(queue_key(partition)) for partition in range(3)]
    with running(tmp_path, cluster.url, postgres_dsn, **_partition_settings(Ack.WRITTEN)) as program:
        async with client_of(program, postgres_dsn) as sender:
            load = Load(sender, senders=16, name="moved")
            await load.start()
            await load.until(200)
            for slot, owner in zip(slots, owners, strict=True):
                await _key_by_key(cluster, load, slot, owner, cluster.spare)
            await load.until_answered("200 accepted", 200)
            for slot, owner in zip(slots, owners, strict=True):
                await asyncio.to_thread(cluster.hand_over, [slot], cluster.spare, owner)
            await load.until_answered("200 accepted", 200)
            ledger = await load.finish()
            assert ledger.tries["503 unavailable"] == 0
            await assert_kept(sender, ledger)
        assert program.stop() == 0


async def _key_by_key(cluster: Cluster, load: Load, slot: int, source: ClusterNode, target: ClusterNode) -> None:
    for _ in cluster.move_keys(slot, source, target, keys_each=50):
        await load.until(10)
