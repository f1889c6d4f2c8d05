-- The catalog. Amounts cross as bigint micros, percentages as micro-percent, exchange rates as nanos.
-- Where $1 bigint[] names ids, null stands for all.

-- name: lock
-- One writer at a time; readers go on.
LOCK TABLE advertisers, publishers, campaigns, goals, goal_rates, caps, exchange_rates IN SHARE ROW EXCLUSIVE MODE;

-- name: advertisers
SELECT id, name, security_tokens, profile, aliases::text, signing_secrets, signature_window_ms,
       allowed_addresses::text[], rate_limit, status, version
FROM advertisers
WHERE $1::bigint[] IS NULL OR id = ANY ($1)
ORDER BY id;

-- name: publishers
SELECT id, name, status, version
FROM publishers
WHERE $1::bigint[] IS NULL OR id = ANY ($1)
ORDER BY id;

-- name: campaigns
SELECT id, advertiser_id, name, currency, timezone, status, window_ms, min_age_ms, version
FROM campaigns
WHERE $1::bigint[] IS NULL OR id = ANY ($1)
ORDER BY id;

-- name: goals
SELECT id, campaign_id, title, value, is_default, type, publishers, track_multiple, status, version, approval, hold_ms
FROM goals
WHERE $1::bigint[] IS NULL OR id = ANY ($1)
ORDER BY id;

-- name: rates
-- $1 bigint[]: goals.
SELECT goal_id, publisher_id, countries,
       (revenue_fixed * 1000000)::bigint, (revenue_percent * 1000000)::bigint,
       (payout_fixed * 1000000)::bigint, (payout_percent * 1000000)::bigint, payout_of
FROM goal_rates
WHERE $1::bigint[] IS NULL OR goal_id = ANY ($1)
ORDER BY goal_id, position;

-- name: caps
-- $1 bigint[]: campaigns whose own caps are wanted. $2 bigint[]: goals.
SELECT campaign_id, goal_id, measure, period,
       CASE measure WHEN 'conversions' THEN cap_limit ELSE cap_limit * 1000000 END::bigint,
       action, publisher_id, each_publisher
FROM caps
WHERE CASE WHEN goal_id IS NULL THEN $1::bigint[] IS NULL OR campaign_id = ANY ($1)
           ELSE $2::bigint[] IS NULL OR goal_id = ANY ($2) END
ORDER BY campaign_id, goal_id, position;

-- name: exchange_rates
-- $1 text[], $2 text[], $3 date[]: from, to and day of each; null: all.
SELECT from_currency, to_currency, (rate * 1000000000)::bigint, valid_from, status, version
FROM exchange_rates
WHERE $1::text[] IS NULL
   OR (from_currency, to_currency, valid_from) IN (SELECT * FROM unnest($1::text[], $2::text[], $3::date[]))
ORDER BY from_currency, to_currency, valid_from;

-- name: goals_of
-- $1 bigint[]: campaigns. Ids.
SELECT id
FROM goals
WHERE campaign_id = ANY ($1::bigint[]);

-- name: put_advertiser
INSERT INTO advertisers (id, name, security_tokens, profile, aliases, signing_secrets, signature_window_ms,
                         allowed_addresses, rate_limit, status, version)
VALUES ($1, $2, $3::text[], $4, $5::text::jsonb, $6::text[], $7, $8::text[]::cidr[], $9, $10, $11)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, security_tokens = excluded.security_tokens, profile = excluded.profile,
    aliases = excluded.aliases, signing_secrets = excluded.signing_secrets,
    signature_window_ms = excluded.signature_window_ms, allowed_addresses = excluded.allowed_addresses,
    rate_limit = excluded.rate_limit, status = excluded.status, version = excluded.version;

-- name: put_publisher
INSERT INTO publishers (id, name, status, version)
VALUES ($1, $2, $3, $4)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, status = excluded.status, version = excluded.version;

-- name: put_campaign
INSERT INTO campaigns (id, advertiser_id, name, currency, timezone, status, window_ms, min_age_ms, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE
SET advertiser_id = excluded.advertiser_id, name = excluded.name, currency = excluded.currency,
    timezone = excluded.timezone, status = excluded.status, window_ms = excluded.window_ms,
    min_age_ms = excluded.min_age_ms, version = excluded.version;

-- name: free_goals
-- $1 bigint[]: goals about to be written. Frees their values and defaults, so that two goals can swap them.
UPDATE goals
SET value = chr(1) || id, is_default = false
WHERE id = ANY ($1::bigint[]);

-- name: put_goal
INSERT INTO goals (id, campaign_id, title, value, is_default, type, publishers, track_multiple, status, version,
                   approval, hold_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7::bigint[], $8, $9, $10, $11, $12)
ON CONFLICT (id) DO UPDATE
SET campaign_id = excluded.campaign_id, title = excluded.title, value = excluded.value,
    is_default = excluded.is_default, type = excluded.type, publishers = excluded.publishers,
    track_multiple = excluded.track_multiple, status = excluded.status, version = excluded.version,
    approval = excluded.approval, hold_ms = excluded.hold_ms;

-- name: drop_rates
-- $1 bigint[]: goals.
DELETE FROM goal_rates
WHERE goal_id = ANY ($1::bigint[]);

-- name: put_rate
INSERT INTO goal_rates (goal_id, position, publisher_id, countries, revenue_fixed, revenue_percent, payout_fixed,
                        payout_percent, payout_of)
VALUES ($1, $2, $3, $4::text[], $5::bigint * 0.000001, $6::bigint * 0.000001, $7::bigint * 0.000001,
        $8::bigint * 0.000001, $9);

-- name: drop_caps
-- $1 bigint[]: campaigns, of which only their own go. $2 bigint[]: goals.
DELETE FROM caps
WHERE CASE WHEN goal_id IS NULL THEN campaign_id = ANY ($1::bigint[]) ELSE goal_id = ANY ($2::bigint[]) END;

-- name: put_cap
INSERT INTO caps (campaign_id, goal_id, position, measure, period, cap_limit, action, publisher_id, each_publisher)
VALUES ($1, $2, $3, $4, $5, CASE $4 WHEN 'conversions' THEN $6::bigint ELSE $6::bigint * 0.000001 END, $7, $8, $9);

-- name: put_exchange_rate
INSERT INTO exchange_rates (from_currency, to_currency, rate, valid_from, status, version)
VALUES ($1, $2, $3::bigint * 0.000000001, $4, $5, $6)
ON CONFLICT (from_currency, to_currency, valid_from) DO UPDATE
SET rate = excluded.rate, status = excluded.status, version = excluded.version;

-- name: put_history
INSERT INTO catalog_history (changed_by, kind, entity_id, campaign_id, version, before, after)
VALUES ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb);

-- name: next_advertiser
SELECT coalesce(max(id), 0) + 1 FROM advertisers;

-- name: next_publisher
SELECT coalesce(max(id), 0) + 1 FROM publishers;

-- name: next_campaign
SELECT coalesce(max(id), 0) + 1 FROM campaigns;

-- name: next_goal
SELECT coalesce(max(id), 0) + 1 FROM goals;
