-- Where is more paid to publishers than advertisers pay?
SELECT
    day, campaign_id, campaign, publisher_id, publisher, country, currency, approved, revenue, payout, margin
FROM performance_daily
WHERE day >= :'since'::date AND day < :'until'::date AND revenue < payout
ORDER BY margin, day, campaign_id
LIMIT 1000;
