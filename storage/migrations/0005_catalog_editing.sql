-- The catalog as people edit it: versions for optimistic locking, archives, approval, caps, history, and keys to the API.

ALTER TABLE advertisers
    ADD COLUMN status  text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    ADD COLUMN version int NOT NULL DEFAULT 1;
COMMENT ON COLUMN advertisers.status IS 'Archived: kept for what refers to it, offered for nothing new. Each of its campaigns is archived then.';
COMMENT ON COLUMN advertisers.version IS 'Grows with each change; who changes it names the version that was read.';

ALTER TABLE publishers
    ADD COLUMN status  text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    ADD COLUMN version int NOT NULL DEFAULT 1;
COMMENT ON COLUMN publishers.status IS 'Archived: offered for nothing new. Postbacks for clicks that it brought are decided and paid as before.';
COMMENT ON COLUMN publishers.version IS 'Grows with each change; who changes it names the version that was read.';

ALTER TABLE campaigns ADD COLUMN version int NOT NULL DEFAULT 1;
COMMENT ON COLUMN campaigns.version IS 'Grows with each change of the campaign or its own caps, not with those of its goals.';

ALTER TABLE goals
    ADD COLUMN approval text NOT NULL DEFAULT 'auto' CHECK (approval IN ('auto', 'manual')),
    ADD COLUMN hold_ms  bigint CHECK (hold_ms >= 0),
    ADD CHECK (approval = 'manual' OR hold_ms IS NULL);
COMMENT ON COLUMN goals.approval IS 'manual: a conversion is pending first. auto: it is what the postback says.';
COMMENT ON COLUMN goals.hold_ms IS 'How long a conversion of a manual goal is pending before it is approved by itself; null or 0: until a person decides.';

ALTER TABLE exchange_rates
    ADD COLUMN status  text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    ADD COLUMN version int NOT NULL DEFAULT 1;
COMMENT ON COLUMN exchange_rates.status IS 'Archived: as if it were not there. Conversions hold the rate that they were converted with.';
COMMENT ON COLUMN exchange_rates.version IS 'Grows with each change; who changes it names the version that was read.';

CREATE TABLE caps (
    cap_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    campaign_id    bigint NOT NULL REFERENCES campaigns,
    goal_id        bigint REFERENCES goals ON DELETE CASCADE,
    position       int NOT NULL,
    publisher_id   bigint REFERENCES publishers,
    each_publisher boolean NOT NULL DEFAULT false,
    measure        text NOT NULL CHECK (measure IN ('conversions', 'revenue', 'payout')),
    period         text NOT NULL CHECK (period IN ('day', 'month', 'lifetime')),
    cap_limit      numeric(18, 6) NOT NULL CHECK (cap_limit > 0),
    action         text NOT NULL CHECK (action IN ('pending', 'cancelled', 'unpaid')),
    CHECK (NOT each_publisher OR publisher_id IS NULL)
);
COMMENT ON TABLE caps IS 'How much a goal or a campaign may convert. One for each goal or campaign, publisher, measure and period.';
COMMENT ON COLUMN caps.cap_id IS 'Of this row only: a change writes the row anew.';
COMMENT ON COLUMN caps.goal_id IS 'Null: the cap is on the campaign, over all its goals.';
COMMENT ON COLUMN caps.position IS 'Its place among the caps of the goal or campaign.';
COMMENT ON COLUMN caps.publisher_id IS 'The one publisher that it is for; null: all together, or each.';
COMMENT ON COLUMN caps.each_publisher IS 'Whether each publisher is counted by itself; one with a cap of its own for the same measure and period has that one instead.';
COMMENT ON COLUMN caps.measure IS 'What is counted: conversions, revenue or payout.';
COMMENT ON COLUMN caps.period IS 'Over what: day or month in the campaign''s time zone, or lifetime.';
COMMENT ON COLUMN caps.cap_limit IS 'The most there may be: a number of conversions, or an amount in the campaign''s currency.';
COMMENT ON COLUMN caps.action IS 'What becomes of a conversion over the cap: pending, cancelled, or unpaid (recorded with payout 0).';

CREATE UNIQUE INDEX caps_key ON caps (campaign_id, coalesce(goal_id, 0), coalesce(publisher_id, 0), each_publisher, measure, period);
CREATE INDEX caps_goal_id ON caps (goal_id);

CREATE TRIGGER notify AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON caps
    FOR EACH STATEMENT EXECUTE FUNCTION notify_catalog();

CREATE TABLE catalog_history (
    history_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    changed_by  text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('advertiser', 'publisher', 'campaign', 'goal', 'exchange_rate')),
    entity_id   text NOT NULL,
    campaign_id bigint,
    version     int NOT NULL,
    before      jsonb,
    after       jsonb NOT NULL
);
COMMENT ON TABLE catalog_history IS 'Each change of the catalog, whoever made it, written in the same transaction. Never changed, never deleted.';
COMMENT ON COLUMN catalog_history.changed_by IS 'A key''s name, "admin key", "catalog import" or "console".';
COMMENT ON COLUMN catalog_history.entity_id IS 'The id; of an exchange rate FROM-TO-DATE.';
COMMENT ON COLUMN catalog_history.campaign_id IS 'The campaign that was changed, or whose goal was; null for other kinds.';
COMMENT ON COLUMN catalog_history.version IS 'The version that the change made.';
COMMENT ON COLUMN catalog_history.before IS 'What it was, under the keys of a catalog file; null: it was created. Of secrets only how many there were.';
COMMENT ON COLUMN catalog_history.after IS 'What it became, likewise; "changed" stands where secrets were changed.';

CREATE INDEX catalog_history_entity ON catalog_history (kind, entity_id, history_id);
CREATE INDEX catalog_history_campaign ON catalog_history (campaign_id, history_id) WHERE campaign_id IS NOT NULL;

CREATE TABLE api_keys (
    key_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name       text NOT NULL,
    role       text NOT NULL CHECK (role IN ('read', 'admin')),
    digest     bytea NOT NULL UNIQUE CHECK (length(digest) = 32),
    created_at timestamptz NOT NULL DEFAULT now(),
    revoked_at timestamptz
);
COMMENT ON TABLE api_keys IS 'Who may use the API, beside the admin key in its file.';
COMMENT ON COLUMN api_keys.name IS 'Stands in catalog_history; unique among the keys that are not revoked.';
COMMENT ON COLUMN api_keys.role IS 'read: may look at everything. admin: may change it too.';
COMMENT ON COLUMN api_keys.digest IS 'SHA-256 of the key, which is random and kept nowhere.';
COMMENT ON COLUMN api_keys.revoked_at IS 'Null: the key is good.';

CREATE UNIQUE INDEX api_keys_name ON api_keys (name) WHERE revoked_at IS NULL;
