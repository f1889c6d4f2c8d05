"""The writer on real servers: each kind of entry, repeats, poison, partitions."""

from __future__ import annotations

import asyncio
import json
import shutil
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster

from storage.batch_store import BatchCounts, BatchStore
from storage.postgres import Pool
from storage.queue import Entry, queue_key
from storage.records import Kind, Record, encode
from tests import servers
from tests.eventually import eventually
from tests.queued import block, line
from tests.writing import (
    CLICKED_MS,
    RECEIVED_US,
    Observer,
    add,
    add_all,
    add_blocks,
    conversion,
    count,
    drain,
    drained,
    entry,
    log_rows,
    running,
    store,
    writer,
)


async def test_a_conversion_arrives_whole_and_exact(redis: Redis, pool: Pool) -> None:
    record = conversion(
        1,
        reason="goal_not_assigned",
        sale_micros=999_999_999_999_999_999,
        revenue_micros=1,
        payout_micros=0,
        original_micros=123_456_789_012_345_678,
        original_currency="EUR",
        exchange_rate_nanos=1_085_000_001,
        event_ms=1_767_225_599_999,
        params={"sub1": "é", "n": 1},
    )
    await add(redis, record)
    observer = await drain(redis, pool)

    assert observer.counts == BatchCounts(read=1, new=1)
    assert 0 <= observer.ages_s[0] < 60
    (row,) = await pool.fetch(
        "SELECT *, extract(epoch FROM clicked_at) AS clicked, extract(epoch FROM received_at) AS received,"
        " extract(epoch FROM event_at) AS event, params->>'sub1' AS sub1, params->'n' = '1' AS n FROM conversions"
    )
    assert str(row["conversion_id"]) == record.conversion_id
    assert row["clicked"] * 1_000 == CLICKED_MS
    assert row["received"] * 1_000_000 == RECEIVED_US + 1
    assert row["event"] * 1_000 == 1_767_225_599_999
    assert row["sale_amount"] == Decimal("999999999999.999999")
    assert row["revenue"] == Decimal("0.000001")
    assert row["payout"] == 0
    assert row["original_amount"] == Decimal("123456789012.345678")
    assert row["exchange_rate"] == Decimal("1.085000001")
    names = "advertiser_id publisher_id campaign_id goal_id goal_value goal_version click_id txn_id status reason"
    for name in (*names.split(), "country", "currency", "original_currency"):
        assert row[name] == getattr(record, name)
    assert (row["sub1"], row["n"]) == ("é", True)


async def test_repeats_and_rejections_go_to_the_log(redis: Redis, pool: Pool) -> None:
    await add(redis, conversion(1))
    await add(redis, conversion(2, txn="txn-1"), Kind.DUPLICATE, prior="1.99USD")
    sent = conversion(3, txn="txn-1", original_micros=2_500_000, original_currency="EUR")
    await add(redis, sent, Kind.CONFLICT, prior="1.99\t\\NUSD")
    await add(redis, conversion(4, txn="txn-1", sale_micros=None), Kind.CONFLICT, prior="1.99USD")
    rejected = Record(log_id=str(UUID(int=6)), received_us=RECEIVED_US, reason="unknown_click", click_id="?", params={})
    await add(redis, rejected, Kind.REJECTION)
    observer = await drain(redis, pool)

    assert observer.counts == BatchCounts(read=5, new=1, logged=4)
    original = conversion(1).conversion_id
    assert await log_rows(pool) == [
        (2, "duplicate", original, '{"sub1": "x"}'),
        (3, "conflict", original, '{"sent": "2.5EUR", "sub1": "x", "claimed": "1.99\\t\\\\NUSD"}'),
        (4, "conflict", original, '{"sent": "", "sub1": "x", "claimed": "1.99USD"}'),
        (5, "rejected", None, "{}"),
    ]
    rows = await pool.fetch("SELECT reason, click_id, host(remote_ip) FROM postback_log WHERE outcome <> 'conflict'")
    assert {(row[0], row[1], row[2]) for row in rows} == {(None, "click", "192.0.2.1"), ("unknown_click", "?", None)}


