-- What is old enough goes: whole partitions, and clicks in small steps. Rollups keep what they have counted.

-- name: lock
-- Whether we are the one who does it, until the transaction ends. Who holds the tables is not waited for: that would
-- hold up all others behind us. Shorter than deadlock_timeout, so that in a circle we are the one who gives up.
SELECT pg_try_advisory_xact_lock(hashtextextended('postback retention', 0)), set_config('lock_timeout', '500ms', true);

-- name: uncounted
-- For this transaction: what is deleted stays in the rollups, and nothing has to be counted anew.
SELECT set_config('postback.is_retention', 'on', true);

-- name: partitions
-- $1 text[]: partitioned tables. Bounds as the server has them, and not as names say; a default partition has none.
SELECT parent.relname, child.relname, since, until, nullif(child.reltuples, -1)::bigint, pg_total_relation_size(child.oid)
FROM pg_inherits
JOIN pg_class AS parent ON parent.oid = inhparent
JOIN pg_class AS child ON child.oid = inhrelid
CROSS JOIN LATERAL (SELECT pg_get_expr(child.relpartbound, child.oid)) AS bound (text)
CROSS JOIN LATERAL (
    SELECT
        (regexp_match(bound.text, 'FROM \(''([^'']+)''\)'))[1]::timestamptz AS since,
        (regexp_match(bound.text, 'TO \(''([^'']+)''\)'))[1]::timestamptz AS until
) AS bounds
WHERE inhparent = ANY (SELECT to_regclass(name) FROM unnest($1::text[]) AS name) AND until IS NOT NULL
ORDER BY since, parent.relname;

-- name: now_and_window
-- $1 bigint: the configured window, ms. The server's time, and the longest window of all campaigns, ms.
SELECT now(), greatest($1::bigint, max(window_ms)) FROM campaigns;

-- name: waits_for_rollups
-- $1, $2 timestamptz: a range of clicked_at. Whether the rollups have yet to count anew something of it.
SELECT EXISTS (SELECT FROM rollup_touched WHERE clicked_at >= $1 AND clicked_at < $2);

-- name: cut_counted
-- $1, $2 timestamptz: a range of clicked_at; so with the next two.
DELETE FROM rollup_counted WHERE conversion_id >= first_conversion_id($1) AND conversion_id < first_conversion_id($2);

-- name: cut_adjustments
DELETE FROM adjustments WHERE conversion_id >= first_conversion_id($1) AND conversion_id < first_conversion_id($2);

-- name: cut_holds
DELETE FROM holds WHERE conversion_id >= first_conversion_id($1) AND conversion_id < first_conversion_id($2);

-- name: cut_replays
-- $1, $2 timestamptz: a range of received_at.
DELETE FROM replays WHERE received_at >= $1 AND received_at < $2;

-- name: drop
-- {table}, {partition}: identifiers.
ALTER TABLE {table} DETACH PARTITION {partition};
DROP TABLE {partition};

-- name: note
-- $1 text: the table; $2 timestamptz: where the partition began; $3 text: who.
INSERT INTO dropped_partitions (table_name, month, dropped_by)
VALUES ($1, ($2::timestamptz AT TIME ZONE 'UTC')::date, $3)
ON CONFLICT (table_name, month) DO UPDATE SET dropped_at = now(), dropped_by = excluded.dropped_by;

-- name: dropped
-- $1 text: the table.
SELECT month FROM dropped_partitions WHERE table_name = $1;

-- name: delete_clicks
-- $1 bigint: the configured window, ms; $2 bigint: how long after its window a click is kept, ms; $3 int: how many at most.
DELETE FROM clicks
WHERE ctid = ANY (ARRAY (
    SELECT clicks.ctid
    FROM clicks LEFT JOIN campaigns ON campaigns.id = clicks.campaign_id
    WHERE clicked_at < now() - (
            (SELECT least($1::bigint, min(window_ms)) FROM campaigns) + $2::bigint) * interval '1 millisecond'
        AND clicked_at < now() - (coalesce(window_ms, $1::bigint) + $2::bigint) * interval '1 millisecond'
    LIMIT $3
));

-- name: digest_conversions
-- $1, $2 timestamptz: a range of clicked_at. (rows, a sum of hashes over all columns).
SELECT count(*), coalesce(sum(hashtextextended(archived::text, 0)), 0)::text
FROM conversions_net AS archived WHERE clicked_at >= $1 AND clicked_at < $2;

-- name: digest_postback_log
SELECT count(*), coalesce(sum(hashtextextended(archived::text, 0)), 0)::text
FROM postback_log AS archived WHERE received_at >= $1 AND received_at < $2;

-- name: digest_outbound_messages
SELECT count(*), coalesce(sum(hashtextextended(archived::text, 0)), 0)::text
FROM outbound_messages AS archived WHERE clicked_at >= $1 AND clicked_at < $2;

-- name: rows_of_conversions
-- What COPY is given: without an end mark.
SELECT * FROM conversions_net WHERE clicked_at >= $1 AND clicked_at < $2 ORDER BY conversion_id

-- name: rows_of_postback_log
SELECT * FROM postback_log WHERE received_at >= $1 AND received_at < $2 ORDER BY log_id

-- name: rows_of_outbound_messages
SELECT * FROM outbound_messages WHERE clicked_at >= $1 AND clicked_at < $2 ORDER BY conversion_id

-- name: still
-- {tables}: identifiers. Nobody writes there until the transaction ends; reading goes on.
LOCK TABLE {tables} IN SHARE MODE;
