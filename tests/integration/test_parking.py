"""Parked postbacks and replays, in a running program: what was answered 202 is counted once its click is there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from redis.asyncio import Redis

from ingest.commands.replay import replay
from ingest.config import Config, PostgresConfig, RedisConfig
from storage.export import TimeRange
from storage.replays import Wanted
from tests.eventually import eventually
from tests.platform import Client, client_of, load_sample, statuses
from tests.program import Program, running
from tests.servers import TEMPLATE, PostgresServer, RedisServer

MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class World:
    """The program and its servers."""

    program: Program
    postgres: PostgresServer
    dsn: str
    redis_url: str


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, valkey_server: RedisServer
) -> Iterator[World]:
    """One program for all tests here; each has clicks of its own."""
    valkey_server.flush()
    settings = {"CLICKS__PARK_UNKNOWN": "1h", "SERVER__RECEIVERS": "2", "WRITER__BATCH_AGE": "20ms"}
    with postgres_server.database(TEMPLATE) as dsn:
        asyncio.run(load_sample(dsn))
        folder = tmp_path_factory.mktemp("parking")
        with running(folder, valkey_server.url, dsn, **settings) as program:
            yield World(program, postgres_server, dsn, valkey_server.url)


@pytest.fixture
async def client(world: World) -> AsyncIterator[Client]:
    async with client_of(world.program, world.dsn) as client:
        yield client


async def _parked(client: Client, count: int, where: str = "true") -> None:
    await eventually(lambda: client.count("parked_postbacks", where), lambda found: found == count)


async def _rows(client: Client, table: str, click_id: str, count: int = 1) -> list[Any]:
    """The click's rows, once there are so many, as their postbacks came: the ids of one millisecond are in no order."""
    rows = await eventually(
        lambda: client.database.fetch(f"SELECT * FROM {table} WHERE click_id = $1", click_id),
        lambda rows: len(rows) >= count,
    )
    return sorted(rows, key=lambda row: row["received_at"])


async def _insert_click(client: Client, click_id: str, campaign_id: int = 100, publisher_id: int = 10) -> None:
    """A click that comes by a way of its own: straight into the table."""
    await client.database.execute(
        "INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)"
        " VALUES ($1, $2, $3, now() - interval '10 min', 'GB')",
        click_id, campaign_id, publisher_id,
    )  # fmt: skip


# Parked ----------------------------------------------------------------------------------------------------------


async def test_a_parked_postback_is_counted_when_its_click_comes(client: Client) -> None:
    began = datetime.now(UTC)
    query = "click_id=late&goal=purchase&txn_id=1&sale_amount=10&sub1=x"
    assert await client.get(query) == (202, {"status": "parked", "reason": "unknown_click"})
    (parked,) = await _rows(client, "parked_postbacks", "late")
    assert (parked["until"] - parked["received_at"]) == timedelta(hours=1)
    assert json.loads(parked["params"])["sub1"] == "x"
    await client.register("late")
    (row,) = await _rows(client, "conversions", "late")
    assert (row["revenue"], row["payout"], row["currency"]) == (Decimal(2), Decimal("1.4"), "USD")
    assert (row["sale_amount"], row["txn_id"], json.loads(row["params"])) == (Decimal(10), "1", {"sub1": "x"})
    assert began <= row["received_at"] == parked["received_at"] < parked["parked_at"] <= row["recorded_at"]
    await _parked(client, 0)
    status, said = await client.get(query)
    assert (status, said) == (200, {"status": "duplicate", "conversion_id": str(row["conversion_id"])})
    assert await client.count("conversions", "click_id = 'late'") == 1


async def test_each_receiver_finds_clicks_that_came_by_any_way(client: Client) -> None:
    """No receiver is told of these; and an advertiser's own names are read once it is known that they are its."""
    wanted = [f"file-{number}" for number in range(8)]
    answers = [await client.get(f"lead_ref={click_id}&result=application&sub=1") for click_id in wanted]
    assert statuses(answers) == ["parked"] * 8
    await _parked(client, 8, "click_ids && (SELECT array_agg('file-' || n) FROM generate_series(0, 7) AS n)")
    for click_id in wanted:
        await _insert_click(client, click_id, campaign_id=300)
    for click_id in wanted:
        (row,) = await _rows(client, "conversions", click_id)
        assert (row["campaign_id"], row["goal_value"], json.loads(row["params"])) == (300, "application", {"sub": "1"})
    await _parked(client, 0)


