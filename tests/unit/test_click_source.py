"""Clicks that are looked up: those in the cache never wait long for those that are not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from dedup.port import CachedClick, QueueUnavailableError
from ingest import click_source
from ingest.click_source import MAX_LATE, ClickSource, ClicksUnavailableError
from ingest.clicks import Click, unpack_click
from tests.catalogs import CLICKED_MS, click

NOW_MS = CLICKED_MS + 60_000


class Cache:
    """The deduplicator's clicks."""

    def __init__(self) -> None:
        self.packed: dict[str, bytes] = {}
        self.is_away = False

    async def clicks(self, click_ids: Sequence[str]) -> list[bytes | None]:
        return [self.packed.get(click_id) for click_id in click_ids]

    async def cache(self, clicks: Sequence[CachedClick]) -> None:
        if self.is_away:
            raise QueueUnavailableError
        self.packed |= {one.click_id: one.packed for one in clicks}

    async def claim(self, entries: Sequence[object]) -> list[object]:
        raise NotImplementedError


class SlowLookup:
    """Postgres' clicks: knows each id that begins with "k", once it is allowed to answer."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.answers = asyncio.Event()
        self.fails = False

    async def __call__(self, click_ids: Sequence[str]) -> dict[str, Click]:
        self.asked.append(list(click_ids))
        await self.answers.wait()
        if self.fails:
            raise ClicksUnavailableError
        return {click_id: click() for click_id in click_ids if click_id.startswith("k")}


class World:
    def __init__(self) -> None:
        self.cache = Cache()
        self.lookup = SlowLookup()
        self.source = ClickSource(self.cache, self.lookup, expires_ms=lambda _: NOW_MS + 1_000)  # type: ignore[arg-type]  # the part it uses

    async def fetch(self, *click_ids: str) -> dict[str, Click | None]:
        found = await self.source.fetch(click_ids, NOW_MS)
        return {click_id: None if packed is None else unpack_click(packed) for click_id, packed in found.items()}

    async def settled(self) -> None:
        """All look-ups under way have ended."""
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(click_source, "PATIENCE_S", 0.2)
    return World()


async def test_a_look_up_that_takes_long_delays_one_batch_and_fills_the_cache(world: World) -> None:
    world.lookup.answers.set()
    assert await world.fetch("k0") == {"k0": click()}
    world.lookup.answers.clear()

    async with asyncio.timeout(5):
        assert await world.fetch("k0", "k1", "u1") == {"k0": click()}
        started = asyncio.get_running_loop().time()
        assert await world.fetch("k0", "k2") == {"k0": click()}
        assert asyncio.get_running_loop().time() - started < 0.15, "nobody waits twice"
    world.lookup.answers.set()
    await world.settled()
    assert world.cache.packed.keys() == {"k0", "k1", "k2"}
    asked = len(world.lookup.asked)
    assert await world.fetch("k1", "k2", "u1") == {"k1": click(), "k2": click(), "u1": None}
    assert len(world.lookup.asked) == asked, "what came late is known, misses too"


async def test_once_it_is_in_time_again_batches_wait_again(world: World) -> None:
    assert await world.fetch("k1") == {}
    world.lookup.answers.set()
    await world.settled()
    await world.fetch("k2")  # not waited for; in time
    await world.settled()
    assert await world.fetch("k3") == {"k3": click()}


async def test_look_ups_that_hang_do_not_pile_up(world: World) -> None:
    for number in range(20):
        assert await world.fetch(f"k{number}") == {}
    assert len(world.lookup.asked) == MAX_LATE
    world.lookup.fails = True
    world.lookup.answers.set()
    await world.settled()
    assert await world.fetch("k20") == {}
    assert len(world.lookup.asked) == MAX_LATE + 1
    await world.settled()


async def test_what_cannot_be_cached_is_asked_for_again(world: World) -> None:
    world.cache.is_away = True
    world.lookup.answers.set()
    assert await world.fetch("k1", "u1") == {}
    world.cache.is_away = False
    assert await world.fetch("k1", "u1") == {"k1": click(), "u1": None}
