-- What the migrations sum up to, for reading only. Written by tests/integration/test_migrations.py.

CREATE FUNCTION public.count_clicks() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current_setting('postback.is_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
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

CREATE FUNCTION public.count_conversions() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.count_log() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
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

CREATE FUNCTION public.first_conversion_id(at timestamp with time zone) RETURNS uuid
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN ((lpad(to_hex(((EXTRACT(epoch FROM at) * (1000)::numeric))::bigint), 12, '0'::text) || '00000000000000000000'::text))::uuid;

COMMENT ON FUNCTION public.first_conversion_id(at timestamp with time zone) IS 'No conversion of a click at this time or later has a smaller id: so the primary key finds conversions by the time of the click.';

CREATE FUNCTION public.notify_catalog() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('catalog', TG_TABLE_NAME);
    RETURN NULL;
END $$;

CREATE FUNCTION public.touch_changed() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF current_setting('postback.is_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    INSERT INTO rollup_touched (conversion_id, clicked_at)
    SELECT DISTINCT conversion_id, clicked_at FROM changed_rows;
    RETURN NULL;
END $$;

CREATE FUNCTION public.touch_conversions() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    INSERT INTO rollup_touched (conversion_id, clicked_at, old, is_gone)
    SELECT conversion_id, clicked_at,
           ROW(conversion_id, clicked_at, received_at, campaign_id, goal_id, publisher_id, country, currency, status,
               sale_amount, revenue, payout)::rollup_counted,
           TG_OP = 'DELETE'
    FROM old_rows;
    RETURN NULL;
END $$;

CREATE FUNCTION public.touch_outbound() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM publisher_postbacks WHERE status = 'active') THEN
        IF TG_TABLE_NAME = 'conversions' THEN
            INSERT INTO outbound_touched (conversion_id, clicked_at)
            SELECT conversion_id, clicked_at
            FROM new_rows
            WHERE (payout > 0 OR reason IS NULL) AND EXISTS (
                SELECT FROM publisher_postbacks AS postback
                WHERE postback.publisher_id = new_rows.publisher_id AND postback.status = 'active'
                    AND (postback.goal_id = new_rows.goal_id OR postback.goal_id IS NULL)
            );
        ELSE
            INSERT INTO outbound_touched (conversion_id, clicked_at)
            SELECT DISTINCT conversion_id, clicked_at FROM new_rows;
        END IF;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION public.wake_parked() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF EXISTS (SELECT FROM parked_postbacks) THEN
        UPDATE parked_postbacks SET look_at = now() WHERE postback_id IN (
            SELECT postback_id FROM parked_postbacks
            WHERE click_ids && ARRAY(SELECT click_id FROM added)
            ORDER BY postback_id
            FOR UPDATE
        );
    END IF;
    RETURN NULL;
END $$;

CREATE TABLE public.adjustments (
    adjustment_id uuid NOT NULL,
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    kind text NOT NULL,
    sale_amount numeric(18,6) NOT NULL,
    revenue numeric(18,6) NOT NULL,
    payout numeric(18,6) NOT NULL,
    reference text NOT NULL,
    reason text,
    made_by text NOT NULL,
    CONSTRAINT adjustments_kind_check CHECK ((kind = ANY (ARRAY['refund'::text, 'chargeback'::text, 'correction'::text])))
);

COMMENT ON TABLE public.adjustments IS 'What was taken back from, or added to, conversions. Only ever added to; conversions_net sums it up.';

COMMENT ON COLUMN public.adjustments.adjustment_id IS 'Computed from conversion and reference: the same adjustment is applied once.';

COMMENT ON COLUMN public.adjustments.clicked_at IS 'The conversion''s.';

COMMENT ON COLUMN public.adjustments.sale_amount IS 'What is added to the conversion''s sale_amount, in its currency: negative for what is taken back.';

COMMENT ON COLUMN public.adjustments.revenue IS 'What is added to the conversion''s revenue.';

COMMENT ON COLUMN public.adjustments.payout IS 'What is added to the conversion''s payout.';

COMMENT ON COLUMN public.adjustments.reference IS 'The caller''s own name of the adjustment, e.g. the refund''s id.';

COMMENT ON COLUMN public.adjustments.reason IS 'Why, in the caller''s words.';

COMMENT ON COLUMN public.adjustments.made_by IS 'Who made it.';

CREATE TABLE public.advertisers (
    id bigint NOT NULL,
    name text NOT NULL,
    security_tokens text[] DEFAULT '{}'::text[] NOT NULL,
    profile text DEFAULT 'json'::text NOT NULL,
    aliases jsonb DEFAULT '{}'::jsonb NOT NULL,
    signing_secrets text[] DEFAULT '{}'::text[] NOT NULL,
    signature_window_ms bigint,
    allowed_addresses cidr[] DEFAULT '{}'::cidr[] NOT NULL,
    rate_limit integer,
    status text DEFAULT 'active'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT advertisers_id_check CHECK ((id > 0)),
    CONSTRAINT advertisers_profile_check CHECK ((profile = ANY (ARRAY['json'::text, 'text'::text, 'pixel'::text, 'empty'::text]))),
    CONSTRAINT advertisers_rate_limit_check CHECK ((rate_limit > 0)),
    CONSTRAINT advertisers_signature_window_ms_check CHECK ((signature_window_ms > 0)),
    CONSTRAINT advertisers_signing_secrets_check CHECK ((cardinality(signing_secrets) <= 2)),
    CONSTRAINT advertisers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text])))
);

COMMENT ON TABLE public.advertisers IS 'Who sends postbacks and pays the revenue.';

COMMENT ON COLUMN public.advertisers.name IS 'As people call it.';

COMMENT ON COLUMN public.advertisers.security_tokens IS 'SHA-256 digests of the accepted tokens, as sha256:<hex>; none: no token is asked for.';

COMMENT ON COLUMN public.advertisers.profile IS 'The shape of the answers: json, text, pixel or empty.';

COMMENT ON COLUMN public.advertisers.aliases IS 'The advertiser''s own parameter names, each to the standard name it stands for.';

COMMENT ON COLUMN public.advertisers.signing_secrets IS 'Secrets of HMAC signatures, encrypted, as enc:<base64url>; none: no signature is asked for.';

COMMENT ON COLUMN public.advertisers.signature_window_ms IS 'How far a signature''s time may be from when it was received; null: five minutes.';

COMMENT ON COLUMN public.advertisers.allowed_addresses IS 'Where postbacks may come from; none: anywhere.';

COMMENT ON COLUMN public.advertisers.rate_limit IS 'The most postbacks a second that one receiver takes; null: no limit.';

COMMENT ON COLUMN public.advertisers.status IS 'Archived: kept for what refers to it, offered for nothing new. Each of its campaigns is archived then.';

COMMENT ON COLUMN public.advertisers.version IS 'Grows with each change; who changes it names the version that was read.';

CREATE TABLE public.api_keys (
    key_id bigint NOT NULL,
    name text NOT NULL,
    role text NOT NULL,
    digest bytea NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    revoked_at timestamp with time zone,
    CONSTRAINT api_keys_digest_check CHECK ((length(digest) = 32)),
    CONSTRAINT api_keys_role_check CHECK ((role = ANY (ARRAY['read'::text, 'admin'::text, 'clicks'::text])))
);

COMMENT ON TABLE public.api_keys IS 'Who may use the API, beside the admin key in its file.';

COMMENT ON COLUMN public.api_keys.name IS 'Stands in catalog_history; unique among the keys that are not revoked.';

COMMENT ON COLUMN public.api_keys.role IS 'read: may look at everything. admin: may change it too. clicks: may register clicks, and nothing else.';

COMMENT ON COLUMN public.api_keys.digest IS 'SHA-256 of the key, which is random and kept nowhere.';

COMMENT ON COLUMN public.api_keys.revoked_at IS 'Null: the key is good.';

ALTER TABLE public.api_keys ALTER COLUMN key_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.api_keys_key_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.campaigns (
    id bigint NOT NULL,
    advertiser_id bigint NOT NULL,
    name text NOT NULL,
    currency character(3) NOT NULL,
    timezone text DEFAULT 'UTC'::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    window_ms bigint,
    min_age_ms bigint,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT campaigns_id_check CHECK ((id > 0)),
    CONSTRAINT campaigns_min_age_ms_check CHECK ((min_age_ms >= 0)),
    CONSTRAINT campaigns_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'archived'::text]))),
    CONSTRAINT campaigns_window_ms_check CHECK ((window_ms > 0))
);

COMMENT ON TABLE public.campaigns IS 'An advertiser''s offer; all its amounts are in one currency.';

COMMENT ON COLUMN public.campaigns.advertiser_id IS 'Whose campaign it is.';

COMMENT ON COLUMN public.campaigns.currency IS 'ISO 4217; sale_amount, revenue and payout of its conversions are in it.';

COMMENT ON COLUMN public.campaigns.timezone IS 'An IANA name, for reports.';

COMMENT ON COLUMN public.campaigns.status IS 'active, paused or archived; only an active one counts.';

COMMENT ON COLUMN public.campaigns.window_ms IS 'How long after the click a postback counts; null: the configured clicks.window.';

COMMENT ON COLUMN public.campaigns.min_age_ms IS 'A postback sooner after the click is refused; null: the configured clicks.min_age.';

COMMENT ON COLUMN public.campaigns.version IS 'Grows with each change of the campaign or its own caps, not with those of its goals.';

