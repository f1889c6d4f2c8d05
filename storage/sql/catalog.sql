-- The catalog. Amounts cross as bigint micros, percentages as micro-percent, exchange rates as nanos.

-- name: lock
-- One writer at a time; readers go on.
LOCK TABLE advertisers, publishers, campaigns, goals, goal_rates, exchange_rates IN SHARE ROW EXCLUSIVE MODE;

-- name: advertisers
SELECT id, name, security_tokens, profile, aliases::text, signing_secrets, signature_window_ms,
       allowed_addresses::text[], rate_limit
FROM advertisers
ORDER BY id;

-- name: publishers
SELECT id, name
FROM publishers
ORDER BY id;

-- name: campaigns
SELECT id, advertiser_id, name, currency, timezone, status, window_ms, min_age_ms
FROM campaigns
ORDER BY id;

-- name: goals
SELECT id, campaign_id, title, value, is_default, type, publishers, track_multiple, status, version
FROM goals
ORDER BY id;

-- name: rates
SELECT goal_id, publisher_id, countries,
       (revenue_fixed * 1000000)::bigint, (revenue_percent * 1000000)::bigint,
       (payout_fixed * 1000000)::bigint, (payout_percent * 1000000)::bigint, payout_of
FROM goal_rates
ORDER BY goal_id, position;

-- name: exchange_rates
SELECT from_currency, to_currency, (rate * 1000000000)::bigint, valid_from
FROM exchange_rates
ORDER BY from_currency, to_currency, valid_from;

-- name: put_advertiser
INSERT INTO advertisers (id, name, security_tokens, profile, aliases, signing_secrets, signature_window_ms,
                         allowed_addresses, rate_limit)
VALUES ($1, $2, $3::text[], $4, $5::text::jsonb, $6::text[], $7, $8::text[]::cidr[], $9)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name, security_tokens = excluded.security_tokens, profile = excluded.profile,
    aliases = excluded.aliases, signing_secrets = excluded.signing_secrets,
    signature_window_ms = excluded.signature_window_ms, allowed_addresses = excluded.allowed_addresses,
    rate_limit = excluded.rate_limit;

-- name: put_publisher
INSERT INTO publishers (id, name)
VALUES ($1, $2)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name;

-- name: put_campaign
INSERT INTO campaigns (id, advertiser_id, name, currency, timezone, status, window_ms, min_age_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (id) DO UPDATE
SET advertiser_id = excluded.advertiser_id, name = excluded.name, currency = excluded.currency,
    timezone = excluded.timezone, status = excluded.status, window_ms = excluded.window_ms,
    min_age_ms = excluded.min_age_ms;

-- name: free_goals
-- $1 bigint[]: goals about to be written. Frees their values and defaults, so that two goals can swap them.
UPDATE goals
SET value = chr(1) || id, is_default = false
WHERE id = ANY ($1::bigint[]);

-- name: put_goal
INSERT INTO goals (id, campaign_id, title, value, is_default, type, publishers, track_multiple, status, version)
VALUES ($1, $2, $3, $4, $5, $6, $7::bigint[], $8, $9, $10)
ON CONFLICT (id) DO UPDATE
SET campaign_id = excluded.campaign_id, title = excluded.title, value = excluded.value,
    is_default = excluded.is_default, type = excluded.type, publishers = excluded.publishers,
    track_multiple = excluded.track_multiple, status = excluded.status, version = excluded.version;

-- name: drop_rates
-- $1 bigint[]: goals.
DELETE FROM goal_rates
WHERE goal_id = ANY ($1::bigint[]);

-- name: put_rate
INSERT INTO goal_rates (goal_id, position, publisher_id, countries, revenue_fixed, revenue_percent, payout_fixed,
                        payout_percent, payout_of)
VALUES ($1, $2, $3, $4::text[], $5::bigint * 0.000001, $6::bigint * 0.000001, $7::bigint * 0.000001,
        $8::bigint * 0.000001, $9);

-- name: put_exchange_rate
INSERT INTO exchange_rates (from_currency, to_currency, rate, valid_from)
VALUES ($1, $2, $3::bigint * 0.000000001, $4)
ON CONFLICT (from_currency, to_currency, valid_from) DO UPDATE
SET rate = excluded.rate;
