-- Postbacks whose click is not known yet are held for clicks.park_unknown; logged rejections can be decided again.

CREATE TABLE parked_postbacks (
    postback_id uuid PRIMARY KEY,
    received_at timestamptz NOT NULL,
    parked_at   timestamptz NOT NULL DEFAULT now(),
    until       timestamptz NOT NULL,
    look_at     timestamptz NOT NULL DEFAULT now(),
    click_ids   text[] COLLATE "C" NOT NULL,
    click_id    text COLLATE "C",
    goal_value  text,
    txn_id      text COLLATE "C",
    remote_ip   inet,
    params      jsonb NOT NULL,
    key_id      text NOT NULL,
    sealed      bytea NOT NULL
);
CREATE INDEX parked_postbacks_click_ids ON parked_postbacks USING gin (click_ids);
CREATE INDEX parked_postbacks_look_at ON parked_postbacks (look_at);
CREATE INDEX parked_postbacks_until ON parked_postbacks (until);
COMMENT ON TABLE parked_postbacks IS 'Postbacks whose click is not known yet. They are decided when it is registered, or go to postback_log when their time is over.';
COMMENT ON COLUMN parked_postbacks.postback_id IS 'The log_id that it has in postback_log, should it come to that.';
COMMENT ON COLUMN parked_postbacks.received_at IS 'When a receiver read the postback.';
COMMENT ON COLUMN parked_postbacks.parked_at IS 'When the writer committed the row.';
COMMENT ON COLUMN parked_postbacks.until IS 'A click that is registered later comes too late: clicks.park_unknown after received_at.';
COMMENT ON COLUMN parked_postbacks.look_at IS 'When it is looked at next. Its click''s registration makes that now.';
COMMENT ON COLUMN parked_postbacks.click_ids IS 'The clicks that it may be about: under a standard name, and under advertisers'' own names for click_id.';
COMMENT ON COLUMN parked_postbacks.click_id IS 'The one of them that stands in postback_log, should it come to that; and so with the columns up to params.';
COMMENT ON COLUMN parked_postbacks.params IS 'What else the sender gave. Never a secret.';
COMMENT ON COLUMN parked_postbacks.key_id IS 'Names the key in admin.secret_key_file that sealed can be opened with.';
COMMENT ON COLUMN parked_postbacks.sealed IS 'The postback as it came, with token and signature, encrypted.';

-- Whoever registers a click, by whichever way, makes its postbacks due in the same transaction. The array is what an
-- index can be asked for, whatever the statistics say.
CREATE FUNCTION wake_parked() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER wake_parked AFTER INSERT ON clicks REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION wake_parked();

CREATE TABLE replays (
    log_id        uuid NOT NULL,
    received_at   timestamptz NOT NULL,
    replayed_at   timestamptz NOT NULL DEFAULT now(),
    outcome       text NOT NULL CHECK (outcome IN ('accepted', 'duplicate', 'conflict', 'rejected')),
    reason        text,
    conversion_id uuid,
    made_by       text NOT NULL,
    PRIMARY KEY (log_id, replayed_at)
);
CREATE INDEX replays_conversion_id ON replays (conversion_id);
COMMENT ON TABLE replays IS 'What became of rejections in postback_log that were decided again.';
COMMENT ON COLUMN replays.log_id IS 'The row of postback_log.';
COMMENT ON COLUMN replays.received_at IS 'That row''s, with which it is found in its partition.';
COMMENT ON COLUMN replays.outcome IS 'accepted: counted, as conversion_id. duplicate, conflict: its event had been counted before. rejected: still.';
COMMENT ON COLUMN replays.reason IS 'Why it is still rejected.';
COMMENT ON COLUMN replays.conversion_id IS 'The conversion that it became, or that had been counted before.';
COMMENT ON COLUMN replays.made_by IS 'Who had it decided again.';
