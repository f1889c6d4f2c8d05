"""The soak, short: once each the faults that no other test brings about. `make soak` is the long form, with all."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest

from storage.partitions import ensure_months, month_of
from storage.postgres import connect
from tests.fault.soak import Options, soak
from tests.fault.soak_check import compare
from tests.fault.soak_load import Load
from tests.servers import temporary_folder

KINDS = (
    "Redis: open connections go dead",
    "Redis: connections reset",
    "Redis slow",
    "Postgres: replies lost",
    "Redis and Postgres refuse",
    "all receivers killed",
    "writer stopped",
    "receivers killed while Redis is away",
    "program ended",
)
RATE_S = 250
NOW = datetime(2026, 11, 10, tzinfo=UTC)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_or_doubled() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    only = "^(" + "|".join(KINDS) + ")"
    options = Options(faults=len(KINDS), postbacks=2_000, minutes=2, seed=seed, longest_s=0.8, only=only, rate_s=RATE_S)
    with temporary_folder() as folder:
        report = await soak(options, folder)
    print("\n".join(report.page()))
    assert report.is_clean, [row.tally for row in report.rows.values() if not row.tally.is_clean]
    assert {name for name, row in report.rows.items() if row.times == 1} == report.rows.keys() - {"none"}
    assert len(report.rows) == len(KINDS) + 1
    assert report.postbacks > 1_000
    assert sum(row.tally.items for row in report.rows.values()) > 1_000


async def _store(database: Any, load: Load, place: int, *, off_by: str = "0") -> None:
    """The row of an item of sender game0, its payout off by so much."""
    item = load.item("game0", place)
    sale, revenue, payout = item.money or (Decimal(0), Decimal(0), Decimal(0))
    await database.execute(
        "INSERT INTO conversions (conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id,"
        " goal_id, goal_value, goal_version, click_id, txn_id, status, currency, sale_amount, revenue, payout, params)"
        " VALUES ($1, $2, $2, 1, 10, 100, 1, $3, 1, $4, $5, 'approved', 'USD', $6, $7, $8, '{}')",
        uuid4(),
        NOW,
        item.fields["goal"],
        item.fields["click_id"],
        item.fields["txn_id"],
        sale,
        revenue,
        payout + Decimal(off_by),
    )


async def test_the_comparison_finds_what_is_wrong(postgres_dsn: str) -> None:
    load = Load("http://unused.invalid", bulk=1, single=1, rate_s=1, duration_s=1)
    sent = load.sent["game0"]
    sent.reach(40)
    for place, (answers, attempts, fault) in {
        1: (1, 1, 1),  # right
        2: (1, 1, 2),  # lost
        3: (1, 3, 3),  # two conversions
        4: (1, 1, 4),  # another payout
        5: (2, 2, 5),  # a repeat without its row in the log
        6: (0, 1, 0),  # not answered, and not stored
        7: (0, 1, 0),  # not answered, and stored
        35: (1, 1, 6),  # a rejection without its row in the log
    }.items():
        sent.answers[place], sent.attempts[place], sent.fault[place] = answers, attempts, fault
    database: Any = await connect(postgres_dsn)
    try:
        await ensure_months(database, "conversions", {month_of(int(NOW.timestamp() * 1000))})
        for place in (1, 3, 3, 5, 7):
            await _store(database, load, place)
        await _store(database, load, 4, off_by="0.01")
        found = await compare(load, postgres_dsn)
        assert {fault: (tally.lost, tally.doubled, tally.difference) for fault, tally in found.items()} == {
            0: (0, 0, 0),
            1: (0, 0, 0),
            2: (1, 0, 0),
            3: (0, 1, 0),
            4: (0, 0, Decimal("0.01")),
            5: (1, 0, 0),
            6: (1, 0, 0),
        }
        assert {fault for fault, tally in found.items() if tally.is_clean} == {0, 1}
        await _store(database, load, 10)
        with pytest.raises(AssertionError, match="nobody sent"):
            await compare(load, postgres_dsn)
    finally:
        await database.close()
