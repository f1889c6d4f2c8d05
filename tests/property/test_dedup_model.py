"""Deduplication on a real Valkey against a plain model of claims and queue, over random histories."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any, TypeVar
from uuid import UUID
from zlib import crc32

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

from dedup.client import connect
from dedup.policy import TrackMultiple, claim_for
from dedup.port import CachedClick, Entry, Verdict
from dedup.redis import RedisDeduplicator
from storage.queue import PartitionQueue, read_backlog
from tests.queued import Fields, queued_rows

PARTITIONS = 2
MAX_BACKLOG = 25
CLICKED_MS = int(time.time() * 1000)
EXPIRES_MS = CLICKED_MS + 86_400_000

T = TypeVar("T")

click_ids = st.sampled_from(["a", "b:{c}", "клик", "d"])
events = st.tuples(
    click_ids,
    st.sampled_from(list(TrackMultiple)),
    st.sampled_from([1, 2]),  # goal
    st.sampled_from([None, "t", "t:1", "{}"]),  # txn_id
    st.sampled_from([None, "e", "t"]),  # event_id
    st.sampled_from([b"", b"5USD", b"6USD"]),  # fact
)
batches = st.lists(events, min_size=1, max_size=6)
Event = tuple[str, TrackMultiple, int, str | None, str | None, bytes]


def partition_of(click_id: str) -> int:
    return crc32(click_id.encode()) % PARTITIONS


class Model:
    """What should be: claims with the token and fact that took them, and both queues since the last flush."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, bytes], tuple[bytes, bytes]] = {}
        self.clicks: dict[str, bytes] = {}
        self.queues: list[list[Fields]] = [[] for _ in range(PARTITIONS)]
        self.consumed: list[Fields] = []

    def claim(self, partition: int, entries: Sequence[Entry]) -> list[Verdict]:
        """The verdicts on one partition's entries."""
        queue = self.queues[partition]
        if len(queue) + len(entries) > MAX_BACKLOG:
            return [Verdict.FULL] * len(entries)
        return [self._claim_one(queue, entry) for entry in entries]

    def _claim_one(self, queue: list[Fields], entry: Entry) -> Verdict:
        if not entry.field:
            queue.append({entry.kind: entry.payload})
            return Verdict.ACCEPTED
        claimed = self.claims.get((entry.click_id, entry.field))
        if claimed is None:
            self.claims[entry.click_id, entry.field] = (entry.token, entry.fact)
            queue.append({entry.kind: entry.payload})
            return Verdict.ACCEPTED
        token, fact = claimed
        if token == entry.token:
            return Verdict.ACCEPTED
        is_same = fact == entry.fact
        queue.append({b"d1" if is_same else b"x1": entry.payload, b"p": fact})
        return Verdict.DUPLICATE if is_same else Verdict.CONFLICT