async def test_a_batch_delivered_again_changes_nothing(pool: Pool) -> None:
    batch = [entry(conversion(number)) for number in range(50)]
    batch += [entry(conversion(60, txn="txn-1"), Kind.DUPLICATE), entry(conversion(61, txn="txn-2"))]

    first = await store(pool, batch)
    assert first == BatchCounts(read=52, new=50, present=1, logged=2)
    before = await log_rows(pool)
    assert await store(pool, batch) == BatchCounts(read=52, new=0, present=51, logged=0)
    assert await count(pool, "conversions") == 50
    assert await log_rows(pool) == before


async def test_repeats_that_redis_forgot_are_logged(redis: Redis, pool: Pool) -> None:
    await add(redis, conversion(1))
    await drain(redis, pool)
    await redis.flushall()
    await add(redis, conversion(2, txn="txn-1"))
    await add(redis, conversion(3, txn="txn-1", sale_micros=2_000_000))
    await add(redis, conversion(4, txn="txn-1", original_micros=1_990_000, original_currency="EUR"))
    await add(redis, conversion(5, txn="txn-1", sale_micros=None))
    await add(redis, conversion(6))
    observer = await drain(redis, pool)

    assert observer.counts == BatchCounts(read=5, new=1, present=4, logged=4)
    original = conversion(1).conversion_id
    assert await log_rows(pool) == [
        (2, "duplicate", original, '{"sub1": "x"}'),
        (3, "conflict", original, '{"sent": "2USD", "sub1": "x", "claimed": "1.99USD"}'),
        (4, "conflict", original, '{"sent": "1.99EUR", "sub1": "x", "claimed": "1.99USD"}'),
        (5, "conflict", original, '{"sent": "", "sub1": "x", "claimed": "1.99USD"}'),
    ]


async def test_of_repeats_in_one_batch_the_earliest_stays(pool: Pool) -> None:
    counts = await store(pool, [entry(conversion(number, txn="same")) for number in (3, 1, 2)])
    assert counts == BatchCounts(read=3, new=1, present=2, logged=2)
    assert await pool.fetchval("SELECT extract(epoch FROM received_at) * 1000000 FROM conversions") == RECEIVED_US + 1
    assert [row[:2] for row in await log_rows(pool)] == [(2, "duplicate"), (3, "duplicate")]


TRIES = """
CREATE SEQUENCE tries;
CREATE FUNCTION count_tries() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''tries''); RETURN NULL; END';
CREATE TRIGGER tries BEFORE INSERT ON %s FOR EACH STATEMENT EXECUTE FUNCTION count_tries();
"""
"""Counts statements: what a sequence gave is not taken back when a transaction is."""


@pytest.mark.parametrize(("kind", "table"), [(Kind.CONVERSION, "conversions"), (Kind.DUPLICATE, "postback_log")])
async def test_of_batches_with_repeats_the_first_alone_is_tried_twice(pool: Pool, kind: Kind, table: str) -> None:
    await store(pool, [entry(conversion(99), kind)])  # and its partition is there
    await pool.execute(TRIES % table)
    batches = BatchStore(pool)
    stored = []
    for numbers in (range(10), range(10, 20), range(5, 15), range(18, 22), range(22, 30), range(30, 40), range(35, 42)):
        counts = await store(pool, [entry(conversion(number), kind) for number in numbers], batches)
        stored.append((counts.new + counts.logged, await pool.fetchval("SELECT last_value FROM tries")))
    # New, new, refused and tried again, some repeats, none but who knows, new, refused again.
    assert stored == [(10, 1), (10, 2), (0, 4), (2, 5), (8, 6), (10, 7), (2, 9)]
    others = {"conversions", "postback_log"} - {table}
    assert [await count(pool, each) for each in (table, *others)] == [43, 0]


async def test_batches_that_overlap_are_stored_side_by_side(pool: Pool) -> None:
    random = Random(5)
    batches = [random.sample(range(600), 400) for _ in range(8)]
    done = await asyncio.gather(*(store(pool, [entry(conversion(number)) for number in some]) for some in batches))
    distinct = len({number for some in batches for number in some})
    assert sum(counts.new for counts in done) == distinct == await count(pool, "conversions")
    assert sum(counts.present for counts in done) == 3_200 - distinct
    assert await pool.fetchval("SELECT sum(conversions) FROM rollup_conversions") == distinct


