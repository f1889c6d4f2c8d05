-- Of a campaign's clicks, how many reached each goal, and how many of those that reached the goal before it?
WITH clicked AS (
    SELECT sum(clicks) AS clicks
    FROM clicks_hourly
    WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
), reached AS (
    SELECT goal_id, count(DISTINCT click_id) AS clicks, count(*) AS conversions
    FROM conversions
    WHERE campaign_id = :campaign AND received_at >= :'since'::timestamptz AND received_at < :'until'::timestamptz
    GROUP BY goal_id
)
SELECT
    row_number() OVER steps AS step, goals.title AS goal, coalesce(reached.conversions, 0) AS conversions,
    coalesce(reached.clicks, 0) AS clicks,
    round(100.0 * reached.clicks / nullif(clicked.clicks, 0), 2) AS percent_of_clicks,
    round(100.0 * reached.clicks / nullif(lag(reached.clicks) OVER steps, 0), 2) AS percent_of_step_before
FROM goals
CROSS JOIN clicked
LEFT JOIN reached ON reached.goal_id = goals.id
WHERE goals.campaign_id = :campaign
WINDOW steps AS (ORDER BY goals.id)
ORDER BY step;
