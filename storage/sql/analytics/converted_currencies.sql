-- Which sales of a campaign came in another currency, and at what rates were they converted?
SELECT
    original_currency, currency, count(*) AS conversions, sum(original_amount) AS original_amount,
    sum(sale_amount) AS sale_amount, min(exchange_rate) AS lowest_rate, max(exchange_rate) AS highest_rate
FROM conversions
WHERE campaign_id = :campaign AND received_at >= :'since'::timestamptz AND received_at < :'until'::timestamptz
    AND original_currency IS NOT NULL
GROUP BY original_currency, currency
ORDER BY conversions DESC, original_currency;