class Deduplication(RuleBasedStateMachine):
    """The machine; `url` is an empty server's."""

    url: str
    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.client = connect(self.url)
        self.dedup = RedisDeduplicator(self.client, partitions=PARTITIONS, max_backlog=MAX_BACKLOG)
        self.model = Model()
        self.number = 0
        self.await_(self.client.flushall())

    def teardown(self) -> None:
        self.await_(self.client.aclose())
        self.runner.close()

    def await_(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.runner.run(wait())

    def entries(self, batch: Sequence[Event]) -> list[Entry]:
        """Entries as a receiver makes them; the payload names the claim."""
        made = []
        for click_id, policy, goal_id, txn_id, event_id, fact in batch:
            self.number += 1
            claim = claim_for(
                policy,
                click_id=click_id,
                clicked_ms=CLICKED_MS,
                goal_id=goal_id,
                txn_id=txn_id,
                event_id=event_id,
                nonce=UUID(int=self.number).bytes,
            )
            payload = f"{click_id}\t{claim.field}\t{self.number}".encode()
            value = self.number.to_bytes(7, "big") + fact
            made.append(Entry(click_id, (claim.field or "").encode(), value, EXPIRES_MS, b"c1", payload))
        return made

    @rule(target=calls, batch=batches)
    def claim(self, batch: list[Event]) -> list[Entry]:
        entries = self.entries(batch)
        self.repeat(entries)
        return entries

    @rule(entries=calls)
    def repeat(self, entries: list[Entry]) -> None:
        """The same postbacks once more, whatever happened meanwhile: a retry inside the client library, a spool."""
        expected: dict[int, Verdict] = {}
        for partition in range(PARTITIONS):
            places = [place for place, entry in enumerate(entries) if partition_of(entry.click_id) == partition]
            verdicts = self.model.claim(partition, [entries[place] for place in places])
            expected.update(zip(places, verdicts, strict=True))
        assert self.await_(self.dedup.claim(entries)) == [expected[place] for place in range(len(entries))]

    @rule(ids=st.lists(click_ids, min_size=1, max_size=4), tag=st.integers(0, 9))
    def cache(self, ids: list[str], tag: int) -> None:
        clicks = [CachedClick(click_id, b"%d-%d" % (tag, place), EXPIRES_MS) for place, click_id in enumerate(ids)]
        for click in clicks:
            self.model.clicks.setdefault(click.click_id, click.packed)
        self.await_(self.dedup.cache(clicks))

    @rule(ids=st.lists(click_ids, max_size=6))
    def look_up(self, ids: list[str]) -> None:
        assert self.await_(self.dedup.clicks(ids)) == [self.model.clicks.get(click_id) for click_id in ids]

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 2 * MAX_BACKLOG))
    def consume(self, partition: int, count: int) -> None:
        """The writer's part, for so many entries. Settled once more, they count no more."""
        reader = PartitionQueue(self.client, partition, "w")
        self.await_(reader.create_group())
        entries = self.await_(reader.read_new(count, None))
        self.await_(reader.settle(entries))
        self.await_(reader.settle(entries))
        queue = self.model.queues[partition]
        rows = [row for entry in entries for row in entry.split()]
        expected = [next(iter(fields.items())) for fields in queue[: len(rows)]]
        assert [(row.kind, row.payload) for row in rows] == expected
        self.model.consumed += queue[: len(rows)]
        del queue[: len(rows)]

    @rule(is_really=st.integers(0, 4))
    def lose_memory(self, is_really: int) -> None:
        """FLUSHALL, now and then: more often, and histories stay short."""
        if is_really == 0:
            self.await_(self.client.flushall())
            self.model = Model()

    @rule()
    def forget_scripts(self) -> None:
        self.await_(self.client.script_flush())

    @invariant()
    def server_equals_model(self) -> None:
        async def read() -> tuple[list[list[Fields]], dict[tuple[str, bytes], bytes], dict[str, bytes]]:
            claims: dict[tuple[str, bytes], bytes] = {}
            clicks: dict[str, bytes] = {}
            queues = [await queued_rows(self.client, partition) for partition in range(PARTITIONS)]
            keys: Any = await self.client.keys("pb:*:click:*")
            for key in keys:
                click_id = key.split(b":", 3)[3].decode()
                held: Any = await self.client.hgetall(key)
                for field, value in held.items():
                    if field == b".":
                        clicks[click_id] = value
                    else:
                        claims[click_id, field] = value
            return queues, claims, clicks

        queues, claims, clicks = self.await_(read())
        assert queues == self.model.queues
        waits = [self.await_(read_backlog(self.client, partition)).waiting for partition in range(PARTITIONS)]
        assert waits == [len(queue) for queue in queues], "a row is counted once, and so is its end"
        assert clicks == self.model.clicks
        assert claims.keys() == self.model.claims.keys()
        assert all(value.endswith(self.model.claims[claim][1]) for claim, value in claims.items())

    @invariant()
    def each_claim_has_one_conversion(self) -> None:
        entries = [*self.model.consumed, *(fields for queue in self.model.queues for fields in queue)]
        named = [fields[b"c1"].decode().split("\t")[:2] for fields in entries if b"c1" in fields]
        taken = Counter((click_id, field.encode()) for click_id, field in named if field != "None")
        assert taken == Counter(self.model.claims.keys())


@pytest.mark.timeout(400)  # a failure takes its time to be made small
def test_any_history(redis_url: str) -> None:
    machine = type("Machine", (Deduplication,), {"url": redis_url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
