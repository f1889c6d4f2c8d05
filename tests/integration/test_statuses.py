"""Statuses that come after the conversion, or before its row: from repeats, and from holds that have passed."""

from __future__ import annotations

from itertools import permutations

import pytest

from storage.batch_store import BatchCounts
from storage.holds import release_holds
from storage.postgres import Pool
from storage.queue import Entry
from storage.records import Kind
from tests.writing import CLICKED_MS, RECEIVED_US, conversion, count, entry, store

DAY_MS = 86_400_000


def said(number: int, status: str, kind: Kind = Kind.CONVERSION, event: str = "same") -> Entry:
    """Postback `number` of an event; numbers are in order of time."""
    return entry(conversion(number, txn=event, status=status), kind)


async def status(pool: Pool) -> tuple[str, str]:
    """(the one in force, the one it was counted with) of the one conversion."""
    (row,) = await pool.fetch("SELECT status, first_status FROM conversions_net")
    return row[0], row[1]


async def release(pool: Pool) -> int | None:
    async with pool.acquire() as connection:
        return await release_holds(connection)


async def test_a_repeat_that_gives_a_status_moves_the_conversion(pool: Pool) -> None:
    assert await store(pool, [said(1, "=pending")]) == BatchCounts(read=1, new=1)
    assert await status(pool) == ("pending", "pending")
    counts = await store(pool, [said(2, "=approved", Kind.DUPLICATE), said(3, "=rejected", Kind.CONFLICT)])
    assert counts == BatchCounts(read=2, logged=2, moved=2)
    assert await status(pool) == ("rejected", "pending")
    rows = await pool.fetch(
        "SELECT change.status, source, made_by, (extract(epoch FROM change.received_at) * 1000000)::bigint, outcome"
        " FROM status_changes AS change JOIN postback_log ON log_id = change_id ORDER BY change.received_at"
    )
    assert [tuple(row) for row in rows] == [
        ("approved", "postback", None, RECEIVED_US + 2, "duplicate"),
        ("rejected", "postback", None, RECEIVED_US + 3, "conflict"),
    ]
    stored = await pool.fetchval("SELECT array_agg(payout) FROM conversions_net")
    assert stored == await pool.fetchval("SELECT array_agg(payout) FROM conversions"), "a status changes no amount"


async def test_what_a_goal_implies_moves_nothing(pool: Pool) -> None:
    """So it is with entries that were queued before statuses moved anything: all of theirs are bare."""
    await store(pool, [said(1, "=pending")])
    bare = [said(number, status, Kind.DUPLICATE) for number, status in enumerate(("approved", "rejected", "held=5"), 2)]
    rejected = said(5, "=rejected", Kind.REJECTION)
    assert await store(pool, [*bare, rejected]) == BatchCounts(read=4, logged=4)
    assert await status(pool) == ("pending", "pending")
    assert await count(pool, "holds") == 0


async def test_entries_of_an_earlier_release_are_stored_as_they_were(pool: Pool) -> None:
    for number, old in enumerate(("approved", "pending", "cancelled", "rejected")):
        await store(pool, [entry(conversion(number, status=old))])
    rows = await pool.fetch("SELECT status, status_given FROM conversions ORDER BY received_at")
    assert [tuple(row) for row in rows] == [(old, False) for old in ("approved", "pending", "cancelled", "rejected")]


async def test_any_order_of_batches_comes_to_the_same(pool: Pool) -> None:
    """The conversion may come after what moves it; and which of two claimed first, where Redis forgot, says nothing."""
    orders = list(permutations(range(4)))
    steps: list[list[Entry]] = [[] for _ in range(5)]
    for number, order in enumerate(orders):
        event, first = f"event-{number}", 10 * number
        batches = [
            [said(first + 3, "=pending", event=event)],
            [said(first + n, s, Kind.DUPLICATE, event) for n, s in ((4, "=approved"), (2, "=rejected"))],
            [said(first + 5, "approved", Kind.DUPLICATE, event)],
            [said(first + 1, "=cancelled", event=event)],
        ]
        for step, place in zip(steps, (*order, order[0]), strict=True):
            step.extend(batches[place])
    for step in steps:
        await store(pool, step)
    rows = await pool.fetch("SELECT status, count(*) FROM conversions_net GROUP BY 1")
    assert [tuple(row) for row in rows] == [("approved", len(orders))]


