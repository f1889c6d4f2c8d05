-- Folds what triggers queued (migration "rollups") into the rollups by hour and day. Each block takes some rows of a
-- queue and puts them where they belong, in one statement: what a transaction commits later is a later call's.

-- name: lock
-- One at a time, until its transaction ends; false: another is at it.
SELECT pg_try_advisory_xact_lock(hashtextextended('postback rollups', 0));

-- name: count_anew
-- $1: conversions at most. Those that changed after they were written: what the rollups hold of each is taken out, and
-- put in as it stands now. One that was deleted and written again has several lives. A change may come before its
-- conversion: it is put off, for a week at most. OFFSET 0 keeps each look-up one of an index. Returns how many were
-- counted, and how long the oldest change had waited, in seconds.
WITH chosen AS (
    SELECT conversion_id, clicked_at
    FROM rollup_touched
    GROUP BY conversion_id, clicked_at
    ORDER BY min(touch_id)
    LIMIT $1
), taken AS (
    DELETE FROM rollup_touched AS touched
    USING chosen
    WHERE touched.conversion_id = chosen.conversion_id AND touched.clicked_at = chosen.clicked_at
    RETURNING touched.*
), lives AS (
    SELECT
        *,
        count(*) FILTER (WHERE is_gone) OVER (
            PARTITION BY conversion_id, clicked_at ORDER BY touch_id
            ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
        ) AS life
    FROM taken
), changed AS (
    SELECT
        conversion_id, clicked_at, life, min(queued_at) AS queued_at, bool_or(is_gone) AS is_gone,
        (array_agg(old ORDER BY touch_id) FILTER (WHERE NOT old IS NULL))[1] AS old
    FROM lives
    GROUP BY conversion_id, clicked_at, life
), states AS MATERIALIZED (
    SELECT
        changed.conversion_id, changed.clicked_at, changed.queued_at, changed.is_gone,
        coalesce(CASE WHEN changed.life = 0 THEN held.counted END, changed.old, found.written) AS before,
        CASE WHEN NOT changed.is_gone THEN found.net END AS after
    FROM changed
    LEFT JOIN LATERAL (
        SELECT counted
        FROM rollup_counted AS counted
        WHERE counted.conversion_id = changed.conversion_id AND counted.clicked_at = changed.clicked_at
        OFFSET 0
    ) AS held ON true
    LEFT JOIN LATERAL (
        SELECT
            ROW(net.conversion_id, net.clicked_at, received_at, campaign_id, goal_id, publisher_id, country, currency,
                first_status, sale_amount, revenue, payout)::rollup_counted AS written,
            ROW(net.conversion_id, net.clicked_at, received_at, campaign_id, goal_id, publisher_id, country, currency,
                status, net_sale_amount, net_revenue, net_payout)::rollup_counted AS net
        FROM conversions_net AS net
        WHERE net.conversion_id = changed.conversion_id AND net.clicked_at = changed.clicked_at
        OFFSET 0
    ) AS found ON true
), moves AS (
    SELECT -1 AS sign, (before).* FROM states WHERE NOT before IS NULL AND (is_gone OR NOT after IS NULL)
    UNION ALL
    SELECT 1, (after).* FROM states WHERE NOT after IS NULL
), queued AS (
    INSERT INTO rollup_conversions
    SELECT
        date_bin('1 hour', received_at, '2000-01-01 00:00+00'), campaign_id, goal_id, publisher_id, country, currency,
        status, sum(sign), coalesce(sum(sign * sale_amount), 0), sum(sign * revenue), sum(sign * payout),
        sum(sign * extract(epoch FROM delay)),
        coalesce(sum(sign) FILTER (WHERE delay <= '1 minute'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '10 minutes'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '1 hour'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '6 hours'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '1 day'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '7 days'), 0),
        coalesce(sum(sign) FILTER (WHERE delay <= '30 days'), 0)
    FROM (SELECT *, received_at - clicked_at AS delay FROM moves) AS moved
    GROUP BY 1, 2, 3, 4, 5, 6, 7
), kept AS (
    INSERT INTO rollup_counted AS counted
    SELECT (after).* FROM states WHERE NOT after IS NULL
    ON CONFLICT (conversion_id, clicked_at) DO UPDATE
    SET received_at = excluded.received_at, campaign_id = excluded.campaign_id, goal_id = excluded.goal_id,
        publisher_id = excluded.publisher_id, country = excluded.country, currency = excluded.currency,
        status = excluded.status, sale_amount = excluded.sale_amount, revenue = excluded.revenue,
        payout = excluded.payout
), gone AS (
    DELETE FROM rollup_counted
    WHERE ctid = ANY (ARRAY (
        SELECT held.ctid
        FROM (
            SELECT conversion_id, clicked_at
            FROM states
            GROUP BY conversion_id, clicked_at
            HAVING bool_or(is_gone) AND bool_and(after IS NULL)
        ) AS ended
        CROSS JOIN LATERAL (
            SELECT counted.ctid
            FROM rollup_counted AS counted
            WHERE counted.conversion_id = ended.conversion_id AND counted.clicked_at = ended.clicked_at
            OFFSET 0
        ) AS held
    ))
), put_off AS (
    INSERT INTO rollup_touched (queued_at, conversion_id, clicked_at)
    SELECT queued_at, conversion_id, clicked_at
    FROM states
    WHERE NOT is_gone AND after IS NULL AND queued_at > now() - interval '7 days'
)
SELECT count(*), coalesce(max(extract(epoch FROM now() - queued_at)), 0)::float8
FROM states
WHERE is_gone OR NOT after IS NULL;

