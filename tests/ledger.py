"""A load with a ledger: every request and its answers are kept, and compared with the tables at the end."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

import aiohttp

from tests.eventually import eventually
from tests.platform import Client

CLICKS_EACH = 200
PAUSE_S = 0.01
"""Between two purchases of a sender: what is tested has most of the processor, not the load."""


@dataclass
class Ledger:
    """What was answered 2xx, by (click, txn): each is one purchase of a known amount. `tries` counts all answers."""

    stored: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    attempted: set[tuple[str, str]] = field(default_factory=set)
    tries: Counter[str] = field(default_factory=Counter)


class Load:
    """Senders that each send one purchase after the other, again until it is answered 2xx, until they are stopped."""

    def __init__(self, client: Client, *, senders: int, name: str) -> None:
        self.ledger = Ledger()
        self._client = client
        self._stop = asyncio.Event()
        self._names = [f"{name}{number}" for number in range(senders)]
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Register the clicks and begin."""
        await self._client.register(*(f"{name}-{n}" for name in self._names for n in range(CLICKS_EACH)))
        self._tasks = [asyncio.create_task(self._send(name)) for name in self._names]

    async def finish(self) -> Ledger:
        """Each sender finishes the purchase it is at."""
        self._stop.set()
        await asyncio.gather(*self._tasks)
        return self.ledger

    async def until(self, tries: int) -> None:
        """Wait for so many more answers of any kind."""
        wanted = self.ledger.tries.total() + tries

        async def so_far() -> int:
            return self.ledger.tries.total()

        await eventually(so_far, lambda found: found >= wanted)

    async def until_answered(self, answer: str, times: int) -> None:
        """Wait for so many more answers of one kind, such as "200 accepted"."""
        wanted = self.ledger.tries[answer] + times

        async def so_far() -> int:
            return self.ledger.tries[answer]

        await eventually(so_far, lambda found: found >= wanted, within_s=90)

    async def _send(self, name: str) -> None:
        number = 0
        while not self._stop.is_set():
            click_id, txn_id = f"{name}-{number % CLICKS_EACH}", f"t{number // CLICKS_EACH}"
            amount = Decimal(number * 37 % 9973) / 100
            self.ledger.attempted.add((click_id, txn_id))
            query = f"click_id={click_id}&goal=purchase&txn_id={txn_id}&sale_amount={amount}"
            while not await self._once(query):  # noqa: ASYNC110  a pause before it tries again
                await asyncio.sleep(PAUSE_S)
            self.ledger.stored[click_id, txn_id] = amount
            number += 1
            await asyncio.sleep(PAUSE_S)

    async def _once(self, query: str) -> bool:
        try:
            status, said = await self._client.get(query)
        except aiohttp.ClientError:
            self.ledger.tries["connection lost"] += 1
            return False
        self.ledger.tries[f"{status} {said['status']}"] += 1
        assert said["status"] in {"accepted", "duplicate", "spooled", "unavailable"}, said
        return status < 300


async def assert_kept(client: Client, ledger: Ledger, *, within_s: float = 60.0) -> None:
    """Every 2xx is in conversions exactly once with the right money, and nothing is there that was never sent."""

    async def rows() -> dict[tuple[str, str], list[Decimal]]:
        found: dict[tuple[str, str], list[Decimal]] = {}
        for row in await client.database.fetch("SELECT click_id, txn_id, sale_amount FROM conversions"):
            found.setdefault((row[0], row[1]), []).append(row[2])
        return found

    stored = await eventually(rows, lambda found: found.keys() >= ledger.stored.keys(), within_s=within_s)
    assert not [key for key, amounts in stored.items() if len(amounts) > 1], "counted twice"
    assert {key: stored[key][0] for key in ledger.stored} == ledger.stored, "another amount"
    assert stored.keys() <= ledger.attempted
    assert await client.count("dead_letters") == 0
