-- Rollups by hour and day. Statement triggers sum up what each statement changed and append that to queues, in the same
-- transaction: so nothing is missed, in whatever order transactions commit, and nobody waits for anybody. One process
-- at a time folds the queues into the rollups (storage/sql/rollups.sql).
--
-- Dropping or detaching a partition fires no trigger: rollups keep what retention takes away.

CREATE TABLE conversions_hourly (
    hour          timestamptz NOT NULL,
    campaign_id   bigint NOT NULL,
    goal_id       bigint NOT NULL,
    publisher_id  bigint NOT NULL,
    country       char(2),
    currency      char(3) NOT NULL,
    status        text NOT NULL,
    conversions   bigint NOT NULL,
    sale_amount   numeric NOT NULL,
    revenue       numeric NOT NULL,
    payout        numeric NOT NULL,
    delay_s       numeric NOT NULL,
    within_1m     bigint NOT NULL,
    within_10m    bigint NOT NULL,
    within_1h     bigint NOT NULL,
    within_6h     bigint NOT NULL,
    within_1d     bigint NOT NULL,
    within_7d     bigint NOT NULL,
    within_30d    bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE conversions_hourly IS 'Rollup of conversions by the hour they were received in, as they stand now; up to seconds behind. Rows of zeros are what moved elsewhere.';
COMMENT ON COLUMN conversions_hourly.hour IS 'The start of the hour of received_at.';
COMMENT ON COLUMN conversions_hourly.country IS 'The click''s; null where the tracker did not know it.';
COMMENT ON COLUMN conversions_hourly.status IS 'As it stands now: approved, pending, cancelled or rejected.';
COMMENT ON COLUMN conversions_hourly.conversions IS 'How many.';
COMMENT ON COLUMN conversions_hourly.sale_amount IS 'Sum, in currency.';
COMMENT ON COLUMN conversions_hourly.revenue IS 'Sum of what the advertiser owes, in currency.';
COMMENT ON COLUMN conversions_hourly.payout IS 'Sum of what the publisher is owed, in currency.';
COMMENT ON COLUMN conversions_hourly.delay_s IS 'Sum of the seconds from click to receipt; divided by conversions: the mean.';
COMMENT ON COLUMN conversions_hourly.within_1m IS 'How many of them came within a minute of the click.';
COMMENT ON COLUMN conversions_hourly.within_10m IS 'Within 10 minutes, those within 1 counted too; and so on.';
CREATE UNIQUE INDEX conversions_hourly_key ON conversions_hourly
    (campaign_id, hour, goal_id, publisher_id, country, currency, status) NULLS NOT DISTINCT;
CREATE INDEX conversions_hourly_hour ON conversions_hourly (hour);

CREATE TABLE conversions_daily (LIKE conversions_hourly INCLUDING COMMENTS INCLUDING STORAGE) WITH (fillfactor = 70);
ALTER TABLE conversions_daily RENAME COLUMN hour TO day;
ALTER TABLE conversions_daily ALTER COLUMN day TYPE date;
COMMENT ON TABLE conversions_daily IS 'The same by day, in UTC.';
COMMENT ON COLUMN conversions_daily.day IS 'The day of received_at, in UTC.';
CREATE UNIQUE INDEX conversions_daily_key ON conversions_daily
    (campaign_id, day, goal_id, publisher_id, country, currency, status) NULLS NOT DISTINCT;
CREATE INDEX conversions_daily_day ON conversions_daily (day);

CREATE TABLE clicks_hourly (
    hour         timestamptz NOT NULL,
    campaign_id  bigint NOT NULL,
    publisher_id bigint NOT NULL,
    country      char(2),
    clicks       bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE clicks_hourly IS 'Rollup of clicks by the hour they were made in.';
COMMENT ON COLUMN clicks_hourly.hour IS 'The start of the hour of clicked_at.';
COMMENT ON COLUMN clicks_hourly.clicks IS 'How many.';
CREATE UNIQUE INDEX clicks_hourly_key ON clicks_hourly (campaign_id, hour, publisher_id, country) NULLS NOT DISTINCT;
CREATE INDEX clicks_hourly_hour ON clicks_hourly (hour);

CREATE TABLE clicks_daily (LIKE clicks_hourly INCLUDING COMMENTS INCLUDING STORAGE) WITH (fillfactor = 70);
ALTER TABLE clicks_daily RENAME COLUMN hour TO day;
ALTER TABLE clicks_daily ALTER COLUMN day TYPE date;
COMMENT ON TABLE clicks_daily IS 'The same by day, in UTC.';
COMMENT ON COLUMN clicks_daily.day IS 'The day of clicked_at, in UTC.';
CREATE UNIQUE INDEX clicks_daily_key ON clicks_daily (campaign_id, day, publisher_id, country) NULLS NOT DISTINCT;
CREATE INDEX clicks_daily_day ON clicks_daily (day);

CREATE TABLE log_hourly (
    hour          timestamptz NOT NULL,
    advertiser_id bigint,
    campaign_id   bigint,
    outcome       text NOT NULL,
    reason        text,
    postbacks     bigint NOT NULL
) WITH (fillfactor = 70);
COMMENT ON TABLE log_hourly IS 'Rollup of postback_log by the hour they were received in: what was not counted, by reason.';
COMMENT ON COLUMN log_hourly.hour IS 'The start of the hour of received_at.';
COMMENT ON COLUMN log_hourly.campaign_id IS 'Null where the click is not known.';
COMMENT ON COLUMN log_hourly.outcome IS 'duplicate, conflict or rejected.';
COMMENT ON COLUMN log_hourly.reason IS 'Why a postback was rejected.';
COMMENT ON COLUMN log_hourly.postbacks IS 'How many.';
CREATE UNIQUE INDEX log_hourly_key ON log_hourly (campaign_id, hour, advertiser_id, outcome, reason) NULLS NOT DISTINCT;
CREATE INDEX log_hourly_hour ON log_hourly (hour);

CREATE TABLE log_daily (LIKE log_hourly INCLUDING COMMENTS INCLUDING STORAGE) WITH (fillfactor = 70);
ALTER TABLE log_daily RENAME COLUMN hour TO day;
ALTER TABLE log_daily ALTER COLUMN day TYPE date;
COMMENT ON TABLE log_daily IS 'The same by day, in UTC.';
COMMENT ON COLUMN log_daily.day IS 'The day of received_at, in UTC.';
CREATE UNIQUE INDEX log_daily_key ON log_daily (campaign_id, day, advertiser_id, outcome, reason) NULLS NOT DISTINCT;
CREATE INDEX log_daily_day ON log_daily (day);

-- The queues. They are emptied all the time: vacuumed often, and never cut short, which would lock writers out.

CREATE TABLE rollup_conversions (
    LIKE conversions_hourly, queued_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
COMMENT ON TABLE rollup_conversions IS 'Sums over conversions that are not in the rollups yet, a few rows for each statement that wrote some.';

CREATE TABLE rollup_clicks (
    LIKE clicks_hourly, queued_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
COMMENT ON TABLE rollup_clicks IS 'The same over clicks.';

CREATE TABLE rollup_log (
    LIKE log_hourly, queued_at timestamptz NOT NULL DEFAULT now()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
COMMENT ON TABLE rollup_log IS 'The same over postback_log.';

CREATE TABLE rollup_counted (
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL,
    received_at   timestamptz NOT NULL,
    campaign_id   bigint NOT NULL,
    goal_id       bigint NOT NULL,
    publisher_id  bigint NOT NULL,
    country       char(2),
    currency      char(3) NOT NULL,
    status        text NOT NULL,
    sale_amount   numeric,
    revenue       numeric NOT NULL,
    payout        numeric NOT NULL,
    PRIMARY KEY (conversion_id, clicked_at)
) WITH (fillfactor = 70);
COMMENT ON TABLE rollup_counted IS 'What the rollups hold of each conversion that changed after it was written; of all others they hold the row itself.';

CREATE TABLE rollup_touched (
    touch_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queued_at     timestamptz NOT NULL DEFAULT now(),
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL,
    old           rollup_counted,
    is_gone       boolean NOT NULL DEFAULT false
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000, vacuum_truncate = off);
COMMENT ON TABLE rollup_touched IS 'Conversions that have to be counted anew: their row, status or adjustments changed.';
COMMENT ON COLUMN rollup_touched.old IS 'The row before, if it is the row that changed.';
COMMENT ON COLUMN rollup_touched.is_gone IS 'The row was deleted.';

CREATE FUNCTION count_conversions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_conversions
    SELECT
        date_bin('1 hour', received_at, '2000-01-01 00:00+00'), campaign_id, goal_id, publisher_id, country, currency,
        status, count(*), coalesce(sum(sale_amount), 0), sum(revenue), sum(payout), sum(extract(epoch FROM delay)),
        count(*) FILTER (WHERE delay <= '1 minute'),
        count(*) FILTER (WHERE delay <= '10 minutes'),
        count(*) FILTER (WHERE delay <= '1 hour'),
        count(*) FILTER (WHERE delay <= '6 hours'),
        count(*) FILTER (WHERE delay <= '1 day'),
        count(*) FILTER (WHERE delay <= '7 days'),
        count(*) FILTER (WHERE delay <= '30 days')
    FROM (SELECT *, received_at - clicked_at AS delay FROM new_rows) AS new
    GROUP BY 1, 2, 3, 4, 5, 6, 7;
    RETURN NULL;
END $$;

CREATE FUNCTION touch_conversions() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_touched (conversion_id, clicked_at, old, is_gone)
    SELECT conversion_id, clicked_at,
           ROW(conversion_id, clicked_at, received_at, campaign_id, goal_id, publisher_id, country, currency, status,
               sale_amount, revenue, payout)::rollup_counted,
           TG_OP = 'DELETE'
    FROM old_rows;
    RETURN NULL;
END $$;

CREATE FUNCTION touch_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO rollup_touched (conversion_id, clicked_at)
    SELECT DISTINCT conversion_id, clicked_at FROM changed_rows;
    RETURN NULL;
END $$;

CREATE FUNCTION count_clicks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO rollup_clicks
        SELECT date_bin('1 hour', clicked_at, '2000-01-01 00:00+00'), campaign_id, publisher_id, country, -count(*)
        FROM old_rows
        GROUP BY 1, 2, 3, 4;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO rollup_clicks
        SELECT date_bin('1 hour', clicked_at, '2000-01-01 00:00+00'), campaign_id, publisher_id, country, count(*)
        FROM new_rows
        GROUP BY 1, 2, 3, 4;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION count_log() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO rollup_log
        SELECT date_bin('1 hour', received_at, '2000-01-01 00:00+00'), advertiser_id, campaign_id, outcome, reason,
               -count(*)
        FROM old_rows
        GROUP BY 1, 2, 3, 4, 5;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO rollup_log
        SELECT date_bin('1 hour', received_at, '2000-01-01 00:00+00'), advertiser_id, campaign_id, outcome, reason,
               count(*)
        FROM new_rows
        GROUP BY 1, 2, 3, 4, 5;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER rollup_insert AFTER INSERT ON conversions
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_conversions();
CREATE TRIGGER rollup_update AFTER UPDATE ON conversions
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_conversions();
CREATE TRIGGER rollup_delete AFTER DELETE ON conversions
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_conversions();

CREATE TRIGGER rollup_insert AFTER INSERT ON clicks
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_clicks();
CREATE TRIGGER rollup_update AFTER UPDATE ON clicks
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_clicks();
CREATE TRIGGER rollup_delete AFTER DELETE ON clicks
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_clicks();

CREATE TRIGGER rollup_insert AFTER INSERT ON postback_log
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_log();
CREATE TRIGGER rollup_update AFTER UPDATE ON postback_log
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION count_log();
CREATE TRIGGER rollup_delete AFTER DELETE ON postback_log
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION count_log();

CREATE TRIGGER rollup_insert AFTER INSERT ON status_changes
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();
CREATE TRIGGER rollup_update AFTER UPDATE ON status_changes
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();
CREATE TRIGGER rollup_delete AFTER DELETE ON status_changes
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();

CREATE TRIGGER rollup_insert AFTER INSERT ON adjustments
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();
CREATE TRIGGER rollup_update AFTER UPDATE ON adjustments
    REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();
CREATE TRIGGER rollup_delete AFTER DELETE ON adjustments
    REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION touch_changed();

-- What is there already. Writers wait until this is done: the triggers above hold their tables.

INSERT INTO rollup_conversions
SELECT
    date_bin('1 hour', received_at, '2000-01-01 00:00+00'), campaign_id, goal_id, publisher_id, country, currency,
    status, count(*), coalesce(sum(sale_amount), 0), sum(revenue), sum(payout), sum(extract(epoch FROM delay)),
    count(*) FILTER (WHERE delay <= '1 minute'),
    count(*) FILTER (WHERE delay <= '10 minutes'),
    count(*) FILTER (WHERE delay <= '1 hour'),
    count(*) FILTER (WHERE delay <= '6 hours'),
    count(*) FILTER (WHERE delay <= '1 day'),
    count(*) FILTER (WHERE delay <= '7 days'),
    count(*) FILTER (WHERE delay <= '30 days')
FROM (SELECT *, received_at - clicked_at AS delay FROM conversions) AS stored
GROUP BY 1, 2, 3, 4, 5, 6, 7;

INSERT INTO rollup_touched (conversion_id, clicked_at)
SELECT conversion_id, clicked_at FROM status_changes
UNION
SELECT conversion_id, clicked_at FROM adjustments;

INSERT INTO rollup_clicks
SELECT date_bin('1 hour', clicked_at, '2000-01-01 00:00+00'), campaign_id, publisher_id, country, count(*)
FROM clicks
GROUP BY 1, 2, 3, 4;

INSERT INTO rollup_log
SELECT date_bin('1 hour', received_at, '2000-01-01 00:00+00'), advertiser_id, campaign_id, outcome, reason, count(*)
FROM postback_log
GROUP BY 1, 2, 3, 4, 5;

-- All of a day, or of an hour, whatever the campaign: written in this order, so a summary of each block is enough.
CREATE INDEX conversions_received ON conversions USING brin (received_at) WITH (autosummarize = on);

CREATE FUNCTION first_conversion_id(at timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid;
COMMENT ON FUNCTION first_conversion_id IS 'No conversion of a click at this time or later has a smaller id: so the primary key finds conversions by the time of the click.';

CREATE VIEW performance_hourly AS
SELECT
    facts.hour, campaigns.advertiser_id, advertisers.name AS advertiser, facts.campaign_id, campaigns.name AS campaign,
    facts.publisher_id, publishers.name AS publisher, facts.country, facts.currency, facts.clicks, facts.conversions,
    facts.approved, facts.pending, facts.cancelled, facts.rejected, facts.sale_amount, facts.revenue, facts.payout,
    facts.revenue - facts.payout AS margin, facts.pending_revenue, facts.pending_payout,
    round(facts.delay_s / nullif(facts.conversions, 0), 1) AS mean_delay_s
FROM (
    SELECT
        hour, campaign_id, publisher_id, country, currency,
        sum(clicks)::bigint AS clicks,
        sum(conversions)::bigint AS conversions,
        coalesce(sum(conversions) FILTER (WHERE status = 'approved'), 0)::bigint AS approved,
        coalesce(sum(conversions) FILTER (WHERE status = 'pending'), 0)::bigint AS pending,
        coalesce(sum(conversions) FILTER (WHERE status = 'cancelled'), 0)::bigint AS cancelled,
        coalesce(sum(conversions) FILTER (WHERE status = 'rejected'), 0)::bigint AS rejected,
        coalesce(sum(sale_amount) FILTER (WHERE status = 'approved'), 0) AS sale_amount,
        coalesce(sum(revenue) FILTER (WHERE status = 'approved'), 0) AS revenue,
        coalesce(sum(payout) FILTER (WHERE status = 'approved'), 0) AS payout,
        coalesce(sum(revenue) FILTER (WHERE status = 'pending'), 0) AS pending_revenue,
        coalesce(sum(payout) FILTER (WHERE status = 'pending'), 0) AS pending_payout,
        sum(delay_s) AS delay_s
    FROM (
        SELECT
            hour, campaign_id, publisher_id, country, currency, status, 0::bigint AS clicks, conversions,
            sale_amount, revenue, payout, delay_s
        FROM conversions_hourly
        UNION ALL
        SELECT
            counted.hour, counted.campaign_id, counted.publisher_id, counted.country, campaigns.currency, NULL,
            counted.clicks, 0, 0, 0, 0, 0
        FROM clicks_hourly AS counted
        LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
    ) AS both_kinds
    GROUP BY hour, campaign_id, publisher_id, country, currency
) AS facts
LEFT JOIN campaigns ON campaigns.id = facts.campaign_id
LEFT JOIN advertisers ON advertisers.id = campaigns.advertiser_id
LEFT JOIN publishers ON publishers.id = facts.publisher_id;
COMMENT ON VIEW performance_hourly IS 'Clicks and conversions by hour, campaign, publisher, country and currency, with names. Clicks stand where they were made, conversions where they were received.';
COMMENT ON COLUMN performance_hourly.approved IS 'How many of the conversions are approved now; the other statuses likewise.';
COMMENT ON COLUMN performance_hourly.sale_amount IS 'Of approved conversions, with adjustments; revenue, payout and margin likewise.';
COMMENT ON COLUMN performance_hourly.margin IS 'revenue - payout.';
COMMENT ON COLUMN performance_hourly.pending_revenue IS 'What would be added if all that is pending were approved.';
COMMENT ON COLUMN performance_hourly.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE VIEW goals_hourly AS
SELECT
    counted.hour, counted.campaign_id, campaigns.name AS campaign, counted.goal_id, goals.title AS goal,
    goals.value AS goal_value, counted.publisher_id, publishers.name AS publisher, counted.country, counted.currency,
    counted.status, counted.conversions, counted.sale_amount, counted.revenue, counted.payout,
    counted.revenue - counted.payout AS margin,
    round(counted.delay_s / nullif(counted.conversions, 0), 1) AS mean_delay_s
FROM conversions_hourly AS counted
LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
LEFT JOIN goals ON goals.id = counted.goal_id
LEFT JOIN publishers ON publishers.id = counted.publisher_id
WHERE counted.conversions <> 0;
COMMENT ON VIEW goals_hourly IS 'Conversions by hour, campaign, goal, publisher, country, currency and status, with names.';
COMMENT ON COLUMN goals_hourly.margin IS 'revenue - payout, whatever the status.';
COMMENT ON COLUMN goals_hourly.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE VIEW performance_daily AS
SELECT
    facts.day, campaigns.advertiser_id, advertisers.name AS advertiser, facts.campaign_id, campaigns.name AS campaign,
    facts.publisher_id, publishers.name AS publisher, facts.country, facts.currency, facts.clicks, facts.conversions,
    facts.approved, facts.pending, facts.cancelled, facts.rejected, facts.sale_amount, facts.revenue, facts.payout,
    facts.revenue - facts.payout AS margin, facts.pending_revenue, facts.pending_payout,
    round(facts.delay_s / nullif(facts.conversions, 0), 1) AS mean_delay_s
FROM (
    SELECT
        day, campaign_id, publisher_id, country, currency,
        sum(clicks)::bigint AS clicks,
        sum(conversions)::bigint AS conversions,
        coalesce(sum(conversions) FILTER (WHERE status = 'approved'), 0)::bigint AS approved,
        coalesce(sum(conversions) FILTER (WHERE status = 'pending'), 0)::bigint AS pending,
        coalesce(sum(conversions) FILTER (WHERE status = 'cancelled'), 0)::bigint AS cancelled,
        coalesce(sum(conversions) FILTER (WHERE status = 'rejected'), 0)::bigint AS rejected,
        coalesce(sum(sale_amount) FILTER (WHERE status = 'approved'), 0) AS sale_amount,
        coalesce(sum(revenue) FILTER (WHERE status = 'approved'), 0) AS revenue,
        coalesce(sum(payout) FILTER (WHERE status = 'approved'), 0) AS payout,
        coalesce(sum(revenue) FILTER (WHERE status = 'pending'), 0) AS pending_revenue,
        coalesce(sum(payout) FILTER (WHERE status = 'pending'), 0) AS pending_payout,
        sum(delay_s) AS delay_s
    FROM (
        SELECT
            day, campaign_id, publisher_id, country, currency, status, 0::bigint AS clicks, conversions,
            sale_amount, revenue, payout, delay_s
        FROM conversions_daily
        UNION ALL
        SELECT
            counted.day, counted.campaign_id, counted.publisher_id, counted.country, campaigns.currency, NULL,
            counted.clicks, 0, 0, 0, 0, 0
        FROM clicks_daily AS counted
        LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
    ) AS both_kinds
    GROUP BY day, campaign_id, publisher_id, country, currency
) AS facts
LEFT JOIN campaigns ON campaigns.id = facts.campaign_id
LEFT JOIN advertisers ON advertisers.id = campaigns.advertiser_id
LEFT JOIN publishers ON publishers.id = facts.publisher_id;
COMMENT ON VIEW performance_daily IS 'Clicks and conversions by day (UTC), campaign, publisher, country and currency, with names. Clicks stand where they were made, conversions where they were received.';
COMMENT ON COLUMN performance_daily.approved IS 'How many of the conversions are approved now; the other statuses likewise.';
COMMENT ON COLUMN performance_daily.sale_amount IS 'Of approved conversions, with adjustments; revenue, payout and margin likewise.';
COMMENT ON COLUMN performance_daily.margin IS 'revenue - payout.';
COMMENT ON COLUMN performance_daily.pending_revenue IS 'What would be added if all that is pending were approved.';
COMMENT ON COLUMN performance_daily.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE VIEW goals_daily AS
SELECT
    counted.day, counted.campaign_id, campaigns.name AS campaign, counted.goal_id, goals.title AS goal,
    goals.value AS goal_value, counted.publisher_id, publishers.name AS publisher, counted.country, counted.currency,
    counted.status, counted.conversions, counted.sale_amount, counted.revenue, counted.payout,
    counted.revenue - counted.payout AS margin,
    round(counted.delay_s / nullif(counted.conversions, 0), 1) AS mean_delay_s
FROM conversions_daily AS counted
LEFT JOIN campaigns ON campaigns.id = counted.campaign_id
LEFT JOIN goals ON goals.id = counted.goal_id
LEFT JOIN publishers ON publishers.id = counted.publisher_id
WHERE counted.conversions <> 0;
COMMENT ON VIEW goals_daily IS 'Conversions by day (UTC), campaign, goal, publisher, country, currency and status, with names.';
COMMENT ON COLUMN goals_daily.margin IS 'revenue - payout, whatever the status.';
COMMENT ON COLUMN goals_daily.mean_delay_s IS 'The mean of the seconds from click to receipt.';
