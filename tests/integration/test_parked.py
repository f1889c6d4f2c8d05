"""parked_postbacks as receivers share it: what is due, for whom, for how long, and what is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest

from storage.parked import (
    ABANDONED_MS,
    Expired,
    ParkedPostback,
    count_parked,
    drop_parked,
    expire_parked,
    take_parked,
)
from storage.postgres import Connection, Pool
from storage.queue import Entry
from storage.records import Kind
from tests.writing import RECEIVED_US, conversion, count, entry, store

KEYS = ["key-a"]


@pytest.fixture
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as connection:
        yield connection


def parked(
    number: int, *click_ids: str, key: str = "key-a", for_s: int = 100_000_000, received_us: int = RECEIVED_US
) -> Entry:
    """Postback `number`, received long ago, that waits until some time ahead."""
    envelope: dict[str, object] = {
        "until_us": received_us + for_s * 1_000_000,
        "click_ids": list(click_ids),
        "key_id": key,
        "sealed": "c2VhbGVk",
        "sent": {"sub1": "x"},
    }
    record = conversion(number, click=click_ids[0], params=envelope, received_us=received_us, reason="unknown_click")
    return entry(msgspec.structs.replace(record, conversion_id=None, clicked_ms=None), Kind.PARKED)


def name(number: int) -> bytes:
    return UUID(int=number + 1).bytes


async def click(connection: Connection, *click_ids: str) -> None:
    await connection.execute(
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at)"
        " SELECT unnest($1::text[]), 100, 10, now()",
        list(click_ids),
    )


async def taken(connection: Connection, keys: list[str] = KEYS) -> list[bytes]:
    return [one.postback_id for one in await take_parked(connection, keys)]


async def due_in_s(connection: Connection, number: int) -> float:
    query = "SELECT extract(epoch FROM look_at - now()) FROM parked_postbacks WHERE postback_id = $1"
    return float(await connection.fetchval(query, UUID(int=number + 1)))


async def test_one_is_due_when_any_of_its_clicks_is_registered(pool: Pool, connection: Connection) -> None:
    counts = await store(pool, [parked(1, "a"), parked(2, "b", "c"), parked(3, "d"), entry(conversion(4))])
    assert (counts.read, counts.parked, counts.new, counts.logged) == (4, 3, 1, 0)
    assert await taken(connection) == []
    assert 0.5 < await due_in_s(connection, 3) <= 1.1, "looked at, and again when it has waited as long as that"
    await click(connection, "c", "a", "z")
    async with pool.acquire() as other:
        found = await take_parked(connection, KEYS)
        assert found == [
            ParkedPostback(name(1), "key-a", b"sealed", ("a",)),
            ParkedPostback(name(2), "key-a", b"sealed", ("b", "c")),
        ]
        assert await taken(other) == [], "they are the first one's for some seconds"
    assert 2 < await due_in_s(connection, 1) <= 3
    await drop_parked(connection, [name(1), name(2)])
    assert await count_parked(connection) == 1


async def test_looks_become_rare(pool: Pool, connection: Connection) -> None:
    await store(pool, [parked(1, "a"), parked(2, "b")])
    await connection.execute(
        "UPDATE parked_postbacks SET parked_at = now()"
        " - CASE click_id WHEN 'a' THEN interval '90 s' ELSE interval '9 h' END"
    )
    assert await taken(connection) == []
    assert 89 < await due_in_s(connection, 1) < 92
    assert 3_590 < await due_in_s(connection, 2) <= 3_600
    await click(connection, "b")
    assert await taken(connection) == [name(2)], "its click makes it due all the same"


async def test_a_click_that_was_there_before_is_found_at_the_first_look(pool: Pool, connection: Connection) -> None:
    await click(connection, "a")
    await store(pool, [parked(1, "a")])
    assert await taken(connection) == [name(1)]


async def test_each_takes_what_its_keys_open(pool: Pool, connection: Connection) -> None:
    await click(connection, "a")
    await store(pool, [parked(1, "a"), parked(2, "a", key="key-b")])
    assert await taken(connection, ["key-b", "key-c"]) == [name(2)]
    assert await taken(connection, ["key-c"]) == []
    assert await taken(connection) == [name(1)]


async def test_a_batch_that_is_delivered_again_parks_nothing_twice(pool: Pool, connection: Connection) -> None:
    await store(pool, [parked(1, "a")])
    counts = await store(pool, [parked(1, "a"), parked(2, "a")])
    assert (counts.read, counts.parked) == (2, 1)


async def test_what_is_held_by_another_is_left(pool: Pool, connection: Connection) -> None:
    """Nobody waits: neither who takes, nor who deletes, nor who expires."""
    await click(connection, "a")
    await store(pool, [parked(1, "a"), parked(2, "b", for_s=1)])
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT FROM parked_postbacks FOR UPDATE")
        assert await taken(connection) == []
        await drop_parked(connection, [name(1)])
        assert await expire_parked(connection) == Expired(0, 0)
    assert await taken(connection) == [name(1)]


async def test_what_is_over_is_in_the_log_once(pool: Pool, connection: Connection) -> None:
    """Also where the month has no partition any more; a second delivery adds no row."""
    batch = [parked(1, "a", for_s=1), parked(2, "b"), parked(3, "c", for_s=1, received_us=1_400_000_000_000_000)]
    for _ in range(2):
        await store(pool, batch)
        assert (await expire_parked(connection)).abandoned == 0
    rows: list[Any] = await connection.fetch("SELECT * FROM postback_log ORDER BY log_id")
    assert [row["log_id"] for row in rows] == [UUID(int=2), UUID(int=4)]
    assert [(row["outcome"], row["reason"], row["click_id"], row["params"]) for row in rows] == [
        ("rejected", "unknown_click", "a", '{"sub1": "x"}'),
        ("rejected", "unknown_click", "c", '{"sub1": "x"}'),
    ]
    assert await count(pool, "parked_postbacks") == 1


async def test_one_whose_click_came_in_time_is_not_over_until_it_is_given_up(
    pool: Pool, connection: Connection
) -> None:
    await store(pool, [parked(1, "a", key="lost"), parked(2, "b")])
    await click(connection, "a")
    await connection.execute("UPDATE parked_postbacks SET until = now()")
    await click(connection, "b")  # too late
    assert await taken(connection) == []
    assert await expire_parked(connection) == Expired(1, 0)
    assert await count(pool, "parked_postbacks") == 1
    await connection.execute("UPDATE clicks SET registered_at = registered_at - interval '2 hours'")
    await connection.execute(
        "UPDATE parked_postbacks SET until = now() - $1::bigint * interval '1 ms' - interval '1 s'", ABANDONED_MS
    )
    assert await expire_parked(connection) == Expired(1, 1)
    assert await count(pool, "postback_log") == 2