CREATE TABLE public.caps (
    cap_id bigint NOT NULL,
    campaign_id bigint NOT NULL,
    goal_id bigint,
    "position" integer NOT NULL,
    publisher_id bigint,
    each_publisher boolean DEFAULT false NOT NULL,
    measure text NOT NULL,
    period text NOT NULL,
    cap_limit numeric(18,6) NOT NULL,
    action text NOT NULL,
    CONSTRAINT caps_action_check CHECK ((action = ANY (ARRAY['pending'::text, 'cancelled'::text, 'unpaid'::text]))),
    CONSTRAINT caps_cap_limit_check CHECK ((cap_limit > (0)::numeric)),
    CONSTRAINT caps_check CHECK (((NOT each_publisher) OR (publisher_id IS NULL))),
    CONSTRAINT caps_measure_check CHECK ((measure = ANY (ARRAY['conversions'::text, 'revenue'::text, 'payout'::text]))),
    CONSTRAINT caps_period_check CHECK ((period = ANY (ARRAY['day'::text, 'month'::text, 'lifetime'::text])))
);

COMMENT ON TABLE public.caps IS 'How much a goal or a campaign may convert. One for each goal or campaign, publisher, measure and period.';

COMMENT ON COLUMN public.caps.cap_id IS 'Of this row only: a change writes the row anew.';

COMMENT ON COLUMN public.caps.goal_id IS 'Null: the cap is on the campaign, over all its goals.';

COMMENT ON COLUMN public.caps."position" IS 'Its place among the caps of the goal or campaign.';

COMMENT ON COLUMN public.caps.publisher_id IS 'The one publisher that it is for; null: all together, or each.';

COMMENT ON COLUMN public.caps.each_publisher IS 'Whether each publisher is counted by itself; one with a cap of its own for the same measure and period has that one instead.';

COMMENT ON COLUMN public.caps.measure IS 'What is counted: conversions, revenue or payout.';

COMMENT ON COLUMN public.caps.period IS 'Over what: day or month in the campaign''s time zone, or lifetime.';

COMMENT ON COLUMN public.caps.cap_limit IS 'The most there may be: a number of conversions, or an amount in the campaign''s currency.';

COMMENT ON COLUMN public.caps.action IS 'What becomes of a conversion over the cap: pending, cancelled, or unpaid (recorded with payout 0).';

ALTER TABLE public.caps ALTER COLUMN cap_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.caps_cap_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.catalog_history (
    history_id bigint NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_by text NOT NULL,
    kind text NOT NULL,
    entity_id text NOT NULL,
    campaign_id bigint,
    version integer NOT NULL,
    before jsonb,
    after jsonb NOT NULL,
    CONSTRAINT catalog_history_kind_check CHECK ((kind = ANY (ARRAY['advertiser'::text, 'publisher'::text, 'campaign'::text, 'goal'::text, 'exchange_rate'::text])))
);

COMMENT ON TABLE public.catalog_history IS 'Each change of the catalog, whoever made it, written in the same transaction. Never changed, never deleted.';

COMMENT ON COLUMN public.catalog_history.changed_by IS 'A key''s name, "admin key", "catalog import" or "console".';

COMMENT ON COLUMN public.catalog_history.entity_id IS 'The id; of an exchange rate FROM-TO-DATE.';

COMMENT ON COLUMN public.catalog_history.campaign_id IS 'The campaign that was changed, or whose goal was; null for other kinds.';

COMMENT ON COLUMN public.catalog_history.version IS 'The version that the change made.';

COMMENT ON COLUMN public.catalog_history.before IS 'What it was, under the keys of a catalog file; null: it was created. Of secrets only how many there were.';

COMMENT ON COLUMN public.catalog_history.after IS 'What it became, likewise; "changed" stands where secrets were changed.';

