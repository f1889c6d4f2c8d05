-- Rejections in postback_log that are decided again, and what became of them.

-- name: count
-- Arguments as of `rejections`.
SELECT count(*)
FROM postback_log AS log
WHERE outcome = 'rejected' AND reason = ANY ($1::text[]) AND received_at >= $2 AND received_at < $3
    AND ($4::bigint IS NULL OR campaign_id IS NULL OR campaign_id = $4)
    AND params <> '{"_erased": true}'
    AND NOT EXISTS (
        SELECT FROM replays
        WHERE replays.log_id = log.log_id AND replays.outcome <> 'rejected'
    );

-- name: rejections
-- $1 text[]: reasons; $2, $3 timestamptz: received since, and before; $4 bigint: a campaign, or null. What is not known to
-- be of another campaign and was not counted by an earlier replay, in the order it came.
SELECT
    log_id, (extract(epoch FROM received_at) * 1000000)::bigint, reason, advertiser_id, click_id, goal_value, txn_id,
    host(remote_ip), params::text
FROM postback_log AS log
WHERE outcome = 'rejected' AND reason = ANY ($1::text[]) AND received_at >= $2 AND received_at < $3
    AND ($4::bigint IS NULL OR campaign_id IS NULL OR campaign_id = $4)
    AND params <> '{"_erased": true}'
    AND NOT EXISTS (
        SELECT FROM replays
        WHERE replays.log_id = log.log_id AND replays.outcome <> 'rejected'
    )
ORDER BY received_at, log_id;

-- name: stored
-- Parallel arrays: $1 uuid[] conversions, $2 bigint[] their clicks' times in epoch ms. Of those that are there: the id,
-- amount and currency as they were sent, when their postback was received in epoch us.
SELECT
    stored.conversion_id,
    coalesce(trim_scale(coalesce(original_amount, sale_amount)) || coalesce(original_currency, currency), ''),
    (extract(epoch FROM received_at) * 1000000)::bigint
FROM unnest($1::uuid[], $2::bigint[]) AS asked (conversion_id, clicked_ms)
CROSS JOIN LATERAL (
    SELECT * FROM conversions
    WHERE conversions.conversion_id = asked.conversion_id
        AND clicked_at = timestamptz 'epoch' + clicked_ms * interval '1 millisecond'
    OFFSET 0
) AS stored;

-- name: sent_again
-- Parallel arrays: $1 uuid[] log ids, $2 text[] clicks, $3 bigint[] goals, $4 text[] txn_ids or nulls, $5 text[] amounts
-- and currencies as they were sent, $6 bigint[] times of receipt in epoch us. Those of which the like was counted later,
-- by a postback of its own.
SELECT log_id
FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::bigint[])
    AS asked (log_id, click_id, goal_id, txn_id, fact, received_us)
WHERE EXISTS (
    SELECT FROM conversions AS later
    WHERE later.click_id = asked.click_id AND later.goal_id = asked.goal_id
        AND later.txn_id IS NOT DISTINCT FROM asked.txn_id
        AND later.received_at > timestamptz 'epoch' + received_us * interval '1 microsecond'
        AND asked.fact = coalesce(
            trim_scale(coalesce(original_amount, sale_amount)) || coalesce(original_currency, currency), '')
        AND NOT EXISTS (SELECT FROM replays WHERE replays.conversion_id = later.conversion_id)
);

-- name: insert
-- Parallel arrays: $1 uuid[] log ids, $2 bigint[] times of receipt in epoch us, $3 text[] outcomes, $4 text[] reasons or
-- nulls, $5 uuid[] conversions or nulls; $6 text: who.
INSERT INTO replays (log_id, received_at, outcome, reason, conversion_id, made_by)
SELECT log_id, timestamptz 'epoch' + received_us * interval '1 microsecond', outcome, reason, conversion_id, $6
FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::uuid[])
    AS given (log_id, received_us, outcome, reason, conversion_id);