async def test_two_hundred_for_one_click(client: Client) -> None:
    query = "click_id=crowd&goal=purchase&txn_id=1&sale_amount=3"
    answers = await asyncio.gather(*(client.get(query) for _ in range(200)))
    assert statuses(answers) == ["parked"] * 200
    await _parked(client, 200, "click_id = 'crowd'")
    await client.register("crowd")
    log = await _rows(client, "postback_log", "crowd", 199)
    (row,) = await _rows(client, "conversions", "crowd")
    assert (len(log), {one["outcome"] for one in log}) == (199, {"duplicate"})
    assert {one["conversion_id"] for one in log} == {row["conversion_id"]}
    assert row["sale_amount"] == 3
    await _parked(client, 0)


async def test_a_token_is_kept_in_secret_and_asked_for(client: Client, world: World) -> None:
    queries = [
        "click_id=shop&order=A-1&total=20&shop_key=demo-token",
        "click_id=shop&order=A-2&total=20&shop_key=wrong-token",
        "click_id=shop&order=A-3&total=20",
    ]
    assert statuses([await client.get(query) for query in queries]) == ["parked"] * 3
    await _parked(client, 3, "click_id = 'shop'")
    stored = await client.database.fetchval(
        "SELECT string_agg(parked::text || encode(sealed, 'escape'), '') FROM parked_postbacks AS parked"
    )
    assert "A-1" in stored
    assert "demo-token" not in stored
    assert "wrong-token" not in stored
    await client.register("shop", campaign_id=200)
    (row,) = await _rows(client, "conversions", "shop")
    assert (row["txn_id"], row["revenue"], row["payout"]) == ("A-1", Decimal("2.1"), Decimal("1.35"))
    log = await _rows(client, "postback_log", "shop", 2)
    assert {(one["reason"], one["txn_id"]) for one in log} == {("bad_token", "A-2"), ("bad_token", "A-3")}
    assert "token" not in "".join(one["params"] for one in log).replace("security_token: ", "")
    await _parked(client, 0)


async def test_what_nobody_clicked_in_time_is_in_the_log(client: Client) -> None:
    """`late-by-a-bit` is registered, but too late; its postback is not counted, whoever looks first."""
    for click_id in ("never", "late-by-a-bit"):
        assert (await client.get(f"click_id={click_id}&goal=purchase&txn_id=7&sale_amount=1&sub1=y"))[0] == 202
    await _parked(client, 2)
    await client.database.execute(
        "UPDATE parked_postbacks SET until = received_at, look_at = now() + interval '1 hour'"
    )
    await client.register("late-by-a-bit")
    for click_id in ("never", "late-by-a-bit"):
        (row,) = await _rows(client, "postback_log", click_id)
        assert (row["outcome"], row["reason"], row["goal_value"], row["txn_id"], str(row["remote_ip"])) == (
            "rejected", "unknown_click", "purchase", "7", "127.0.0.1",
        )  # fmt: skip
        assert json.loads(row["params"]) == {"sale_amount": "1", "sub1": "y", "_detail": "click_id: no such click"}
        assert await client.count("conversions", f"click_id = '{click_id}'") == 0
    await _parked(client, 0)


async def test_metrics_account_for_what_was_parked(client: Client, world: World) -> None:
    async with client.http.get(f"{world.program.url}/metrics") as response:
        text = await response.text()
    sums: Counter[str] = Counter()
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            sums[name.partition("{")[0]] += round(float(value))
    assert "postback_parked" in sums
    assert sums["postback_unparked_total"] == 1 + 8 + 200 + 3
    assert sums["postback_park_expired_total"] == 2
    came = sum(sums[f"postback_{name}_total"] for name in ("received", "drained", "unparked"))
    assert came == sum(sums[f"postback_{name}_total"] for name in ("outcomes", "spooled", "refused"))


