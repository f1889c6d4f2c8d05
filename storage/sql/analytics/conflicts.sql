-- Which conversions were sent again with another amount, and what were the two amounts?
SELECT
    received_at, campaign_id, goal_value, click_id, txn_id, params ->> 'claimed' AS counted, params ->> 'sent' AS sent,
    conversion_id, remote_ip
FROM postback_log
WHERE outcome = 'conflict' AND campaign_id = :campaign
    AND received_at >= :'since'::timestamptz AND received_at < :'until'::timestamptz
ORDER BY received_at DESC
LIMIT 1000;
