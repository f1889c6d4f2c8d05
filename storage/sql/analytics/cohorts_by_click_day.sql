-- What did the clicks of each day bring, and how soon? The ids narrow the search: they begin with the click's time.
WITH brought AS (
    SELECT
        (clicked_at AT TIME ZONE 'UTC')::date AS click_day, currency, count(*) AS conversions, sum(revenue) AS revenue,
        count(*) FILTER (WHERE received_at <= clicked_at + interval '1 day') AS within_1d,
        count(*) FILTER (WHERE received_at <= clicked_at + interval '7 days') AS within_7d,
        sum(revenue) FILTER (WHERE received_at <= clicked_at + interval '7 days') AS revenue_within_7d
    FROM conversions
    WHERE campaign_id = :campaign
        AND clicked_at >= :'since'::timestamptz AND clicked_at < :'until'::timestamptz
        AND conversion_id >= first_conversion_id(:'since'::timestamptz)
        AND conversion_id < first_conversion_id(:'until'::timestamptz)
    GROUP BY click_day, currency
), clicked AS (
    SELECT (hour AT TIME ZONE 'UTC')::date AS click_day, sum(clicks)::bigint AS clicks
    FROM clicks_hourly
    WHERE campaign_id = :campaign AND hour >= :'since'::timestamptz AND hour < :'until'::timestamptz
    GROUP BY click_day
)
SELECT
    click_day, clicked.clicks, brought.currency, brought.conversions, brought.within_1d, brought.within_7d,
    brought.revenue, brought.revenue_within_7d,
    round(brought.revenue / nullif(clicked.clicks, 0), 6) AS revenue_per_click
FROM clicked
FULL JOIN brought USING (click_day)
ORDER BY click_day, currency;
