-- Pending conversions whose goal's hold has passed. A hold goes in by writer.sql.

-- name: lock
-- Whether we are the one who releases, until the transaction ends.
SELECT pg_try_advisory_xact_lock(hashtextextended('postback holds', 0));

-- name: release
-- $1 bigint: how many at most. (holds that were due, conversions approved): what was given a status meanwhile keeps that.
WITH due AS (
    DELETE FROM holds
    WHERE conversion_id IN (SELECT conversion_id FROM holds WHERE release_at <= now() ORDER BY release_at LIMIT $1)
    RETURNING conversion_id, clicked_at, release_at
), released AS (
    INSERT INTO status_changes (conversion_id, clicked_at, change_id, received_at, status, source)
    SELECT conversion_id, clicked_at, conversion_id, release_at, 'approved', 'hold'
    FROM due JOIN conversions AS held USING (conversion_id, clicked_at)
    WHERE held.status = 'pending' AND NOT held.status_given AND NOT EXISTS (
        SELECT FROM status_changes AS change
        WHERE change.conversion_id = due.conversion_id AND change.clicked_at = due.clicked_at
    )
    ORDER BY conversion_id
    ON CONFLICT DO NOTHING
    RETURNING conversion_id
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM released);
