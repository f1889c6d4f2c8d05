-- Keys to the API. Only digests cross.

-- name: create
INSERT INTO api_keys (name, role, digest)
VALUES ($1, $2, $3)
RETURNING key_id, name, role, digest, created_at, revoked_at;

-- name: list
SELECT key_id, name, role, digest, created_at, revoked_at
FROM api_keys
ORDER BY key_id;

-- name: live
SELECT key_id, name, role, digest, created_at, revoked_at
FROM api_keys
WHERE revoked_at IS NULL;

-- name: revoke
-- $1: the key. One that is revoked already stays as it is.
UPDATE api_keys
SET revoked_at = coalesce(revoked_at, now())
WHERE key_id = $1
RETURNING key_id, name, role, digest, created_at, revoked_at;
