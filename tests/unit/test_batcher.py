"""When a batch is full."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from storage.batcher import MAX_READ, Batcher, BatchLimits
from storage.queue import Entry

SMALL = BatchLimits(rows=3, bytes=100, age_ms=50)


def entry(number: int, size: int = 10, rows: int = 1) -> Entry:
    return Entry(b"%d-0" % number, b"b1", b"x" * size, b"", rows)


def ids(batch: list[Entry]) -> list[int]:
    return [one.queued_ms for one in batch]


def test_a_batch_is_due_at_an_age_after_its_first_entry() -> None:
    batcher: Batcher[Entry] = Batcher(SMALL)
    batcher.add([entry(1)], now_ms=1_000)
    batcher.add([entry(2)], now_ms=1_040)
    assert batcher.wait_ms(1_040) == 10
    assert batcher.wait_ms(1_050) == 0
    assert batcher.wait_ms(9_999) == 0
    assert ids(batcher.take()) == [1, 2]
    batcher.add([entry(3)], now_ms=2_000)
    assert batcher.wait_ms(2_000) == 50


def test_a_batch_is_due_at_its_rows() -> None:
    batcher: Batcher[Entry] = Batcher(SMALL)
    batcher.add([entry(1), entry(2)], now_ms=0)
    assert batcher.room == 1
    batcher.add([entry(3)], now_ms=0)
    assert (batcher.room, batcher.wait_ms(0)) == (0, 0)
    assert ids(batcher.take()) == [1, 2, 3]
    assert batcher.room == 3


def test_a_batch_is_due_at_its_bytes() -> None:
    batcher: Batcher[Entry] = Batcher(SMALL)
    batcher.add([entry(1, 60), entry(2, 60)], now_ms=0)
    assert (batcher.room, batcher.wait_ms(0)) == (0, 0)
    assert ids(batcher.take()) == [1]
    assert (len(batcher), batcher.wait_ms(20)) == (1, 30), "what is left over keeps its age"
    assert ids(batcher.take()) == [2]


def test_an_oversize_first_entry_still_fits() -> None:
    batcher: Batcher[Entry] = Batcher(SMALL)
    batcher.add([entry(1, 1_000), entry(2)], now_ms=0)
    assert ids(batcher.take()) == [1]
    assert ids(batcher.take()) == [2]
    assert batcher.take() == []


def test_the_last_entry_may_pass_the_rows() -> None:
    batcher: Batcher[Entry] = Batcher(SMALL)
    batcher.add([entry(1, rows=2), entry(2, rows=64), entry(3, rows=2)], now_ms=0)
    assert (batcher.room, batcher.wait_ms(0)) == (0, 0)
    assert ids(batcher.take()) == [1, 2]
    assert (batcher.room, batcher.wait_ms(0)) == (1, 50)
    assert ids(batcher.take()) == [3]


def test_one_read_is_bounded() -> None:
    batcher: Batcher[Entry] = Batcher(BatchLimits(rows=50_000, bytes=1 << 30, age_ms=1))
    assert batcher.room == MAX_READ


def test_as_many_are_asked_for_as_fill_the_batch() -> None:
    batcher: Batcher[Entry] = Batcher(BatchLimits(rows=100, bytes=1 << 30, age_ms=1))
    assert batcher.room == 100
    batcher.add([entry(1, rows=25), entry(2, rows=25)], now_ms=0)
    assert batcher.room == 2
    batcher.add([], now_ms=0)
    batcher.add([entry(3, rows=1)], now_ms=0)
    assert batcher.room == 49
    batcher.take()
    assert batcher.room == 100


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 150), st.integers(1, 8)), max_size=8), max_size=12),
    st.integers(1, 12),
    st.integers(1, 200),
)
def test_nothing_is_lost_or_reordered_and_limits_hold(
    chunks: list[list[tuple[int, int]]], rows: int, size: int
) -> None:
    batcher: Batcher[Entry] = Batcher(BatchLimits(rows=rows, bytes=size, age_ms=10))
    given_ids, taken = [], []
    number = 0
    for chunk in chunks:
        entries = [entry(number := number + 1, length, each) for length, each in chunk]
        given_ids += ids(entries)
        batcher.add(entries, now_ms=0)
        if batcher.wait_ms(0) == 0:
            taken.append(batcher.take())
    while batch := batcher.take():
        taken.append(batch)
    assert [one for batch in taken for one in ids(batch)] == given_ids
    assert len(batcher) == 0
    for batch in taken:
        assert sum(one.rows for one in batch[:-1]) < rows
        assert len(batch) == 1 or sum(len(one.payload) for one in batch) <= size
