-- What did a campaign do, day by day (UTC)?
SELECT
    day, currency, sum(clicks)::bigint AS clicks, sum(conversions)::bigint AS conversions,
    sum(approved)::bigint AS approved, sum(revenue) AS revenue, sum(payout) AS payout, sum(margin) AS margin,
    round(100.0 * sum(conversions) / nullif(sum(clicks), 0), 2) AS conversions_per_100_clicks
FROM performance_daily
WHERE campaign_id = :campaign AND day >= :'since'::date AND day < :'until'::date
GROUP BY day, currency
ORDER BY day, currency;
