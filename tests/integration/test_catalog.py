"""The catalog: imported, exported, and followed by a running receiver."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dedup.policy import TrackMultiple
from ingest.catalog import (
    Approval,
    CapMeasure,
    ExchangeRates,
    GoalType,
    PayoutOf,
    Profile,
    Rate,
    Snapshot,
    Status,
    Terms,
    token_digest,
)
from ingest.catalog_feed import CatalogFeed, CatalogUnavailableError
from ingest.catalog_file import CatalogError, parse_catalog
from ingest.catalog_import import Counts, ImportSummary, export_catalog, import_catalog
from ingest.catalog_kept import kept_rows
from ingest.catalog_rows import load_snapshot
from ingest.sample import CATALOG
from storage.catalog_store import read_catalog
from storage.postgres import Connection, close, connect

SAMPLE = CATALOG.read_text()


async def put(connection: Connection, text: str) -> ImportSummary:
    return await import_catalog(connection, parse_catalog(text))


async def problems_of(connection: Connection, text: str) -> tuple[str, ...]:
    before = await read_catalog(connection)
    with pytest.raises(CatalogError) as caught:
        await put(connection, text)
    assert await read_catalog(connection) == before, "a refused import changes nothing"
    return caught.value.problems


async def versions(connection: Connection) -> dict[int, int]:
    return {goal.id: goal.version for goal in (await read_catalog(connection)).goals}


# Import and export ---------------------------------------------------------------------------------------------------


async def test_the_sample_is_imported_once(connection: Connection) -> None:
    catalog = parse_catalog(SAMPLE)
    first = await import_catalog(connection, catalog)
    assert first.campaigns == Counts(created=3, updated=0, unchanged=0)
    assert await read_catalog(connection) == catalog.rows
    again = await import_catalog(connection, catalog)
    assert again == ImportSummary(
        advertisers=Counts(0, 0, 3),
        publishers=Counts(0, 0, 3),
        campaigns=Counts(0, 0, 3),
        goals=Counts(0, 0, len(catalog.rows.goals)),
        exchange_rates=Counts(0, 0, 2),
    )
    assert set((await versions(connection)).values()) == {1}


async def test_an_export_can_be_imported_and_changes_nothing(connection: Connection) -> None:
    await put(connection, SAMPLE)
    text = await export_catalog(connection)
    assert "demo-token" not in text
    assert token_digest("demo-token") in text
    summary = await put(connection, text)
    assert summary.advertisers == Counts(0, 0, 3)
    assert summary.goals.unchanged == len(parse_catalog(SAMPLE).rows.goals)
    assert await export_catalog(connection) == text


async def test_amounts_reach_the_ends_of_their_columns(connection: Connection) -> None:
    text = SAMPLE.replace('fixed = "5.00"', 'fixed = "999999999999.999999", percent = "9999.999999"')
    text = text.replace('rate = "1.0850"', 'rate = "999999999.999999999"')
    await put(connection, text)
    assert await read_catalog(connection) == parse_catalog(text).rows
    assert await connection.fetchval("SELECT revenue_fixed::text FROM goal_rates WHERE goal_id = 1003") == (
        "999999999999.999999"
    )


async def test_only_what_changed_is_updated_and_only_a_changed_goal_gets_a_version(connection: Connection) -> None:
    await put(connection, SAMPLE)
    changed = SAMPLE.replace('fixed = "1.60"', 'fixed = "1.61"').replace("North Media", "North Media Ltd")
    summary = await put(connection, changed)
    assert summary.publishers == Counts(created=0, updated=1, unchanged=2)
    assert summary.goals == Counts(created=0, updated=1, unchanged=7)
    assert summary.campaigns == Counts(created=0, updated=0, unchanged=3)
    assert {goal: version for goal, version in (await versions(connection)).items() if version != 1} == {1000: 2}
    await put(connection, changed.replace('title = "Install"', 'title = "First start"'))
    assert (await versions(connection))[1000] == 3


PART = """
[[campaigns]]
id = 100
advertiser = 1
name = "Renamed"
currency = "USD"