ALTER TABLE public.catalog_history ALTER COLUMN history_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.catalog_history_history_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.clicks (
    click_id text NOT NULL COLLATE pg_catalog."C",
    campaign_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    clicked_at timestamp(3) with time zone NOT NULL,
    country character(2),
    params jsonb DEFAULT '{}'::jsonb NOT NULL,
    registered_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.clicks IS 'Registered clicks. Immutable: the first registration wins.';

COMMENT ON COLUMN public.clicks.click_id IS 'The tracker''s.';

COMMENT ON COLUMN public.clicks.publisher_id IS 'Who brought it.';

COMMENT ON COLUMN public.clicks.clicked_at IS 'Cut to whole milliseconds; part of each of its conversions'' ids.';

COMMENT ON COLUMN public.clicks.country IS 'ISO 3166-1 alpha-2; null where the tracker did not know it.';

COMMENT ON COLUMN public.clicks.params IS 'What else the tracker gave.';

COMMENT ON COLUMN public.clicks.registered_at IS 'When it was written.';

CREATE TABLE public.clicks_daily (
    day date CONSTRAINT clicks_hourly_hour_not_null NOT NULL,
    campaign_id bigint CONSTRAINT clicks_hourly_campaign_id_not_null NOT NULL,
    publisher_id bigint CONSTRAINT clicks_hourly_publisher_id_not_null NOT NULL,
    country character(2),
    clicks bigint CONSTRAINT clicks_hourly_clicks_not_null NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.clicks_daily IS 'The same by day, in UTC.';

COMMENT ON COLUMN public.clicks_daily.day IS 'The day of clicked_at, in UTC.';

COMMENT ON COLUMN public.clicks_daily.clicks IS 'How many.';

CREATE TABLE public.clicks_hourly (
    hour timestamp with time zone NOT NULL,
    campaign_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    country character(2),
    clicks bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.clicks_hourly IS 'Rollup of clicks by the hour they were made in.';

COMMENT ON COLUMN public.clicks_hourly.hour IS 'The start of the hour of clicked_at.';

COMMENT ON COLUMN public.clicks_hourly.clicks IS 'How many.';

CREATE TABLE public.conversions (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    advertiser_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    campaign_id bigint NOT NULL,
    goal_id bigint NOT NULL,
    goal_value text NOT NULL,
    goal_version integer NOT NULL,
    click_id text NOT NULL COLLATE pg_catalog."C",
    txn_id text COLLATE pg_catalog."C",
    status text NOT NULL,
    reason text,
    country character(2),
    currency character(3) NOT NULL,
    sale_amount numeric(18,6),
    revenue numeric(18,6) NOT NULL,
    payout numeric(18,6) NOT NULL,
    original_amount numeric(18,6),
    original_currency character(3),
    exchange_rate numeric(18,9),
    event_at timestamp with time zone,
    params jsonb NOT NULL,
    status_given boolean DEFAULT false NOT NULL,
    CONSTRAINT conversions_status_check CHECK ((status = ANY (ARRAY['approved'::text, 'pending'::text, 'cancelled'::text, 'rejected'::text])))
)
PARTITION BY RANGE (clicked_at);

COMMENT ON TABLE public.conversions IS 'Each counted event, once. Partitioned by the month of clicked_at (UTC), which never changes for a click.';

COMMENT ON COLUMN public.conversions.conversion_id IS 'UUIDv8 of click time, click_id, goal and, as the goal says, txn_id: the same event always has the same id.';

COMMENT ON COLUMN public.conversions.clicked_at IS 'The click''s time, in whole milliseconds.';

COMMENT ON COLUMN public.conversions.received_at IS 'When a receiver read the postback.';

COMMENT ON COLUMN public.conversions.recorded_at IS 'When the writer committed the row.';

COMMENT ON COLUMN public.conversions.publisher_id IS 'Who brought the click.';

COMMENT ON COLUMN public.conversions.goal_value IS 'The goal''s value, as the sender gave it.';

COMMENT ON COLUMN public.conversions.goal_version IS 'The version of the goal that it was decided on.';

COMMENT ON COLUMN public.conversions.txn_id IS 'The advertiser''s own id of the event, if given.';

COMMENT ON COLUMN public.conversions.status IS 'The status it was counted with; what moved it since is in status_changes, the one in force in conversions_net.';

COMMENT ON COLUMN public.conversions.reason IS 'Why the payout or status is not the usual one, e.g. goal_not_assigned.';

COMMENT ON COLUMN public.conversions.country IS 'The click''s: ISO 3166-1 alpha-2; null where the tracker did not know it.';

COMMENT ON COLUMN public.conversions.currency IS 'The campaign''s; sale_amount, revenue and payout are in it.';

COMMENT ON COLUMN public.conversions.sale_amount IS 'What the customer paid, if given, in currency.';

COMMENT ON COLUMN public.conversions.revenue IS 'What the advertiser owes for it.';

COMMENT ON COLUMN public.conversions.payout IS 'What the publisher is owed for it.';

COMMENT ON COLUMN public.conversions.original_amount IS 'The amount as sent, where it was converted; null where nothing was.';

COMMENT ON COLUMN public.conversions.original_currency IS 'The currency it was sent in, where it was converted.';

COMMENT ON COLUMN public.conversions.exchange_rate IS 'Units of currency for one of original_currency, where it was converted.';

COMMENT ON COLUMN public.conversions.event_at IS 'The sender''s own time of the event, if given.';

COMMENT ON COLUMN public.conversions.params IS 'What else the sender gave. Never a secret.';

COMMENT ON COLUMN public.conversions.status_given IS 'Whether its own postback gave the status; false: the goal implied it.';

CREATE TABLE public.conversions_daily (
    day date CONSTRAINT conversions_hourly_hour_not_null NOT NULL,
    campaign_id bigint CONSTRAINT conversions_hourly_campaign_id_not_null NOT NULL,
    goal_id bigint CONSTRAINT conversions_hourly_goal_id_not_null NOT NULL,
    publisher_id bigint CONSTRAINT conversions_hourly_publisher_id_not_null NOT NULL,
    country character(2),
    currency character(3) CONSTRAINT conversions_hourly_currency_not_null NOT NULL,
    status text CONSTRAINT conversions_hourly_status_not_null NOT NULL,
    conversions bigint CONSTRAINT conversions_hourly_conversions_not_null NOT NULL,
    sale_amount numeric CONSTRAINT conversions_hourly_sale_amount_not_null NOT NULL,
    revenue numeric CONSTRAINT conversions_hourly_revenue_not_null NOT NULL,
    payout numeric CONSTRAINT conversions_hourly_payout_not_null NOT NULL,
    delay_s numeric CONSTRAINT conversions_hourly_delay_s_not_null NOT NULL,
    within_1m bigint CONSTRAINT conversions_hourly_within_1m_not_null NOT NULL,
    within_10m bigint CONSTRAINT conversions_hourly_within_10m_not_null NOT NULL,
    within_1h bigint CONSTRAINT conversions_hourly_within_1h_not_null NOT NULL,
    within_6h bigint CONSTRAINT conversions_hourly_within_6h_not_null NOT NULL,
    within_1d bigint CONSTRAINT conversions_hourly_within_1d_not_null NOT NULL,
    within_7d bigint CONSTRAINT conversions_hourly_within_7d_not_null NOT NULL,
    within_30d bigint CONSTRAINT conversions_hourly_within_30d_not_null NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.conversions_daily IS 'The same by day, in UTC.';

COMMENT ON COLUMN public.conversions_daily.day IS 'The day of received_at, in UTC.';

COMMENT ON COLUMN public.conversions_daily.country IS 'The click''s; null where the tracker did not know it.';

COMMENT ON COLUMN public.conversions_daily.status IS 'As it stands now: approved, pending, cancelled or rejected.';

COMMENT ON COLUMN public.conversions_daily.conversions IS 'How many.';

COMMENT ON COLUMN public.conversions_daily.sale_amount IS 'Sum, in currency.';

COMMENT ON COLUMN public.conversions_daily.revenue IS 'Sum of what the advertiser owes, in currency.';

COMMENT ON COLUMN public.conversions_daily.payout IS 'Sum of what the publisher is owed, in currency.';

COMMENT ON COLUMN public.conversions_daily.delay_s IS 'Sum of the seconds from click to receipt; divided by conversions: the mean.';

COMMENT ON COLUMN public.conversions_daily.within_1m IS 'How many of them came within a minute of the click.';

COMMENT ON COLUMN public.conversions_daily.within_10m IS 'Within 10 minutes, those within 1 counted too; and so on.';

CREATE TABLE public.conversions_hourly (
    hour timestamp with time zone NOT NULL,
    campaign_id bigint NOT NULL,
    goal_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    country character(2),
    currency character(3) NOT NULL,
    status text NOT NULL,
    conversions bigint NOT NULL,
    sale_amount numeric NOT NULL,
    revenue numeric NOT NULL,
    payout numeric NOT NULL,
    delay_s numeric NOT NULL,
    within_1m bigint NOT NULL,
    within_10m bigint NOT NULL,
    within_1h bigint NOT NULL,
    within_6h bigint NOT NULL,
    within_1d bigint NOT NULL,
    within_7d bigint NOT NULL,
    within_30d bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.conversions_hourly IS 'Rollup of conversions by the hour they were received in, as they stand now; up to seconds behind. Rows of zeros are what moved elsewhere.';

COMMENT ON COLUMN public.conversions_hourly.hour IS 'The start of the hour of received_at.';

COMMENT ON COLUMN public.conversions_hourly.country IS 'The click''s; null where the tracker did not know it.';

COMMENT ON COLUMN public.conversions_hourly.status IS 'As it stands now: approved, pending, cancelled or rejected.';

COMMENT ON COLUMN public.conversions_hourly.conversions IS 'How many.';

COMMENT ON COLUMN public.conversions_hourly.sale_amount IS 'Sum, in currency.';

COMMENT ON COLUMN public.conversions_hourly.revenue IS 'Sum of what the advertiser owes, in currency.';

COMMENT ON COLUMN public.conversions_hourly.payout IS 'Sum of what the publisher is owed, in currency.';

COMMENT ON COLUMN public.conversions_hourly.delay_s IS 'Sum of the seconds from click to receipt; divided by conversions: the mean.';

COMMENT ON COLUMN public.conversions_hourly.within_1m IS 'How many of them came within a minute of the click.';

COMMENT ON COLUMN public.conversions_hourly.within_10m IS 'Within 10 minutes, those within 1 counted too; and so on.';

CREATE TABLE public.status_changes (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    change_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    recorded_at timestamp with time zone DEFAULT now() NOT NULL,
    status text NOT NULL,
    source text NOT NULL,
    made_by text,
    reference text,
    reason text,
    CONSTRAINT status_changes_source_check CHECK ((source = ANY (ARRAY['postback'::text, 'operator'::text, 'hold'::text]))),
    CONSTRAINT status_changes_status_check CHECK ((status = ANY (ARRAY['approved'::text, 'pending'::text, 'cancelled'::text, 'rejected'::text])))
)
PARTITION BY RANGE (clicked_at);

COMMENT ON TABLE public.status_changes IS 'Each status that a conversion was given after it was counted, perhaps before its row is there. The one in force is the last by (received_at, change_id) of postbacks and operators; without any, that of the hold. Partitioned by the month of clicked_at (UTC), as conversions is.';

COMMENT ON COLUMN public.status_changes.conversion_id IS 'The conversion that is moved.';

COMMENT ON COLUMN public.status_changes.clicked_at IS 'The conversion''s.';

COMMENT ON COLUMN public.status_changes.change_id IS 'What makes a repeat harmless. Of a postback: its log_id in postback_log; of an operator: computed from conversion and reference, or random; of a hold: the conversion''s id.';

COMMENT ON COLUMN public.status_changes.received_at IS 'When it was said: by a postback, when a receiver read it. The order of these decides.';

COMMENT ON COLUMN public.status_changes.recorded_at IS 'When it was written.';

COMMENT ON COLUMN public.status_changes.source IS 'postback: a repeat that gave a status; operator: a person or file; hold: the goal''s hold has passed.';

COMMENT ON COLUMN public.status_changes.made_by IS 'Who, of an operator''s.';

COMMENT ON COLUMN public.status_changes.reference IS 'The operator''s own name of the change, if given: the same one is applied once.';

COMMENT ON COLUMN public.status_changes.reason IS 'Why, in the operator''s words.';

CREATE VIEW public.conversions_net AS
 SELECT c.conversion_id,
    c.clicked_at,
    c.received_at,
    c.recorded_at,
    c.advertiser_id,
    c.publisher_id,
    c.campaign_id,
    c.goal_id,
    c.goal_value,
    c.goal_version,
    c.click_id,
    c.txn_id,
    COALESCE(moved.status, c.status) AS status,
    c.status AS first_status,
    c.reason,
    c.country,
    c.currency,
    c.sale_amount,
    c.revenue,
    c.payout,
    ((c.sale_amount + adjusted.sale_amount))::numeric(18,6) AS net_sale_amount,
    ((c.revenue + adjusted.revenue))::numeric(18,6) AS net_revenue,
    ((c.payout + adjusted.payout))::numeric(18,6) AS net_payout,
    adjusted.adjustments,
    c.original_amount,
    c.original_currency,
    c.exchange_rate,
    c.event_at,
    c.params
   FROM ((public.conversions c
     LEFT JOIN LATERAL ( SELECT change.status
           FROM public.status_changes change
          WHERE ((change.conversion_id = c.conversion_id) AND (change.clicked_at = c.clicked_at) AND ((change.received_at >= c.received_at) OR (NOT c.status_given)))
          ORDER BY (change.source = 'hold'::text), change.received_at DESC, change.change_id DESC
         LIMIT 1) moved ON (true))
     CROSS JOIN LATERAL ( SELECT count(*) AS adjustments,
            COALESCE(sum(one.sale_amount), (0)::numeric) AS sale_amount,
            COALESCE(sum(one.revenue), (0)::numeric) AS revenue,
            COALESCE(sum(one.payout), (0)::numeric) AS payout
           FROM public.adjustments one
          WHERE (one.conversion_id = c.conversion_id)) adjusted);

COMMENT ON VIEW public.conversions_net IS 'Conversions as they stand now: with the status in force, and with adjustments summed up.';

COMMENT ON COLUMN public.conversions_net.conversion_id IS 'As in conversions; so are all columns without a word here.';

COMMENT ON COLUMN public.conversions_net.status IS 'The status in force: the last that was given, else the hold''s, else the one it was counted with.';

COMMENT ON COLUMN public.conversions_net.first_status IS 'The status it was counted with.';

COMMENT ON COLUMN public.conversions_net.net_sale_amount IS 'sale_amount with adjustments; null without one.';

COMMENT ON COLUMN public.conversions_net.net_revenue IS 'revenue with adjustments, whatever the status.';

COMMENT ON COLUMN public.conversions_net.net_payout IS 'payout with adjustments, whatever the status.';

COMMENT ON COLUMN public.conversions_net.adjustments IS 'How many adjustments it has.';

CREATE TABLE public.dead_letters (
    dead_letter_id bigint NOT NULL,
    failed_at timestamp with time zone DEFAULT now() NOT NULL,
    entry_id text NOT NULL,
    kind text NOT NULL,
    payload bytea NOT NULL,
    error text NOT NULL,
    prior bytea DEFAULT '\x'::bytea NOT NULL
);

COMMENT ON TABLE public.dead_letters IS 'Queue entries that Postgres refuses for their data, as they were, with the error.';

COMMENT ON COLUMN public.dead_letters.failed_at IS 'When PostgreSQL refused it.';

COMMENT ON COLUMN public.dead_letters.entry_id IS 'Its id in the queue.';

COMMENT ON COLUMN public.dead_letters.kind IS 'The entry''s kind and format version in the queue.';

COMMENT ON COLUMN public.dead_letters.error IS 'What PostgreSQL said.';

COMMENT ON COLUMN public.dead_letters.prior IS 'What the earlier claim held, on repeats.';

ALTER TABLE public.dead_letters ALTER COLUMN dead_letter_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letters_dead_letter_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.dropped_partitions (
    table_name text NOT NULL,
    month date NOT NULL,
    dropped_at timestamp with time zone DEFAULT now() NOT NULL,
    dropped_by text NOT NULL
);

COMMENT ON TABLE public.dropped_partitions IS 'Months that were dropped: not made ahead again, and publishers are told of nothing in them a second time.';

COMMENT ON COLUMN public.dropped_partitions.table_name IS 'The partitioned table.';

COMMENT ON COLUMN public.dropped_partitions.month IS 'The first day of the month, in UTC.';

COMMENT ON COLUMN public.dropped_partitions.dropped_at IS 'When it was dropped last.';

COMMENT ON COLUMN public.dropped_partitions.dropped_by IS 'Who: retention, or a person.';

CREATE TABLE public.erasures (
    erasure_id bigint NOT NULL,
    erased_at timestamp with time zone DEFAULT now() NOT NULL,
    erased_by text NOT NULL,
    click_digest bytea NOT NULL,
    erased jsonb NOT NULL,
    CONSTRAINT erasures_click_digest_check CHECK ((length(click_digest) = 32))
);

COMMENT ON TABLE public.erasures IS 'Clicks whose personal data was erased.';

COMMENT ON COLUMN public.erasures.erased_by IS 'Who did it.';

COMMENT ON COLUMN public.erasures.click_digest IS 'SHA-256 of the click_id: who has the id finds the row, and nobody else learns it.';

COMMENT ON COLUMN public.erasures.erased IS 'How many rows were changed, by table.';

ALTER TABLE public.erasures ALTER COLUMN erasure_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.erasures_erasure_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.exchange_rates (
    from_currency character(3) NOT NULL,
    to_currency character(3) NOT NULL,
    rate numeric(18,9) NOT NULL,
    valid_from date NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT exchange_rates_rate_check CHECK ((rate > (0)::numeric)),
    CONSTRAINT exchange_rates_status_check CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text])))
);

COMMENT ON TABLE public.exchange_rates IS 'A unit of from_currency is rate units of to_currency, from valid_from (00:00 UTC) until the next row.';

COMMENT ON COLUMN public.exchange_rates.valid_from IS 'From 00:00 UTC of this day.';

COMMENT ON COLUMN public.exchange_rates.status IS 'Archived: as if it were not there. Conversions hold the rate that they were converted with.';

COMMENT ON COLUMN public.exchange_rates.version IS 'Grows with each change; who changes it names the version that was read.';

CREATE TABLE public.goal_rates (
    goal_id bigint NOT NULL,
    "position" integer NOT NULL,
    publisher_id bigint,
    countries character(2)[] DEFAULT '{}'::bpchar[] NOT NULL,
    revenue_fixed numeric(18,6) DEFAULT 0 NOT NULL,
    revenue_percent numeric(10,6) DEFAULT 0 NOT NULL,
    payout_fixed numeric(18,6) DEFAULT 0 NOT NULL,
    payout_percent numeric(10,6) DEFAULT 0 NOT NULL,
    payout_of text DEFAULT 'sale'::text NOT NULL,
    CONSTRAINT goal_rates_payout_fixed_check CHECK ((payout_fixed >= (0)::numeric)),
    CONSTRAINT goal_rates_payout_of_check CHECK ((payout_of = ANY (ARRAY['sale'::text, 'revenue'::text]))),
    CONSTRAINT goal_rates_payout_percent_check CHECK ((payout_percent >= (0)::numeric)),
    CONSTRAINT goal_rates_revenue_fixed_check CHECK ((revenue_fixed >= (0)::numeric)),
    CONSTRAINT goal_rates_revenue_percent_check CHECK ((revenue_percent >= (0)::numeric))
);

COMMENT ON TABLE public.goal_rates IS 'A goal''s prices. The most specific applies: publisher and country, publisher, country, default.';

COMMENT ON COLUMN public.goal_rates."position" IS 'Its place in the catalog.';

COMMENT ON COLUMN public.goal_rates.publisher_id IS 'Null: every publisher.';

COMMENT ON COLUMN public.goal_rates.countries IS 'ISO 3166-1 alpha-2; empty: everywhere.';

COMMENT ON COLUMN public.goal_rates.revenue_fixed IS 'In the campaign''s currency; fixed and percent are added up.';

COMMENT ON COLUMN public.goal_rates.revenue_percent IS 'Of the sale: 12.5 is 12.5 %.';

COMMENT ON COLUMN public.goal_rates.payout_fixed IS 'In the campaign''s currency.';

COMMENT ON COLUMN public.goal_rates.payout_of IS 'What payout_percent is a percentage of: sale (the sale amount) or revenue.';

CREATE TABLE public.goals (
    id bigint NOT NULL,
    campaign_id bigint NOT NULL,
    title text NOT NULL,
    value text NOT NULL,
    is_default boolean DEFAULT false NOT NULL,
    type text DEFAULT 'public'::text NOT NULL,
    publishers bigint[] DEFAULT '{}'::bigint[] NOT NULL,
    track_multiple text DEFAULT 'yes_with_txn_id'::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    approval text DEFAULT 'auto'::text NOT NULL,
    hold_ms bigint,
    CONSTRAINT goals_approval_check CHECK ((approval = ANY (ARRAY['auto'::text, 'manual'::text]))),
    CONSTRAINT goals_check CHECK (((approval = 'manual'::text) OR (hold_ms IS NULL))),
    CONSTRAINT goals_hold_ms_check CHECK ((hold_ms >= 0)),
    CONSTRAINT goals_id_check CHECK ((id > 0)),
    CONSTRAINT goals_status_check CHECK ((status = ANY (ARRAY['active'::text, 'paused'::text, 'archived'::text]))),
    CONSTRAINT goals_track_multiple_check CHECK ((track_multiple = ANY (ARRAY['no'::text, 'yes'::text, 'yes_with_txn_id'::text]))),
    CONSTRAINT goals_type_check CHECK ((type = ANY (ARRAY['public'::text, 'private'::text])))
);

COMMENT ON TABLE public.goals IS 'What an advertiser pays for after the click.';

COMMENT ON COLUMN public.goals.title IS 'As people call it.';

COMMENT ON COLUMN public.goals.value IS 'What the advertiser sends in the postback''s goal parameter; unique in the campaign without regard to case.';

COMMENT ON COLUMN public.goals.is_default IS 'Whether a postback that names no goal means this one.';

COMMENT ON COLUMN public.goals.type IS 'public, or private: only its publishers are paid.';

COMMENT ON COLUMN public.goals.publishers IS 'A private goal''s publishers; others'' conversions are recorded with payout 0.';

COMMENT ON COLUMN public.goals.track_multiple IS 'How often it counts for a click: no, once; yes_with_txn_id, once for each txn_id; yes, each time.';

COMMENT ON COLUMN public.goals.status IS 'active, paused or archived; only an active one counts.';

COMMENT ON COLUMN public.goals.version IS 'Grows with each change of the goal or its rates; conversions carry the version they were decided on.';

COMMENT ON COLUMN public.goals.approval IS 'manual: a conversion is pending first. auto: it is what the postback says.';

COMMENT ON COLUMN public.goals.hold_ms IS 'How long a conversion of a manual goal is pending before it is approved by itself; null or 0: until a person decides.';

CREATE TABLE public.publishers (
    id bigint NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT publishers_id_check CHECK ((id > 0)),
    CONSTRAINT publishers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text])))
);

