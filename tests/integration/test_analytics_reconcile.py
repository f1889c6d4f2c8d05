"""`postback reconcile` on a crafted list."""

from __future__ import annotations

import asyncio
import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ingest.commands.reconcile import Asked, reconcile
from ingest.commands.session import CommandError
from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.reconciling import Columns
from ingest.row_file import RowFileError
from storage.partitions import ensure_months
from storage.postgres import close, connect
from tests.servers import EXTERNAL_REDIS

SINCE = datetime(2026, 11, 3, tzinfo=UTC)
UNTIL = datetime(2026, 11, 4, tzinfo=UTC)
STORED = """
INSERT INTO advertisers (id, name) VALUES (1, 'a'), (2, 'b');
INSERT INTO campaigns (id, advertiser_id, name, currency) VALUES (100, 1, 'c', 'USD'), (200, 2, 'other', 'USD');
INSERT INTO conversions (conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id,
    goal_value, goal_version, click_id, txn_id, status, currency, sale_amount, revenue, payout, original_amount,
    original_currency, params)
SELECT ('00000000-0000-8000-8000-0000000000' || n)::uuid, '2026-11-02', received_at::timestamptz, 1, 10, campaign, 1000,
    goal, 1, 'click-' || n, txn, status, 'USD', sale, 1, 1, original,
    CASE WHEN original IS NOT NULL THEN 'EUR' END, '{}'
FROM (VALUES
    (10, '2026-11-03 10:00+00', 100, 'Purchase', 'same', 'approved', 10, NULL::numeric),
    (11, '2026-11-03 10:00+00', 100, 'Purchase', 'amount', 'approved', 20, NULL),
    (12, '2026-11-03 10:00+00', 100, 'Purchase', 'only-here', 'approved', 30, NULL),
    (13, '2026-11-03 10:00+00', 100, 'Purchase', 'void-here', 'approved', 40, NULL),
    (14, '2026-11-04 00:00:05+00', 100, 'Purchase', 'just-after', 'approved', 50, NULL),
    (15, '2026-11-04 00:00:06+00', 100, 'Purchase', 'tomorrow-s', 'approved', 60, NULL),
    (16, '2026-11-03 10:00+00', 100, 'Purchase', 'in-euros', 'approved', 10.85, 10),
    (17, '2026-11-03 10:00+00', 100, 'Purchase', 'twice', 'approved', 1, NULL),
    (18, '2026-11-03 11:00+00', 100, 'Purchase', 'twice', 'approved', 2, NULL),
    (19, '2026-11-03 11:00+00', 100, 'Purchase', 'twice', 'approved', 3, NULL),
    (20, '2026-11-03 11:00+00', 100, 'Purchase', 'refunded', 'approved', 70, NULL),
    (21, '2026-11-03 11:00+00', 200, 'Purchase', 'another-campaign', 'approved', 1, NULL)
) AS rows (n, received_at, campaign, goal, txn, status, sale, original);
INSERT INTO status_changes (conversion_id, clicked_at, change_id, received_at, status, source)
SELECT conversion_id, clicked_at, gen_random_uuid(), received_at + interval '1 hour', 'cancelled', 'operator'
FROM conversions WHERE txn_id = 'void-here';
INSERT INTO adjustments (adjustment_id, conversion_id, clicked_at, kind, sale_amount, revenue, payout, reference,
    made_by)
SELECT gen_random_uuid(), conversion_id, clicked_at, 'refund', -30, 0, 0, 'r', 'me'
FROM conversions WHERE txn_id = 'refunded';
INSERT INTO postback_log (log_id, received_at, outcome, reason, advertiser_id, campaign_id, click_id, txn_id, params)
VALUES (gen_random_uuid(), '2026-11-03', 'rejected', 'click_expired', 1, 100, 'click-30', 'lost', '{}');
"""
LISTED = """click,order,total,cur
click-10,same,10.00,USD
click-11,amount,19.99,USD
click-13,void-here,40,USD
click-14,just-after,50,usd
click-16,in-euros,10,EUR
click-18,twice,2,USD
click-19,twice,3,USD
click-20,refunded,40,USD
click-30,lost,5,USD
click-31,never-sent,6,USD
click-21,another-campaign,1,USD
"""
NAMES = Columns(click_id="click", txn_id="order", amount="total", currency="cur")


def asked(columns: Columns = NAMES, **changes: object) -> Asked:
    values = {"campaign": 100, "advertiser": None, "since": SINCE, "until": UNTIL, "of_sales": True,
              "tolerance_micros": 0, **changes}  # fmt: skip
    return Asked(columns, **values)  # type: ignore[arg-type]  # values of several types


