-- How much money waits for approval, and since when?
SELECT
    campaign_id, campaigns.name AS campaign, counted.currency, min(day) AS oldest_day,
    sum(conversions)::bigint AS pending, sum(revenue) AS revenue, sum(payout) AS payout
FROM conversions_daily AS counted
LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
WHERE counted.status = 'pending' AND conversions > 0 AND day >= :'since'::date AND day < :'until'::date
GROUP BY counted.campaign_id, campaigns.name, counted.currency
ORDER BY revenue DESC, campaign_id;