[[campaigns.goals]]
id = 1009
title = "New"
value = "new"

[[campaigns.goals.rates]]
publisher = 12
"""


async def test_what_is_not_in_the_file_stays(connection: Connection) -> None:
    await put(connection, SAMPLE)
    before = await read_catalog(connection)
    summary = await put(connection, PART)
    assert (summary.campaigns.updated, summary.goals.created) == (1, 1)
    after = await read_catalog(connection)
    assert set(before.goals) < set(after.goals)
    assert before.advertisers == after.advertisers
    assert before.exchange_rates == after.exchange_rates


async def test_goals_can_swap_their_values_and_the_default(connection: Connection) -> None:
    await put(connection, SAMPLE)
    swapped = (
        SAMPLE.replace('value = "install"\ndefault = true', 'value = "install"')
        .replace('value = "install"', 'value = "X"')
        .replace('value = "purchase"', 'value = "install"\ndefault = true')
        .replace('value = "X"', 'value = "purchase"')
    )
    summary = await put(connection, swapped)
    assert summary.goals.updated == 2
    campaign = (await load_snapshot(connection)).campaigns[100]
    assert (campaign.goals["install"].id, campaign.goals["purchase"].id) == (1001, 1000)
    assert campaign.default_goal is campaign.goals["install"]


async def test_references_are_to_the_file_or_the_database(connection: Connection) -> None:
    text = PART.replace('value = "new"', 'value = "new"\ntype = "private"\npublishers = [12, 13]')
    assert await problems_of(connection, text) == (
        "campaigns[0].advertiser: there is no advertiser 1, here or in the database",
        "campaigns[0].goals[0].publishers: there is no publisher 12, here or in the database",
        "campaigns[0].goals[0].publishers: there is no publisher 13, here or in the database",
        "campaigns[0].goals[0].rates[0].publisher: there is no publisher 12, here or in the database",
    )
    await put(connection, SAMPLE)
    assert await problems_of(connection, text) == (
        "campaigns[0].goals[0].publishers: there is no publisher 13, here or in the database",
    )


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('value = "new"', 'value = "INSTALL"', ".value: 'INSTALL' is the value of goal 1000 in the database already"),
        ('value = "new"', 'value = "new"\ndefault = true', ".default: goal 1000 in the database is the campaign's"),
        ("id = 1009", "id = 2000", ".id: goal 2000 belongs to campaign 200 in the database; take a new id"),
    ],
)
async def test_quarrels_with_goals_that_are_only_in_the_database(
    connection: Connection, old: str, new: str, problem: str
) -> None:
    await put(connection, SAMPLE)
    (found,) = await problems_of(connection, PART.replace(old, new))
    assert found.startswith(f"campaigns[0].goals[0]{problem}")


ADVERTISER = '[[advertisers]]\nid = {id}\nname = "X"\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "aliases = { shop_key = 'click_id' }",
            "shop_key: is security_token for advertiser 2, so it cannot be click_id",
        ),
        ("aliases = { lead_ref = 'security_token' }", "lead_ref: is click_id for advertiser 3, so it cannot be"),
    ],
)
async def test_a_name_is_not_a_click_here_and_a_token_there(connection: Connection, text: str, problem: str) -> None:
    await put(connection, SAMPLE)
    (found,) = await problems_of(connection, ADVERTISER.format(id=9) + text)
    assert found.startswith(f"advertisers[0].aliases: {problem}")
    await put(connection, ADVERTISER.format(id=9) + "aliases = { shop_key = 'txn_id', ref = 'click_id' }")


async def test_an_advertiser_is_archived_after_its_campaigns(connection: Connection) -> None:
    await put(connection, SAMPLE)
    archive = f"{ADVERTISER.format(id=1)}status = 'archived'\n"
    (found,) = await problems_of(connection, archive)
    assert found == "advertisers[0].status: campaign 100 is active; archive it first"
    campaign = PART.partition("[[campaigns.goals]]")[0]
    (found,) = await problems_of(connection, archive + campaign)
    assert found == "campaigns[0].advertiser: advertiser 1 is archived"
    await put(connection, f"{archive}{campaign}status = 'archived'")
    campaigns = (await load_snapshot(connection)).campaigns
    assert campaigns[100].status is Status.ARCHIVED


async def test_caps_approval_and_archives_are_stored_and_exported(connection: Connection) -> None:
    cap = 'measure = "payout"\nperiod = "month"\nlimit = "10.000001"\naction = "unpaid"\neach_publisher = true\n'
    text = SAMPLE.replace('window = "7d"', f'window = "7d"\n[[campaigns.caps]]\n{cap}', 1).replace(
        'min_age = "5s"                           # nobody fills in the form faster\n', ""
    )
    goal_cap = '\n[[campaigns.goals.caps]]\nmeasure = "conversions"\nperiod = "day"\nlimit = 5\naction = "pending"\n'
    text = text.replace('payout = { fixed = "45" }\n', f'payout = {{ fixed = "45" }}\n{goal_cap}')
    text = text.replace("valid_from = 2020-01-01\n", 'valid_from = 2020-01-01\nstatus = "archived"\n', 1)
    await put(connection, text)
    assert await read_catalog(connection) == parse_catalog(text).rows
    exported = await export_catalog(connection)
    summary = await put(connection, exported)
    assert summary.campaigns == Counts(0, 0, 3)
    assert await export_catalog(connection) == exported
    snapshot = await load_snapshot(connection)
    goals = snapshot.campaigns[300].goals
    assert [(cap.goal_id, cap.measure, cap.limit, cap.each_publisher) for cap in goals["issued"].caps] == [
        (3001, CapMeasure.CONVERSIONS, 5, False),
        (None, CapMeasure.PAYOUT, 10_000_001, True),
    ]
    assert [cap.goal_id for cap in goals["application"].caps] == [None]
    assert snapshot.campaigns[100].goals["install"].caps == ()
    assert (goals["issued"].approval, goals["issued"].hold_ms) == (Approval.MANUAL, 14 * 86_400_000)
    assert set(snapshot.exchange_rates) == {("USD", "EUR")}
    assert await connection.fetchval("SELECT count(*) FROM caps") == 2
    await put(connection, SAMPLE)
    assert await connection.fetchval("SELECT count(*) FROM caps") == 0


async def test_what_only_the_database_refuses_is_a_problem_too(connection: Connection) -> None:
    await put(connection, SAMPLE)
    await connection.execute("ALTER TABLE campaigns ADD CONSTRAINT no_renaming CHECK (name <> 'Renamed')")
    (problem,) = await problems_of(connection, PART)
    assert "no_renaming" in problem


async def test_imports_at_once_take_turns(postgres_dsn: str, connection: Connection) -> None:
    await put(connection, SAMPLE)
    others = [await connect(postgres_dsn) for _ in range(3)]
    texts = [SAMPLE.replace('fixed = "1.60"', f'fixed = "1.6{n}"') for n in range(1, 4)]
    await asyncio.gather(*(put(other, text) for other, text in zip(others, texts, strict=True)))
    assert (await versions(connection))[1000] == 4
    await asyncio.gather(*(close(other) for other in others))


# Snapshot ------------------------------------------------------------------------------------------------------------


async def test_the_snapshot_is_what_decisions_need(connection: Connection) -> None:
    await put(connection, SAMPLE)
    snapshot = await load_snapshot(connection)
    games, shop, bank = (snapshot.campaigns[number] for number in (100, 200, 300))
    assert (games.currency, games.timezone, games.window_ms, games.min_age_ms, games.status) == (
        "USD",
        "America/New_York",
        30 * 86_400_000,
        None,
        Status.ACTIVE,
    )
    assert games.default_goal is games.goals["install"]
    assert bank.default_goal is None
    assert bank.min_age_ms == 5000
    assert games.advertiser.token_digests == ()
    assert shop.advertiser.token_digests == (token_digest("demo-token"), token_digest("demo-token-old"))
    assert bank.advertiser.profile is Profile.TEXT
    assert snapshot.click_id_names == {"lead_ref"}
    assert snapshot.secret_names == {"shop_key", "signature"}
    install = games.goals["install"]
    assert install.track_multiple is TrackMultiple.NO
    us = Rate(Terms(2_000_000), Terms(1_400_000))
    assert install.rate_for(10, "CA") == ((None, "CA"), us)
    assert install.rate_for(11, "US") == ((11, "US"), Rate(Terms(2_000_000), Terms(1_600_000)))
    assert install.rate_for(10, "FR") is None
    assert games.goals["purchase"].rate_for(10, None) == (
        (None, None),
        Rate(Terms(0, 20_000_000), Terms(0, 70_000_000), PayoutOf.REVENUE),
    )
    order = shop.goals["order"]
    keys = [order.rate_for(*who) for who in ((10, "DE"), (10, "FR"), (11, "DE"))]
    assert [key for key, _ in filter(None, keys)] == [(10, "DE"), (10, None), (None, None)]
    vip = shop.goals["vip_order"]
    assert (vip.type, vip.publishers) == (GoalType.PRIVATE, frozenset({10, 12}))
    assert games.goals["level_10"].status is Status.PAUSED
    assert snapshot.exchange_rates["EUR", "USD"] == ExchangeRates((1_577_836_800_000,), (1_085_000_000,))


async def test_exchange_rates_are_in_order_of_time(connection: Connection) -> None:
    rate = '[[exchange_rates]]\nfrom = "EUR"\nto = "USD"\nrate = "{}"\nvalid_from = {}\n'
    await put(connection, "".join(rate.format(n, day) for n, day in ((3, "2026-03-01"), (1, "2026-01-01"))))
    await put(connection, rate.format(2, "2026-02-01"))
    rates = (await load_snapshot(connection)).exchange_rates["EUR", "USD"]
    assert rates.rate_nanos == (10**9, 2 * 10**9, 3 * 10**9)
    assert rates.at(1_767_225_600_000 - 1) is None
    assert rates.at(1_767_225_600_000) == 10**9
    assert rates.at(1_800_000_000_000) == 3 * 10**9


# Feed ----------------------------------------------------------------------------------------------------------------


def away_dsn(folder: Path) -> str:
    return f"postgresql://postgres@/none?host={folder}"


async def until(feed: CatalogFeed, holds: Callable[[Snapshot], bool]) -> None:
    await true(lambda: holds(feed.snapshot))


async def true(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  the feed announces nothing: it is read, not awaited
            await asyncio.sleep(0.01)


def named(name: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.campaigns[100].name == name


RENAME = "UPDATE campaigns SET name = $1 WHERE id = 100"


async def test_a_change_is_seen_soon_and_in_one_piece(
    postgres_dsn: str, connection: Connection, tmp_path: Path
) -> None:
    feed = CatalogFeed(postgres_dsn, tmp_path / "catalog")
    await feed.start()
    try:
        assert feed.snapshot.campaigns == {}
        empty = feed.snapshot
        await put(connection, SAMPLE)
        await until(feed, lambda snapshot: snapshot is not empty)
        assert len(feed.snapshot.campaigns) == 3
        await connection.execute(RENAME, "Two")
        await until(feed, named("Two"))
        rows = await read_catalog(connection)
        await true(lambda: kept_rows(tmp_path / "catalog") == rows)
    finally:
        await feed.close()


async def test_a_change_that_nobody_announced_is_seen_at_the_next_poll(
    postgres_dsn: str, connection: Connection, tmp_path: Path
) -> None:
    await put(connection, SAMPLE)
    feed = CatalogFeed(postgres_dsn, tmp_path / "catalog", poll_s=0.1)
    await feed.start()
    try:
        await connection.execute("ALTER TABLE campaigns DISABLE TRIGGER notify")
        unchanged = feed.snapshot
        await connection.execute(RENAME, "Silent")
        await until(feed, named("Silent"))
        current = feed.snapshot
        await asyncio.sleep(0.3)
        assert current is feed.snapshot is not unchanged, "a poll that finds nothing new replaces nothing"
    finally:
        await feed.close()


async def test_a_lost_connection_is_made_again(postgres_dsn: str, connection: Connection, tmp_path: Path) -> None:
    await put(connection, SAMPLE)
    feed = CatalogFeed(postgres_dsn, tmp_path / "catalog")
    await feed.start()
    try:
        with capture_logs() as logs:
            ended = await connection.fetchval(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert ended == 1
            await connection.execute(RENAME, "While away")
            await until(feed, named("While away"))
            await connection.execute(RENAME, "After")
            await until(feed, named("After"))
        assert next(entry["log_level"] for entry in logs) == "warning"
        assert "error" not in {entry["log_level"] for entry in logs}
    finally:
        await feed.close()


async def test_a_receiver_starts_with_the_kept_catalog_while_postgres_is_away(
    postgres_dsn: str, connection: Connection, tmp_path: Path
) -> None:
    await put(connection, SAMPLE)
    kept = tmp_path / "catalog"
    first = CatalogFeed(postgres_dsn, kept)
    await first.start()
    await first.close()
    feed = CatalogFeed(away_dsn(tmp_path), kept)
    with capture_logs() as logs:
        await feed.start()
    try:
        assert feed.snapshot == first.snapshot
        assert [entry["event"] for entry in logs if entry["log_level"] == "warning"] == [
            "Postgres is away; starting with the kept catalog"
        ]
    finally:
        await feed.close()


async def test_without_postgres_and_a_kept_catalog_there_is_no_start(tmp_path: Path) -> None:
    kept = tmp_path / "catalog"
    feed = CatalogFeed(away_dsn(tmp_path), kept)
    with pytest.raises(CatalogUnavailableError, match=r"start Postgres or set postgres\.dsn"):
        await feed.start()
    kept.write_bytes(b"garbage")
    with capture_logs() as logs, pytest.raises(CatalogUnavailableError):
        await feed.start()
    assert [entry["event"] for entry in logs] == ["kept catalog cannot be used"]
    await feed.close()


async def test_a_database_without_tables_says_what_to_do(
    postgres_dsn: str, connection: Connection, tmp_path: Path
) -> None:
    await connection.execute("DROP TABLE exchange_rates")
    with pytest.raises(CatalogUnavailableError, match="run `postback migrate`"):
        await CatalogFeed(postgres_dsn, tmp_path / "catalog").start()


async def test_a_disk_that_cannot_keep_the_catalog_stops_nothing(
    postgres_dsn: str, connection: Connection, tmp_path: Path
) -> None:
    await put(connection, SAMPLE)
    feed = CatalogFeed(postgres_dsn, tmp_path / "no such folder" / "catalog")
    with capture_logs() as logs:
        await feed.start()
    try:
        assert len(feed.snapshot.campaigns) == 3
        assert "catalog cannot be kept on disk" in {entry["event"] for entry in logs}
    finally:
        await feed.close()


async def test_an_unusable_catalog_is_an_error_in_the_log_and_the_last_one_stays(
    postgres_dsn: str, connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(connection, SAMPLE)
    feed = CatalogFeed(postgres_dsn, tmp_path / "catalog")
    await feed.start()
    failed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def fail(rows: object, vault: object) -> Snapshot:
        loop.call_soon_threadsafe(failed.set)
        raise KeyError(rows)

    try:
        with capture_logs() as logs:
            with monkeypatch.context() as patch:
                patch.setattr("ingest.catalog_feed.build_snapshot", fail)
                await connection.execute(RENAME, "Broken")
                async with asyncio.timeout(20):
                    await failed.wait()
                assert feed.snapshot.campaigns[100].name == "Acme Quest CPI"
            await until(feed, named("Broken"))
        assert "error" in {entry["log_level"] for entry in logs}
    finally:
        await feed.close()
