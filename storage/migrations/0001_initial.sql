-- The catalog, the clicks and what happened. Amounts are numeric(18,6) in the unit of the currency beside them.

-- Catalog ---------------------------------------------------------------------------------------------------------

CREATE TABLE advertisers (
    id              bigint PRIMARY KEY CHECK (id > 0),
    name            text NOT NULL,
    security_tokens text[] NOT NULL DEFAULT '{}',
    profile         text NOT NULL DEFAULT 'json' CHECK (profile IN ('json', 'text', 'pixel', 'empty')),
    aliases         jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE advertisers IS 'Who sends postbacks and pays the revenue.';
COMMENT ON COLUMN advertisers.security_tokens IS 'SHA-256 digests of the accepted tokens, as sha256:<hex>; none: no token is asked for.';
COMMENT ON COLUMN advertisers.profile IS 'The shape of the answers: json, text, pixel or empty.';
COMMENT ON COLUMN advertisers.aliases IS 'The advertiser''s own parameter names, each to the standard name it stands for.';

CREATE TABLE publishers (
    id   bigint PRIMARY KEY CHECK (id > 0),
    name text NOT NULL
);
COMMENT ON TABLE publishers IS 'Who brought the click and is paid the payout.';

CREATE TABLE campaigns (
    id            bigint PRIMARY KEY CHECK (id > 0),
    advertiser_id bigint NOT NULL REFERENCES advertisers,
    name          text NOT NULL,
    currency      char(3) NOT NULL,
    timezone      text NOT NULL DEFAULT 'UTC',
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    window_ms     bigint CHECK (window_ms > 0),
    min_age_ms    bigint CHECK (min_age_ms >= 0)
);
CREATE INDEX campaigns_advertiser_id ON campaigns (advertiser_id);
COMMENT ON TABLE campaigns IS 'An advertiser''s offer; all its amounts are in one currency.';
COMMENT ON COLUMN campaigns.window_ms IS 'How long after the click a postback counts; null: the configured clicks.window.';
COMMENT ON COLUMN campaigns.min_age_ms IS 'A postback sooner after the click is refused; null: the configured clicks.min_age.';

CREATE TABLE goals (
    id             bigint PRIMARY KEY CHECK (id > 0),
    campaign_id    bigint NOT NULL REFERENCES campaigns,
    title          text NOT NULL,
    value          text NOT NULL,
    is_default     boolean NOT NULL DEFAULT false,
    type           text NOT NULL DEFAULT 'public' CHECK (type IN ('public', 'private')),
    publishers     bigint[] NOT NULL DEFAULT '{}',
    track_multiple text NOT NULL DEFAULT 'yes_with_txn_id' CHECK (track_multiple IN ('no', 'yes', 'yes_with_txn_id')),
    status         text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused', 'archived')),
    version        int NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX goals_value ON goals (campaign_id, lower(value));
CREATE UNIQUE INDEX goals_default ON goals (campaign_id) WHERE is_default;
COMMENT ON TABLE goals IS 'What an advertiser pays for after the click.';
COMMENT ON COLUMN goals.value IS 'What the advertiser sends in the postback''s goal parameter; unique in the campaign without regard to case.';
COMMENT ON COLUMN goals.publishers IS 'A private goal''s publishers; others'' conversions are recorded with payout 0.';
COMMENT ON COLUMN goals.version IS 'Grows with each change of the goal or its rates; conversions carry the version they were decided on.';

CREATE TABLE goal_rates (
    goal_id         bigint NOT NULL REFERENCES goals ON DELETE CASCADE,
    position        int NOT NULL,
    publisher_id    bigint REFERENCES publishers,
    countries       char(2)[] NOT NULL DEFAULT '{}',
    revenue_fixed   numeric(18,6) NOT NULL DEFAULT 0 CHECK (revenue_fixed >= 0),
    revenue_percent numeric(10,6) NOT NULL DEFAULT 0 CHECK (revenue_percent >= 0),
    payout_fixed    numeric(18,6) NOT NULL DEFAULT 0 CHECK (payout_fixed >= 0),
    payout_percent  numeric(10,6) NOT NULL DEFAULT 0 CHECK (payout_percent >= 0),
    payout_of       text NOT NULL DEFAULT 'sale' CHECK (payout_of IN ('sale', 'revenue')),
    PRIMARY KEY (goal_id, position)
);
COMMENT ON TABLE goal_rates IS 'A goal''s prices. The most specific applies: publisher and country, publisher, country, default.';
COMMENT ON COLUMN goal_rates.countries IS 'ISO 3166-1 alpha-2; empty: everywhere.';
COMMENT ON COLUMN goal_rates.publisher_id IS 'Null: every publisher.';
COMMENT ON COLUMN goal_rates.payout_of IS 'What payout_percent is a percentage of: sale (the sale amount) or revenue.';

CREATE TABLE exchange_rates (
    from_currency char(3) NOT NULL,
    to_currency   char(3) NOT NULL,
    rate          numeric(18,9) NOT NULL CHECK (rate > 0),
    valid_from    date NOT NULL,
    PRIMARY KEY (from_currency, to_currency, valid_from)
);
COMMENT ON TABLE exchange_rates IS 'A unit of from_currency is rate units of to_currency, from valid_from (00:00 UTC) until the next row.';

-- One notification a statement, after commit: each receiver listens and loads the whole catalog anew.
CREATE FUNCTION notify_catalog() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('catalog', TG_TABLE_NAME);
    RETURN NULL;
END $$;
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON advertisers FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON publishers FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON campaigns FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON goals FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON goal_rates FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();
CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON exchange_rates FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();

-- Clicks ----------------------------------------------------------------------------------------------------------

CREATE TABLE clicks (
    click_id      text COLLATE "C" PRIMARY KEY,
    campaign_id   bigint NOT NULL,
    publisher_id  bigint NOT NULL,
    clicked_at    timestamptz(3) NOT NULL,
    country       char(2),
    params        jsonb NOT NULL DEFAULT '{}',
    registered_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX clicks_clicked_at ON clicks USING brin (clicked_at);
COMMENT ON TABLE clicks IS 'Registered clicks. Immutable: the first registration wins.';
COMMENT ON COLUMN clicks.clicked_at IS 'Cut to whole milliseconds; part of each of its conversions'' ids.';
COMMENT ON COLUMN clicks.country IS 'ISO 3166-1 alpha-2; null where the tracker did not know it.';

-- What happened ---------------------------------------------------------------------------------------------------

CREATE TABLE conversions (
    conversion_id     uuid NOT NULL,
    clicked_at        timestamptz NOT NULL,
    received_at       timestamptz NOT NULL,
    recorded_at       timestamptz NOT NULL DEFAULT now(),
    advertiser_id     bigint NOT NULL,
    publisher_id      bigint NOT NULL,
    campaign_id       bigint NOT NULL,
    goal_id           bigint NOT NULL,
    goal_value        text NOT NULL,
    goal_version      int NOT NULL,
    click_id          text COLLATE "C" NOT NULL,
    txn_id            text COLLATE "C",
    status            text NOT NULL CHECK (status IN ('approved', 'pending', 'cancelled', 'rejected')),
    reason            text,
    country           char(2),
    currency          char(3) NOT NULL,
    sale_amount       numeric(18,6),
    revenue           numeric(18,6) NOT NULL,
    payout            numeric(18,6) NOT NULL,
    original_amount   numeric(18,6),
    original_currency char(3),
    exchange_rate     numeric(18,9),
    event_at          timestamptz,
    params            jsonb NOT NULL,
    PRIMARY KEY (conversion_id, clicked_at)
) PARTITION BY RANGE (clicked_at);
CREATE INDEX conversions_campaign_received ON conversions (campaign_id, received_at);
CREATE INDEX conversions_click_id ON conversions (click_id);
COMMENT ON TABLE conversions IS 'Each counted event, once. Partitioned by the month of clicked_at (UTC), which never changes for a click.';
COMMENT ON COLUMN conversions.conversion_id IS 'UUIDv8 of click time, click_id, goal and, as the goal says, txn_id: the same event always has the same id.';
COMMENT ON COLUMN conversions.received_at IS 'When a receiver read the postback.';
COMMENT ON COLUMN conversions.recorded_at IS 'When the writer committed the row.';
COMMENT ON COLUMN conversions.reason IS 'Why the payout or status is not the usual one, e.g. goal_not_assigned.';
COMMENT ON COLUMN conversions.currency IS 'The campaign''s; sale_amount, revenue and payout are in it.';
COMMENT ON COLUMN conversions.original_amount IS 'The amount as sent, where it was converted; null where nothing was.';
COMMENT ON COLUMN conversions.event_at IS 'The sender''s own time of the event, if given.';
COMMENT ON COLUMN conversions.params IS 'What else the sender gave. Never a secret.';

CREATE TABLE postback_log (
    log_id        uuid NOT NULL,
    received_at   timestamptz NOT NULL,
    outcome       text NOT NULL CHECK (outcome IN ('duplicate', 'conflict', 'rejected')),
    reason        text,
    advertiser_id bigint,
    campaign_id   bigint,
    click_id      text COLLATE "C",
    goal_value    text,
    txn_id        text COLLATE "C",
    conversion_id uuid,
    remote_ip     inet,
    params        jsonb NOT NULL,
    PRIMARY KEY (log_id, received_at)
) PARTITION BY RANGE (received_at);
CREATE INDEX postback_log_received ON postback_log USING brin (received_at);
CREATE INDEX postback_log_click_id ON postback_log (click_id);
COMMENT ON TABLE postback_log IS 'Each postback that was not counted, and why. Partitioned by the month of received_at (UTC).';
COMMENT ON COLUMN postback_log.conversion_id IS 'The original''s id, for a duplicate or conflict.';
COMMENT ON COLUMN postback_log.params IS 'What the sender gave; for a conflict also "claimed" and "sent", the two amounts.';

CREATE TABLE dead_letters (
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    failed_at      timestamptz NOT NULL DEFAULT now(),
    entry_id       text NOT NULL,
    kind           text NOT NULL,
    payload        bytea NOT NULL,
    error          text NOT NULL
);
-- By its digest: a payload may be longer than an index takes.
CREATE UNIQUE INDEX dead_letters_entry ON dead_letters (entry_id, sha256(payload));
COMMENT ON TABLE dead_letters IS 'Queue entries that Postgres refuses for their data, as they were, with the error.';
COMMENT ON COLUMN dead_letters.kind IS 'The entry''s kind and format version in the queue.';