COMMENT ON TABLE public.publishers IS 'Who brought the click and is paid the payout.';

COMMENT ON COLUMN public.publishers.name IS 'As people call it.';

COMMENT ON COLUMN public.publishers.status IS 'Archived: offered for nothing new. Postbacks for clicks that it brought are decided and paid as before.';

COMMENT ON COLUMN public.publishers.version IS 'Grows with each change; who changes it names the version that was read.';

CREATE VIEW public.goals_daily AS
 SELECT counted.day,
    counted.campaign_id,
    campaigns.name AS campaign,
    counted.goal_id,
    goals.title AS goal,
    goals.value AS goal_value,
    counted.publisher_id,
    publishers.name AS publisher,
    counted.country,
    counted.currency,
    counted.status,
    counted.conversions,
    counted.sale_amount,
    counted.revenue,
    counted.payout,
    (counted.revenue - counted.payout) AS margin,
    round((counted.delay_s / (NULLIF(counted.conversions, 0))::numeric), 1) AS mean_delay_s
   FROM (((public.conversions_daily counted
     LEFT JOIN public.campaigns ON ((campaigns.id = counted.campaign_id)))
     LEFT JOIN public.goals ON ((goals.id = counted.goal_id)))
     LEFT JOIN public.publishers ON ((publishers.id = counted.publisher_id)))
  WHERE (counted.conversions <> 0);

