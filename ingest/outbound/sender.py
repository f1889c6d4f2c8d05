"""Sends what publishers are to be told. Each writer process runs one: leases share the work among them, and what a
killed one had taken is taken again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import random
from typing import Final, Protocol

import structlog

from ingest.outbound.delivery import host_is_well
from ingest.outbound.hosts import Hosts
from storage.backoff import delay_s, pause
from storage.outbox import (
    MAX_TOUCHED,
    Attempt,
    DueMessage,
    Looked,
    Settled,
    count_waiting,
    give_up,
    is_used,
    look_at_touched,
    settle,
    take_due,
)
from storage.postgres import AWAY, Connection, Pool, PostgresError, borrowed

FIRST_RETRY_S: Final = 5.0
LONGEST_RETRY_S: Final = 3600.0
LEASE_EXTRA_S: Final = 20.0
"""Beyond an attempt's own limit: another takes a message that was taken so long ago."""
LOOK_EVERY_S: Final = 1.0
GATHER_S: Final = 0.05
"""How long ended attempts gather before they are settled together."""
IDLE_S: Final = 5.0
"""How often it is looked whether there are templates."""
COUNT_EVERY_S: Final = 15.0
LIMIT_S: Final = 10.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, and how often again. Times in s, `give_up_ms` from when a message is made."""

    timeout_s: float
    give_up_ms: int
    at_once: int
    at_once_each: int
    first_retry_s: float = FIRST_RETRY_S
    longest_retry_s: float = LONGEST_RETRY_S
    lease_extra_s: float = LEASE_EXTRA_S
    look_every_s: float = LOOK_EVERY_S

    @property
    def lease_ms(self) -> int:
        """How long a message that was taken is left alone."""
        return int((self.timeout_s + self.lease_extra_s) * 1000)


class OutboundObserver(Protocol):
    """Told what becomes of messages."""

    def attempted(self, attempt: Attempt) -> None:
        """One attempt has ended."""

    def looked(self, looked: Looked) -> None:
        """Messages were made or withdrawn."""

    def given_up(self, count: int) -> None:
        """Messages will not be tried again: a person must act."""

    def waiting(self, count: int) -> None:
        """So many wait now."""

    def resting(self, hosts: int) -> None:
        """The breakers of so many hosts are open."""


class Outbound:
    """One sender. `attempt` tries a message once and raises nothing."""

    def __init__(
        self,
        pool: Pool,
        attempt: Callable[[DueMessage], Awaitable[Attempt]],
        pace: Pace,
        observer: OutboundObserver,
        hosts: Hosts | None = None,
    ) -> None:
        self._pool = pool
        self._attempt = attempt
        self._pace = pace
        self._observer = observer
        self._hosts = hosts or Hosts(pace.at_once_each)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended: list[Settled] = []
        self._count_due_s = 0.0
        self._failures = 0
        self._loop = asyncio.get_running_loop()

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; then what is under way ends, and is settled if Postgres can be had."""
        while not stop.is_set():
            await pause(stop, await self._round())
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._round(is_last=True)

    async def _round(self, *, is_last: bool = False) -> float:
        """Settle, look, take. How long to wait for the next, in s."""
        try:
            async with borrowed(self._pool, LIMIT_S) as connection:
                await self._settle(connection)
                if is_last:
                    return 0.0
                if not self._tasks and not await is_used(connection):
                    return IDLE_S
                is_more = await self._look(connection)
                is_more |= await self._take(connection)
                await self._give_up_and_count(connection)
        except (*AWAY, PostgresError) as error:
            wait_s = delay_s(self._failures, random())  # noqa: S311  jitter, not a secret
            self._failures += 1
            log.warning("publishers' postbacks wait for PostgreSQL", error=str(error), again_in_s=wait_s)
            return wait_s
        self._failures = 0
        return GATHER_S if is_more or self._tasks else self._pace.look_every_s

    async def _settle(self, connection: Connection) -> None:
        ended = self._ended[:]
        if not ended:
            return
        await settle(connection, ended)
        del self._ended[: len(ended)]
        given_up = sum(one.state == "given_up" for one in ended)
        if given_up:
            self._tell_given_up(given_up)

    async def _look(self, connection: Connection) -> bool:
        """Whether there may be more."""
        looked = await look_at_touched(connection, self._pace.give_up_ms)
        if looked is None:
            return False
        self._observer.looked(looked)
        return looked.count >= MAX_TOUCHED

    async def _take(self, connection: Connection) -> bool:
        """Whether there was any. What has ended and is not settled holds its place: memory is bounded while Postgres is
        away."""
        free = self._pace.at_once - len(self._tasks) - len(self._ended)
        if free <= 0:
            return False
        room = self._hosts.room(self._loop.time())
        others = self._pace.at_once_each
        messages = await take_due(connection, room, others=others, limit=free, lease_ms=self._pace.lease_ms)
        for message in messages:
            self._hosts.started(message.host)
            task = self._loop.create_task(self._send(message))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return bool(messages)

    async def _send(self, message: DueMessage) -> None:
        attempt = await self._attempt(message)
        chance = random()  # noqa: S311  jitter, not a secret
        self._hosts.finished(message.host, self._loop.time(), is_well=host_is_well(attempt), chance=chance)
        self._observer.attempted(attempt)
        self._ended.append(self._settled(message, attempt, chance))

    def _settled(self, message: DueMessage, attempt: Attempt, chance: float) -> Settled:
        if attempt.error is None:
            return Settled(message, attempt, "sent", 0)
        first_s, cap_s = self._pace.first_retry_s, self._pace.longest_retry_s
        due_ms = int(delay_s(message.attempts, chance, first_s=first_s, cap_s=cap_s) * 1000)
        if message.left_ms <= due_ms:
            return Settled(message, attempt, "given_up", 0)
        return Settled(message, attempt, "waiting", due_ms)

    async def _give_up_and_count(self, connection: Connection) -> None:
        resting = self._hosts.resting()
        self._observer.resting(len(resting))
        if self._loop.time() < self._count_due_s:
            return
        self._count_due_s = self._loop.time() + COUNT_EVERY_S
        if resting:
            given_up = await give_up(connection, resting)
            if given_up:
                self._tell_given_up(given_up)
        self._observer.waiting(await count_waiting(connection))

    def _tell_given_up(self, count: int) -> None:
        self._observer.given_up(count)
        log.error("publishers' postbacks are given up; `postback outbound messages` shows them", count=count)
