"""Statuses and adjustments on a real Postgres against a plain model, over random histories: batches in any order and
delivered again, holds, operators, refunds."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import count
from typing import TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from ingest.adjusting import Done, apply_requests
from ingest.adjustment_file import read_request
from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from storage.holds import release_holds
from storage.postgres import Pool, close, open_pool
from storage.queue import Entry
from storage.records import Kind
from tests.writing import PERCENT_CATALOG, conversion, entry, store

BASE_US = 1_577_836_800_000_000  # 2020-01-01: long before any operator speaks
EVENTS = 2
NUMBERS = count()
STATUSES = ["approved", "held=1", "pending", "=approved", "=pending", "=rejected", "=cancelled"]
SAID = st.lists(
    st.tuples(
        st.integers(0, EVENTS - 1),
        st.integers(0, 20),  # seconds: in no order
        st.sampled_from([Kind.CONVERSION, Kind.DUPLICATE, Kind.CONFLICT]),
        st.sampled_from(STATUSES),
    ),
    max_size=5,
)
T = TypeVar("T")


@dataclass(frozen=True)
class Said:
    """A postback: its place in the order of what is said, its kind, its status as the line has it."""

    number: int
    event: int
    received_us: int
    kind: Kind
    status: str

    @property
    def given(self) -> str | None:
        return self.status[1:] if self.status.startswith("=") else None


@dataclass
class Event:
    """What should be of one event."""

    stored: Said | None = None
    given: dict[tuple[int, int], str] = field(default_factory=dict)
    is_waiting: bool = False
    is_released: bool = False
    sale: int = 100
    revenue: int = 1200
    payout: int = 700
    made: dict[str, tuple[str, int]] = field(default_factory=dict)

    def deliver(self, said: Said) -> None:
        if said.kind is Kind.CONVERSION:
            if self.stored is None:
                self.stored = said
            self.is_waiting |= said.status.startswith("held=")
            if said == self.stored:
                return
        if said.given:
            self.given[said.received_us, said.number] = said.given

    def release(self) -> None:
        if self.is_waiting and self.stored and not self.stored.given and not self.given:
            self.is_released |= self.first_status == "pending"
        self.is_waiting = False

    @property
    def first_status(self) -> str:
        assert self.stored is not None
        return self.stored.given or self.stored.status.replace("held=1", "pending")

    @property
    def status(self) -> str:
        """By ADR 16: the last that was given; the hold's; the first."""
        assert self.stored is not None
        own = {(self.stored.received_us, -1): self.stored.given} if self.stored.given else {}
        words = {**self.given, **own}
        if words:
            return str(words[max(words)])
        return "approved" if self.is_released else self.first_status

    def adjust(self, key: str, asked: tuple[str, str]) -> Done:
        """By ADR 17, in cents; all amounts here are whole cents."""
        kind, amount = asked
        change = self.sale if amount == "all" else int(amount)
        if key in self.made:
            made_kind, made_change = self.made[key]
            return Done.KNOWN if made_kind == kind and (amount == "all" or made_change == change) else Done.REFUSED
        if kind == "correction":
            if self.payout + change < 0:
                return Done.REFUSED
            self.payout += change
        elif change > self.sale or not (self.sale or self.revenue or self.payout):
            return Done.REFUSED
        elif change == self.sale:
            self.sale = self.revenue = self.payout = 0
        elif self.payout < 5 * change:
            return Done.REFUSED
        else:
            self.sale, self.revenue, self.payout = (
                self.sale - change,
                self.revenue - 10 * change,
                self.payout - 5 * change,
            )
        self.made[key] = kind, change
        return Done.APPLIED