COMMENT ON VIEW public.goals_daily IS 'Conversions by day (UTC), campaign, goal, publisher, country, currency and status, with names.';

COMMENT ON COLUMN public.goals_daily.margin IS 'revenue - payout, whatever the status.';

COMMENT ON COLUMN public.goals_daily.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE VIEW public.goals_hourly AS
 SELECT counted.hour,
    counted.campaign_id,
    campaigns.name AS campaign,
    counted.goal_id,
    goals.title AS goal,
    goals.value AS goal_value,
    counted.publisher_id,
    publishers.name AS publisher,
    counted.country,
    counted.currency,
    counted.status,
    counted.conversions,
    counted.sale_amount,
    counted.revenue,
    counted.payout,
    (counted.revenue - counted.payout) AS margin,
    round((counted.delay_s / (NULLIF(counted.conversions, 0))::numeric), 1) AS mean_delay_s
   FROM (((public.conversions_hourly counted
     LEFT JOIN public.campaigns ON ((campaigns.id = counted.campaign_id)))
     LEFT JOIN public.goals ON ((goals.id = counted.goal_id)))
     LEFT JOIN public.publishers ON ((publishers.id = counted.publisher_id)))
  WHERE (counted.conversions <> 0);

COMMENT ON VIEW public.goals_hourly IS 'Conversions by hour, campaign, goal, publisher, country, currency and status, with names.';

COMMENT ON COLUMN public.goals_hourly.margin IS 'revenue - payout, whatever the status.';

COMMENT ON COLUMN public.goals_hourly.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE TABLE public.holds (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    release_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.holds IS 'Pending conversions that are approved when their goal''s hold has passed, unless a status was given meanwhile. A row goes when it is due.';

COMMENT ON COLUMN public.holds.clicked_at IS 'The conversion''s.';

COMMENT ON COLUMN public.holds.release_at IS 'When the hold has passed: the goal''s hold after received_at.';

CREATE TABLE public.log_daily (
    day date CONSTRAINT log_hourly_hour_not_null NOT NULL,
    advertiser_id bigint,
    campaign_id bigint,
    outcome text CONSTRAINT log_hourly_outcome_not_null NOT NULL,
    reason text,
    postbacks bigint CONSTRAINT log_hourly_postbacks_not_null NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.log_daily IS 'The same by day, in UTC.';

COMMENT ON COLUMN public.log_daily.day IS 'The day of received_at, in UTC.';

COMMENT ON COLUMN public.log_daily.campaign_id IS 'Null where the click is not known.';

COMMENT ON COLUMN public.log_daily.outcome IS 'duplicate, conflict or rejected.';

COMMENT ON COLUMN public.log_daily.reason IS 'Why a postback was rejected.';

COMMENT ON COLUMN public.log_daily.postbacks IS 'How many.';

CREATE TABLE public.log_hourly (
    hour timestamp with time zone NOT NULL,
    advertiser_id bigint,
    campaign_id bigint,
    outcome text NOT NULL,
    reason text,
    postbacks bigint NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.log_hourly IS 'Rollup of postback_log by the hour they were received in: what was not counted, by reason.';

COMMENT ON COLUMN public.log_hourly.hour IS 'The start of the hour of received_at.';

COMMENT ON COLUMN public.log_hourly.campaign_id IS 'Null where the click is not known.';

COMMENT ON COLUMN public.log_hourly.outcome IS 'duplicate, conflict or rejected.';

COMMENT ON COLUMN public.log_hourly.reason IS 'Why a postback was rejected.';

COMMENT ON COLUMN public.log_hourly.postbacks IS 'How many.';

CREATE TABLE public.outbound_messages (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    postback_id bigint NOT NULL,
    payout numeric(18,6) NOT NULL,
    state text DEFAULT 'waiting'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    due_at timestamp with time zone DEFAULT now() NOT NULL,
    until timestamp with time zone NOT NULL,
    done_at timestamp with time zone,
    attempts integer DEFAULT 0 NOT NULL,
    log jsonb DEFAULT '[]'::jsonb NOT NULL,
    CONSTRAINT outbound_messages_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'sent'::text, 'given_up'::text, 'withdrawn'::text])))
)
PARTITION BY RANGE (clicked_at);

COMMENT ON TABLE public.outbound_messages IS 'What is, was or could not be sent to publishers: one for a conversion. Partitioned by the month of clicked_at (UTC), as conversions is.';

COMMENT ON COLUMN public.outbound_messages.clicked_at IS 'The conversion''s.';

COMMENT ON COLUMN public.outbound_messages.postback_id IS 'The publisher''s template; what it says when it is sent counts.';

COMMENT ON COLUMN public.outbound_messages.payout IS 'With adjustments, as it stood when the conversion was found approved; in the conversion''s currency.';

COMMENT ON COLUMN public.outbound_messages.state IS 'waiting; sent: answered with 2xx; given_up: until has passed and it still failed; withdrawn: not approved any more, or the template was removed, before it was sent.';

COMMENT ON COLUMN public.outbound_messages.due_at IS 'When it is tried next; while it is tried, when another may take it to be abandoned.';

COMMENT ON COLUMN public.outbound_messages.until IS 'An attempt that fails later is the last.';

COMMENT ON COLUMN public.outbound_messages.done_at IS 'When it was sent, given up or withdrawn; null while it waits.';

COMMENT ON COLUMN public.outbound_messages.attempts IS 'How many there were.';

COMMENT ON COLUMN public.outbound_messages.log IS 'The first attempt and the latest 19: at, ms (how long it took), status (HTTP) and error (null: it was delivered).';

CREATE TABLE public.outbound_touched (
    touch_id bigint NOT NULL,
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.outbound_touched IS 'Conversions to be looked at: there is something new about them, and perhaps something to send. A work list.';

COMMENT ON COLUMN public.outbound_touched.clicked_at IS 'The conversion''s.';

ALTER TABLE public.outbound_touched ALTER COLUMN touch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbound_touched_touch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.parked_postbacks (
    postback_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    parked_at timestamp with time zone DEFAULT now() NOT NULL,
    until timestamp with time zone NOT NULL,
    look_at timestamp with time zone DEFAULT now() NOT NULL,
    click_ids text[] NOT NULL COLLATE pg_catalog."C",
    click_id text COLLATE pg_catalog."C",
    goal_value text,
    txn_id text COLLATE pg_catalog."C",
    remote_ip inet,
    params jsonb NOT NULL,
    key_id text NOT NULL,
    sealed bytea NOT NULL
);

COMMENT ON TABLE public.parked_postbacks IS 'Postbacks whose click is not known yet. They are decided when it is registered, or go to postback_log when their time is over.';

COMMENT ON COLUMN public.parked_postbacks.postback_id IS 'The log_id that it has in postback_log, should it come to that.';

COMMENT ON COLUMN public.parked_postbacks.received_at IS 'When a receiver read the postback.';

COMMENT ON COLUMN public.parked_postbacks.parked_at IS 'When the writer committed the row.';

COMMENT ON COLUMN public.parked_postbacks.until IS 'A click that is registered later comes too late: clicks.park_unknown after received_at.';

COMMENT ON COLUMN public.parked_postbacks.look_at IS 'When it is looked at next. Its click''s registration makes that now.';

COMMENT ON COLUMN public.parked_postbacks.click_ids IS 'The clicks that it may be about: under a standard name, and under advertisers'' own names for click_id.';

COMMENT ON COLUMN public.parked_postbacks.click_id IS 'The one of them that stands in postback_log, should it come to that; and so with the columns up to params.';

COMMENT ON COLUMN public.parked_postbacks.params IS 'What else the sender gave. Never a secret.';

COMMENT ON COLUMN public.parked_postbacks.key_id IS 'Names the key in admin.secret_key_file that sealed can be opened with.';

COMMENT ON COLUMN public.parked_postbacks.sealed IS 'The postback as it came, with token and signature, encrypted.';

CREATE VIEW public.performance_daily AS
 SELECT facts.day,
    campaigns.advertiser_id,
    advertisers.name AS advertiser,
    facts.campaign_id,
    campaigns.name AS campaign,
    facts.publisher_id,
    publishers.name AS publisher,
    facts.country,
    facts.currency,
    facts.clicks,
    facts.conversions,
    facts.approved,
    facts.pending,
    facts.cancelled,
    facts.rejected,
    facts.sale_amount,
    facts.revenue,
    facts.payout,
    (facts.revenue - facts.payout) AS margin,
    facts.pending_revenue,
    facts.pending_payout,
    round((facts.delay_s / (NULLIF(facts.conversions, 0))::numeric), 1) AS mean_delay_s
   FROM (((( SELECT both_kinds.day,
            both_kinds.campaign_id,
            both_kinds.publisher_id,
            both_kinds.country,
            both_kinds.currency,
            (sum(both_kinds.clicks))::bigint AS clicks,
            (sum(both_kinds.conversions))::bigint AS conversions,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric))::bigint AS approved,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric))::bigint AS pending,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'cancelled'::text)), (0)::numeric))::bigint AS cancelled,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'rejected'::text)), (0)::numeric))::bigint AS rejected,
            COALESCE(sum(both_kinds.sale_amount) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS sale_amount,
            COALESCE(sum(both_kinds.revenue) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS revenue,
            COALESCE(sum(both_kinds.payout) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS payout,
            COALESCE(sum(both_kinds.revenue) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric) AS pending_revenue,
            COALESCE(sum(both_kinds.payout) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric) AS pending_payout,
            sum(both_kinds.delay_s) AS delay_s
           FROM ( SELECT conversions_daily.day,
                    conversions_daily.campaign_id,
                    conversions_daily.publisher_id,
                    conversions_daily.country,
                    conversions_daily.currency,
                    conversions_daily.status,
                    (0)::bigint AS clicks,
                    conversions_daily.conversions,
                    conversions_daily.sale_amount,
                    conversions_daily.revenue,
                    conversions_daily.payout,
                    conversions_daily.delay_s
                   FROM public.conversions_daily
                UNION ALL
                 SELECT counted.day,
                    counted.campaign_id,
                    counted.publisher_id,
                    counted.country,
                    campaigns_1.currency,
                    NULL::text,
                    counted.clicks,
                    0,
                    0,
                    0,
                    0,
                    0
                   FROM (public.clicks_daily counted
                     LEFT JOIN public.campaigns campaigns_1 ON ((campaigns_1.id = counted.campaign_id)))) both_kinds
          GROUP BY both_kinds.day, both_kinds.campaign_id, both_kinds.publisher_id, both_kinds.country, both_kinds.currency) facts
     LEFT JOIN public.campaigns ON ((campaigns.id = facts.campaign_id)))
     LEFT JOIN public.advertisers ON ((advertisers.id = campaigns.advertiser_id)))
     LEFT JOIN public.publishers ON ((publishers.id = facts.publisher_id)));

