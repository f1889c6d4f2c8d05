"""When advertisers were last heard of: read from Postgres, told as a metric."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import isnan

from ingest.advertiser_duty import AdvertiserDuty
from ingest.metrics import Metrics
from storage.activity import fetch_last_received
from storage.postgres import Pool
from storage.rollups import fold_all
from tests.writing import conversion, entry, store


async def test_each_advertiser_has_its_own_time(pool: Pool) -> None:
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    heard = {
        100: hour + timedelta(minutes=10),
        101: hour + timedelta(minutes=20, microseconds=7),
        102: hour - timedelta(minutes=1),
        200: hour - timedelta(days=8),
        300: hour + timedelta(minutes=1),
        400: hour,
        500: hour,
    }
    await pool.execute(
        "INSERT INTO advertisers (id, name, status)"
        " SELECT n, n, CASE n WHEN 4 THEN 'archived' ELSE 'active' END FROM generate_series(1, 6) AS n;"
        " INSERT INTO campaigns (id, advertiser_id, name, currency, status)"
        " SELECT n, n / 100, n, 'USD', CASE n WHEN 500 THEN 'paused' ELSE 'active' END"
        " FROM unnest(ARRAY[100, 101, 102, 200, 300, 400, 500, 600]) AS n"
    )
    records = [
        conversion(campaign_id, campaign_id=campaign_id, received_us=round(at.timestamp() * 1_000_000))
        for campaign_id, at in heard.items()
    ]
    await store(pool, [entry(record) for record in records])
    assert await fetch_last_received(pool) == {}, "the rollups do not have them yet"
    async with pool.acquire() as connection:
        await fold_all(connection)
    assert await fetch_last_received(pool) == {1: heard[101], 3: heard[300]}

    metrics = Metrics()
    duty = AdvertiserDuty(pool, metrics)
    gauge = "postback_advertiser_last_received_seconds"
    await duty.look()
    assert metrics.registry.get_sample_value(gauge, {"advertiser": "1"}) == heard[101].timestamp()
    await pool.execute("UPDATE campaigns SET status = 'paused' WHERE id = 300")
    await duty.look()
    assert isnan(metrics.registry.get_sample_value(gauge, {"advertiser": "3"}) or 0), "nobody waits for it any more"
    assert metrics.registry.get_sample_value(gauge, {"advertiser": "2"}) is None
