"""Adjustments and operators' statuses on a real Postgres: found, priced by version, each once; files of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from ingest.adjusting import Done, Verdict, apply_requests
from ingest.adjustment_file import apply_file, read_request
from ingest.catalog_file import parse_catalog
from ingest.catalog_import import import_catalog
from ingest.commands.adjust import adjust_by_file, adjust_one
from ingest.commands.session import CommandError
from ingest.config import Config, PostgresConfig, RedisConfig
from ingest.row_file import RowFileError
from storage.postgres import Connection, Pool, close, connect
from storage.records import Kind, Record
from tests.servers import EXTERNAL_REDIS
from tests.writing import PERCENT_CATALOG, conversion, count, entry, store


@pytest.fixture
async def connection(postgres_dsn: str, pool: Pool) -> AsyncIterator[Connection]:
    """With the catalog and five sales of 100 USD: revenue 12, payout 7; txn-0 to txn-4 of one click."""
    connection = await connect(postgres_dsn)
    await import_catalog(connection, parse_catalog(PERCENT_CATALOG % "10"))
    await store(pool, [entry(sale(number)) for number in range(5)])
    yield connection
    await close(connection)


def sale(number: int, **changes: object) -> Record:
    return msgspec.structs.replace(
        conversion(number), sale_micros=100_000_000, revenue_micros=12_000_000, payout_micros=7_000_000, **changes
    )


def id_of(number: int) -> str:
    return str(conversion(number).conversion_id)


async def adjust(connection: Connection, *requests: dict[str, str], dry_run: bool = False) -> list[Verdict]:
    return await apply_requests(connection, [read_request(one) for one in requests], "anna", dry_run=dry_run)


def refund(number: int, reference: str, **fields: str) -> dict[str, str]:
    return {"conversion_id": id_of(number), "kind": "refund", "reference": reference, **fields}


async def net(connection: Connection, number: int) -> tuple[object, ...]:
    row = await connection.fetchrow(
        "SELECT net_sale_amount, net_revenue, net_payout, adjustments, status FROM conversions_net WHERE txn_id = $1",
        f"txn-{number}",
    )
    return tuple(row or ())


async def test_a_refund_is_recorded_once_and_summed_up(connection: Connection) -> None:
    part = refund(0, "R-1", percent="30", reason="broken")
    (verdict,) = await adjust(connection, part)
    assert verdict.done is Done.APPLIED
    assert verdict.text == "refund sale -30, revenue -3, payout -1.5 USD"
    assert await net(connection, 0) == (70, 9, Decimal("5.5"), 1, "approved")
    rest = refund(0, "R-2")
    assert [one.done for one in await adjust(connection, part, rest, part, rest)] == [
        Done.KNOWN, Done.APPLIED, Done.KNOWN, Done.KNOWN,
    ]  # fmt: skip
    assert await net(connection, 0) == (0, 0, 0, 2, "approved")
    (refused,) = await adjust(connection, refund(0, "R-1", percent="31"))
    assert refused.text == (
        "reference: the conversion has another adjustment of this name: refund sale -30, revenue -3, payout -1.5 USD"
    )
    (row,) = await connection.fetch("SELECT * FROM adjustments WHERE reference = 'R-1'")
    assert (row["kind"], row["reason"], row["made_by"]) == ("refund", "broken", "anna")
    assert row["clicked_at"] == await connection.fetchval("SELECT max(clicked_at) FROM conversions")
    assert await net(connection, 1) == (100, 12, 7, 0, "approved")


async def test_a_part_is_priced_as_it_was_decided(connection: Connection) -> None:
    """The goal costs something else by now, twice over; its history knows what it was."""
    for percent in ("20", "30"):
        await import_catalog(connection, parse_catalog(PERCENT_CATALOG % percent))
    (verdict,) = await adjust(connection, refund(0, "R-1", percent="30"))
    assert verdict.text == "refund sale -30, revenue -3, payout -1.5 USD"
    await connection.execute("DELETE FROM catalog_history")
    (refused,) = await adjust(connection, refund(1, "R-1", percent="30"))
    assert refused.text.startswith("sale_amount: what version 1 of goal 1000 cost is not known any more")


async def test_conversions_are_found_by_what_senders_call_them(connection: Connection, pool: Pool) -> None:
    await store(pool, [entry(sale(7, goal_value="upsell", txn_id="txn-0"))])
    by_click = {"click_id": "click", "kind": "chargeback", "reference": "C-1"}
    found, twice, nowhere, without, unknown = await adjust(
        connection,
        by_click | {"goal": "PURCHASE", "txn_id": "txn-0"},
        by_click | {"txn_id": "txn-0"},
        by_click | {"txn_id": "txn-9"},
        by_click | {"goal": "purchase"},
        refund(8, "R-1"),
    )
    assert (found.done, str(found.conversion_id)) == (Done.APPLIED, id_of(0))
    assert twice.text == "click_id: 2 conversions are of it: give goal or conversion_id"
    assert nowhere.text == without.text == "click_id: no conversion of this click, goal and txn_id"
    assert unknown.text == "conversion_id: there is no such conversion"


async def test_a_dry_run_says_the_same_and_writes_nothing(connection: Connection) -> None:
    requests = (refund(0, "R-1"), refund(0, "R-2"), {"conversion_id": id_of(1), "status": "rejected"})
    dry = await adjust(connection, *requests, dry_run=True)
    assert (
        await connection.fetchval("SELECT (SELECT count(*) FROM adjustments) + (SELECT count(*) FROM status_changes)")
        == 0
    )
    assert await adjust(connection, *requests) == dry
    assert [one.done for one in dry] == [Done.APPLIED, Done.REFUSED, Done.APPLIED]


async def test_two_who_adjust_at_once_never_take_back_too_much(connection: Connection, postgres_dsn: str) -> None:
    others = [await connect(postgres_dsn) for _ in range(4)]
    said = await asyncio.gather(*(adjust(one, refund(0, f"R-{i}", percent="40")) for i, one in enumerate(others)))
    await asyncio.gather(*(close(one) for one in others))
    assert sorted(verdicts[0].done for verdicts in said) == ["applied", "applied", "refused", "refused"]
    assert (await net(connection, 0))[0] == 20


async def test_an_operator_s_status_is_the_last_word_until_the_next(connection: Connection, pool: Pool) -> None:
    def give(status: str, **fields: str) -> dict[str, str]:
        return {"conversion_id": id_of(0), "status": status, **fields}

    first, again, other = await adjust(connection, give("approved"), give("approved"), give("rejected"))
    assert (first.done, again.done, other.done) == (Done.APPLIED, Done.KNOWN, Done.APPLIED)
    assert first.text == "status approved is now approved", "it was only implied before"
    assert (await net(connection, 0))[4] == "rejected"
    listed = give("approved", reference="list of May")
    assert (await adjust(connection, listed))[0].text == "status rejected is now approved"
    later = conversion(9, txn="txn-0", status="=cancelled", received_us=4_102_444_800_000_000)
    await store(pool, [entry(later, Kind.DUPLICATE)])
    assert (await net(connection, 0))[4] == "cancelled"
    assert (await adjust(connection, listed))[0].text == "status approved was given before"
    (refused,) = await adjust(connection, give("rejected", reference="list of May"))
    assert refused.text == "reference: the conversion has another status of this name: approved"
    (last,) = await adjust(connection, give("pending"))
    assert (last.text, (await net(connection, 0))[4]) == ("status cancelled is now pending", "pending"), "clocks differ"


async def test_a_file_is_applied_line_by_line_and_again_changes_nothing(
    connection: Connection, pool: Pool, tmp_path: Path
) -> None:
    path = tmp_path / "may.csv"
    lines = ["conversion_id,click_id,txn_id,kind,status,percent,reference"]
    lines += [f"{id_of(0)},,,refund,,30,R-1", f"{id_of(0)},,,refund,,80,R-2", ",click,txn-1,,rejected,,"]
    lines += ["", ",,,refund,,,R-3", "too,few", f"{id_of(2)},,,chargeback,,,R-4", f"{id_of(3)},,,refund,,x,R-5"]
    path.write_text("\n".join(lines))

    async def apply() -> list[tuple[int, Done, str]]:
        told: list[tuple[int, Verdict]] = []
        done: list[tuple[int, int]] = []

        def tell(at: int, total: int, part: list[tuple[int, Verdict]]) -> None:
            told.extend(part)
            done.append((at, total))

        await apply_file(path, connection, "anna", tell)
        assert done[-1][0] == done[-1][1] == path.stat().st_size
        return [(number, verdict.done, verdict.text) for number, verdict in told]

    first = await apply()
    assert [(number, done) for number, done, _ in first] == [
        (2, Done.APPLIED), (3, Done.REFUSED), (4, Done.APPLIED), (6, Done.REFUSED), (7, Done.REFUSED),
        (8, Done.APPLIED), (9, Done.REFUSED),
    ]  # fmt: skip
    assert first[1][2] == "percent: 80 is more than what is left of the sale, 70"
    assert first[3][2].startswith("conversion_id: missing")
    assert first[4][2] == "has 2 columns, the header has 7"
    assert first[6][2] == "percent: expected a plain decimal such as 12.50"
    second = await apply()
    assert [done for _, done, _ in second] == [Done.KNOWN if one[1] is Done.APPLIED else one[1] for one in first]
    assert (await count(pool, "adjustments"), await count(pool, "status_changes")) == (2, 1)
    path.write_text("conversion_id,amout\n")
    with pytest.raises(RowFileError, match="names amout; known are: conversion_id, click_id"):
        await apply()


@pytest.mark.usefixtures("connection")
async def test_the_command(postgres_dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = Config(redis=RedisConfig(url=EXTERNAL_REDIS), postgres=PostgresConfig(dsn=postgres_dsn))
    one = [f"conversion_id={id_of(0)}", "kind=refund", "reference=R-1"]
    text = f"refund sale -100, revenue -12, payout -7 USD ({id_of(0)})\n"
    for word, dry_run in (("would be applied", True), ("applied", False), ("known", False)):
        assert await adjust_one(config, one, "anna", dry_run=dry_run) == 0
        assert capsys.readouterr().out == f"{word}: {text}"
    assert await adjust_one(config, [*one[:2], "reference=R-2"], None, dry_run=False) == 1
    assert capsys.readouterr().err == f"refused: kind: nothing is left to be taken back ({id_of(0)})\n"
    for pairs, problem in (([*one, "kind=refund"], "kind: given twice"), ([one[0], "x"], "x: expected one FILE")):
        with pytest.raises(CommandError, match=problem):
            await adjust_one(config, pairs, None, dry_run=False)
    path = tmp_path / "may.csv"
    path.write_text(f"conversion_id,status\n{id_of(1)},approved\n{id_of(2)},paid\n")
    assert await adjust_by_file(config, path, None, dry_run=False) == 1
    told = capsys.readouterr()
    assert told.out.splitlines() == [
        f"line 2: applied: status approved is now approved ({id_of(1)})",
        "line 3: refused: status: expected approved, pending, rejected or cancelled",
    ]
    assert told.err == "1 applied, 0 known before, 1 refused: correct them and run the file again\n"
