-- What is a publisher owed for approved conversions, and what is still pending?
SELECT
    counted.campaign_id, campaigns.name AS campaign, goals.title AS goal, counted.currency,
    coalesce(sum(conversions) FILTER (WHERE counted.status = 'approved'), 0)::bigint AS approved,
    coalesce(sum(payout) FILTER (WHERE counted.status = 'approved'), 0) AS payout,
    coalesce(sum(conversions) FILTER (WHERE counted.status = 'pending'), 0)::bigint AS pending,
    coalesce(sum(payout) FILTER (WHERE counted.status = 'pending'), 0) AS pending_payout
FROM conversions_daily AS counted
LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
LEFT JOIN goals ON goals.id = counted.goal_id
WHERE counted.publisher_id = :publisher AND day >= :'since'::date AND day < :'until'::date
GROUP BY counted.campaign_id, campaigns.name, goals.title, counted.currency
ORDER BY payout DESC, counted.campaign_id;