COMMENT ON VIEW public.performance_daily IS 'Clicks and conversions by day (UTC), campaign, publisher, country and currency, with names. Clicks stand where they were made, conversions where they were received.';

COMMENT ON COLUMN public.performance_daily.approved IS 'How many of the conversions are approved now; the other statuses likewise.';

COMMENT ON COLUMN public.performance_daily.sale_amount IS 'Of approved conversions, with adjustments; revenue, payout and margin likewise.';

COMMENT ON COLUMN public.performance_daily.margin IS 'revenue - payout.';

COMMENT ON COLUMN public.performance_daily.pending_revenue IS 'What would be added if all that is pending were approved.';

COMMENT ON COLUMN public.performance_daily.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE VIEW public.performance_hourly AS
 SELECT facts.hour,
    campaigns.advertiser_id,
    advertisers.name AS advertiser,
    facts.campaign_id,
    campaigns.name AS campaign,
    facts.publisher_id,
    publishers.name AS publisher,
    facts.country,
    facts.currency,
    facts.clicks,
    facts.conversions,
    facts.approved,
    facts.pending,
    facts.cancelled,
    facts.rejected,
    facts.sale_amount,
    facts.revenue,
    facts.payout,
    (facts.revenue - facts.payout) AS margin,
    facts.pending_revenue,
    facts.pending_payout,
    round((facts.delay_s / (NULLIF(facts.conversions, 0))::numeric), 1) AS mean_delay_s
   FROM (((( SELECT both_kinds.hour,
            both_kinds.campaign_id,
            both_kinds.publisher_id,
            both_kinds.country,
            both_kinds.currency,
            (sum(both_kinds.clicks))::bigint AS clicks,
            (sum(both_kinds.conversions))::bigint AS conversions,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric))::bigint AS approved,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric))::bigint AS pending,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'cancelled'::text)), (0)::numeric))::bigint AS cancelled,
            (COALESCE(sum(both_kinds.conversions) FILTER (WHERE (both_kinds.status = 'rejected'::text)), (0)::numeric))::bigint AS rejected,
            COALESCE(sum(both_kinds.sale_amount) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS sale_amount,
            COALESCE(sum(both_kinds.revenue) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS revenue,
            COALESCE(sum(both_kinds.payout) FILTER (WHERE (both_kinds.status = 'approved'::text)), (0)::numeric) AS payout,
            COALESCE(sum(both_kinds.revenue) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric) AS pending_revenue,
            COALESCE(sum(both_kinds.payout) FILTER (WHERE (both_kinds.status = 'pending'::text)), (0)::numeric) AS pending_payout,
            sum(both_kinds.delay_s) AS delay_s
           FROM ( SELECT conversions_hourly.hour,
                    conversions_hourly.campaign_id,
                    conversions_hourly.publisher_id,
                    conversions_hourly.country,
                    conversions_hourly.currency,
                    conversions_hourly.status,
                    (0)::bigint AS clicks,
                    conversions_hourly.conversions,
                    conversions_hourly.sale_amount,
                    conversions_hourly.revenue,
                    conversions_hourly.payout,
                    conversions_hourly.delay_s
                   FROM public.conversions_hourly
                UNION ALL
                 SELECT counted.hour,
                    counted.campaign_id,
                    counted.publisher_id,
                    counted.country,
                    campaigns_1.currency,
                    NULL::text,
                    counted.clicks,
                    0,
                    0,
                    0,
                    0,
                    0
                   FROM (public.clicks_hourly counted
                     LEFT JOIN public.campaigns campaigns_1 ON ((campaigns_1.id = counted.campaign_id)))) both_kinds
          GROUP BY both_kinds.hour, both_kinds.campaign_id, both_kinds.publisher_id, both_kinds.country, both_kinds.currency) facts
     LEFT JOIN public.campaigns ON ((campaigns.id = facts.campaign_id)))
     LEFT JOIN public.advertisers ON ((advertisers.id = campaigns.advertiser_id)))
     LEFT JOIN public.publishers ON ((publishers.id = facts.publisher_id)));

COMMENT ON VIEW public.performance_hourly IS 'Clicks and conversions by hour, campaign, publisher, country and currency, with names. Clicks stand where they were made, conversions where they were received.';

COMMENT ON COLUMN public.performance_hourly.approved IS 'How many of the conversions are approved now; the other statuses likewise.';

COMMENT ON COLUMN public.performance_hourly.sale_amount IS 'Of approved conversions, with adjustments; revenue, payout and margin likewise.';

COMMENT ON COLUMN public.performance_hourly.margin IS 'revenue - payout.';

COMMENT ON COLUMN public.performance_hourly.pending_revenue IS 'What would be added if all that is pending were approved.';

COMMENT ON COLUMN public.performance_hourly.mean_delay_s IS 'The mean of the seconds from click to receipt.';

CREATE TABLE public.postback_log (
    log_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    outcome text NOT NULL,
    reason text,
    advertiser_id bigint,
    campaign_id bigint,
    click_id text COLLATE pg_catalog."C",
    goal_value text,
    txn_id text COLLATE pg_catalog."C",
    conversion_id uuid,
    remote_ip inet,
    params jsonb NOT NULL,
    CONSTRAINT postback_log_outcome_check CHECK ((outcome = ANY (ARRAY['duplicate'::text, 'conflict'::text, 'rejected'::text])))
)
PARTITION BY RANGE (received_at);

COMMENT ON TABLE public.postback_log IS 'Each postback that was not counted, and why. Partitioned by the month of received_at (UTC).';

COMMENT ON COLUMN public.postback_log.received_at IS 'When a receiver read the postback.';

COMMENT ON COLUMN public.postback_log.outcome IS 'duplicate: the same again; conflict: again, with another amount; rejected: not counted.';

COMMENT ON COLUMN public.postback_log.reason IS 'Why it was rejected.';

COMMENT ON COLUMN public.postback_log.advertiser_id IS 'Null where the click is not known.';

COMMENT ON COLUMN public.postback_log.click_id IS 'As sent, cut to 255 bytes.';

COMMENT ON COLUMN public.postback_log.conversion_id IS 'The original''s id, for a duplicate or conflict.';

COMMENT ON COLUMN public.postback_log.remote_ip IS 'Who sent it; behind a trusted proxy, as that says.';

COMMENT ON COLUMN public.postback_log.params IS 'What the sender gave; for a conflict also "claimed" and "sent", the two amounts.';

CREATE TABLE public.publisher_postbacks (
    postback_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    goal_id bigint,
    url text NOT NULL,
    host text NOT NULL,
    method text DEFAULT 'GET'::text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    created_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_by text NOT NULL,
    CONSTRAINT publisher_postbacks_method_check CHECK ((method = ANY (ARRAY['GET'::text, 'POST'::text]))),
    CONSTRAINT publisher_postbacks_status_check CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text])))
);

COMMENT ON TABLE public.publisher_postbacks IS 'What is called for a publisher''s approved conversions. One for a goal goes before the one for all goals.';

COMMENT ON COLUMN public.publisher_postbacks.goal_id IS 'Null: for all goals that have none of their own.';

COMMENT ON COLUMN public.publisher_postbacks.url IS 'With macros in braces; docs/outbound.md lists them.';

COMMENT ON COLUMN public.publisher_postbacks.host IS 'The URL''s.';

COMMENT ON COLUMN public.publisher_postbacks.method IS 'GET, or POST: the query is sent as a form then.';

COMMENT ON COLUMN public.publisher_postbacks.status IS 'Archived: kept for the messages that were sent with it.';

COMMENT ON COLUMN public.publisher_postbacks.created_at IS 'Conversions that were approved when they were counted before this are not sent.';

