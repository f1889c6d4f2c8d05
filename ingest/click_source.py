"""Clicks of a batch: from Redis, else from Postgres, which fills Redis again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from dedup.port import CachedClick, Deduplicator, QueueUnavailableError
from ingest.clicks import Click, pack_click

MISS_MS: Final = 1000
"""How long a click that nobody knows is not looked up again."""
MAX_MISSES: Final = 100_000
PATIENCE_S: Final = 1.0
"""How long a batch waits for a look-up: the clicks that Redis has wait with it."""
MAX_LATE: Final = 4
"""Look-ups under way once Postgres was found slow; more are not begun."""

Lookup = Callable[[Sequence[str]], Awaitable[dict[str, Click]]]
"""Reads clicks from Postgres by id; raises `ClicksUnavailableError`."""


class ClicksUnavailableError(Exception):
    """Postgres did not answer: a click that Redis does not have may or may not exist."""


class ClickSource:
    """Read-through from Redis to Postgres. Misses are remembered here, briefly: a click that is registered meanwhile is
    put into Redis, which is asked first.

    A look-up that takes long goes on by itself and leaves its clicks in Redis; until one has answered in time again,
    nobody waits for any.
    """

    def __init__(self, deduplicator: Deduplicator, lookup: Lookup, *, expires_ms: Callable[[Click], int]) -> None:
        self._deduplicator = deduplicator
        self._lookup = lookup
        self._expires_ms = expires_ms
        self._missed_until_ms: OrderedDict[str, int] = OrderedDict()
        self._looking: set[asyncio.Task[dict[str, bytes | None]]] = set()
        self._is_late = False

    async def fetch(self, click_ids: Sequence[str], now_ms: int) -> dict[str, bytes | None]:
        """Each click by its id, as `pack_click` packs it, None where it is known that there is none; an id that cannot
        be looked up is absent. Raises QueueUnavailableError."""
        unique = list(dict.fromkeys(click_ids))
        clicks = dict(zip(unique, await self._deduplicator.clicks(unique), strict=True))
        unknown = [click_id for click_id, packed in clicks.items() if packed is None]
        absent = [click_id for click_id in unknown if self._missed_until_ms.get(click_id, 0) <= now_ms]
        if absent:
            for click_id in absent:
                del clicks[click_id]
            clicks.update(await self._read_through(absent, now_ms))
        return clicks

    async def _read_through(self, click_ids: Sequence[str], now_ms: int) -> dict[str, bytes | None]:
        if self._is_late and len(self._looking) >= MAX_LATE:
            return {}
        looking = asyncio.create_task(self._look_up(click_ids, now_ms), name="click look-up")
        self._looking.add(looking)
        looking.add_done_callback(self._looking.discard)
        done, _ = await asyncio.wait([looking], timeout=0 if self._is_late else PATIENCE_S)
        if not done:
            self._is_late = True
            return {}
        return looking.result()

    async def _look_up(self, click_ids: Sequence[str], now_ms: int) -> dict[str, bytes | None]:
        """What Postgres says of the clicks, kept for whoever asks next; nothing if an engine does not answer."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            found = await self._lookup(click_ids)
            self._is_late = loop.time() - began > PATIENCE_S
            await self._deduplicator.cache(self.cachable(found, now_ms))
        except (ClicksUnavailableError, QueueUnavailableError):
            return {}
        for click_id in click_ids:
            if click_id not in found:
                self._remember_miss(click_id, now_ms)
        return {click_id: _packed(found[click_id]) if click_id in found else None for click_id in click_ids}

    def cachable(self, clicks: dict[str, Click], now_ms: int) -> list[CachedClick]:
        """Those of the clicks that can still convert, as the cache takes them."""
        entries = []
        for click_id, click in clicks.items():
            expires_ms = self._expires_ms(click)
            if expires_ms > now_ms:
                entries.append(CachedClick(click_id, _packed(click), expires_ms))
        return entries

    def forget_misses(self, click_ids: Iterable[str]) -> None:
        """These clicks are known now: look them up again."""
        for click_id in click_ids:
            self._missed_until_ms.pop(click_id, None)

    def _remember_miss(self, click_id: str, now_ms: int) -> None:
        self._missed_until_ms.pop(click_id, None)
        self._missed_until_ms[click_id] = now_ms + MISS_MS
        if len(self._missed_until_ms) > MAX_MISSES:
            self._missed_until_ms.popitem(last=False)


def _packed(click: Click) -> bytes:
    return pack_click(click.campaign_id, click.publisher_id, click.clicked_ms, click.country)
