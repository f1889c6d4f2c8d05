"""Clicks in Postgres: registered once, read as they were, imported from files."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from ingest.click_file import CHUNK, import_clicks
from ingest.row_file import RowFileError
from storage.clicks import COPY_FROM, fetch_clicks, register_clicks
from storage.postgres import Pool
from storage.rows import NewClick, Registration, StoredClick

NOW_MS = 1_793_534_400_000


def click(number: int, clicked_ms: int = NOW_MS, country: str | None = "US") -> NewClick:
    return NewClick(f"c{number}", 100, 10, clicked_ms, country, {"sub1": f"s{number}", "q": 'a"\\\u2028ü'})


def stored(new: NewClick) -> StoredClick:
    return StoredClick(new.click_id, new.campaign_id, new.publisher_id, new.clicked_ms, new.country)


async def count(pool: Pool) -> int:
    found: int = await pool.fetchval("SELECT count(*) FROM clicks")
    return found


async def test_a_click_is_read_as_it_was_registered(pool: Pool) -> None:
    clicks = [
        click(1),
        click(2, country=None),
        NewClick("x" * 255, 2**63 - 1, 2**63 - 1, NOW_MS, "GB"),
        NewClick("ключ'\\\"", 1, 1, NOW_MS, "GB"),
    ]
    assert await register_clicks(pool, clicks) == [Registration(stored(new), is_new=True) for new in clicks]
    found = await fetch_clicks(pool, [new.click_id for new in clicks] + ["unknown"])
    assert sorted(found, key=lambda row: row.click_id) == sorted(map(stored, clicks), key=lambda row: row.click_id)
    params = await pool.fetchval("SELECT params::text FROM clicks WHERE click_id = 'c1'")
    assert orjson.loads(params) == clicks[0].params
    assert await fetch_clicks(pool, []) == []
    assert await register_clicks(pool, []) == []


@pytest.mark.parametrize("size", [3, COPY_FROM])
async def test_times_are_kept_to_the_millisecond(pool: Pool, size: int) -> None:
    """Over all years that are taken, and through the rounding of floats that an epoch in seconds would bring."""
    first, last = 946_684_800_000, 4_133_980_799_999
    times = [first + (last - first) * n // (size - 1) for n in range(size)] + [NOW_MS + n for n in range(0, 1000, 7)]
    clicks = [NewClick(f"t{n}", 1, 1, clicked_ms) for n, clicked_ms in enumerate(times)]
    await register_clicks(pool, clicks)
    found = {row.click_id: row.clicked_ms for row in await fetch_clicks(pool, [new.click_id for new in clicks])}
    assert found == {new.click_id: new.clicked_ms for new in clicks}
    assert not await pool.fetchval(
        "SELECT count(*) FROM clicks WHERE extract(microseconds FROM clicked_at)::bigint % 1000 <> 0"
    )


@pytest.mark.parametrize("size", [10, COPY_FROM + 10])
async def test_the_first_registration_wins(pool: Pool, size: int) -> None:
    first = [click(n) for n in range(0, size, 2)]
    await register_clicks(pool, first)
    again = [click(n, NOW_MS + 1, "CA") for n in range(size)]
    registrations = await register_clicks(pool, again)
    assert [(r.click.click_id, r.is_new, r.click.country) for r in registrations] == [
        (f"c{n}", n % 2 == 1, "CA" if n % 2 else "US") for n in range(size)
    ]
    assert await count(pool) == size


async def test_an_id_twice_in_a_batch_is_registered_once(pool: Pool) -> None:
    registrations = await register_clicks(pool, [click(1), click(2), click(1, NOW_MS + 5)])
    assert [(r.click.clicked_ms, r.is_new) for r in registrations] == [(NOW_MS, True), (NOW_MS, True), (NOW_MS, False)]


@pytest.mark.parametrize("size", [60, COPY_FROM])
async def test_concurrent_registrations_agree(pool: Pool, size: int) -> None:
    """Four at once, each with all clicks in another order and at another time: one wins each click, none deadlocks."""
    numbers = list(range(size))
    batches = [[click(n, NOW_MS + turn) for n in numbers[turn * 7 :] + numbers[: turn * 7]] for turn in range(4)]
    batches[1].reverse()
    results = await asyncio.gather(*(register_clicks(pool, batch) for batch in batches))
    assert sum(registration.is_new for result in results for registration in result) == size
    views = [{r.click.click_id: r.click for r in result} for result in results]
    assert views[0] == views[1] == views[2] == views[3]
    assert await count(pool) == size


async def test_a_csv_file_is_imported_and_bad_lines_are_named(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    good = CHUNK + 100
    lines = [f"f{n},100,10,{NOW_MS},US,sub {n}\n" for n in range(good)]
    lines.insert(2, "bad,100,,1793534400,US,\n")
    lines.append("late,100,10,2027-01-01T00:00:00Z,US,\n")
    path.write_text("click_id,campaign_id,publisher_id,clicked_at,country,sub1\n" + "".join(lines))
    progress: list[tuple[int, int]] = []
    seen: list[Registration] = []

    async def on_registered(registrations: Sequence[Registration]) -> None:
        seen.extend(registrations)

    result = await import_clicks(
        path, pool, lambda done, total: progress.append((done, total)), on_registered, clock_ms=lambda: NOW_MS
    )
    assert (result.registered, result.known, result.error_count) == (good, 0, 2)
    assert [number for number, _ in result.errors] == [4, good + 3]
    assert result.errors[0][1] == "publisher_id: missing"
    assert result.errors[1][1].startswith("clicked_at: in the future")
    size = path.stat().st_size
    assert progress == sorted(progress)
    assert len(progress) == 2
    assert progress[-1] == (size, size)
    assert len(seen) == good == await count(pool)
    assert seen[0] == Registration(StoredClick("f0", 100, 10, NOW_MS, "US"), is_new=True)

    again = await import_clicks(path, pool, clock_ms=lambda: NOW_MS)
    assert (again.registered, again.known, again.error_count) == (0, good, 2)


async def test_an_ndjson_file_is_imported(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "clicks.ndjson"
    path.write_text(
        '{"click_id":"n1","campaign_id":100,"publisher_id":10,"clicked_at":"2026-11-01T12:00:00.5Z","country":"de"}\n'
        '{"click_id":"n1","campaign_id":100,"publisher_id":10,"clicked_at":"2026-11-01T13:00:00Z"}\n'
        "nonsense\n"
    )
    result = await import_clicks(path, pool, clock_ms=lambda: NOW_MS + 86_400_000)
    assert (result.registered, result.known, result.error_count) == (1, 1, 1)
    assert await fetch_clicks(pool, ["n1"]) == [StoredClick("n1", 100, 10, NOW_MS + 500, "DE")]


async def test_errors_are_counted_but_not_all_kept(pool: Pool, tmp_path: Path) -> None:
    path = tmp_path / "clicks.jsonl"
    path.write_text("[]\n" * 1500)
    result = await import_clicks(path, pool)
    assert (result.registered, result.error_count, len(result.errors)) == (0, 1500, 1000)


async def test_a_file_that_cannot_be_read_says_why(pool: Pool, tmp_path: Path) -> None:
    with pytest.raises(RowFileError, match="no such file"):
        await import_clicks(tmp_path / "none.csv", pool)
    with pytest.raises(RowFileError, match="Is a directory"):
        await import_clicks(tmp_path, pool)
