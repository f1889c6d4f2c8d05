-- What people look at: charts, the latest postbacks, all of one click. Each query has a limit; the transaction that it runs
-- in has a limit of time.

-- name: limit_time
-- $1: milliseconds for each statement of this transaction.
SELECT set_config('statement_timeout', $1, true);

-- name: conversions_by_hour
-- $1 the first hour, $2 campaign or null, $3 rows at most.
SELECT hour, currency, status, sum(conversions)::bigint, sum(revenue), sum(payout)
FROM conversions_hourly
WHERE hour >= $1 AND ($2::bigint IS NULL OR campaign_id = $2)
GROUP BY hour, currency, status
HAVING sum(conversions) <> 0
LIMIT $3;

-- name: conversions_by_day
-- The same from a day on.
SELECT day::timestamp AT TIME ZONE 'UTC', currency, status, sum(conversions)::bigint, sum(revenue), sum(payout)
FROM conversions_daily
WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND ($2::bigint IS NULL OR campaign_id = $2)
GROUP BY day, currency, status
HAVING sum(conversions) <> 0
LIMIT $3;

-- name: log_by_hour
SELECT hour, outcome, reason, sum(postbacks)::bigint
FROM log_hourly
WHERE hour >= $1 AND ($2::bigint IS NULL OR campaign_id = $2)
GROUP BY hour, outcome, reason
HAVING sum(postbacks) <> 0
LIMIT $3;

-- name: log_by_day
SELECT day::timestamp AT TIME ZONE 'UTC', outcome, reason, sum(postbacks)::bigint
FROM log_daily
WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND ($2::bigint IS NULL OR campaign_id = $2)
GROUP BY day, outcome, reason
HAVING sum(postbacks) <> 0
LIMIT $3;

-- name: aside
-- How many postbacks are parked, and how many dead letters there are; $1 at most of each.
SELECT
    (SELECT count(*) FROM (SELECT FROM parked_postbacks LIMIT $1) AS first_ones),
    (SELECT count(*) FROM (SELECT FROM dead_letters LIMIT $1) AS first_ones);

-- name: postbacks
-- The latest after $1, newest first, $2 at most, accepted and parked ones too. Filters, null where there is none: $3 outcome,
-- $4 reason, $5 click, $6 advertiser. Each part takes its own latest, so that no more are joined and sorted than shown.
SELECT
    latest.entry_id, latest.received_at, latest.outcome, latest.reason, latest.advertiser_id, latest.campaign_id,
    campaigns.name AS campaign, latest.click_id, latest.goal_value, latest.goal_version, latest.txn_id, latest.status,
    latest.currency, latest.revenue, latest.payout
FROM (
    (
        SELECT conversion_id AS entry_id, received_at, 'accepted' AS outcome, reason, advertiser_id, campaign_id,
               click_id, goal_value, goal_version, txn_id, status, currency, revenue, payout
        FROM conversions
        WHERE received_at > $1
          AND ($3::text IS NULL OR $3 = 'accepted')
          AND ($4::text IS NULL OR reason = $4)
          AND ($5::text IS NULL OR click_id = $5)
          AND ($6::bigint IS NULL OR advertiser_id = $6)
        ORDER BY received_at DESC
        LIMIT $2
    )
    UNION ALL
    (
        SELECT log_id, received_at, outcome, reason, advertiser_id, campaign_id,
               click_id, goal_value, NULL, txn_id, NULL, NULL, NULL, NULL
        FROM postback_log
        WHERE received_at > $1
          AND ($3::text IS NULL OR outcome = $3)
          AND ($4::text IS NULL OR reason = $4)
          AND ($5::text IS NULL OR click_id = $5)
          AND ($6::bigint IS NULL OR advertiser_id = $6)
        ORDER BY received_at DESC
        LIMIT $2
    )
    UNION ALL
    (
        -- By the end of their time, which is in the order that they came and has an index.
        SELECT postback_id, received_at, 'parked', 'unknown_click', NULL, NULL,
               click_id, goal_value, NULL, txn_id, NULL, NULL, NULL, NULL
        FROM parked_postbacks
        WHERE until > $1 AND received_at > $1
          AND ($3::text IS NULL OR $3 = 'parked')
          AND ($4::text IS NULL OR $4 = 'unknown_click')
          AND ($5::text IS NULL OR click_ids @> ARRAY[$5])
          AND $6::bigint IS NULL
        ORDER BY until DESC
        LIMIT $2
    )
) AS latest
LEFT JOIN campaigns ON campaigns.id = latest.campaign_id
ORDER BY latest.received_at DESC
LIMIT $2;

