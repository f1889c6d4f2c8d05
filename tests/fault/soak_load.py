"""The soak's senders and their ledger: what was sent, how often, what was answered, and what must be in the tables."""

from __future__ import annotations

import asyncio
import random
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import aiohttp
import orjson

CYCLE: Final = 40
"""Items of one click."""
REPEATS_FROM: Final = 37
REPEATED_BEFORE: Final = 30
BULK: Final = 250
SINGLE_RATE_S: Final = 25.0
"""Requests a second of a sender of single postbacks."""
REQUEST_LIMIT_S: Final = 15.0
RETRY_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Item:
    """One event. What its row must say; None: it is rejected and stands in the log."""

    fields: dict[str, str]
    money: tuple[Decimal, Decimal, Decimal] | None


def _amount(place: int) -> Decimal:
    return Decimal(place * 37 % 9973 + 1) / 100


def game_item(click_id: str, place: int) -> Item:
    """Of the sample's campaign 100, a click in the US: an install, purchases, views that all count, unknown goals."""
    kind = place % CYCLE
    fields = {"click_id": click_id, "txn_id": str(kind)}
    if kind == 0:
        return Item(fields | {"goal": "install"}, (Decimal(0), Decimal("2.00"), Decimal("1.40")))
    if kind < 25:
        amount = _amount(place)
        money = (amount, amount * 20 / 100, amount * 14 / 100)
        return Item(fields | {"goal": "purchase", "sale_amount": str(amount)}, money)
    if kind < 34:
        fields |= {"goal": "ad_view", "event_id": f"view-{kind}"}
        return Item(fields, (Decimal(0), Decimal("0.0125"), Decimal("0.008")))
    return Item(fields | {"goal": "no-such-goal"}, None)


def shop_item(click_id: str, place: int) -> Item:
    """Of the sample's campaign 200, publisher 12, under the names and the token of its advertiser: orders in euros."""
    amount = _amount(place)
    fields = {"click_id": click_id, "order": str(place % CYCLE), "total": str(amount), "shop_key": "demo-token"}
    return Item(fields, (amount, Decimal("0.50") + amount * 8 / 100, Decimal("0.25") + amount * 6 / 100))


@dataclass
class Sent:
    """One sender's items by place. A repeat counts for the item that it repeats. A GET counts as two attempts, since
    the HTTP client may send it again by itself."""

    answers: array[int] = field(default_factory=lambda: array("H"))
    attempts: array[int] = field(default_factory=lambda: array("H"))
    fault: array[int] = field(default_factory=lambda: array("H"))
    """The fault of the time of the first 2xx."""

    def reach(self, end: int) -> None:
        """Make room for the places below `end`."""
        missing = max(0, end - len(self.answers))
        for column in (self.answers, self.attempts, self.fault):
            column.frombytes(bytes(2 * missing))


def original(place: int) -> int:
    """The place of the item that stands here."""
    return place - REPEATED_BEFORE if place % CYCLE >= REPEATS_FROM else place


