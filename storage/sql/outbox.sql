-- Messages to publishers. Conversions are touched by a trigger, in the transaction that writes them.

-- name: is_used
-- Whether there is a template, or anything left to be done.
SELECT EXISTS (SELECT FROM publisher_postbacks WHERE status = 'active') OR EXISTS (SELECT FROM outbound_touched);

-- name: lock
-- Whether we are the one who looks at what was touched, until the transaction ends: so each look sees all that the one
-- before did, and the last word on a status stands.
SELECT pg_try_advisory_xact_lock(hashtextextended('postback outbound', 0));

-- name: months
-- The months of what is touched.
SELECT DISTINCT date_trunc('month', clicked_at, 'UTC')::date FROM outbound_touched;

-- name: take_touched
-- $1 bigint: how many at most; $2 bigint: how long one is tried, ms. (looked at, messages made, messages withdrawn).
-- OFFSET 0 keeps the look-ups by key, whatever the statistics say.
WITH taken AS (
    DELETE FROM outbound_touched
    WHERE touch_id IN (SELECT touch_id FROM outbound_touched ORDER BY touch_id LIMIT $1)
    RETURNING conversion_id, clicked_at
), touched AS MATERIALIZED (
    SELECT net.*
    FROM (SELECT DISTINCT conversion_id, clicked_at FROM taken) AS one
    CROSS JOIN LATERAL (
        SELECT conversion_id, clicked_at, recorded_at, publisher_id, goal_id, status, first_status, reason, payout, net_payout
        FROM conversions_net
        WHERE conversions_net.conversion_id = one.conversion_id AND conversions_net.clicked_at = one.clicked_at
        OFFSET 0
    ) AS net
), made AS (
    INSERT INTO outbound_messages AS message (conversion_id, clicked_at, postback_id, payout, until)
    SELECT conversion_id, clicked_at, postback_id, net_payout, now() + $2 * interval '1 millisecond'
    FROM touched
    CROSS JOIN LATERAL (
        SELECT postback_id, created_at
        FROM publisher_postbacks AS postback
        WHERE postback.publisher_id = touched.publisher_id AND postback.status = 'active'
            AND (postback.goal_id = touched.goal_id OR postback.goal_id IS NULL)
        ORDER BY postback.goal_id NULLS LAST
        LIMIT 1
    ) AS template
    WHERE status = 'approved'
        AND (net_payout > 0 OR payout = 0 AND reason IS NULL)
        AND (first_status <> 'approved' OR recorded_at >= created_at)
        AND NOT EXISTS (  -- else what was sent before its month was dropped would be sent again
            SELECT FROM dropped_partitions
            WHERE table_name = 'outbound_messages'
                AND month = date_trunc('month', clicked_at AT TIME ZONE 'UTC')::date
        )
    ORDER BY conversion_id
    ON CONFLICT (conversion_id, clicked_at) DO UPDATE
    SET state = 'waiting', postback_id = excluded.postback_id, payout = excluded.payout, due_at = now(),
        until = excluded.until, done_at = NULL
    WHERE message.state = 'withdrawn'
    RETURNING conversion_id
), withdrawn AS (
    UPDATE outbound_messages AS message
    SET state = 'withdrawn', done_at = now()
    FROM touched
    WHERE message.conversion_id = touched.conversion_id AND message.clicked_at = touched.clicked_at
        AND message.state = 'waiting' AND touched.status <> 'approved'
    RETURNING message.conversion_id
)
SELECT (SELECT count(*) FROM taken), (SELECT count(*) FROM made), (SELECT count(*) FROM withdrawn);

-- name: take_due
-- $1 text[], $2 int[]: hosts, and how many each may be sent now; $3 int: every other host; $4 int: all together;
-- $5 bigint: how long others leave alone what was taken, ms. One whose conversion or template is gone stays.
WITH templates AS (
    SELECT postback_id, host, coalesce(busy.room, $3) AS room
    FROM publisher_postbacks LEFT JOIN unnest($1::text[], $2::int[]) AS busy (host, room) USING (host)
    WHERE status = 'active' AND coalesce(busy.room, $3) > 0
), due AS (
    SELECT conversion_id, clicked_at, due_at, room, row_number() OVER (PARTITION BY host ORDER BY due_at) AS place
    FROM templates
    CROSS JOIN LATERAL (
        SELECT conversion_id, clicked_at, due_at
        FROM outbound_messages AS message
        WHERE message.postback_id = templates.postback_id AND state = 'waiting' AND due_at <= now()
        ORDER BY due_at
        LIMIT least(templates.room, $4)
        FOR UPDATE SKIP LOCKED
    ) AS message
), chosen AS MATERIALIZED (
    SELECT conversion_id, clicked_at FROM due WHERE place <= room ORDER BY due_at LIMIT $4
), taken AS (
    UPDATE outbound_messages AS message
    SET due_at = now() + $5 * interval '1 millisecond'
    FROM chosen
    WHERE message.conversion_id = chosen.conversion_id AND message.clicked_at = chosen.clicked_at
    RETURNING message.conversion_id, message.clicked_at, message.postback_id, message.payout, message.attempts,
        (extract(epoch FROM message.until - now()) * 1000)::bigint AS left_ms
)
SELECT taken.conversion_id::text, taken.clicked_at, attempts, left_ms,
       postback.publisher_id, postback.url, postback.host, postback.method, secret,
       conversion.click_id, goal_value, conversion.goal_id, coalesce(txn_id, ''), coalesce(country, ''), currency,
       (taken.payout * 1000000)::bigint, coalesce(event_at, received_at), coalesce(click.params, '{}')::text
