-- Clicks. Times are whole milliseconds in and out; timestamptz arithmetic on them is exact.

-- name: fetch
-- $1 text[]: click ids.
SELECT click_id, campaign_id, publisher_id, (extract(epoch FROM clicked_at) * 1000)::bigint AS clicked_ms, country
FROM clicks
WHERE click_id = ANY ($1::text[]);

-- name: register
-- Parallel arrays: $1 click ids, $2 campaign ids, $3 publisher ids, $4 clicked_ms, $5 countries, $6 params as JSON texts.
-- In key order, so that two statements that share clicks wait for each other and never in a circle.
-- Returns the ids that are new.
INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country, params)
SELECT click_id, campaign_id, publisher_id, to_timestamp(clicked_ms / 1000.0), country, params::jsonb
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[], $6::text[])
    AS given (click_id, campaign_id, publisher_id, clicked_ms, country, params)
ORDER BY click_id COLLATE "C"
ON CONFLICT DO NOTHING
RETURNING click_id;

-- name: staging
-- Takes a big batch by COPY, until the transaction ends.
CREATE TEMPORARY TABLE incoming_clicks (
    click_id text COLLATE "C", campaign_id bigint, publisher_id bigint, clicked_ms bigint, country text, params text
) ON COMMIT DROP;

-- name: register_staged
-- As `register`, from the staging table.
INSERT INTO clicks (click_id, campaign_id, publisher_id, clicked_at, country, params)
SELECT click_id, campaign_id, publisher_id, to_timestamp(clicked_ms / 1000.0), country, params::jsonb
FROM incoming_clicks
ORDER BY click_id
ON CONFLICT DO NOTHING
RETURNING click_id;
