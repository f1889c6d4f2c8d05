-- What became of everything that was sent for one click?
SELECT
    'click' AS what, registered_at AS at, NULL::uuid AS conversion_id, NULL::text AS goal, NULL::text AS txn_id,
    country::text AS said, NULL::numeric AS revenue
FROM clicks
WHERE click_id = :'click'
UNION ALL
SELECT status, received_at, conversion_id, goal_value, txn_id, trim_scale(net_sale_amount) || currency, net_revenue
FROM conversions_net
WHERE click_id = :'click'
UNION ALL
SELECT outcome, received_at, conversion_id, goal_value, txn_id, coalesce(reason, params ->> 'sent'), NULL
FROM postback_log
WHERE click_id = :'click'
ORDER BY at;
