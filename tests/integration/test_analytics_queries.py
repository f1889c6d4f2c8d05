"""The queries of docs/analytics.md: each runs, says what it should, and reads no more than it must.

With millions of rows, in about ten minutes:
ANALYTICS_ROWS=2000000 python -m pytest tests/integration/test_analytics_queries.py -s --timeout 3600
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

import pytest

from storage.analytics import READABLE, ParameterError, Value, analyst_queries, grant_readonly
from storage.postgres import Connection, PostgresError, close, connect
from tests import servers
from tests.analytics_data import DAY, FIRST_DAY, NEXT_DAY, fill
from tests.servers import PostgresServer

ROWS: Final = int(os.environ.get("ANALYTICS_ROWS", "25000"))
BIG: Final = ("conversions_2", "postback_log_2", "clicks", "conversions_hourly", "conversions_daily", "clicks_hourly")
VALUES: Final[dict[str, Value]] = {
    "campaign": 110, "advertiser": 1, "publisher": 12, "since": DAY, "until": NEXT_DAY, "click": "click-7"
}  # fmt: skip
NAMES: Final = sorted(analyst_queries())


@pytest.fixture(scope="module")
def filled_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with generated rows."""
    with postgres_server.database(servers.TEMPLATE) as dsn:

        async def prepare() -> None:
            connection = await connect(dsn)
            await fill(connection, ROWS)
            await close(connection)

        asyncio.run(prepare())
        yield dsn


@pytest.fixture
async def connection(filled_dsn: str) -> AsyncIterator[Connection]:
    connection = await connect(filled_dsn)
    yield connection
    await close(connection)


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@pytest.mark.parametrize("name", NAMES)
async def test_a_day_of_a_campaign_is_not_searched_for_in_everything(connection: Connection, name: str) -> None:
    statement = analyst_queries()[name].given(VALUES)
    began = time.perf_counter()
    said = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
    plan = json.loads(said)[0]
    full = [
        node["Relation Name"]
        for node in _nodes(plan["Plan"])
        if node["Node Type"] == "Seq Scan"
        and node["Relation Name"].startswith(BIG)
        and node["Actual Rows"] + node.get("Rows Removed by Filter", 0) > ROWS // 10
    ]
    print(f"{name}: {plan['Execution Time']:.1f} ms, planned in {plan['Planning Time']:.1f} ms,"
          f" {time.perf_counter() - began:.2f} s in all")  # fmt: skip
    assert full == []


def test_there_are_twenty() -> None:
    assert len(NAMES) == 20
    for query in analyst_queries().values():
        assert query.answers.endswith("?") or "?" in query.answers
        assert set(query.parameters) <= set(VALUES)


def test_parameters_are_filled_in_as_psql_does() -> None:
    query = analyst_queries()["click_history"]
    assert query.parameters == ("click",)
    assert "click_id = 'it''s'\n" in query.given({"click": "it's"})
    with pytest.raises(ParameterError, match="click_history needs click"):
        query.given({"campaign": 1})
    assert "WHERE campaign_id = 7 AND hour >= '2026-11-03T00:00:00+00:00'::timestamptz" in analyst_queries()[
        "reject_reasons"
    ].given({**VALUES, "campaign": 7})


async def test_the_sums_are_those_of_the_rows(connection: Connection) -> None:
    """What the rollups say of a campaign's day, and what its rows say."""
    totals = await connection.fetch(analyst_queries()["advertiser_totals"].given(VALUES))
    expected = await connection.fetch(
        "SELECT campaign_id, goal_value, status, count(*), sum(net_sale_amount), sum(net_revenue) FROM conversions_net"
        " WHERE advertiser_id = 1 AND received_at >= $1 AND received_at < $2 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        DAY,
        NEXT_DAY,
    )
    assert [(row[0], row[2], row[3], *list(row)[5:]) for row in totals] == [tuple(row) for row in expected]
    assert len(expected) > 20
    (day,) = await connection.fetch(analyst_queries()["campaign_by_day"].given(VALUES))
    assert day["margin"] == day["revenue"] - day["payout"]
    assert day["revenue"] == await connection.fetchval(
        "SELECT sum(net_revenue) FROM conversions_net WHERE campaign_id = 110 AND status = 'approved'"
        " AND received_at >= $1 AND received_at < $2",
        DAY,
        NEXT_DAY,
    )
    steps = await connection.fetch(analyst_queries()["funnel"].given(VALUES))
    assert [row["goal"] for row in steps] == ["Install", "Register", "Purchase"]
    conflicts = await connection.fetch(analyst_queries()["conflicts"].given({**VALUES, "since": FIRST_DAY}))
    assert {(row["counted"], row["sent"]) for row in conflicts} == {("1USD", "2USD")}


async def test_a_readonly_role_reads_no_secret_and_writes_nothing(
    connection: Connection, filled_dsn: str, postgres_server: PostgresServer
) -> None:
    assert await grant_readonly(connection, 'an "analyst"') is True
    assert await grant_readonly(connection, 'an "analyst"') is False
    analyst = await connect(filled_dsn.replace("postgres@", "an%20%22analyst%22@"))
    try:
        assert await analyst.fetchval("SELECT current_user") == 'an "analyst"'
        for query in analyst_queries().values():
            await analyst.fetch(query.given(VALUES))
        for table, columns in READABLE.items():
            await analyst.fetch(f"SELECT {', '.join(columns) or '*'} FROM {table} LIMIT 1")
        for secret in ("security_tokens FROM advertisers", "signing_secrets FROM advertisers", "* FROM advertisers",
                       "* FROM api_keys", "* FROM catalog_history", "payload FROM dead_letters",
                       "* FROM conversions_2026_11"):  # fmt: skip
            with pytest.raises(PostgresError, match="permission denied"):
                await analyst.fetch(f"SELECT {secret}")
        await analyst.execute("SET default_transaction_read_only = off")
        for statement in ("DELETE FROM conversions", "UPDATE goals SET title = ''", "CREATE TABLE mine ()"):
            with pytest.raises(PostgresError, match="permission denied"):
                await analyst.execute(statement)
    finally:
        await close(analyst)
        await connection.execute('DROP OWNED BY "an ""analyst"""; DROP ROLE "an ""analyst"""')
