-- What the migrations sum up to, for reading only. Written by tests/integration/test_migrations.py.

CREATE FUNCTION public.notify_catalog() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
BEGIN
    PERFORM pg_notify('catalog', TG_TABLE_NAME);
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
    CONSTRAINT api_keys_role_check CHECK ((role = ANY (ARRAY['read'::text, 'admin'::text])))
);

COMMENT ON TABLE public.api_keys IS 'Who may use the API, beside the admin key in its file.';

COMMENT ON COLUMN public.api_keys.name IS 'Stands in catalog_history; unique among the keys that are not revoked.';

COMMENT ON COLUMN public.api_keys.role IS 'read: may look at everything. admin: may change it too.';

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

COMMENT ON COLUMN public.clicks.clicked_at IS 'Cut to whole milliseconds; part of each of its conversions'' ids.';

COMMENT ON COLUMN public.clicks.country IS 'ISO 3166-1 alpha-2; null where the tracker did not know it.';

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

COMMENT ON COLUMN public.conversions.received_at IS 'When a receiver read the postback.';

COMMENT ON COLUMN public.conversions.recorded_at IS 'When the writer committed the row.';

COMMENT ON COLUMN public.conversions.status IS 'The status it was counted with; what moved it since is in status_changes, the one in force in conversions_net.';

COMMENT ON COLUMN public.conversions.reason IS 'Why the payout or status is not the usual one, e.g. goal_not_assigned.';

COMMENT ON COLUMN public.conversions.currency IS 'The campaign''s; sale_amount, revenue and payout are in it.';

COMMENT ON COLUMN public.conversions.original_amount IS 'The amount as sent, where it was converted; null where nothing was.';

COMMENT ON COLUMN public.conversions.event_at IS 'The sender''s own time of the event, if given.';

COMMENT ON COLUMN public.conversions.params IS 'What else the sender gave. Never a secret.';

COMMENT ON COLUMN public.conversions.status_given IS 'Whether its own postback gave the status; false: the goal implied it.';

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

COMMENT ON COLUMN public.dead_letters.kind IS 'The entry''s kind and format version in the queue.';

COMMENT ON COLUMN public.dead_letters.prior IS 'What the earlier claim held, on repeats.';

ALTER TABLE public.dead_letters ALTER COLUMN dead_letter_id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.dead_letters_dead_letter_id_seq
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

COMMENT ON COLUMN public.goal_rates.publisher_id IS 'Null: every publisher.';

COMMENT ON COLUMN public.goal_rates.countries IS 'ISO 3166-1 alpha-2; empty: everywhere.';

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

COMMENT ON COLUMN public.goals.value IS 'What the advertiser sends in the postback''s goal parameter; unique in the campaign without regard to case.';

COMMENT ON COLUMN public.goals.publishers IS 'A private goal''s publishers; others'' conversions are recorded with payout 0.';

COMMENT ON COLUMN public.goals.version IS 'Grows with each change of the goal or its rates; conversions carry the version they were decided on.';

COMMENT ON COLUMN public.goals.approval IS 'manual: a conversion is pending first. auto: it is what the postback says.';

COMMENT ON COLUMN public.goals.hold_ms IS 'How long a conversion of a manual goal is pending before it is approved by itself; null or 0: until a person decides.';

CREATE TABLE public.holds (
    conversion_id uuid NOT NULL,
    clicked_at timestamp with time zone NOT NULL,
    release_at timestamp with time zone NOT NULL
);

COMMENT ON TABLE public.holds IS 'Pending conversions that are approved when their goal''s hold has passed, unless a status was given meanwhile. A row goes when it is due.';

COMMENT ON COLUMN public.holds.clicked_at IS 'The conversion''s.';

COMMENT ON COLUMN public.holds.release_at IS 'When the hold has passed: the goal''s hold after received_at.';

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

COMMENT ON COLUMN public.postback_log.conversion_id IS 'The original''s id, for a duplicate or conflict.';

COMMENT ON COLUMN public.postback_log.params IS 'What the sender gave; for a conflict also "claimed" and "sent", the two amounts.';

CREATE TABLE public.publishers (
    id bigint NOT NULL,
    name text NOT NULL,
    status text DEFAULT 'active'::text NOT NULL,
    version integer DEFAULT 1 NOT NULL,
    CONSTRAINT publishers_id_check CHECK ((id > 0)),
    CONSTRAINT publishers_status_check CHECK ((status = ANY (ARRAY['active'::text, 'archived'::text])))
);

COMMENT ON TABLE public.publishers IS 'Who brought the click and is paid the payout.';

COMMENT ON COLUMN public.publishers.status IS 'Archived: offered for nothing new. Postbacks for clicks that it brought are decided and paid as before.';

COMMENT ON COLUMN public.publishers.version IS 'Grows with each change; who changes it names the version that was read.';

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

ALTER TABLE ONLY public.exchange_rates
    ADD CONSTRAINT exchange_rates_pkey PRIMARY KEY (from_currency, to_currency, valid_from);

ALTER TABLE ONLY public.goal_rates
    ADD CONSTRAINT goal_rates_pkey PRIMARY KEY (goal_id, "position");

ALTER TABLE ONLY public.goals
    ADD CONSTRAINT goals_pkey PRIMARY KEY (id);

ALTER TABLE ONLY public.holds
    ADD CONSTRAINT holds_pkey PRIMARY KEY (conversion_id);

ALTER TABLE ONLY public.postback_log
    ADD CONSTRAINT postback_log_pkey PRIMARY KEY (log_id, received_at);

ALTER TABLE ONLY public.publishers
    ADD CONSTRAINT publishers_pkey PRIMARY KEY (id);

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

CREATE INDEX conversions_campaign_received ON ONLY public.conversions USING btree (campaign_id, received_at);

CREATE INDEX conversions_click_id ON ONLY public.conversions USING btree (click_id);

CREATE UNIQUE INDEX dead_letters_entry ON public.dead_letters USING btree (entry_id, sha256(payload));

CREATE UNIQUE INDEX goals_default ON public.goals USING btree (campaign_id) WHERE is_default;

CREATE UNIQUE INDEX goals_value ON public.goals USING btree (campaign_id, lower(value));

CREATE INDEX holds_release_at ON public.holds USING btree (release_at);

CREATE INDEX postback_log_click_id ON ONLY public.postback_log USING btree (click_id);

CREATE INDEX postback_log_received ON ONLY public.postback_log USING brin (received_at);

CREATE INDEX status_changes_recorded ON ONLY public.status_changes USING brin (recorded_at);

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.advertisers FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.campaigns FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.caps FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.exchange_rates FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.goal_rates FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.goals FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

CREATE TRIGGER notify AFTER INSERT OR DELETE OR UPDATE OR TRUNCATE ON public.publishers FOR EACH STATEMENT EXECUTE FUNCTION public.notify_catalog();

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