-- name: click
SELECT
    clicks.click_id, clicks.campaign_id, campaigns.name AS campaign, campaigns.timezone, clicks.publisher_id,
    publishers.name AS publisher, clicks.clicked_at, clicks.country, clicks.params::text AS params,
    clicks.registered_at
FROM clicks
LEFT JOIN campaigns ON campaigns.id = clicks.campaign_id
LEFT JOIN publishers ON publishers.id = clicks.publisher_id
WHERE clicks.click_id = $1;

-- name: conversions_of_click
-- $1 click, $2 rows at most.
SELECT
    net.conversion_id, net.clicked_at, net.received_at, net.recorded_at, net.goal_id, goals.title AS goal,
    net.goal_value, net.goal_version, net.txn_id, net.status, net.first_status, net.reason, net.country, net.currency,
    net.sale_amount, net.revenue, net.payout, net.net_sale_amount, net.net_revenue, net.net_payout, net.adjustments,
    net.original_amount, net.original_currency, net.exchange_rate, net.event_at, net.params::text AS params,
    holds.release_at
FROM conversions_net AS net
LEFT JOIN goals ON goals.id = net.goal_id
LEFT JOIN holds ON holds.conversion_id = net.conversion_id
WHERE net.click_id = $1
ORDER BY net.received_at
LIMIT $2;

-- name: log_of_click
SELECT
    log_id, received_at, outcome, reason, goal_value, txn_id, conversion_id, host(remote_ip) AS remote_ip,
    params::text AS params
FROM postback_log
WHERE click_id = $1
ORDER BY received_at
LIMIT $2;

-- name: parked_of_click
SELECT postback_id, received_at, until, goal_value, txn_id, host(remote_ip) AS remote_ip, params::text AS params
FROM parked_postbacks
WHERE click_ids @> ARRAY[$1::text]
ORDER BY received_at
LIMIT $2;

-- name: replays_of_log
-- $1 log rows, $2 rows at most.
SELECT log_id, replayed_at, outcome, reason, conversion_id, made_by
FROM replays
WHERE log_id = ANY ($1::uuid[])
ORDER BY replayed_at
LIMIT $2;

-- name: status_changes_of_conversions
-- $1 their ids, $2 their clicks' times, $3 rows at most.
SELECT conversion_id, received_at, recorded_at, status, source, made_by, reference, reason
FROM status_changes
WHERE conversion_id = ANY ($1::uuid[]) AND clicked_at = ANY ($2::timestamptz[])
ORDER BY received_at
LIMIT $3;

-- name: adjustments_of_conversions
-- $1 their ids, $2 rows at most.
SELECT conversion_id, recorded_at, kind, sale_amount, revenue, payout, reference, reason, made_by
FROM adjustments
WHERE conversion_id = ANY ($1::uuid[])
ORDER BY recorded_at
LIMIT $2;

-- name: last_received
-- $1 since, $2 advertisers at most. When the latest conversion of each active one with an active campaign was received: the
-- hour from the rollups, and of its campaigns that had one then the moment, each by a look at an index.
WITH watched AS (
    SELECT id
    FROM advertisers
    WHERE status = 'active'
        AND EXISTS (SELECT FROM campaigns WHERE advertiser_id = advertisers.id AND campaigns.status = 'active')
    ORDER BY id
    LIMIT $2
), latest AS (
    SELECT advertiser_id, campaigns.id AS campaign_id, hour, rank() OVER (PARTITION BY advertiser_id ORDER BY hour DESC) AS place
    FROM watched
    JOIN campaigns ON campaigns.advertiser_id = watched.id
    CROSS JOIN LATERAL (
        SELECT hour
        FROM conversions_hourly AS counted
        WHERE counted.campaign_id = campaigns.id AND hour >= $1 AND conversions > 0
        ORDER BY hour DESC
        LIMIT 1
    ) AS hours
)
SELECT advertiser_id, max(coalesce(received_at, hour))
FROM latest
LEFT JOIN LATERAL (
    SELECT received_at
    FROM conversions
    WHERE conversions.campaign_id = latest.campaign_id AND received_at >= latest.hour
    ORDER BY received_at DESC
    LIMIT 1
) AS moment ON true
WHERE place = 1
GROUP BY advertiser_id;

-- name: clicks_of_campaign
-- $1 campaign, $2 since, $3 rows at most: some to try postbacks with.
SELECT click_id FROM clicks WHERE campaign_id = $1 AND clicked_at > $2 ORDER BY clicked_at DESC LIMIT $3;
