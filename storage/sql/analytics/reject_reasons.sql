-- Why were a campaign's postbacks not counted?
SELECT
    outcome, reason, sum(postbacks)::bigint AS postbacks,
    round(100.0 * sum(postbacks) / sum(sum(postbacks)) OVER (), 1) AS percent
FROM log_hourly
WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
GROUP BY outcome, reason
ORDER BY postbacks DESC, outcome, reason;
