-- Which countries earn in a campaign, and what is a click from there worth?
SELECT
    country, currency, sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions, sum(revenue) AS revenue,
    sum(margin) AS margin, round(sum(revenue) / nullif(sum(clicks), 0), 6) AS revenue_per_click
FROM performance_hourly
WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
GROUP BY country, currency
ORDER BY revenue DESC, country;