COMMENT ON COLUMN public.publisher_postbacks.changed_by IS 'Who wrote it last.';

ALTER TABLE public.publisher_postbacks ALTER COLUMN postback_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.publisher_postbacks_postback_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.publisher_secrets (
    publisher_id bigint NOT NULL,
    secret text NOT NULL,
    changed_at timestamp with time zone DEFAULT now() NOT NULL,
    changed_by text NOT NULL
);

COMMENT ON TABLE public.publisher_secrets IS 'What postbacks to a publisher are signed with.';

COMMENT ON COLUMN public.publisher_secrets.secret IS 'Encrypted, as enc:<base64url>.';

COMMENT ON COLUMN public.publisher_secrets.changed_by IS 'Who made it.';

CREATE TABLE public.replays (
    log_id uuid NOT NULL,
    received_at timestamp with time zone NOT NULL,
    replayed_at timestamp with time zone DEFAULT now() NOT NULL,
    outcome text NOT NULL,
    reason text,
    conversion_id uuid,
    made_by text NOT NULL,
    CONSTRAINT replays_outcome_check CHECK ((outcome = ANY (ARRAY['accepted'::text, 'duplicate'::text, 'conflict'::text, 'rejected'::text])))
);

COMMENT ON TABLE public.replays IS 'What became of rejections in postback_log that were decided again.';

COMMENT ON COLUMN public.replays.log_id IS 'The row of postback_log.';

COMMENT ON COLUMN public.replays.received_at IS 'That row''s, with which it is found in its partition.';

COMMENT ON COLUMN public.replays.outcome IS 'accepted: counted, as conversion_id. duplicate, conflict: its event had been counted before. rejected: still.';

COMMENT ON COLUMN public.replays.reason IS 'Why it is still rejected.';

COMMENT ON COLUMN public.replays.conversion_id IS 'The conversion that it became, or that had been counted before.';

COMMENT ON COLUMN public.replays.made_by IS 'Who had it decided again.';