class Load:
    """Senders that go on until stopped, each sending an item again until it is answered 2xx."""

    def __init__(self, url: str, *, bulk: int, single: int, rate_s: float, duration_s: float) -> None:
        """`rate_s`: postbacks a second of all together; whoever fell behind makes up for it. They end by themselves
        at twice of what that makes in `duration_s`."""
        names = [f"{'shop' if number % 3 == 2 else 'game'}{number}" for number in range(bulk + single)]
        self._bulk = set(names[:bulk])
        bulk_rate_s = max(1.0, rate_s - single * SINGLE_RATE_S) / bulk
        self._rates_s = {name: bulk_rate_s if name in self._bulk else SINGLE_RATE_S for name in names}
        self._most = {name: int(2 * rate * duration_s) + BULK for name, rate in self._rates_s.items()}
        self.sent = {name: Sent() for name in names}
        self.fault = 0
        self.stored = 0
        self.waits_s: dict[int, float] = {}
        """The longest that an item waited for its 2xx, by the fault of its first failure, or else of its end."""
        self._url = url
        self._stop = False
        self._may_send = asyncio.Event()
        self._may_send.set()
        self._busy = 0
        self._tasks: list[asyncio.Task[None]] = []

    def clicks(self) -> Iterator[dict[str, Any]]:
        """What must be registered before the start."""
        clicked_at = int(time.time()) - 600
        for name, most in self._most.items():
            is_game = name.startswith("game")
            where = {"campaign_id": 100, "publisher_id": 10, "country": "US"}
            if not is_game:
                where = {"campaign_id": 200, "publisher_id": 12, "country": "FR"}
            for number in range(most // CYCLE + 1):
                yield {"click_id": f"{name}-{number}", "clicked_at": clicked_at, **where}

    def item(self, name: str, place: int) -> Item:
        """What a sender sends at a place."""
        at = original(place)
        make = game_item if name.startswith("game") else shop_item
        return make(f"{name}-{at // CYCLE}", at)

    def start(self) -> None:
        """Begin."""
        self._tasks = [asyncio.create_task(self._send(name)) for name in self.sent]

    async def pause(self) -> None:
        """Send nothing more, and return when nothing is under way."""
        self._may_send.clear()
        while self._busy:  # noqa: ASYNC110  a request ends when it ends
            await asyncio.sleep(0.02)

    def go_on(self) -> None:
        """After a pause."""
        self._may_send.set()

    def check(self) -> None:
        """Raises what a sender failed with: an answer that nobody should get."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def finish(self) -> None:
        """Each sender finishes the items it is at."""
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _send(self, name: str) -> None:
        loop = asyncio.get_running_loop()
        sent, most, pace_s = self.sent[name], self._most[name], 1 / self._rates_s[name]
        timeout = aiohttp.ClientTimeout(REQUEST_LIMIT_S)
        async with aiohttp.ClientSession(timeout=timeout) as http:
            began, place = loop.time(), 0
            while not self._stop and place < most:
                await asyncio.sleep(max(0.0, began + place * pace_s - loop.time()))
                end = min(place + (BULK if name in self._bulk else 1), most)
                sent.reach(end)
                await self._until_stored(http, name, range(place, end))
                place = end

    async def _until_stored(self, http: aiohttp.ClientSession, name: str, places: range) -> None:
        loop = asyncio.get_running_loop()
        sent = self.sent[name]
        began: float | None = None
        failed_in: int | None = None
        while True:
            await self._may_send.wait()
            began = began or loop.time()
            is_get = len(places) == 1 and places[0] % 3 == 0
            for place in places:
                sent.attempts[original(place)] += 2 if is_get else 1
            self._busy += 1
            try:
                stored = await self._once(http, [self.item(name, place).fields for place in places], is_get=is_get)
            finally:
                self._busy -= 1
            if stored:
                break
            if failed_in is None:
                failed_in = self.fault
            await asyncio.sleep(RETRY_S * random.uniform(0.5, 1.5))
        fault = self.fault
        blamed = fault if failed_in is None else failed_in
        self.waits_s[blamed] = max(self.waits_s.get(blamed, 0.0), loop.time() - began)
        self.stored += len(places)
        for place in places:
            at = original(place)
            if not sent.answers[at]:
                sent.fault[at] = fault
            sent.answers[at] += 1

    async def _once(self, http: aiohttp.ClientSession, items: list[dict[str, str]], *, is_get: bool) -> bool:
        """Whether it was answered 2xx. Whatever else happens means: not known, send it again."""
        try:
            if len(items) > 1:
                body = b"\n".join(orjson.dumps(item) for item in items)
                headers = {"Content-Type": "application/x-ndjson"}
                async with http.post(f"{self._url}/postbacks", data=body, headers=headers) as response:
                    said = await response.read()
                    assert response.status in {200, 503}, (response.status, said[:200])
                    return response.status == 200
            sending: dict[str, Any] = {"params" if is_get else "data": items[0]}
            async with http.request("GET" if is_get else "POST", f"{self._url}/postback", **sending) as response:
                said = await response.read()
                assert response.status in {200, 202, 503}, (response.status, said[:200])
                return response.status < 300
        except (aiohttp.ClientError, TimeoutError):
            return False