class History(RuleBasedStateMachine):
    """The machine; `pool` and `runner` are the test's."""

    pool: Pool
    runner: asyncio.Runner

    def __init__(self) -> None:
        super().__init__()
        self.events = [Event() for _ in range(EVENTS)]
        self.names = [f"event-{next(NUMBERS)}" for _ in range(EVENTS)]
        self.operators = count()
        self.said: list[Said] = []

    def await_(self, awaitable: Awaitable[T]) -> T:
        async def wait() -> T:
            return await awaitable

        return self.runner.run(wait())

    def id_of(self, event: int) -> UUID:
        return UUID(str(conversion(0, txn=self.names[event]).conversion_id))

    def entry_of(self, said: Said) -> Entry:
        record = conversion(said.number, txn=self.names[said.event], status=said.status, received_us=said.received_us)
        money = {"sale_micros": 100_000_000, "revenue_micros": 12_000_000, "payout_micros": 7_000_000}
        return entry(msgspec.structs.replace(record, **money), said.kind)

    @rule(new=SAID, again=st.lists(st.integers(0, 99), max_size=3), is_kept=st.booleans())
    def deliver(self, new: list[tuple[int, int, Kind, str]], again: list[int], is_kept: bool) -> None:
        """One transaction of new postbacks, unless a spool keeps them for later, and of some that were said before."""
        batch = [self.said[place % len(self.said)] for place in again if self.said]
        for event, at, kind, status in new:
            number = next(NUMBERS)
            self.said.append(Said(number, event, BASE_US + at * 1_000_000 + number, kind, status))
            if not is_kept:
                batch.append(self.said[-1])
        if not batch:
            return
        self.await_(store(self.pool, [self.entry_of(said) for said in batch]))
        for said in sorted(batch, key=lambda said: (said.kind is not Kind.CONVERSION, said.received_us)):
            self.events[said.event].deliver(said)

    @rule()
    def release(self) -> None:
        async def release() -> int | None:
            async with self.pool.acquire() as connection:
                return await release_holds(connection)

        assert self.await_(release()) is not None
        for event in self.events:
            event.release()

    def ask(self, event: int, **fields: str) -> Done:
        async def apply() -> Done:
            async with self.pool.acquire() as connection:
                request = read_request({"conversion_id": str(self.id_of(event)), **fields})
                (verdict,) = await apply_requests(connection, [request], "anna")
            return verdict.done

        return self.await_(apply())

    @rule(event=st.integers(0, EVENTS - 1), status=st.sampled_from(["approved", "pending", "rejected"]))
    def decide(self, event: int, status: str) -> None:
        done = self.ask(event, status=status)
        model = self.events[event]
        if model.stored is None:
            assert done is Done.REFUSED
        elif model.status == status and (model.given or model.stored.given):
            assert done is Done.KNOWN
        else:
            assert done is Done.APPLIED
            model.given[BASE_US * 2, next(self.operators)] = status

    @rule(
        event=st.integers(0, EVENTS - 1),
        asked=st.tuples(st.sampled_from(["refund", "chargeback"]), st.sampled_from(["40", "60", "100", "all"]))
        | st.tuples(st.just("correction"), st.sampled_from(["-700", "-1", "250"])),
        key=st.sampled_from(["a", "b", "c", "d"]),
    )
    def adjust(self, event: int, asked: tuple[str, str], key: str) -> None:
        kind, amount = asked
        fields = {"kind": kind, "reference": key}
        if kind == "correction":
            fields["payout"] = f"{'-' if amount[0] == '-' else ''}{int(amount.lstrip('-')) / 100:.2f}"
        elif amount != "all":
            fields["sale_amount"] = amount
        done = self.ask(event, **fields)
        model = self.events[event]
        assert done is (Done.REFUSED if model.stored is None else model.adjust(key, asked))

    @invariant()
    def postgres_equals_model(self) -> None:
        rows = self.await_(
            self.pool.fetch(
                "SELECT conversion_id, first_status, status, net_sale_amount, net_revenue * 100, net_payout * 100,"
                " adjustments FROM conversions_net WHERE conversion_id = ANY($1::uuid[])",
                [self.id_of(event) for event in range(EVENTS)],
            )
        )
        found = {row[0]: tuple(row)[1:] for row in rows}
        assert found == {
            self.id_of(place): (one.first_status, one.status, one.sale, one.revenue, one.payout, len(one.made))
            for place, one in enumerate(self.events)
            if one.stored is not None
        }


@pytest.mark.timeout(400)  # a failure takes its time to be made small
def test_any_history(postgres_dsn: str) -> None:
    with asyncio.Runner() as runner:
        pool = runner.run(open_pool(postgres_dsn, 1))

        async def prepare() -> None:
            async with pool.acquire() as connection:
                await import_catalog(connection, parse_catalog(PERCENT_CATALOG % "10"))

        runner.run(prepare())
        machine = type("Machine", (History,), {"pool": pool, "runner": runner})
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=30,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
        runner.run(close(pool))
