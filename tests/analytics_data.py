"""Generated rows for tests of queries and exports: made by the server, in the order in which they were received."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Final

from storage.partitions import ensure_months, months_between
from storage.postgres import Connection
from storage.rollups import fold_all

FIRST_DAY: Final = datetime(2026, 10, 1, tzinfo=UTC)
DAYS: Final = 45
DAY: Final = datetime(2026, 11, 3, tzinfo=UTC)
NEXT_DAY: Final = datetime(2026, 11, 4, tzinfo=UTC)
CAMPAIGNS: Final = 50

_CATALOG: Final = """
INSERT INTO advertisers (id, name, security_tokens) SELECT n, 'Advertiser ' || n, '{{sha256:secret}}'
FROM generate_series(1, 5) AS n;
INSERT INTO publishers (id, name) SELECT n, 'Publisher ' || n FROM generate_series(10, 29) AS n;
INSERT INTO campaigns (id, advertiser_id, name, currency, timezone)
SELECT 100 + n, 1 + n % 5, 'Campaign ' || n, CASE n % 3 WHEN 0 THEN 'EUR' ELSE 'USD' END, 'Europe/Berlin'
FROM generate_series(0, {campaigns} - 1) AS n;
INSERT INTO goals (id, campaign_id, title, value)
SELECT campaigns.id * 10 + step, campaigns.id, initcap(value), value
FROM campaigns, (VALUES (1, 'install'), (2, 'register'), (3, 'purchase')) AS steps (step, value);
"""
_FACTS: Final = """
CREATE TEMP TABLE facts AS
SELECT
    n, received_at, date_trunc('ms', received_at - (power(random(), 6) * 20 * interval '1 day')) AS clicked_at,
    100 + floor({campaigns} * random() ^ 2)::int AS campaign_id, 10 + n % 20 AS publisher_id,
    (ARRAY['US', 'DE', 'GB', 'FR', NULL])[1 + n % 5]::char(2) AS country, 1 + n % 3 AS step,
    (ARRAY['approved', 'approved', 'approved', 'pending', 'cancelled'])[1 + floor(random() * 5)::int] AS status,
    round((random() * 100)::numeric, 2) AS sale
FROM (
    SELECT n, timestamptz '{first}' + n * interval '{days} days' / {rows} AS received_at
    FROM generate_series(0, {rows} - 1) AS n
) AS moments;
INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country)
SELECT 'click-' || n, campaign_id, publisher_id, clicked_at, country FROM facts ORDER BY clicked_at;
INSERT INTO conversions (conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id,
    goal_value, goal_version, click_id, txn_id, status, country, currency, sale_amount, revenue, payout,
    original_amount, original_currency, exchange_rate, params)
SELECT
    (left(first_conversion_id(clicked_at)::text, 14) || '8' || substr(md5(n::text), 1, 19))::uuid,
    clicked_at, received_at, 1 + (campaign_id - 100) % 5, publisher_id, campaign_id, campaign_id * 10 + step,
    (ARRAY['install', 'register', 'purchase'])[step], 1, 'click-' || n, 'txn-' || n, status, country, 'USD', sale,
    sale * 0.2, sale * 0.21 * random()::numeric(3, 2), CASE WHEN n % 7 = 0 THEN sale END,
    CASE WHEN n % 7 = 0 THEN 'EUR' END, CASE WHEN n % 7 = 0 THEN 1 END, '{{"sub1": "x"}}'
FROM facts ORDER BY received_at;
INSERT INTO postback_log (log_id, received_at, outcome, reason, advertiser_id, campaign_id, click_id, goal_value,
    conversion_id, remote_ip, params)
SELECT
    gen_random_uuid(), received_at, (ARRAY['duplicate', 'conflict', 'rejected'])[step],
    CASE step WHEN 3 THEN 'outside_coverage' END, 1 + (campaign_id - 100) % 5, campaign_id, 'click-' || n, 'install',
    NULL, ('192.0.2.' || n % 50)::inet,
    CASE step WHEN 2 THEN '{{"claimed": "1USD", "sent": "2USD"}}'::jsonb ELSE '{{}}' END
FROM facts WHERE n % 4 = 0 ORDER BY received_at;
INSERT INTO status_changes (conversion_id, clicked_at, change_id, received_at, status, source)
SELECT conversion_id, clicked_at, gen_random_uuid(), received_at + interval '3 days', 'approved', 'operator'
FROM conversions WHERE status = 'pending' AND random() < 0.02;
INSERT INTO adjustments (adjustment_id, conversion_id, clicked_at, kind, sale_amount, revenue, payout, reference,
    made_by, recorded_at)
SELECT gen_random_uuid(), conversion_id, clicked_at, 'refund', -sale_amount, -revenue, -payout, 'r', 'test',
    received_at + interval '1 day'
FROM conversions WHERE random() < 0.01;
INSERT INTO dead_letters (entry_id, kind, payload, error, failed_at)
SELECT n::text, 'c1', n::text::bytea, 'value too long for type character(2)', '{first}'
FROM generate_series(1, 20) AS n;
DROP TABLE facts;
"""


async def fill(connection: Connection, rows: int) -> None:
    """A catalog, and so many clicks and conversions over 45 days; everything is folded into the rollups, analyzed."""
    months = months_between(date(2026, 9, 1), date(2026, 12, 1))
    for table in ("conversions", "status_changes", "postback_log"):
        await ensure_months(connection, table, months)
    await connection.execute("SELECT setseed(0.5)")
    values = {"campaigns": CAMPAIGNS, "rows": rows, "first": FIRST_DAY.isoformat(), "days": DAYS}
    await connection.execute(_CATALOG.format(**values))
    await connection.execute(_FACTS.format(**values), timeout=600)
    assert await fold_all(connection) is not None
    await connection.execute("VACUUM ANALYZE", timeout=600)
