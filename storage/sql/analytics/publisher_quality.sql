-- Which publishers' clicks convert, get approved, and look like people: few conversions within a minute of the click?
WITH converted AS (
    SELECT
        publisher_id, sum(conversions) AS conversions,
        sum(conversions) FILTER (WHERE status = 'approved') AS approved,
        sum(conversions) FILTER (WHERE status IN ('cancelled', 'rejected')) AS taken_back,
        sum(within_1m) AS within_1m, sum(delay_s) AS delay_s,
        sum(revenue - payout) FILTER (WHERE status = 'approved') AS margin
    FROM conversions_hourly
    WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
    GROUP BY publisher_id
), clicked AS (
    SELECT publisher_id, sum(clicks) AS clicks
    FROM clicks_hourly
    WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
    GROUP BY publisher_id
)
SELECT
    publisher_id, publishers.name AS publisher, clicks::bigint, conversions::bigint,
    round(100.0 * conversions / nullif(clicks, 0), 2) AS conversions_per_100_clicks,
    round(100.0 * approved / nullif(conversions, 0), 1) AS percent_approved,
    round(100.0 * taken_back / nullif(conversions, 0), 1) AS percent_taken_back,
    round(100.0 * within_1m / nullif(conversions, 0), 1) AS percent_within_1m,
    round(delay_s / nullif(conversions, 0)) AS mean_delay_s, margin
FROM converted
FULL JOIN clicked USING (publisher_id)
LEFT JOIN publishers ON publishers.id = publisher_id
ORDER BY conversions DESC NULLS LAST, publisher_id;
