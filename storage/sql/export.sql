-- What can be exported. $1, $2: timestamptz, from and until. Types that not every format has are text.

-- name: conversions
-- As they stand now. A click is five minutes ahead of its postback at most: the months after that are left out.
SELECT
    conversion_id::text, received_at, clicked_at, recorded_at, event_at, advertiser_id, campaign_id, goal_id, goal_value,
    goal_version, publisher_id, click_id, txn_id, status, first_status, reason, country::text, currency::text,
    sale_amount, revenue, payout, net_sale_amount, net_revenue, net_payout, adjustments, original_amount,
    original_currency::text, exchange_rate, params::text
FROM conversions_net
WHERE received_at >= $1::timestamptz AND received_at < $2::timestamptz
    AND clicked_at < $2::timestamptz + interval '1 day'

-- name: log
SELECT
    log_id::text, received_at, outcome, reason, advertiser_id, campaign_id, click_id, goal_value, txn_id,
    conversion_id::text, host(remote_ip) AS remote_ip, params::text
FROM postback_log
WHERE received_at >= $1::timestamptz AND received_at < $2::timestamptz

-- name: clicks
SELECT click_id, clicked_at, campaign_id, publisher_id, country::text, registered_at, params::text
FROM clicks
WHERE clicked_at >= $1::timestamptz AND clicked_at < $2::timestamptz

-- name: hours
SELECT * FROM performance_hourly WHERE hour >= $1::timestamptz AND hour < $2::timestamptz

-- name: days
SELECT *
FROM performance_daily
WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND day < ($2::timestamptz AT TIME ZONE 'UTC')::date

-- name: rows_of_conversions
-- About how many rows there will be, from the rollups.
SELECT coalesce(sum(conversions), 0)::bigint FROM conversions_hourly WHERE hour >= $1::timestamptz AND hour < $2::timestamptz

-- name: rows_of_log
SELECT coalesce(sum(postbacks), 0)::bigint FROM log_hourly WHERE hour >= $1::timestamptz AND hour < $2::timestamptz

-- name: rows_of_clicks
SELECT coalesce(sum(clicks), 0)::bigint FROM clicks_hourly WHERE hour >= $1::timestamptz AND hour < $2::timestamptz

-- name: rows_of_hours
SELECT count(*) FROM performance_hourly WHERE hour >= $1::timestamptz AND hour < $2::timestamptz

-- name: rows_of_days
SELECT count(*)
FROM performance_daily
WHERE day >= ($1::timestamptz AT TIME ZONE 'UTC')::date AND day < ($2::timestamptz AT TIME ZONE 'UTC')::date
