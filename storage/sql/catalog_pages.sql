-- The catalog in pages, by keyset: each query gives the ids that come after $1, at most $2 of them. Further parameters
-- are filters, null where there is none; `search` is a part of a name, without regard to case.

-- name: advertisers
-- $3 status, $4 search.
SELECT id
FROM advertisers
WHERE id > $1
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(name)) > 0)
ORDER BY id
LIMIT $2;

-- name: publishers
-- $3 status, $4 search.
SELECT id
FROM publishers
WHERE id > $1
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(name)) > 0)
ORDER BY id
LIMIT $2;

-- name: campaigns
-- $3 status, $4 search, $5 advertiser.
SELECT id
FROM campaigns
WHERE id > $1
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(name)) > 0)
  AND ($5::bigint IS NULL OR advertiser_id = $5)
ORDER BY id
LIMIT $2;

-- name: goals
-- $3 status, $4 search in title and value, $5 campaign, $6 type.
SELECT id
FROM goals
WHERE id > $1
  AND ($3::text IS NULL OR status = $3)
  AND ($4::text IS NULL OR position(lower($4) IN lower(title)) > 0 OR position(lower($4) IN lower(value)) > 0)
  AND ($5::bigint IS NULL OR campaign_id = $5)
  AND ($6::text IS NULL OR type = $6)
ORDER BY id
LIMIT $2;

-- name: exchange_rates
-- $1 is three: from, to and day of the last one seen, in $1, $3 and $4. $5 status, $6 from, $7 to.
SELECT from_currency, to_currency, valid_from
FROM exchange_rates
WHERE (from_currency, to_currency, valid_from) > ($1::text, $3::text, $4::date)
  AND ($5::text IS NULL OR status = $5)
  AND ($6::text IS NULL OR from_currency = $6)
  AND ($7::text IS NULL OR to_currency = $7)
ORDER BY from_currency, to_currency, valid_from
LIMIT $2;

-- name: history
-- Newest first: before $1. $3 kind, $4 entity id, $5 campaign, $6 who.
SELECT history_id, changed_at, changed_by, kind, entity_id, campaign_id, version, before::text, after::text
FROM catalog_history
WHERE history_id < $1
  AND ($3::text IS NULL OR kind = $3)
  AND ($4::text IS NULL OR entity_id = $4)
  AND ($5::bigint IS NULL OR campaign_id = $5)
  AND ($6::text IS NULL OR changed_by = $6)
ORDER BY history_id DESC
LIMIT $2;