FROM taken
JOIN publisher_postbacks AS postback USING (postback_id)
LEFT JOIN publisher_secrets USING (publisher_id)
CROSS JOIN LATERAL (
    SELECT click_id, goal_value, goal_id, txn_id, country, currency, event_at, received_at
    FROM conversions
    WHERE conversions.conversion_id = taken.conversion_id AND conversions.clicked_at = taken.clicked_at
    OFFSET 0
) AS conversion
LEFT JOIN LATERAL (
    SELECT params FROM clicks WHERE clicks.click_id = conversion.click_id OFFSET 0
) AS click ON true;

-- name: settle
-- Attempts that have ended: $1 uuid[], $2 timestamptz[]: the messages; $3 text[]: each attempt, as JSON; $4 text[]: the
-- states; $5 bigint[]: when those that wait are due, ms from now; $6 int: how many attempts are kept. One that was withdrawn meanwhile is not tried again.
UPDATE outbound_messages AS message
SET attempts = message.attempts + 1,
    log = CASE WHEN jsonb_array_length(log) >= $6 THEN log - 1 ELSE log END || attempt::jsonb,
    state = CASE WHEN message.state = 'waiting' OR ended.state = 'sent' THEN ended.state ELSE message.state END,
    due_at = now() + ended.due_ms * interval '1 millisecond',
    done_at = CASE
        WHEN ended.state = 'sent' OR ended.state = 'given_up' AND message.state = 'waiting' THEN now()
        ELSE message.done_at
    END
FROM unnest($1::uuid[], $2::timestamptz[], $3::text[], $4::text[], $5::bigint[])
    AS ended (conversion_id, clicked_at, attempt, state, due_ms)
WHERE message.conversion_id = ended.conversion_id AND message.clicked_at = ended.clicked_at
    AND message.state <> 'sent';

-- name: give_up
-- $1 text[]: hosts that do not answer anybody; $2 bigint: how many at most. Messages to them whose time is over, tried or not.
UPDATE outbound_messages AS message
SET state = 'given_up', done_at = now()
FROM (
    SELECT conversion_id, clicked_at
    FROM outbound_messages JOIN publisher_postbacks AS postback USING (postback_id)
    WHERE host = ANY ($1::text[]) AND state = 'waiting' AND due_at <= now() AND until <= now()
    LIMIT $2
    FOR UPDATE OF outbound_messages SKIP LOCKED
) AS over
WHERE message.conversion_id = over.conversion_id AND message.clicked_at = over.clicked_at;

-- name: count_waiting
SELECT count(*) FROM outbound_messages WHERE state = 'waiting';

-- name: messages
-- $1 text: a state; $2 bigint: a publisher; $3 uuid: a conversion; each null: any. $4 bigint: how many at most, latest first.
SELECT message.conversion_id::text, message.clicked_at, postback.publisher_id, postback.goal_id, postback.host, message.state,
       (message.payout * 1000000)::bigint, message.created_at, message.due_at, message.until, message.done_at,
       message.attempts, message.log::text
FROM outbound_messages AS message JOIN publisher_postbacks AS postback USING (postback_id)
WHERE ($1::text IS NULL OR state = $1) AND ($2::bigint IS NULL OR publisher_id = $2)
    AND ($3::uuid IS NULL OR conversion_id = $3)
ORDER BY coalesce(message.done_at, message.created_at) DESC, conversion_id
LIMIT $4;

-- name: messages_of
-- $1 uuid[], $2 timestamptz[]: conversions; $3 bigint: how many at most. The same columns as above, in order of time.
SELECT message.conversion_id::text, message.clicked_at, postback.publisher_id, postback.goal_id, postback.host, message.state,
       (message.payout * 1000000)::bigint, message.created_at, message.due_at, message.until, message.done_at,
       message.attempts, message.log::text
FROM outbound_messages AS message JOIN publisher_postbacks AS postback USING (postback_id)
WHERE conversion_id = ANY ($1::uuid[]) AND clicked_at = ANY ($2::timestamptz[])
ORDER BY message.created_at, conversion_id
LIMIT $3;

-- name: retry
-- $1 bigint: a publisher; $2 bigint: how long each is tried, ms. What was given up waits again.
UPDATE outbound_messages AS message
SET state = 'waiting', due_at = now(), until = now() + $2 * interval '1 millisecond', done_at = NULL
FROM publisher_postbacks AS postback
WHERE postback.postback_id = message.postback_id AND postback.publisher_id = $1 AND postback.status = 'active'
    AND message.state = 'given_up';