async def test_a_receiver_dies_between_recording_and_deleting(client: Client, world: World) -> None:
    """The delete hangs, its receiver is killed, another or the same one anew comes to the end of it."""
    for number in range(3):
        await client.get(f"click_id=crash&goal=ad_view&n={number}")
    await client.get("click_id=crash&goal=purchase&txn_id=1&sale_amount=5")
    await _parked(client, 4)
    await client.database.execute(
        "CREATE FUNCTION hang() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(60); RETURN OLD; END$$;"
        "CREATE TRIGGER hang BEFORE DELETE ON parked_postbacks FOR EACH ROW EXECUTE FUNCTION hang()"
    )
    await client.register("crash")
    first = await _rows(client, "conversions", "crash", 4)
    hanging = "wait_event = 'PgSleep' AND datname = current_database()"
    await eventually(lambda: client.count("pg_stat_activity", hanging), lambda found: found > 0)
    before = world.program.workers("receiver")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await client.database.fetch(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {hanging}")
    await client.database.execute("DROP FUNCTION hang CASCADE; UPDATE parked_postbacks SET look_at = now()")
    await _parked(client, 0)
    again = await client.database.fetch("SELECT * FROM conversions WHERE click_id = 'crash'")
    assert sorted(map(tuple, again)) == sorted(map(tuple, first)), "not one more, and the same as they were"
    assert await client.count("postback_log", "click_id = 'crash'") == 0

    async def receivers() -> list[int]:
        return world.program.workers("receiver")

    await eventually(receivers, lambda now: len(now) == 2 and not set(now) & set(before))


async def test_parking_while_postgres_is_away(client: Client, world: World) -> None:
    """Nobody can say whether there is such a click: it is spooled, then parked, then counted."""
    name = await client.database.fetchval("SELECT current_database()")
    world.postgres.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        world.postgres.sql(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
            f" AND pid <> {client.database.get_server_pid()}"
        )
        status, said = await client.get("click_id=outage&goal=purchase&txn_id=1&sale_amount=4")
        assert (status, said) == (202, {"status": "spooled"})
    finally:
        world.postgres.sql(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    await _parked(client, 1, "click_id = 'outage'")
    await _insert_click(client, "outage")
    (row,) = await _rows(client, "conversions", "outage")
    assert (row["revenue"], row["payout"]) == (Decimal("0.8"), Decimal("0.56"))
    await _parked(client, 0)


# Replayed --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def goal_1003(client: Client) -> AsyncIterator[None]:
    """Level 10 of campaign 100, paused again at the end."""
    yield
    await client.database.execute(
        "UPDATE goals SET value = 'level_10', status = 'paused', track_multiple = 'yes_with_txn_id' WHERE id = 1003"
    )


async def _replay(
    world: World,
    capsys: pytest.CaptureFixture[str],
    *reasons: str,
    until: datetime,
    is_dry: bool = False,
    campaign: int | None = None,
) -> tuple[dict[tuple[str, str, str | None], int], list[dict[str, Any]]]:
    """What was printed of the ten minutes before `until`: (was, becomes, reason) -> postbacks; money by campaign."""
    config = Config(
        data_dir=str(world.program.data_dir),
        redis=RedisConfig(url=world.redis_url),
        postgres=PostgresConfig(dsn=world.dsn),
    )
    wanted = Wanted(reasons, TimeRange(until - timedelta(minutes=10), until), campaign)
    capsys.readouterr()
    assert await replay(config, wanted, "tester", is_dry=is_dry, as_json=True) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["dry_run"] is is_dry
    counts = {(one["was"], one["becomes"], one["reason"]): one["count"] for one in said["postbacks"]}
    return counts, said["accepted"]


async def _everything(client: Client, world: World) -> tuple[Any, ...]:
    """What a dry run must leave as it is."""
    tables = ("conversions", "postback_log", "replays", "parked_postbacks", "status_changes")
    async with Redis.from_url(world.redis_url) as redis:
        keys = {key: await redis.dump(key) for key in sorted(await redis.keys("*:click:*"))}
    return keys, [await client.count(table) for table in tables]


@pytest.mark.usefixtures("goal_1003")
async def test_rejections_are_replayed_once(client: Client, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    await client.register("r-1", "r-2", "r-3")
    for query in ("r-1&txn_id=1", "r-1&txn_id=2&sub1=x", "r-1&txn_id=2", "r-2&txn_id=9", "r-3"):
        status, said = await client.get(f"click_id={query}&goal=level_10")
        assert (status, said["reason"]) == (200, "goal_inactive")
    until = datetime.now(UTC)  # what is tried until receivers have the new catalog comes later
    log = await _rows(client, "postback_log", "r-1", 3) + await _rows(client, "postback_log", "r-2")
    await _rows(client, "postback_log", "r-3")
    await client.database.execute("UPDATE goals SET status = 'active' WHERE id = 1003")

    async def sent_again() -> str:
        return str((await client.get("click_id=r-2&goal=level_10&txn_id=9"))[1]["status"])

    await eventually(sent_again, lambda status: status == "accepted")
    await _rows(client, "conversions", "r-2")
    # Its claim is forgotten, and the conversion stays.
    async with Redis.from_url(world.redis_url) as redis:
        assert await redis.delete("pb:{0}:click:r-2") == 1

    before = await _everything(client, world)
    expected = {("goal_inactive", "accepted", None): 3, ("goal_inactive", "duplicate", None): 2}
    money = [{"campaign_id": 100, "currency": "USD", "conversions": 3, "revenue": "15", "payout": "10.5"}]
    rejected = await client.count("postback_log", "reason = 'goal_inactive'")
    assert await _replay(world, capsys, "goal_inactive", until=until, is_dry=True) == (expected, money)
    assert await _everything(client, world) == before
    assert await _replay(world, capsys, "goal_inactive", until=until, campaign=200) == ({}, [])
    assert await _replay(world, capsys, "goal_inactive", until=until) == (expected, money)
    first, second = sorted(await _rows(client, "conversions", "r-1", 2), key=lambda row: row["txn_id"])
    await _rows(client, "conversions", "r-3")
    assert (first["received_at"], second["received_at"]) == (log[0]["received_at"], log[1]["received_at"])
    assert (second["revenue"], second["payout"], json.loads(second["params"])) == (5, Decimal("3.5"), {"sub1": "x"})
    assert await _replay(world, capsys, "goal_inactive", until=until) == ({}, []), "done is done"

    replays = {row["log_id"]: row for row in await client.database.fetch("SELECT * FROM replays")}
    assert [replays[row["log_id"]]["outcome"] for row in log] == ["accepted", "accepted", "duplicate", "duplicate"]
    assert {row["made_by"] for row in replays.values()} == {"tester"}
    assert replays[log[2]["log_id"]]["conversion_id"] == second["conversion_id"]
    assert await client.count("postback_log", "reason = 'goal_inactive'") == rejected
    assert await client.count("conversions", "click_id LIKE 'r-_'") == 4

    # As if it had been killed before it could remember what it did: nothing is counted by the second time.
    await client.database.execute("TRUNCATE replays")
    counts, _ = await _replay(world, capsys, "goal_inactive", until=until)
    assert sum(counts.values()) == 5
    assert await client.count("conversions", "click_id LIKE 'r-_'") == 4
    assert await client.count("dead_letters") == 0


@pytest.mark.usefixtures("goal_1003")
async def test_where_each_one_counts_the_senders_own_retry_is_left_to_count(
    client: Client, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await client.register("y-1", "y-2")
    for click_id in ("y-1", "y-1", "y-2"):
        assert (await client.get(f"click_id={click_id}&goal=bonus"))[1]["reason"] == "unknown_goal"
    until = datetime.now(UTC)
    await _rows(client, "postback_log", "y-1", 2)
    await _rows(client, "postback_log", "y-2")
    await client.database.execute(
        "UPDATE goals SET value = 'bonus', status = 'active', track_multiple = 'yes' WHERE id = 1003"
    )

    async def sent_again() -> str:
        return str((await client.get("click_id=y-2&goal=bonus"))[1]["status"])

    await eventually(sent_again, lambda status: status == "accepted")
    await _rows(client, "conversions", "y-2")
    expected = {("unknown_goal", "accepted", None): 2, ("unknown_goal", "sent again", None): 1}
    assert (await _replay(world, capsys, "unknown_goal", until=until))[0] == expected
    await _rows(client, "conversions", "y-1", 2)
    assert (await _replay(world, capsys, "unknown_goal", until=until))[0] == {("unknown_goal", "sent again", None): 1}
    assert await client.count("conversions", "click_id = 'y-1'") == 2
    assert await client.count("conversions", "click_id = 'y-2'") == 1


async def test_who_was_known_is_not_asked_again_and_who_was_not_is(
    client: Client, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The token of the first had been found right; that of the second never was, and the log has none. The third's
    advertiser asks for none; its names are read now that it is known."""
    await client.register("t-1", "t-2", campaign_id=200)
    ask = "order=T-1&total=20&goal=nothing-yet&shop_key=demo-token"
    assert (await client.get(f"click_id=t-1&{ask}"))[1]["reason"] == "unknown_goal"
    for click_id, query in (("t-3", "order=T-3&total=20&shop_key=demo-token"), ("t-4", "result=application&sub=z")):
        assert (await client.get(f"click_id={click_id}&{query}"))[0] == 202
        await _parked(client, 1, f"click_id = '{click_id}'")
    await client.database.execute("UPDATE parked_postbacks SET until = received_at, look_at = now() + interval '1 h'")
    for click_id in ("t-1", "t-3", "t-4"):
        await _rows(client, "postback_log", click_id)
    await client.register("t-3", campaign_id=200)
    await client.register("t-4", campaign_id=300, country="GB")
    await client.database.execute("UPDATE goals SET value = 'nothing-yet' WHERE id = 2000")
    try:
        counts, money = await _replay(world, capsys, "unknown_goal", "unknown_click", until=datetime.now(UTC))
    finally:
        await client.database.execute("UPDATE goals SET value = 'order' WHERE id = 2000")
    assert counts["unknown_goal", "accepted", None] == 1
    assert counts["unknown_click", "rejected", "bad_token"] == 1
    assert counts["unknown_click", "accepted", None] >= 1
    assert [one for one in money if one["campaign_id"] == 200] == [
        {"campaign_id": 200, "currency": "EUR", "conversions": 1, "revenue": "2.1", "payout": "1.35"}
    ]
    (row,) = await _rows(client, "conversions", "t-1")
    assert (row["txn_id"], row["sale_amount"]) == ("T-1", 20)
    (row,) = await _rows(client, "conversions", "t-4")
    assert (row["goal_value"], json.loads(row["params"])) == ("application", {"sub": "z"})
    assert await client.count("conversions", "click_id = 't-3'") == 0
