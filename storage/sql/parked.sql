-- Postbacks whose click is not known yet. They go in by writer.sql; a trigger on clicks makes them due.
--
-- Nobody here waits for a row that another holds: registering a click waits for its parked postbacks, and so nobody
-- waits in a circle.

-- name: take
-- $1 text[]: ids of the keys that we have; $2 int: how many at most; $3 bigint: for how long they are ours, ms.
-- Those that are due and whose click is there. Those whose click is not come again when as much time has passed as since
-- they came, within the hour: a click that was being registered just when its postback was stored is found so.
WITH due AS (
    SELECT postback_id, EXISTS (
        SELECT FROM clicks WHERE clicks.click_id = ANY (parked.click_ids) AND registered_at <= parked.until
    ) AS is_known
    FROM parked_postbacks AS parked
    WHERE look_at <= now() AND key_id = ANY ($1::text[])
    ORDER BY look_at
    LIMIT $2
    FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE parked_postbacks AS parked
    SET look_at = now() + CASE
        WHEN is_known THEN $3::bigint * interval '1 millisecond'
        ELSE least(greatest(now() - parked_at, interval '1 second'), interval '1 hour')
    END
    FROM due
    WHERE parked.postback_id = due.postback_id
    RETURNING parked.postback_id, received_at, key_id, sealed, click_ids, is_known
)
SELECT postback_id, key_id, sealed, click_ids FROM taken WHERE is_known ORDER BY received_at, postback_id;

-- name: drop
-- $1 uuid[]. One that is held just now is recorded again, which changes nothing.
DELETE FROM parked_postbacks
WHERE postback_id IN (
    SELECT postback_id FROM parked_postbacks WHERE postback_id = ANY ($1::uuid[]) FOR UPDATE SKIP LOCKED
);

-- name: expire
-- $1 int: how many at most; $2 bigint: how long one whose click has come in time is left to be decided, ms.
-- (how many went into the log, how many of them although their click had come in time).
WITH over AS (
    SELECT postback_id, is_known
    FROM parked_postbacks AS parked
    CROSS JOIN LATERAL (
        SELECT EXISTS (
            SELECT FROM clicks WHERE clicks.click_id = ANY (parked.click_ids) AND registered_at <= parked.until
        ) AS is_known
    ) AS click
    WHERE until < now() AND (NOT is_known OR until < now() - $2::bigint * interval '1 millisecond')
    ORDER BY until
    LIMIT $1
    FOR UPDATE OF parked SKIP LOCKED
), gone AS (
    DELETE FROM parked_postbacks AS parked USING over WHERE parked.postback_id = over.postback_id
    RETURNING parked.*, is_known
), logged AS (
    INSERT INTO postback_log (log_id, received_at, outcome, reason, click_id, goal_value, txn_id, remote_ip, params)
    SELECT postback_id, received_at, 'rejected', 'unknown_click', click_id, goal_value, txn_id, remote_ip, params
    FROM gone
    ORDER BY postback_id, received_at
    ON CONFLICT DO NOTHING
)
SELECT count(*), count(*) FILTER (WHERE is_known) FROM gone;

-- name: months
-- When those whose time is over were received, by month.
SELECT DISTINCT date_trunc('month', received_at AT TIME ZONE 'UTC')::date FROM parked_postbacks WHERE until < now();

-- name: count
SELECT count(*) FROM parked_postbacks;
