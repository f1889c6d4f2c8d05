-- In which hours of the day, in the campaign's own time zone, does it earn?
SELECT
    extract(hour FROM hour AT TIME ZONE campaigns.timezone)::int AS local_hour, facts.currency,
    sum(approved)::bigint AS approved, sum(revenue) AS revenue, sum(payout) AS payout, sum(margin) AS margin
FROM performance_hourly AS facts
JOIN campaigns ON campaigns.id = facts.campaign_id
WHERE facts.campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
GROUP BY local_hour, facts.currency
ORDER BY local_hour, facts.currency;
