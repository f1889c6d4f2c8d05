-- From which addresses do repeats and refused postbacks come, and how many clicks do they name?
SELECT
    advertiser_id, remote_ip, count(*) FILTER (WHERE outcome = 'duplicate') AS duplicates,
    count(*) FILTER (WHERE outcome = 'conflict') AS conflicts,
    count(*) FILTER (WHERE outcome = 'rejected') AS rejected, count(DISTINCT click_id) AS clicks,
    min(received_at) AS first_at, max(received_at) AS last_at
FROM postback_log
WHERE received_at >= :'since'::timestamptz AND received_at < :'until'::timestamptz
GROUP BY advertiser_id, remote_ip
ORDER BY count(*) DESC, remote_ip
LIMIT 100;