async def test_poison_rows_are_set_aside_one_by_one(redis: Redis, pool: Pool) -> None:
    poison: dict[str, tuple[str | bytes, bytes]] = {
        "overflow": (Kind.CONVERSION, encode(conversion(1001, sale_micros=10**18))),
        "country": (Kind.CONVERSION, encode(conversion(1002, country="USA"))),
        "no id": (Kind.CONVERSION, encode(conversion(1003, conversion_id=None))),
        "nul": (Kind.REJECTION, encode(conversion(1004, txn="a\0b"))),
        "nul in json": (Kind.REJECTION, encode(conversion(1005, params={"a": "\0"}))),
        "short": (Kind.CONVERSION, b"too\tfew"),
        "two lines": (Kind.CONVERSION, encode(conversion(1006)) + b"\nc1\t\t" + encode(conversion(1007))),
        "swallows the next": (Kind.CONVERSION, encode(conversion(1008)).rpartition(b"\t")[0] + b"\t{}\t\\"),
        "not utf-8": (Kind.CONVERSION, encode(conversion(1009)).replace(b"purchase", b"\xff")),
        "unknown kind": ("c2", b"from the future"),
        "odd kind": (b"\xff\0", b""),
    }
    good = [conversion(number) for number in range(40)]
    bad = list(poison.values())
    for i, record in enumerate(good):
        await add(redis, record)
        if i % 3 == 0 and bad:
            kind, payload = bad.pop()
            await redis.xadd(queue_key(0), {kind: payload})
    for kind, payload in bad:
        await redis.xadd(queue_key(0), {kind: payload})
    observer = await drain(redis, pool)

    assert observer.counts == BatchCounts(read=40 + len(poison), new=40, dead=len(poison))
    assert observer.retries == []
    rows = await pool.fetch("SELECT entry_id, kind, payload, error FROM dead_letters")
    errors = {row["payload"]: row["error"] for row in rows}
    assert set(errors) == {payload for _, payload in poison.values()}
    assert {(one.id.decode(), one.payload, error) for one, error in observer.dead} == {
        (row["entry_id"], row["payload"], row["error"]) for row in rows
    }
    assert errors[b"from the future"] == "unknown kind"
    assert "numeric field overflow" in errors[poison["overflow"][1]]
    assert "character(2)" in errors[poison["country"][1]]
    assert "conversion_id" in errors[poison["no id"][1]]
    assert "COPY incoming_v1, line 1" in errors[b"too\tfew"]
    assert errors[poison["two lines"][1]] == "the payload is not one line"
    assert {row["kind"] for row in rows} == {"c1", "c2", "r1", "\\xff\\x00"}


async def test_blocks_and_entries_of_before_are_written_together(redis: Redis, pool: Pool) -> None:
    for start in range(0, 90, 30):
        await add_blocks(redis, [conversion(number) for number in range(start, start + 20)])
        await add_all(redis, [conversion(number) for number in range(start + 20, start + 30)])
    lines = [
        line(conversion(200, txn="txn-1"), Kind.DUPLICATE, "1.99USD"),
        line(conversion(201, txn="txn-1", sale_micros=5_000_000), Kind.CONFLICT, "1.99\t\\NUSD"),
        line(conversion(202, conversion_id=None, reason="unknown_click"), Kind.REJECTION),
        line(conversion(203)),
    ]
    await redis.xadd(queue_key(0), block(lines, conversions=1))  # type: ignore[arg-type]  # redis-py wants one invariant dict
    observer = await drain(redis, pool, batch_rows=35)
    assert observer.counts == BatchCounts(read=94, new=91, logged=3)
    assert await count(pool, "conversions") == 91
    assert [row[:2] for row in await log_rows(pool)] == [(200, "duplicate"), (201, "conflict"), (202, "rejected")]
    (_, _, _, params) = (await log_rows(pool))[1]
    assert json.loads(params)["claimed"] == "1.99\t\\NUSD"


