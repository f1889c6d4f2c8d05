-- Queue entries that Postgres refused for their data. An entry goes in by writer.sql.

-- name: newest
-- $1 bigint: how many at most. The newest, in the order they came.
SELECT dead_letter_id, failed_at, entry_id, kind, payload, prior, error
FROM (SELECT * FROM dead_letters ORDER BY dead_letter_id DESC LIMIT $1) AS newest
ORDER BY dead_letter_id;

-- name: one
-- $1 bigint: its id.
SELECT dead_letter_id, failed_at, entry_id, kind, payload, prior, error
FROM dead_letters
WHERE dead_letter_id = $1;

-- name: count
SELECT count(*) FROM dead_letters;

-- name: ids
SELECT dead_letter_id FROM dead_letters ORDER BY dead_letter_id;

-- name: discard
-- $1 bigint[]: ids. The ids that were there.
DELETE FROM dead_letters WHERE dead_letter_id = ANY ($1::bigint[]) RETURNING dead_letter_id;
