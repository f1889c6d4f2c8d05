-- Which active campaigns got clicks but no conversions: is the advertiser's postback set up?
SELECT
    campaigns.id AS campaign_id, campaigns.name AS campaign, advertisers.name AS advertiser,
    sum(clicked.clicks)::bigint AS clicks,
    (
        SELECT max(day) FROM conversions_daily WHERE conversions_daily.campaign_id = campaigns.id AND conversions > 0
    ) AS last_conversion_on,
    (
        SELECT sum(postbacks)::bigint
        FROM log_daily
        WHERE log_daily.campaign_id = campaigns.id AND outcome = 'rejected'
            AND day >= :'since'::date AND day < :'until'::date
    ) AS rejected_postbacks
FROM campaigns
JOIN advertisers ON advertisers.id = campaigns.advertiser_id
JOIN clicks_daily AS clicked ON clicked.campaign_id = campaigns.id
    AND clicked.day >= :'since'::date AND clicked.day < :'until'::date
WHERE campaigns.status = 'active' AND NOT EXISTS (
    SELECT FROM conversions_daily AS counted
    WHERE counted.campaign_id = campaigns.id AND counted.day >= :'since'::date AND counted.day < :'until'::date
        AND counted.conversions > 0
)
GROUP BY campaigns.id, campaigns.name, advertisers.name
ORDER BY clicks DESC;