-- name: fold_conversions
-- $1: rows of the queue at most. Returns how many were taken, and how long the oldest had waited, in seconds.
WITH taken AS (
    DELETE FROM rollup_conversions
    WHERE ctid = ANY (ARRAY (SELECT ctid FROM rollup_conversions LIMIT $1))
    RETURNING *
), hourly AS (
    INSERT INTO conversions_hourly AS rollup
    SELECT
        hour, campaign_id, goal_id, publisher_id, country, currency, status, sum(conversions), sum(sale_amount),
        sum(revenue), sum(payout), sum(delay_s), sum(within_1m), sum(within_10m), sum(within_1h), sum(within_6h),
        sum(within_1d), sum(within_7d), sum(within_30d)
    FROM taken
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (campaign_id, hour, goal_id, publisher_id, country, currency, status) DO UPDATE
    SET conversions = rollup.conversions + excluded.conversions,
        sale_amount = rollup.sale_amount + excluded.sale_amount,
        revenue = rollup.revenue + excluded.revenue,
        payout = rollup.payout + excluded.payout,
        delay_s = rollup.delay_s + excluded.delay_s,
        within_1m = rollup.within_1m + excluded.within_1m,
        within_10m = rollup.within_10m + excluded.within_10m,
        within_1h = rollup.within_1h + excluded.within_1h,
        within_6h = rollup.within_6h + excluded.within_6h,
        within_1d = rollup.within_1d + excluded.within_1d,
        within_7d = rollup.within_7d + excluded.within_7d,
        within_30d = rollup.within_30d + excluded.within_30d
), daily AS (
    INSERT INTO conversions_daily AS rollup
    SELECT
        (hour AT TIME ZONE 'UTC')::date, campaign_id, goal_id, publisher_id, country, currency, status,
        sum(conversions), sum(sale_amount), sum(revenue), sum(payout), sum(delay_s), sum(within_1m), sum(within_10m),
        sum(within_1h), sum(within_6h), sum(within_1d), sum(within_7d), sum(within_30d)
    FROM taken
    GROUP BY 1, 2, 3, 4, 5, 6, 7
    ON CONFLICT (campaign_id, day, goal_id, publisher_id, country, currency, status) DO UPDATE
    SET conversions = rollup.conversions + excluded.conversions,
        sale_amount = rollup.sale_amount + excluded.sale_amount,
        revenue = rollup.revenue + excluded.revenue,
        payout = rollup.payout + excluded.payout,
        delay_s = rollup.delay_s + excluded.delay_s,
        within_1m = rollup.within_1m + excluded.within_1m,
        within_10m = rollup.within_10m + excluded.within_10m,
        within_1h = rollup.within_1h + excluded.within_1h,
        within_6h = rollup.within_6h + excluded.within_6h,
        within_1d = rollup.within_1d + excluded.within_1d,
        within_7d = rollup.within_7d + excluded.within_7d,
        within_30d = rollup.within_30d + excluded.within_30d
)
SELECT count(*), coalesce(max(extract(epoch FROM now() - queued_at)), 0)::float8 FROM taken;

-- name: fold_clicks
-- The same for clicks.
WITH taken AS (
    DELETE FROM rollup_clicks
    WHERE ctid = ANY (ARRAY (SELECT ctid FROM rollup_clicks LIMIT $1))
    RETURNING *
), hourly AS (
    INSERT INTO clicks_hourly AS rollup
    SELECT hour, campaign_id, publisher_id, country, sum(clicks)
    FROM taken
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (campaign_id, hour, publisher_id, country) DO UPDATE SET clicks = rollup.clicks + excluded.clicks
), daily AS (
    INSERT INTO clicks_daily AS rollup
    SELECT (hour AT TIME ZONE 'UTC')::date, campaign_id, publisher_id, country, sum(clicks)
    FROM taken
    GROUP BY 1, 2, 3, 4
    ON CONFLICT (campaign_id, day, publisher_id, country) DO UPDATE SET clicks = rollup.clicks + excluded.clicks
)
SELECT count(*), coalesce(max(extract(epoch FROM now() - queued_at)), 0)::float8 FROM taken;

-- name: fold_log
-- The same for postback_log.
WITH taken AS (
    DELETE FROM rollup_log
    WHERE ctid = ANY (ARRAY (SELECT ctid FROM rollup_log LIMIT $1))
    RETURNING *
), hourly AS (
    INSERT INTO log_hourly AS rollup
    SELECT hour, advertiser_id, campaign_id, outcome, reason, sum(postbacks)
    FROM taken
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (campaign_id, hour, advertiser_id, outcome, reason) DO UPDATE
    SET postbacks = rollup.postbacks + excluded.postbacks
), daily AS (
    INSERT INTO log_daily AS rollup
    SELECT (hour AT TIME ZONE 'UTC')::date, advertiser_id, campaign_id, outcome, reason, sum(postbacks)
    FROM taken
    GROUP BY 1, 2, 3, 4, 5
    ON CONFLICT (campaign_id, day, advertiser_id, outcome, reason) DO UPDATE
    SET postbacks = rollup.postbacks + excluded.postbacks
)
SELECT count(*), coalesce(max(extract(epoch FROM now() - queued_at)), 0)::float8 FROM taken;
