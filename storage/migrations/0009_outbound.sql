-- Publishers' postbacks: what is sent to them for conversions that are approved.

CREATE TABLE publisher_postbacks (
    postback_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    publisher_id bigint NOT NULL REFERENCES publishers (id),
    goal_id      bigint REFERENCES goals (id),
    url          text NOT NULL,
    host         text NOT NULL,
    method       text NOT NULL DEFAULT 'GET' CHECK (method IN ('GET', 'POST')),
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'archived')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    changed_at   timestamptz NOT NULL DEFAULT now(),
    changed_by   text NOT NULL
);
CREATE UNIQUE INDEX publisher_postbacks_active ON publisher_postbacks (publisher_id, coalesce(goal_id, 0))
    WHERE status = 'active';
COMMENT ON TABLE publisher_postbacks IS 'What is called for a publisher''s approved conversions. One for a goal goes before the one for all goals.';
COMMENT ON COLUMN publisher_postbacks.goal_id IS 'Null: for all goals that have none of their own.';
COMMENT ON COLUMN publisher_postbacks.url IS 'With macros in braces; docs/outbound.md lists them.';
COMMENT ON COLUMN publisher_postbacks.host IS 'The URL''s.';
COMMENT ON COLUMN publisher_postbacks.method IS 'GET, or POST: the query is sent as a form then.';
COMMENT ON COLUMN publisher_postbacks.status IS 'Archived: kept for the messages that were sent with it.';
COMMENT ON COLUMN publisher_postbacks.created_at IS 'Conversions that were approved when they were counted before this are not sent.';
COMMENT ON COLUMN publisher_postbacks.changed_by IS 'Who wrote it last.';

CREATE TABLE publisher_secrets (
    publisher_id bigint PRIMARY KEY REFERENCES publishers (id),
    secret       text NOT NULL,
    changed_at   timestamptz NOT NULL DEFAULT now(),
    changed_by   text NOT NULL
);
COMMENT ON TABLE publisher_secrets IS 'What postbacks to a publisher are signed with.';
COMMENT ON COLUMN publisher_secrets.secret IS 'Encrypted, as enc:<base64url>.';
COMMENT ON COLUMN publisher_secrets.changed_by IS 'Who made it.';

CREATE TABLE outbound_touched (
    touch_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL
);
COMMENT ON TABLE outbound_touched IS 'Conversions to be looked at: there is something new about them, and perhaps something to send. A work list.';
COMMENT ON COLUMN outbound_touched.clicked_at IS 'The conversion''s.';

CREATE TABLE outbound_messages (
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL,
    postback_id   bigint NOT NULL,
    payout        numeric(18,6) NOT NULL,
    state         text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'given_up', 'withdrawn')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    due_at        timestamptz NOT NULL DEFAULT now(),
    until         timestamptz NOT NULL,
    done_at       timestamptz,
    attempts      int NOT NULL DEFAULT 0,
    log           jsonb NOT NULL DEFAULT '[]',
    PRIMARY KEY (conversion_id, clicked_at)
) PARTITION BY RANGE (clicked_at);
CREATE INDEX outbound_messages_due ON outbound_messages (postback_id, due_at) WHERE state = 'waiting';
CREATE INDEX outbound_messages_given_up ON outbound_messages (postback_id, done_at) WHERE state = 'given_up';
COMMENT ON TABLE outbound_messages IS 'What is, was or could not be sent to publishers: one for a conversion. Partitioned by the month of clicked_at (UTC), as conversions is.';
COMMENT ON COLUMN outbound_messages.clicked_at IS 'The conversion''s.';
COMMENT ON COLUMN outbound_messages.postback_id IS 'The publisher''s template; what it says when it is sent counts.';
COMMENT ON COLUMN outbound_messages.payout IS 'With adjustments, as it stood when the conversion was found approved; in the conversion''s currency.';
COMMENT ON COLUMN outbound_messages.state IS 'waiting; sent: answered with 2xx; given_up: until has passed and it still failed; withdrawn: not approved any more, or the template was removed, before it was sent.';
COMMENT ON COLUMN outbound_messages.due_at IS 'When it is tried next; while it is tried, when another may take it to be abandoned.';
COMMENT ON COLUMN outbound_messages.until IS 'An attempt that fails later is the last.';
COMMENT ON COLUMN outbound_messages.done_at IS 'When it was sent, given up or withdrawn; null while it waits.';
COMMENT ON COLUMN outbound_messages.attempts IS 'How many there were.';
COMMENT ON COLUMN outbound_messages.log IS 'The first attempt and the latest 19: at, ms (how long it took), status (HTTP) and error (null: it was delivered).';

-- Whoever counts a conversion or gives it a status, by whichever way, touches it in the same transaction. Whichever of
-- both commits last, its touch is found when both are there to be seen.
CREATE FUNCTION touch_outbound() RETURNS trigger LANGUAGE plpgsql AS $$
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
CREATE TRIGGER outbound_insert AFTER INSERT ON conversions REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION touch_outbound();
CREATE TRIGGER outbound_insert AFTER INSERT ON status_changes REFERENCING NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION touch_outbound();