async def test_the_conversion_s_own_status_counts_by_its_time(pool: Pool) -> None:
    """What was received earlier came late, from a spool."""
    await store(pool, [said(2, "=approved"), said(1, "=pending", Kind.DUPLICATE)])
    assert await status(pool) == ("approved", "approved")


async def test_a_status_that_was_implied_gives_way_to_any(pool: Pool) -> None:
    await store(pool, [said(2, "approved"), said(1, "=pending", Kind.DUPLICATE)])
    assert await status(pool) == ("pending", "approved")


async def test_a_batch_delivered_again_moves_nothing_more(pool: Pool) -> None:
    batch = [said(1, "=pending"), said(2, "=approved", Kind.DUPLICATE), said(3, "=rejected")]
    assert await store(pool, batch) == BatchCounts(read=3, new=1, present=1, logged=2, moved=2)
    before = await pool.fetch("SELECT * FROM status_changes ORDER BY change_id")
    assert await store(pool, batch) == BatchCounts(read=3, present=2)
    assert await pool.fetch("SELECT * FROM status_changes ORDER BY change_id") == before
    assert await status(pool) == ("rejected", "pending")


async def test_a_status_for_a_month_without_partitions(pool: Pool) -> None:
    old_ms = CLICKED_MS - 400 * DAY_MS
    change = entry(conversion(1, clicked_ms=old_ms, status="=rejected"), Kind.DUPLICATE)
    assert await store(pool, [change]) == BatchCounts(read=1, logged=1, moved=1)
    assert await count(pool, "status_changes_2024_11") == 1


async def test_a_status_that_is_none_is_a_dead_letter(pool: Pool) -> None:
    bad = [said(1, "=paid", Kind.DUPLICATE), said(2, "held=soon"), said(3, "=paid")]
    assert await store(pool, [*bad, said(4, "=approved")]) == BatchCounts(read=4, new=1, dead=3)


async def test_a_hold_that_has_passed_approves(pool: Pool) -> None:
    assert await store(pool, [said(1, f"held={DAY_MS}")]) == BatchCounts(read=1, new=1)
    assert await status(pool) == ("pending", "pending")
    due = await pool.fetchval("SELECT release_at - received_at FROM holds JOIN conversions USING (conversion_id)")
    assert due.total_seconds() * 1000 == DAY_MS
    await pool.execute("UPDATE holds SET release_at = now() + interval '1 hour'")
    assert await release(pool) == 0
    await pool.execute("UPDATE holds SET release_at = now() - interval '1 hour'")
    assert await release(pool) == 1
    assert await status(pool) == ("approved", "pending")
    assert await pool.fetchval("SELECT source FROM status_changes") == "hold"
    await store(pool, [said(1, f"held={DAY_MS}")])
    assert (await release(pool), await count(pool, "holds"), await count(pool, "status_changes")) == (0, 0, 1)


@pytest.mark.parametrize("is_first", [True, False])
async def test_who_is_given_a_status_is_not_released(pool: Pool, is_first: bool) -> None:
    """Whether the word comes before the hold is released or, received earlier, after it."""
    held, word = said(1, "held=1"), said(2, "=rejected", Kind.DUPLICATE)
    await store(pool, [held, word] if is_first else [held])
    assert await release(pool) == (0 if is_first else 1)
    if not is_first:
        await store(pool, [word])
    assert await status(pool) == ("rejected", "pending")
    assert await count(pool, "holds") == 0


async def test_a_pending_that_was_given_is_not_released(pool: Pool) -> None:
    await store(pool, [said(1, "=pending"), said(2, "held=1")])
    assert await count(pool, "holds") == 1, "Redis forgot the first"
    assert await release(pool) == 0
    assert await status(pool) == ("pending", "pending")


async def test_one_releases_at_a_time(pool: Pool) -> None:
    await store(pool, [said(1, "held=1")])
    async with pool.acquire() as other, other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('postback holds', 0))")
        assert await release(pool) is None
    assert await release(pool) == 1