async def test_a_poison_row_leaves_its_block_alone(redis: Redis, pool: Pool) -> None:
    await add_blocks(redis, [conversion(number) for number in range(50)])
    odd_prior = line(conversion(60, params={"a": "\0"}), Kind.CONFLICT, "1\\t2")
    lines = [line(conversion(number)) for number in range(100, 140)]
    poison = {
        3: line(conversion(1003, country="USA")),
        4: line(conversion(1004, sale_micros=10**18)),
        20: odd_prior,
        30: b"c9\t\t" + encode(conversion(1030)) + b"\n",
        31: b"c1\t\t" + encode(conversion(1031)).rpartition(b"\t")[0] + b"\t{}\t\\\n",  # swallows the next
        39: b"no columns\n",
    }
    for place, bad in poison.items():
        lines[place] = bad
    await redis.xadd(queue_key(0), block(lines))  # type: ignore[arg-type]  # redis-py wants one invariant dict
    await add_blocks(redis, [conversion(number) for number in range(200, 250)])
    observer = await drain(redis, pool)

    assert observer.counts == BatchCounts(read=140, new=134, dead=6)
    assert observer.retries == []
    assert await count(pool, "conversions") == 134
    rows = await pool.fetch("SELECT kind, payload, prior, error FROM dead_letters ORDER BY dead_letter_id")
    kinds = (b"c1", b"c1", b"x1", b"c9", b"c1", b"")
    assert [row["kind"].encode() for row in rows] == list(kinds)
    assert [row["payload"] for row in rows[:-1]] == [
        bad.removesuffix(b"\n").split(b"\t", 2)[2] for bad in list(poison.values())[:-1]
    ]
    assert (rows[2]["prior"], rows[5]["payload"]) == (b"1\\t2", b"no columns")
    assert [error for row in rows if "unknown" in (error := row["error"])] == ["unknown kind"] * 2
    assert [(one.kind, one.rows) for one, _ in observer.dead] == [(kind, 1) for kind in kinds]


async def test_a_block_that_is_all_poison(redis: Redis, pool: Pool) -> None:
    await redis.xadd(queue_key(0), {"b1": ""})
    await redis.xadd(queue_key(0), {"b1": "\n\n", "n": "2 2 0"})
    await add_blocks(redis, [conversion(number, country="USA") for number in range(10)], rows=10)
    observer = await drain(redis, pool)
    assert observer.counts == BatchCounts(read=13, dead=13)
    assert await count(pool, "dead_letters") == 12, "two that are nothing, of one entry, are one"


async def test_a_block_counts_its_rows_against_batch_rows(redis: Redis, pool: Pool) -> None:
    sizes: list[int] = []
    await add_blocks(redis, [conversion(number) for number in range(500)])
    observer = Observer()
    observer.on_commit = lambda: sizes.append(observer.counts.read - sum(sizes))
    async with running(writer(redis, pool, observer, batch_rows=60)):
        await drained(redis)
    assert sum(sizes) == 500
    assert max(sizes) == 75, "the last block may pass the limit"
    assert min(sizes[:-1]) == 75


@pytest.mark.parametrize("size", [3_000, 40_000])
async def test_a_big_row_can_be_a_dead_letter(pool: Pool, size: int) -> None:
    click_id = "".join(Random(1).choices([chr(code) for code in range(0x4E00, 0x9000)], k=size))
    entries = [entry(conversion(1, click=click_id)), entry(conversion(2))]
    assert await store(pool, entries) == BatchCounts(read=2, new=1, dead=1)
    assert await pool.fetchval("SELECT payload FROM dead_letters") == entries[0].payload
    assert "index" in await pool.fetchval("SELECT error FROM dead_letters")


async def test_a_dead_letter_is_written_once(pool: Pool) -> None:
    bad = Entry(b"1-0", b"c1", b"bad")
    for _ in range(2):
        assert await store(pool, [bad]) == BatchCounts(read=1, dead=1)
    assert await count(pool, "dead_letters") == 1


async def test_missing_partitions_are_made(pool: Pool) -> None:
    old_ms, old_us = 1_425_168_000_000 - 1, 1_425_168_000_000_000  # around 2015-03-01 00:00 UTC
    old = conversion(1, clicked_ms=old_ms)
    late = Record(log_id=str(UUID(int=9)), received_us=old_us, reason="unknown_click", params={})
    counts = await store(pool, [entry(old), entry(conversion(2)), entry(late, Kind.REJECTION)])
    assert counts == BatchCounts(read=3, new=2, logged=1)
    much_older = [conversion(number, clicked_ms=1_325_376_000_000 + number) for number in range(20, 23)]  # 2012-01-01
    lines = b"".join(line(record) for record in much_older)
    assert await store(pool, [Entry(b"1-0", b"b1", lines, b"", 3, 3)]) == BatchCounts(read=3, new=3)
    rows = await pool.fetch(
        "SELECT DISTINCT tableoid::regclass::text FROM conversions"
        " UNION ALL SELECT tableoid::regclass::text FROM postback_log"
    )
    assert sorted(row[0] for row in rows) == [
        "conversions_2012_01", "conversions_2015_02", "conversions_2026_01", "postback_log_2015_03",
    ]  # fmt: skip


