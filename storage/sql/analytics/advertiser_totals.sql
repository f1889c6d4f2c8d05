-- What does an advertiser owe, campaign by campaign and goal by goal, to be compared with its own totals?
SELECT
    campaigns.id AS campaign_id, campaigns.name AS campaign, goals.value AS goal, counted.status, counted.currency,
    sum(conversions)::bigint AS conversions, sum(sale_amount) AS sale_amount, sum(revenue) AS revenue
FROM campaigns
JOIN conversions_hourly AS counted ON counted.campaign_id = campaigns.id
LEFT JOIN goals ON goals.id = counted.goal_id
WHERE campaigns.advertiser_id = :advertiser AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
GROUP BY campaigns.id, campaigns.name, goals.value, counted.status, counted.currency
HAVING sum(conversions) <> 0
ORDER BY campaigns.id, goal, counted.status, counted.currency;
