"""The soak's ledger against the tables: what was lost, what was doubled, and whose money differs."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from storage.postgres import connect
from tests.fault.soak_load import CYCLE, Load, original

PREFETCH = 20_000


@dataclass
class Tally:
    """Of the items that were first answered 2xx under one fault. `lost`: 2xx answers without a row. `doubled`: rows
    beyond one conversion an item, or beyond the attempts to send it. `difference`: the sum of all amounts (sale,
    revenue, payout) in the tables, less what it should be."""

    items: int = 0
    lost: int = 0
    doubled: int = 0
    difference: Decimal = Decimal(0)
    examples: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        """Whether promises were kept."""
        return not (self.lost or self.doubled or self.difference or self.examples)


async def compare(load: Load, dsn: str) -> dict[int, Tally]:
    """Every item ever sent with its rows: tallies by fault. AssertionError for a row that nobody sent."""
    conversions = {name: array("H", bytes(2 * len(sent.answers))) for name, sent in load.sent.items()}
    logged = {name: array("H", bytes(2 * len(sent.answers))) for name, sent in load.sent.items()}
    tallies: dict[int, Tally] = {}

    def tally_of(name: str, place: int) -> Tally:
        return tallies.setdefault(load.sent[name].fault[place], Tally())

    def place_of(click_id: str, txn_id: str) -> tuple[str, int]:
        name, _, number = click_id.rpartition("-")
        place = int(number) * CYCLE + int(txn_id)
        assert load.sent[name].attempts[place], f"{click_id} {txn_id}: nobody sent that"
        return name, place

    connection: Any = await connect(dsn)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            found = "SELECT click_id, txn_id, sale_amount, revenue, payout FROM conversions"
            async for click_id, txn_id, *money in connection.cursor(found, prefetch=PREFETCH):
                name, place = place_of(click_id, txn_id)
                conversions[name][place] += 1
                expected = load.item(name, place).money
                got = tuple(amount or Decimal(0) for amount in money)
                if got != expected:
                    tally = tally_of(name, place)
                    tally.difference += sum(got) - sum(expected or ())
                    tally.examples.append(f"{click_id} {txn_id}: {got} in place of {expected}")
            async for click_id, txn_id in connection.cursor(
                "SELECT click_id, txn_id FROM postback_log", prefetch=PREFETCH
            ):
                name, place = place_of(click_id, txn_id)
                logged[name][place] += 1
        assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    finally:
        await connection.close()

    for name, sent in load.sent.items():
        for place in range(len(sent.answers)):
            if original(place) != place or not sent.attempts[place]:
                continue
            tally = tally_of(name, place)
            tally.items += 1
            rows = conversions[name][place] + logged[name][place]
            most = 0 if load.item(name, place).money is None else 1
            least = most if sent.answers[place] else 0
            lost = max(least - conversions[name][place], sent.answers[place] - rows, 0)
            doubled = max(conversions[name][place] - most, 0) + max(rows - sent.attempts[place], 0)
            if lost or doubled:
                tally.lost += lost
                tally.doubled += doubled
                tally.examples.append(
                    f"{name}-{place // CYCLE} {place % CYCLE}: {sent.answers[place]} answers to {sent.attempts[place]}"
                    f" attempts, {conversions[name][place]} conversions, {logged[name][place]} log rows"
                )
    return tallies
