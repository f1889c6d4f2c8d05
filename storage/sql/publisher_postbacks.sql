-- Publishers' templates and secrets, for those who edit them.

-- name: list
-- Those in force, with the messages of each that wait and that were given up.
SELECT postback.postback_id, postback.publisher_id, publishers.name, postback.goal_id, postback.url, postback.method,
       secret IS NOT NULL, postback.changed_at, postback.changed_by,
       (SELECT count(*) FROM outbound_messages AS message
        WHERE message.postback_id = postback.postback_id AND message.state = 'waiting'),
       (SELECT count(*) FROM outbound_messages AS message
        WHERE message.postback_id = postback.postback_id AND message.state = 'given_up')
FROM publisher_postbacks AS postback
JOIN publishers ON publishers.id = postback.publisher_id
LEFT JOIN publisher_secrets USING (publisher_id)
WHERE postback.status = 'active'
ORDER BY publisher_id, goal_id NULLS FIRST;

-- name: put
-- $1 bigint: publisher; $2 bigint: goal, null for all; $3 url; $4 host; $5 method; $6 who.
INSERT INTO publisher_postbacks AS postback (publisher_id, goal_id, url, host, method, changed_by)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (publisher_id, coalesce(goal_id, 0)) WHERE status = 'active' DO UPDATE
SET url = excluded.url, host = excluded.host, method = excluded.method, changed_at = now(),
    changed_by = excluded.changed_by;

-- name: lock
-- Nobody makes messages until the transaction ends; outbox.sql takes the same lock.
SELECT pg_advisory_xact_lock(hashtextextended('postback outbound', 0));

-- name: archive
-- $1 bigint: publisher; $2 bigint: goal, null for the one for all; $3 who. Its id; null: there is none.
UPDATE publisher_postbacks
SET status = 'archived', changed_at = now(), changed_by = $3
WHERE publisher_id = $1 AND coalesce(goal_id, 0) = coalesce($2, 0) AND status = 'active'
RETURNING postback_id;

-- name: withdraw
-- $1 bigint: an archived template. Its messages that wait.
UPDATE outbound_messages
SET state = 'withdrawn', done_at = now()
WHERE postback_id = $1 AND state = 'waiting';

-- name: secret
-- $1 bigint: publisher.
SELECT secret FROM publisher_secrets WHERE publisher_id = $1;

-- name: put_secret
-- $1 bigint: publisher; $2 text: encrypted; $3 who.
INSERT INTO publisher_secrets (publisher_id, secret, changed_by) VALUES ($1, $2, $3)
ON CONFLICT (publisher_id) DO UPDATE SET secret = excluded.secret, changed_at = now(), changed_by = excluded.changed_by;

-- name: drop_secret
-- $1 bigint: publisher.
DELETE FROM publisher_secrets WHERE publisher_id = $1;
