"""The live log: one task of a process asks Postgres for the newest postbacks each second, only while somebody listens.

What it finds is turned into rows once, and each listener takes what its filter lets through. All is bounded: listeners,
rows of a look, rows that wait for one listener. What is left out is counted and said.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

import structlog

from ingest.logs import said
from storage.activity import Filter, PostbackEntry
from storage.postgres import AWAY, PostgresError

MAX_LISTENERS: Final = 20
"""Of one process."""
LOOK_EVERY_S: Final = 1.0
LOOK_ROWS: Final = 1_000
"""The most that one look takes in."""
MAX_WAITING: Final = 100
"""Rows that wait for one listener; older ones make way."""
ROWS_AT_ONCE: Final = 20
OVERLAP_S: Final = 15.0
"""How much later than its neighbours a postback may be stored and still be seen."""
OVERLAP: Final = timedelta(seconds=OVERLAP_S)

log = structlog.get_logger()


class FullError(Exception):
    """There are as many listeners as there may be, or the process is about to end."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A postback, and its row in HTML."""

    entry: PostbackEntry
    html: str


@dataclass(slots=True, eq=False)
class Listener:
    """Somebody who watches. `is_cut`: some rows were left out since the last time they were taken."""

    wanted: Filter
    waiting: deque[Shown] = field(default_factory=lambda: deque(maxlen=MAX_WAITING))
    is_cut: bool = False
    is_over: bool = False
    has_news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> tuple[list[Shown], bool]:
        """(what came, in order; whether some were left out)."""
        taken, is_cut = list(self.waiting), self.is_cut
        self.waiting.clear()
        self.is_cut = False
        self.has_news.clear()
        return taken, is_cut

    def give(self, shown: Sequence[Shown], *, is_cut: bool) -> None:
        """More to take."""
        self.is_cut |= is_cut or len(self.waiting) + len(shown) > MAX_WAITING
        self.waiting.extend(shown)
        if self.waiting or self.is_cut:
            self.has_news.set()

    def end(self) -> None:
        """There will be no more."""
        self.is_over = True
        self.has_news.set()


class LiveFeed:
    """`latest(limit)` are the newest there are; `fetch(since, limit)` those after `since`; both newest first. `render`
    makes a row of one."""

    def __init__(
        self,
        latest: Callable[[int], Awaitable[Sequence[PostbackEntry]]],
        fetch: Callable[[datetime, int], Awaitable[Sequence[PostbackEntry]]],
        render: Callable[[PostbackEntry], str],
    ) -> None:
        self._latest = latest
        self._fetch = fetch
        self._render = render
        self._listeners: set[Listener] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._newest: datetime | None = None
        self._seen: dict[UUID, datetime] = {}

    @contextmanager
    def listen(self, wanted: Filter) -> Iterator[Listener]:
        """Somebody who is told what comes from now on. Raises FullError."""
        if self._is_closed or len(self._listeners) >= MAX_LISTENERS:
            raise FullError
        listener = Listener(wanted)
        self._listeners.add(listener)
        if self._task is None:
            self._newest = None
            self._task = asyncio.create_task(self._run())
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._task is not None:
                self._task.cancel()
                self._task = None

    def close(self) -> None:
        """End all listeners at once, and take no more."""
        self._is_closed = True
        for listener in self._listeners:
            listener.end()

    async def show(self, entries: Sequence[PostbackEntry]) -> list[Shown]:
        """Rows of them, in order of time: they come newest first. Others have their turn in between."""
        shown = []
        for entry in reversed(entries):
            shown.append(Shown(entry, self._render(entry)))
            if len(shown) % ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return shown

    async def _run(self) -> None:
        """Look, until nobody listens."""
        while True:
            try:
                await self._look()
            except (*AWAY, PostgresError) as error:
                log.warning("the live log cannot be read", error=said(error))
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        """Once. It begins with the newest there is, however late the writers are, and follows them from there."""
        if self._newest is None:
            first = await self._latest(1)
            self._newest = first[0].received_at if first else datetime.now(UTC)
            self._seen = {}
        since = self._newest - OVERLAP
        found = await self._fetch(since, LOOK_ROWS)
        new = [entry for entry in found if entry.entry_id not in self._seen]
        self._seen = {key: at for key, at in self._seen.items() if at > since}
        self._seen.update((entry.entry_id, entry.received_at) for entry in new)
        self._newest = max([self._newest, *(entry.received_at for entry in new)])
        rows: dict[UUID, Shown] = {}
        for listener in list(self._listeners):
            wanted = [entry for entry in new if matches(entry, listener.wanted)]
            taken = wanted[:MAX_WAITING]
            unseen = [entry for entry in taken if entry.entry_id not in rows]
            rows |= {one.entry.entry_id: one for one in await self.show(unseen)}
            is_cut = len(wanted) > len(taken) or len(new) >= LOOK_ROWS
            listener.give([rows[entry.entry_id] for entry in reversed(taken)], is_cut=is_cut)


def matches(entry: PostbackEntry, wanted: Filter) -> bool:
    """Whether a filter lets it through."""
    return (
        (wanted.outcome is None or entry.outcome == wanted.outcome)
        and (wanted.reason is None or entry.reason == wanted.reason)
        and (wanted.click_id is None or entry.click_id == wanted.click_id)
        and (wanted.advertiser_id is None or entry.advertiser_id == wanted.advertiser_id)
    )
