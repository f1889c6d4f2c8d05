-- How long after the click do conversions come, goal by goal?
SELECT
    goal_id, goals.title AS goal, sum(conversions)::bigint AS conversions,
    round(100.0 * sum(within_1m) / sum(conversions), 1) AS percent_within_1m,
    round(100.0 * sum(within_10m) / sum(conversions), 1) AS within_10m,
    round(100.0 * sum(within_1h) / sum(conversions), 1) AS within_1h,
    round(100.0 * sum(within_6h) / sum(conversions), 1) AS within_6h,
    round(100.0 * sum(within_1d) / sum(conversions), 1) AS within_1d,
    round(100.0 * sum(within_7d) / sum(conversions), 1) AS within_7d,
    round(100.0 * sum(within_30d) / sum(conversions), 1) AS within_30d
FROM conversions_hourly AS counted
LEFT JOIN goals ON goals.id = counted.goal_id
WHERE counted.campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
GROUP BY goal_id, goals.title
HAVING sum(conversions) > 0
ORDER BY goal_id;