CREATE TABLE public.rollup_clicks (
    hour timestamp with time zone CONSTRAINT clicks_hourly_hour_not_null NOT NULL,
    campaign_id bigint CONSTRAINT clicks_hourly_campaign_id_not_null NOT NULL,
    publisher_id bigint CONSTRAINT clicks_hourly_publisher_id_not_null NOT NULL,
    country character(2),
    clicks bigint CONSTRAINT clicks_hourly_clicks_not_null NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', vacuum_truncate=off);

COMMENT ON TABLE public.rollup_clicks IS 'The same over clicks.';

COMMENT ON COLUMN public.rollup_clicks.queued_at IS 'When the statement''s transaction began.';

CREATE TABLE public.rollup_conversions (
    hour timestamp with time zone CONSTRAINT conversions_hourly_hour_not_null NOT NULL,
    campaign_id bigint CONSTRAINT conversions_hourly_campaign_id_not_null NOT NULL,
    goal_id bigint CONSTRAINT conversions_hourly_goal_id_not_null NOT NULL,
    publisher_id bigint CONSTRAINT conversions_hourly_publisher_id_not_null NOT NULL,
    country character(2),
    currency character(3) CONSTRAINT conversions_hourly_currency_not_null NOT NULL,
    status text CONSTRAINT conversions_hourly_status_not_null NOT NULL,
    conversions bigint CONSTRAINT conversions_hourly_conversions_not_null NOT NULL,
    sale_amount numeric CONSTRAINT conversions_hourly_sale_amount_not_null NOT NULL,
    revenue numeric CONSTRAINT conversions_hourly_revenue_not_null NOT NULL,
    payout numeric CONSTRAINT conversions_hourly_payout_not_null NOT NULL,
    delay_s numeric CONSTRAINT conversions_hourly_delay_s_not_null NOT NULL,
    within_1m bigint CONSTRAINT conversions_hourly_within_1m_not_null NOT NULL,
    within_10m bigint CONSTRAINT conversions_hourly_within_10m_not_null NOT NULL,
    within_1h bigint CONSTRAINT conversions_hourly_within_1h_not_null NOT NULL,
    within_6h bigint CONSTRAINT conversions_hourly_within_6h_not_null NOT NULL,
    within_1d bigint CONSTRAINT conversions_hourly_within_1d_not_null NOT NULL,
    within_7d bigint CONSTRAINT conversions_hourly_within_7d_not_null NOT NULL,
    within_30d bigint CONSTRAINT conversions_hourly_within_30d_not_null NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', vacuum_truncate=off);

COMMENT ON TABLE public.rollup_conversions IS 'Sums over conversions that are not in the rollups yet, a few rows for each statement that wrote some.';

COMMENT ON COLUMN public.rollup_conversions.queued_at IS 'When the statement''s transaction began.';

CREATE TABLE public.rollup_counted (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    received_at timestamp with time zone NOT NULL,
    campaign_id bigint NOT NULL,
    goal_id bigint NOT NULL,
    publisher_id bigint NOT NULL,
    country character(2),
    currency character(3) NOT NULL,
    status text NOT NULL,
    sale_amount numeric,
    revenue numeric NOT NULL,
    payout numeric NOT NULL
)
WITH (fillfactor='70');

COMMENT ON TABLE public.rollup_counted IS 'What the rollups hold of each conversion that changed after it was written; of all others they hold the row itself.';

CREATE TABLE public.rollup_log (
    hour timestamp with time zone CONSTRAINT log_hourly_hour_not_null NOT NULL,
    advertiser_id bigint,
    campaign_id bigint,
    outcome text CONSTRAINT log_hourly_outcome_not_null NOT NULL,
    reason text,
    postbacks bigint CONSTRAINT log_hourly_postbacks_not_null NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', vacuum_truncate=off);

COMMENT ON TABLE public.rollup_log IS 'The same over postback_log.';

COMMENT ON COLUMN public.rollup_log.queued_at IS 'When the statement''s transaction began.';

CREATE TABLE public.rollup_touched (
    touch_id bigint NOT NULL,
    queued_at timestamp with time zone DEFAULT now() NOT NULL,
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    old public.rollup_counted,
    is_gone boolean DEFAULT false NOT NULL
)
WITH (autovacuum_vacuum_scale_factor='0', autovacuum_vacuum_threshold='10000', vacuum_truncate=off);

COMMENT ON TABLE public.rollup_touched IS 'Conversions that have to be counted anew: their row, status or adjustments changed.';

COMMENT ON COLUMN public.rollup_touched.queued_at IS 'When the statement''s transaction began.';

COMMENT ON COLUMN public.rollup_touched.old IS 'The row before, if it is the row that changed.';

COMMENT ON COLUMN public.rollup_touched.is_gone IS 'The row was deleted.';

ALTER TABLE public.rollup_touched ALTER COLUMN touch_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.rollup_touched_touch_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);

CREATE TABLE public.schema_migrations (
    version integer NOT NULL,
    name text NOT NULL,
    checksum text NOT NULL,
    applied_at timestamp with time zone DEFAULT now() NOT NULL
);

COMMENT ON TABLE public.schema_migrations IS 'The migrations applied so far, with the SHA-256 of each file.';

ALTER TABLE ONLY public.adjustments
    ADD CONSTRAINT adjustments_pkey PRIMARY KEY (adjustment_id);

ALTER TABLE ONLY public.advertisers
    ADD CONSTRAINT advertisers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_digest_key UNIQUE (digest);

ALTER TABLE ONLY public.api_keys
    ADD CONSTRAINT api_keys_pkey PRIMARY KEY (key_id);

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.caps
    ADD CONSTRAINT caps_pkey PRIMARY KEY (cap_id);

ALTER TABLE ONLY public.catalog_history
    ADD CONSTRAINT catalog_history_pkey PRIMARY KEY (history_id);

ALTER TABLE ONLY public.clicks
    ADD CONSTRAINT clicks_pkey PRIMARY KEY (click_id);

ALTER TABLE ONLY public.conversions
    ADD CONSTRAINT conversions_pkey PRIMARY KEY (conversion_id, clicked_at);

ALTER TABLE ONLY public.dead_letters
    ADD CONSTRAINT dead_letters_pkey PRIMARY KEY (dead_letter_id);

ALTER TABLE ONLY public.dropped_partitions
    ADD CONSTRAINT dropped_partitions_pkey PRIMARY KEY (table_name, month);

ALTER TABLE ONLY public.erasures
    ADD CONSTRAINT erasures_pkey PRIMARY KEY (erasure_id);

ALTER TABLE ONLY public.exchange_rates
    ADD CONSTRAINT exchange_rates_pkey PRIMARY KEY (from_currency, to_currency, valid_from);

ALTER TABLE ONLY public.goal_rates
    ADD CONSTRAINT goal_rates_pkey PRIMARY KEY (goal_id, "position");

ALTER TABLE ONLY public.goals
    ADD CONSTRAINT goals_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.holds
    ADD CONSTRAINT holds_pkey PRIMARY KEY (conversion_id);

ALTER TABLE ONLY public.outbound_messages
    ADD CONSTRAINT outbound_messages_pkey PRIMARY KEY (conversion_id, clicked_at);

ALTER TABLE ONLY public.outbound_touched
    ADD CONSTRAINT outbound_touched_pkey PRIMARY KEY (touch_id);

ALTER TABLE ONLY public.parked_postbacks
    ADD CONSTRAINT parked_postbacks_pkey PRIMARY KEY (postback_id);

ALTER TABLE ONLY public.postback_log
    ADD CONSTRAINT postback_log_pkey PRIMARY KEY (log_id, received_at);

ALTER TABLE ONLY public.publisher_postbacks
    ADD CONSTRAINT publisher_postbacks_pkey PRIMARY KEY (postback_id);

ALTER TABLE ONLY public.publisher_secrets
    ADD CONSTRAINT publisher_secrets_pkey PRIMARY KEY (publisher_id);

ALTER TABLE ONLY public.publishers
    ADD CONSTRAINT publishers_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.replays
    ADD CONSTRAINT replays_pkey PRIMARY KEY (log_id, replayed_at);

ALTER TABLE ONLY public.rollup_counted
    ADD CONSTRAINT rollup_counted_pkey PRIMARY KEY (conversion_id, clicked_at);

ALTER TABLE ONLY public.rollup_touched
    ADD CONSTRAINT rollup_touched_pkey PRIMARY KEY (touch_id);

ALTER TABLE ONLY public.schema_migrations
    ADD CONSTRAINT schema_migrations_pkey PRIMARY KEY (version);

ALTER TABLE ONLY public.status_changes
    ADD CONSTRAINT status_changes_pkey PRIMARY KEY (conversion_id, clicked_at, change_id);

CREATE INDEX adjustments_conversion ON public.adjustments USING btree (conversion_id);

CREATE INDEX adjustments_recorded ON public.adjustments USING brin (recorded_at);

CREATE UNIQUE INDEX api_keys_name ON public.api_keys USING btree (name) WHERE (revoked_at IS NULL);

CREATE INDEX campaigns_advertiser_id ON public.campaigns USING btree (advertiser_id);

CREATE INDEX caps_goal_id ON public.caps USING btree (goal_id);

CREATE UNIQUE INDEX caps_key ON public.caps USING btree (campaign_id, COALESCE(goal_id, (0)::bigint), COALESCE(publisher_id, (0)::bigint), each_publisher, measure, period);

CREATE INDEX catalog_history_campaign ON public.catalog_history USING btree (campaign_id, history_id) WHERE (campaign_id IS NOT NULL);

CREATE INDEX catalog_history_entity ON public.catalog_history USING btree (kind, entity_id, history_id);

CREATE INDEX clicks_clicked_at ON public.clicks USING brin (clicked_at);

CREATE INDEX clicks_daily_day ON public.clicks_daily USING btree (day);

CREATE UNIQUE INDEX clicks_daily_key ON public.clicks_daily USING btree (campaign_id, day, publisher_id, country) NULLS NOT DISTINCT;

CREATE INDEX clicks_hourly_hour ON public.clicks_hourly USING btree (hour);

CREATE UNIQUE INDEX clicks_hourly_key ON public.clicks_hourly USING btree (campaign_id, hour, publisher_id, country) NULLS NOT DISTINCT;

CREATE INDEX conversions_campaign_received ON ONLY public.conversions USING btree (campaign_id, received_at);

CREATE INDEX conversions_click_id ON ONLY public.conversions USING btree (click_id);

CREATE INDEX conversions_daily_day ON public.conversions_daily USING btree (day);

CREATE UNIQUE INDEX conversions_daily_key ON public.conversions_daily USING btree (campaign_id, day, goal_id, publisher_id, country, currency, status) NULLS NOT DISTINCT;

CREATE INDEX conversions_hourly_hour ON public.conversions_hourly USING btree (hour);

CREATE UNIQUE INDEX conversions_hourly_key ON public.conversions_hourly USING btree (campaign_id, hour, goal_id, publisher_id, country, currency, status) NULLS NOT DISTINCT;

CREATE INDEX conversions_received ON ONLY public.conversions USING brin (received_at) WITH (autosummarize='on');

CREATE UNIQUE INDEX dead_letters_entry ON public.dead_letters USING btree (entry_id, sha256(payload));

CREATE UNIQUE INDEX goals_default ON public.goals USING btree (campaign_id) WHERE is_default;

CREATE UNIQUE INDEX goals_value ON public.goals USING btree (campaign_id, lower(value));

CREATE INDEX holds_release_at ON public.holds USING btree (release_at);

CREATE INDEX log_daily_day ON public.log_daily USING btree (day);

CREATE UNIQUE INDEX log_daily_key ON public.log_daily USING btree (campaign_id, day, advertiser_id, outcome, reason) NULLS NOT DISTINCT;

CREATE INDEX log_hourly_hour ON public.log_hourly USING btree (hour);

CREATE UNIQUE INDEX log_hourly_key ON public.log_hourly USING btree (campaign_id, hour, advertiser_id, outcome, reason) NULLS NOT DISTINCT;

CREATE INDEX outbound_messages_due ON ONLY public.outbound_messages USING btree (postback_id, due_at) WHERE (state = 'waiting'::text);

CREATE INDEX outbound_messages_given_up ON ONLY public.outbound_messages USING btree (postback_id, done_at) WHERE (state = 'given_up'::text);

CREATE INDEX parked_postbacks_click_ids ON public.parked_postbacks USING gin (click_ids);

CREATE INDEX parked_postbacks_look_at ON public.parked_postbacks USING btree (look_at);

CREATE INDEX parked_postbacks_until ON public.parked_postbacks USING btree (until);

CREATE INDEX postback_log_click_id ON ONLY public.postback_log USING btree (click_id);

CREATE INDEX postback_log_received ON ONLY public.postback_log USING brin (received_at);

CREATE UNIQUE INDEX publisher_postbacks_active ON public.publisher_postbacks USING btree (publisher_id, COALESCE(goal_id, (0)::bigint)) WHERE (status = 'active'::text);

CREATE INDEX replays_conversion_id ON public.replays USING btree (conversion_id);

CREATE INDEX status_changes_recorded ON ONLY public.status_changes USING brin (recorded_at);

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.advertisers FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.campaigns FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.caps FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.exchange_rates FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.goal_rates FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.goals FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.publishers FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER outbound_insert AFTER INSERT ON public.conversions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_outbound();

CREATE TRIGGER outbound_insert AFTER INSERT ON public.status_changes REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_outbound();

CREATE TRIGGER rollup_delete AFTER DELETE ON public.adjustments REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER rollup_delete AFTER DELETE ON public.clicks REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_clicks();

CREATE TRIGGER rollup_delete AFTER DELETE ON public.conversions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_conversions();

CREATE TRIGGER rollup_delete AFTER DELETE ON public.postback_log REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_log();

CREATE TRIGGER rollup_delete AFTER DELETE ON public.status_changes REFERENCING OLD TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER rollup_insert AFTER INSERT ON public.adjustments REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER rollup_insert AFTER INSERT ON public.clicks REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_clicks();

CREATE TRIGGER rollup_insert AFTER INSERT ON public.conversions REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_conversions();

CREATE TRIGGER rollup_insert AFTER INSERT ON public.postback_log REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_log();

CREATE TRIGGER rollup_insert AFTER INSERT ON public.status_changes REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER rollup_update AFTER UPDATE ON public.adjustments REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER rollup_update AFTER UPDATE ON public.clicks REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_clicks();

CREATE TRIGGER rollup_update AFTER UPDATE ON public.conversions REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_conversions();

CREATE TRIGGER rollup_update AFTER UPDATE ON public.postback_log REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION public.count_log();

CREATE TRIGGER rollup_update AFTER UPDATE ON public.status_changes REFERENCING NEW TABLE AS changed_rows FOR EACH STATEMENT EXECUTE FUNCTION public.touch_changed();

CREATE TRIGGER wake_parked AFTER INSERT ON public.clicks REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION public.wake_parked();

ALTER TABLE ONLY public.campaigns
    ADD CONSTRAINT campaigns_advertiser_id_fkey FOREIGN KEY (advertiser_id) REFERENCES public.advertisers(id);

ALTER TABLE ONLY public.caps
    ADD CONSTRAINT caps_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES public.campaigns(id);

ALTER TABLE ONLY public.caps
    ADD CONSTRAINT caps_goal_id_fkey FOREIGN KEY (goal_id) REFERENCES public.goals(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.caps
    ADD CONSTRAINT caps_publisher_id_fkey FOREIGN KEY (publisher_id) REFERENCES public.publishers(id);

ALTER TABLE ONLY public.goal_rates
    ADD CONSTRAINT goal_rates_goal_id_fkey FOREIGN KEY (goal_id) REFERENCES public.goals(id) ON DELETE CASCADE;

ALTER TABLE ONLY public.goal_rates
    ADD CONSTRAINT goal_rates_publisher_id_fkey FOREIGN KEY (publisher_id) REFERENCES public.publishers(id);

ALTER TABLE ONLY public.goals
    ADD CONSTRAINT goals_campaign_id_fkey FOREIGN KEY (campaign_id) REFERENCES public.campaigns(id);

ALTER TABLE ONLY public.publisher_postbacks
    ADD CONSTRAINT publisher_postbacks_goal_id_fkey FOREIGN KEY (goal_id) REFERENCES public.goals(id);

ALTER TABLE ONLY public.publisher_postbacks
    ADD CONSTRAINT publisher_postbacks_publisher_id_fkey FOREIGN KEY (publisher_id) REFERENCES public.publishers(id);

ALTER TABLE ONLY public.publisher_secrets
    ADD CONSTRAINT publisher_secrets_publisher_id_fkey FOREIGN KEY (publisher_id) REFERENCES public.publishers(id);
