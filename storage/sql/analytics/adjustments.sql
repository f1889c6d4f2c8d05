-- What was taken back from, or added to, conversions in this time, and whose were they?
SELECT
    found.campaign_id, found.publisher_id, found.currency, adjustments.kind, count(*) AS adjustments,
    sum(adjustments.sale_amount) AS sale_amount, sum(adjustments.revenue) AS revenue, sum(adjustments.payout) AS payout
FROM adjustments
LEFT JOIN LATERAL (
    SELECT campaign_id, publisher_id, currency
    FROM conversions
    WHERE conversions.conversion_id = adjustments.conversion_id AND conversions.clicked_at = adjustments.clicked_at
    OFFSET 0
) AS found ON true
WHERE adjustments.recorded_at >= :'since'::timestamptz AND adjustments.recorded_at < :'until'::timestamptz
GROUP BY found.campaign_id, found.publisher_id, found.currency, adjustments.kind
ORDER BY found.campaign_id, found.publisher_id, adjustments.kind;
