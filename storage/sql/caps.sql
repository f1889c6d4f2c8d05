-- What was counted under caps, for counters that are made anew.

-- name: caps
-- All that is counted: goal_id null: over the campaign; publisher_id null and not each_publisher: all publishers together.
SELECT DISTINCT campaign_id, timezone, goal_id, publisher_id, each_publisher, measure, period
FROM caps
JOIN campaigns ON campaigns.id = campaign_id
WHERE campaigns.status <> 'archived'
ORDER BY campaign_id;

-- name: tallies
-- $1 bigint: a campaign; $2, $3 bigint[]: from and until of periods, epoch us. (place of the period, goal, publisher,
-- conversions, micros of revenue, micros of payout): what was over a cap took nothing of any.
SELECT
    place, goal_id, publisher_id, count(*), trunc(sum(revenue) * 1000000), trunc(sum(payout) * 1000000)
FROM unnest($2::bigint[], $3::bigint[]) WITH ORDINALITY AS period(start_us, end_us, place)
JOIN conversions ON campaign_id = $1
    AND received_at >= timestamptz 'epoch' + start_us * interval '1 microsecond'
    AND received_at < timestamptz 'epoch' + end_us * interval '1 microsecond'
    AND reason IS DISTINCT FROM 'over_cap'
GROUP BY place, goal_id, publisher_id;

-- name: stored
-- $1 uuid[]: conversions; $2 bigint[]: their clicks' times in epoch ms. Those that are stored, with when the postback
-- that made them was received, epoch us. OFFSET 0 keeps this one index look-up a conversion.
SELECT wanted.conversion_id::text, found.received_us
FROM unnest($1::uuid[], $2::bigint[]) AS wanted(conversion_id, clicked_ms)
CROSS JOIN LATERAL (
    SELECT (extract(epoch FROM received_at) * 1000000)::bigint AS received_us
    FROM conversions
    WHERE conversions.conversion_id = wanted.conversion_id
        AND clicked_at = timestamptz 'epoch' + clicked_ms * interval '1 millisecond'
    OFFSET 0
) AS found;

-- name: dead
-- Conversions that Postgres refused, and blocks that may hold some: they were counted, and may be stored yet.
SELECT dead_letter_id, failed_at, entry_id, kind, payload, prior, error FROM dead_letters WHERE kind IN ('b1', 'c1');
