-- An advertiser's list against what is stored. Everything happens in temporary tables of one transaction.

-- name: create_listed
CREATE TEMP TABLE listed (
    line          bigint NOT NULL,
    click_id      text COLLATE "C" NOT NULL,
    txn_id        text COLLATE "C" NOT NULL,
    goal          text COLLATE "C" NOT NULL,
    amount_micros bigint,
    currency      text,
    status        text,
    at_ms         bigint
) ON COMMIT DROP;

-- name: times
-- The first and the last time in the list; null where no line has one.
SELECT to_timestamp(min(at_ms) / 1000.0), to_timestamp(max(at_ms) / 1000.0) FROM listed;

-- name: leave_out
-- $1, $2 timestamptz: from and until. Lines of other times.
DELETE FROM listed WHERE to_timestamp(at_ms / 1000.0) < $1 OR to_timestamp(at_ms / 1000.0) >= $2;

-- name: campaigns
-- $1: an advertiser.
SELECT id FROM campaigns WHERE advertiser_id = $1;

-- name: create_stored
-- {campaigns}: ids; {since}, {until}: literals; {slack}: an interval; {is_sale}: whether sales are compared, else
-- revenue. A sale that was converted is compared as it was sent, unless it was adjusted since. What is around the time
-- range may be in the list all the same.
CREATE TEMP TABLE stored ON COMMIT DROP AS
SELECT
    conversion_id, received_at, click_id, coalesce(txn_id, '') AS txn_id, lower(goal_value) COLLATE "C" AS goal, status,
    (1000000 * CASE
        WHEN NOT {is_sale} THEN net_revenue
        WHEN original_amount IS NOT NULL AND adjustments = 0 THEN original_amount
        ELSE coalesce(net_sale_amount, 0)
    END)::bigint AS amount_micros,
    CASE
        WHEN {is_sale} AND original_amount IS NOT NULL AND adjustments = 0 THEN original_currency ELSE currency
    END::text AS currency,
    received_at >= {since} AND received_at < {until} AS is_expected
FROM conversions_net
WHERE campaign_id IN ({campaigns})
    AND received_at >= {since} - interval '{slack}' AND received_at < {until} + interval '{slack}';

-- name: analyze
ANALYZE listed;
ANALYZE stored;

-- name: pairs
-- First those that agree in the amount too, then the rest as it comes: a key may stand on both sides several times.
-- {click_id}, {txn_id}, {goal}: true for what keys are made of. What is missing here may be in the log: its newest entry.
WITH listed_keys AS (
    SELECT
        *, (CASE WHEN {click_id} THEN click_id ELSE '' END, CASE WHEN {txn_id} THEN txn_id ELSE '' END,
            CASE WHEN {goal} THEN goal ELSE '' END) AS key
    FROM listed
), stored_keys AS (
    SELECT
        *, (CASE WHEN {click_id} THEN click_id ELSE '' END, CASE WHEN {txn_id} THEN txn_id ELSE '' END,
            CASE WHEN {goal} THEN goal ELSE '' END) AS key
    FROM stored
), equal_pairs AS MATERIALIZED (
    SELECT line, conversion_id
    FROM (SELECT *, row_number() OVER (PARTITION BY key, amount_micros ORDER BY line) AS nth FROM listed_keys) AS theirs
    JOIN (
        SELECT *, row_number() OVER (PARTITION BY key, amount_micros ORDER BY NOT is_expected, received_at) AS nth
        FROM stored_keys
    ) AS ours USING (key, amount_micros, nth)
), other_pairs AS (
    SELECT line, conversion_id
    FROM (
        SELECT line, key, row_number() OVER (PARTITION BY key ORDER BY line) AS nth
        FROM listed_keys
        WHERE NOT EXISTS (SELECT FROM equal_pairs WHERE equal_pairs.line = listed_keys.line)
    ) AS theirs
    FULL JOIN (
        SELECT conversion_id, key, row_number() OVER (PARTITION BY key ORDER BY NOT is_expected, received_at) AS nth
        FROM stored_keys
        WHERE NOT EXISTS (
            SELECT FROM equal_pairs WHERE equal_pairs.conversion_id = stored_keys.conversion_id
        )
    ) AS ours USING (key, nth)
)
SELECT
    listed.line, listed.click_id, listed.txn_id, listed.goal, listed.amount_micros, listed.currency, listed.status,
    listed.at_ms, stored.conversion_id, stored.click_id, stored.txn_id, stored.goal, stored.amount_micros,
    stored.currency, stored.status, stored.is_expected, logged.said
FROM (SELECT * FROM equal_pairs UNION ALL SELECT * FROM other_pairs) AS pairs
LEFT JOIN listed ON listed.line = pairs.line
LEFT JOIN stored ON stored.conversion_id = pairs.conversion_id
LEFT JOIN LATERAL (
    SELECT coalesce(reason, outcome) AS said
    FROM postback_log
    WHERE pairs.conversion_id IS NULL AND {click_id} AND postback_log.click_id = listed.click_id
        AND (listed.txn_id = '' OR postback_log.txn_id = listed.txn_id)
    ORDER BY received_at DESC
    LIMIT 1
) AS logged ON true
ORDER BY listed.line, stored.received_at, stored.conversion_id