async def test_a_month_beyond_all_calendars_is_poison(pool: Pool) -> None:
    beyond = conversion(1, clicked_ms=2**48 - 1)
    assert await store(pool, [entry(beyond), entry(conversion(2))]) == BatchCounts(read=2, new=1, dead=1)


async def test_sums_are_exact(redis: Redis, pool: Pool) -> None:
    random = Random(7)
    records = [
        conversion(
            number,
            sale_micros=random.randrange(10**18),
            revenue_micros=random.randrange(10 ** random.randrange(1, 19)),
            payout_micros=random.randrange(1_000),
        )
        for number in range(3_000)
    ]
    await add_all(redis, records)
    observer = await drain(redis, pool)
    assert observer.counts == BatchCounts(read=3_000, new=3_000)
    (row,) = await pool.fetch("SELECT sum(sale_amount), sum(revenue), sum(payout) FROM conversions")
    sums = [sum(getattr(r, name) or 0 for r in records) for name in ("sale_micros", "revenue_micros", "payout_micros")]
    assert [int(row[i].scaleb(6)) for i in range(3)] == sums
    assert all(row[i].scaleb(6) % 1 == 0 for i in range(3))


POSTGRES_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(POSTGRES_TEXT | st.sampled_from(["\\N", "\\.", "\\", "a\tb\r\n", "''\"", "\\x41"]), max_size=30))
async def test_text_comes_out_as_it_went_in(pool: Pool, texts: list[str]) -> None:
    records = [
        Record(
            log_id=str(UUID(int=i)), received_us=RECEIVED_US, txn_id=text, goal_value=text[::-1], params={"key": text}
        )
        for i, text in enumerate(texts)
    ]
    await pool.execute("DELETE FROM postback_log")
    await store(pool, [entry(record, Kind.REJECTION) for record in records] or [entry(conversion(1))])
    rows = await pool.fetch("SELECT txn_id, goal_value, params->>'key' FROM postback_log ORDER BY log_id")
    assert [tuple(row[i] for i in range(3)) for row in rows] == [(text, text[::-1], text) for text in texts]


async def test_writers_share_a_partition(redis: Redis, pool: Pool) -> None:
    records = [conversion(number, txn=f"txn-{number % 1_000}") for number in range(3_000)]
    Random(3).shuffle(records)
    await add_all(redis, records)
    one, two = Observer(), Observer()
    async with (
        running(writer(redis, pool, one, consumer="w1", batch_rows=100)),
        running(writer(redis, pool, two, consumer="w2", batch_rows=100)),
    ):
        await drained(redis)
    assert one.counts.new > 0
    assert two.counts.new > 0
    total = one.counts + two.counts
    assert (total.read, total.new, total.logged) == (3_000, 1_000, 2_000)
    assert await count(pool, "conversions") == 1_000
    assert await count(pool, "postback_log") == 2_000


async def command(node: Redis, *words: str | int) -> Any:
    return await node.execute_command(*words)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped


async def test_works_on_a_cluster(pool: Pool) -> None:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on PATH")
    options = ("--cluster-enabled", "yes", "--cluster-port", str(servers.free_port()))
    with servers.redis_program(program, *options) as server:
        async with Redis.from_url(server.url) as node:
            await command(node, "CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
            await eventually(lambda: command(node, "CLUSTER INFO"), lambda info: info["cluster_state"] == "ok")
        async with RedisCluster.from_url(server.url) as cluster:
            for partition in range(4):
                await cluster.xadd(queue_key(partition), {Kind.CONVERSION: encode(conversion(partition))})
            observer = Observer()
            async with running(writer(cluster, pool, observer, partitions=4)):
                await drained(cluster, 4)
            assert observer.counts == BatchCounts(read=4, new=4)
            assert observer.retries == []
