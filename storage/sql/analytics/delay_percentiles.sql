-- What are the exact median and the tails of the time from click to conversion, publisher by publisher?
SELECT
    publisher_id, count(*) AS conversions,
    percentile_disc(0.05) WITHIN GROUP (ORDER BY received_at - clicked_at) AS p5,
    percentile_disc(0.5) WITHIN GROUP (ORDER BY received_at - clicked_at) AS median,
    percentile_disc(0.95) WITHIN GROUP (ORDER BY received_at - clicked_at) AS p95
FROM conversions
WHERE campaign_id = :campaign AND received_at >= :'since'::timestamptz AND received_at < :'until'::timestamptz
GROUP BY publisher_id
ORDER BY conversions DESC, publisher_id;