@pytest.fixture
async def config(postgres_dsn: str) -> Config:
    connection = await connect(postgres_dsn)
    month = UNTIL.date()
    for table in ("conversions", "status_changes", "postback_log"):
        await ensure_months(connection, table, [month])
    await connection.execute(STORED)
    await close(connection)
    return Config(redis=RedisConfig(url=EXTERNAL_REDIS), postgres=PostgresConfig(dsn=postgres_dsn))


def differing(out: Path) -> list[tuple[str, str, str, str, str]]:
    """(verdict, txn_id, amount in the list, amount here, what the log says)"""
    with out.open(encoding="utf-8", newline="") as file:
        return [
            (row["verdict"], row["txn_id"], row["listed_amount"], row["stored_amount"], row["log"])
            for row in csv.DictReader(file)
        ]


async def test_a_crafted_list(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.csv").write_text(LISTED + "click-x,,1;5,USD\n")
    out = tmp_path / "out.csv"
    assert await reconcile(config, tmp_path / "list.csv", asked(), out) == 1
    assert differing(out) == [
        ("amount differs", "amount", "19.99", "20", ""),
        ("status differs", "void-here", "40", "40", ""),
        ("missing here", "lost", "5", "", "click_expired"),
        ("missing here", "never-sent", "6", "", ""),
        ("missing here", "another-campaign", "1", "", ""),
        ("missing there", "only-here", "", "30", ""),
        ("missing there", "twice", "", "1", ""),
    ]
    told = capsys.readouterr()
    said = " ".join(told.out.split())
    assert "matched EUR 1 10 10 matched USD 5 105 105" in said
    assert "missing here USD 3 12 0" in said
    assert "missing there USD 2 0 31" in said
    assert told.err == "line 13: total: '1;5': expected a plain decimal such as 12.50\n"


async def test_by_transaction_alone_what_comes_twice_is_paired_twice(config: Config, tmp_path: Path) -> None:
    lines = [{"id": "twice", "sum": 3}, {"id": "twice", "sum": 1}, {"id": "twice", "sum": "2.01"},
             {"id": "twice", "sum": 9}]  # fmt: skip
    path = tmp_path / "list.ndjson"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out = tmp_path / "out.csv"
    columns = Columns(txn_id="id", amount="sum")
    assert await reconcile(config, path, asked(columns, campaign=None, advertiser=1), out) == 1
    assert [row for row in differing(out) if row[1] == "twice"] == [
        ("amount differs", "twice", "2.01", "2", ""),
        ("missing here", "twice", "9", "", ""),
    ]
    assert await reconcile(config, path, asked(columns, tolerance_micros=10_000), out) == 1
    assert ("amount differs", "twice", "2.01", "2", "") not in differing(out)


async def test_a_list_that_agrees(config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "list.csv"
    path.write_text("order,state,at,goal\nsame,paid,2026-11-03 10:00:00,purchase\n,,,\n".replace(",,,\n", ""))
    names = Columns(txn_id="order", status="state", time="at", goal="goal")
    assert await reconcile(config, path, asked(names, since=None, until=None, of_sales=False), None) == 1
    path.write_text(path.read_text() + "".join(
        f"{txn},approved,2026-11-03 11:00:00,purchase\n"
        for txn in ("amount", "only-here", "in-euros", "twice", "twice", "twice", "refunded")
    ) + "void-here,reversed,2026-11-03 09:59:00,Purchase\nlate,approved,2027-01-01 00:00:00,purchase\n")  # fmt: skip
    capsys.readouterr()
    assert await reconcile(config, path, asked(names), None) == 0
    assert "1 lines of other times were left out" in capsys.readouterr().out


async def test_what_is_asked_wrongly_is_told(config: Config, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(LISTED)
    for wrong, said in (
        (asked(advertiser=1), "--campaign ID or --advertiser ID"),
        (asked(Columns(amount="total")), "--click-id NAME"),
        (asked(since=None), "--from and --to"),
        (asked(since=UNTIL), "--from must be before --to"),
        (asked(campaign=None, advertiser=9), "advertiser 9 has no campaigns"),
    ):
        with pytest.raises(CommandError, match=said):
            await reconcile(config, path, wrong, None)
    out = tmp_path / "out.csv"
    out.write_text("kept")
    with pytest.raises(RowFileError, match="missing: id"):
        await reconcile(config, path, asked(Columns(txn_id="id")), out)
    assert out.read_text() == "kept"
    names = await asyncio.to_thread(lambda: sorted(path.name for path in tmp_path.iterdir()))
    assert names == ["list.csv", "out.csv"], "nothing temporary is left"
