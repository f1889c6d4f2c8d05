-- Personal data of a click out of every table. $1 text is the click's id; what is erased already is not touched again.
-- Ids, times and money stay: the books must add up, and a repeat must still be seen to be one.

-- name: clicks
UPDATE clicks SET params = '{}' WHERE click_id = $1 AND params <> '{}';

-- name: conversions
UPDATE conversions SET params = '{"_erased": true}' WHERE click_id = $1 AND params <> '{"_erased": true}';

-- name: postback_log
-- Also what names it under a name that was not known to be the click's. The two amounts of a conflict are money.
UPDATE postback_log
SET remote_ip = NULL, params = '{"_erased": true}' || CASE outcome
    WHEN 'conflict' THEN jsonb_build_object('claimed', params -> 'claimed', 'sent', params -> 'sent')
    ELSE '{}'
END
WHERE (
        click_id = $1
        OR click_id IS NULL AND EXISTS (SELECT FROM jsonb_each_text(params) AS param WHERE param.value = $1)
    )
    AND (remote_ip IS NOT NULL OR params <> '{"_erased": true}' || CASE outcome
        WHEN 'conflict' THEN jsonb_build_object('claimed', params -> 'claimed', 'sent', params -> 'sent')
        ELSE '{}'
    END);

-- name: months_of_parked
SELECT DISTINCT date_trunc('month', received_at AT TIME ZONE 'UTC')::date
FROM parked_postbacks WHERE click_ids @> ARRAY[$1::text];

-- name: parked_postbacks
-- What came is sealed whole, and so it cannot be decided without: it goes into the log as if its time were over. One
-- whose click is there is decided within seconds.
WITH gone AS (
    DELETE FROM parked_postbacks AS parked
    WHERE click_ids @> ARRAY[$1::text]
        AND NOT EXISTS (SELECT FROM clicks WHERE clicks.click_id = ANY (parked.click_ids))
    RETURNING *
)
INSERT INTO postback_log (log_id, received_at, outcome, reason, click_id, goal_value, txn_id, params)
SELECT postback_id, received_at, 'rejected', 'unknown_click', click_id, goal_value, txn_id, '{"_erased": true}'
FROM gone
ON CONFLICT DO NOTHING;

-- name: parked_left
SELECT count(*) FROM parked_postbacks WHERE click_ids @> ARRAY[$1::text];

-- name: dead_letters
-- $1 bytea: the id as it stands in a payload. Those that may name it.
SELECT dead_letter_id, failed_at, entry_id, kind, payload, prior, error
FROM dead_letters
WHERE position($1::bytea IN payload) > 0
FOR UPDATE;

-- name: erase_dead_letter
-- $1 bigint: its id; $2 bytea: the payload that is left. Of the error only its code: its text may quote values.
UPDATE dead_letters SET payload = $2, error = left(error, 5) || ' (erased)' WHERE dead_letter_id = $1;

-- name: note
-- $1 text: who; $2 bytea: the digest; $3 text: JSON, rows by table; $4 boolean: even if it stands there already.
INSERT INTO erasures (erased_by, click_digest, erased)
SELECT $1, $2, $3::jsonb
WHERE $4 OR NOT EXISTS (SELECT FROM erasures WHERE click_digest = $2);
