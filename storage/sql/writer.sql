-- Queue entries into tables. Amounts arrive as micros and rates as nanos: multiplied by a numeric constant, which is exact;
-- times as us or ms since the epoch, exact up to the year 2255. Columns of char(n) are assigned, never cast: a cast would
-- cut an overlong value silently.

-- name: create_incoming
-- Lives for the connection, its rows for the transaction: nothing is expected of an earlier one. The columns after
-- `prior` are storage.records.COLUMNS; another format of the payload is another table, `incoming_v2`. Of a block nobody
-- else looks at the kinds, and what is of none would be taken for a rejection.
CREATE TEMP TABLE IF NOT EXISTS incoming_v1 (
    kind                text NOT NULL CONSTRAINT unknown_kind CHECK (kind IN ('c1', 'd1', 'x1', 'r1', 'p1')),
    prior               text NOT NULL,
    log_id              uuid,
    received_us         bigint,
    reason              text,
    advertiser_id       bigint,
    publisher_id        bigint,
    campaign_id         bigint,
    goal_id             bigint,
    goal_value          text,
    goal_version        int,
    click_id            text,
    clicked_ms          bigint,
    txn_id              text,
    conversion_id       uuid,
    status              text,
    country             text,
    currency            text,
    sale_micros         bigint,
    revenue_micros      bigint,
    payout_micros       bigint,
    original_micros     bigint,
    original_currency   text,
    exchange_rate_nanos bigint,
    event_ms            bigint,
    remote_ip           inet,
    params              jsonb
) ON COMMIT DELETE ROWS;
-- With the default of 4 MB a batch of long rows, up to 8 MiB, would be sorted and shown to the triggers through files.
SET LOCAL work_mem = '16MB';

-- name: insert_conversions
-- In key order, or writers that share keys would deadlock. `unless_present` may follow.
INSERT INTO conversions (
    conversion_id, clicked_at, received_at, advertiser_id, publisher_id, campaign_id, goal_id, goal_value, goal_version,
    click_id, txn_id, status, status_given, reason, country, currency, sale_amount, revenue, payout, original_amount,
    original_currency, exchange_rate, event_at, params
)
SELECT
    conversion_id,
    timestamptz 'epoch' + clicked_ms * interval '1 millisecond',
    timestamptz 'epoch' + received_us * interval '1 microsecond',
    advertiser_id, publisher_id, campaign_id, goal_id, goal_value, goal_version, click_id, txn_id,
    CASE
        WHEN status = 'approved' THEN status
        WHEN starts_with(status, 'held=') THEN 'pending'
        WHEN status LIKE '=%|%' THEN split_part(status, '|', 2)
        ELSE ltrim(status, '=')
    END,
    starts_with(status, '=') AND status NOT LIKE '%|%',
    reason, country, currency,
    sale_micros * 0.000001,
    revenue_micros * 0.000001,
    payout_micros * 0.000001,
    original_micros * 0.000001,
    original_currency,
    exchange_rate_nanos * 0.000000001,
    timestamptz 'epoch' + event_ms * interval '1 millisecond',
    params
FROM incoming_v1
WHERE kind = 'c1'
ORDER BY conversion_id, received_us

-- name: insert_log
-- What is neither a conversion nor parked. `unless_present` may follow: a row that is there already is the same entry,
-- delivered again.
INSERT INTO postback_log (
    log_id, received_at, outcome, reason, advertiser_id, campaign_id, click_id, goal_value, txn_id, conversion_id,
    remote_ip, params
)
SELECT
    log_id,
    timestamptz 'epoch' + received_us * interval '1 microsecond',
    CASE kind WHEN 'd1' THEN 'duplicate' WHEN 'x1' THEN 'conflict' ELSE 'rejected' END,
    reason, advertiser_id, campaign_id, click_id, goal_value, txn_id, conversion_id, remote_ip,
    CASE kind
        WHEN 'x1' THEN params || jsonb_build_object(
            'claimed', prior,
            'sent', coalesce(trim_scale(coalesce(original_micros, sale_micros) * 0.000001)
                || coalesce(original_currency, currency), ''))
        ELSE params
    END
FROM incoming_v1
WHERE kind NOT IN ('c1', 'p1')
ORDER BY log_id, received_us

-- name: unless_present
-- The end of both where a row may be there already, or twice in the batch: then the earliest stays. Postgres looks each
-- key up first, and notes in its log of each new row that it may stay: a sixth of what the statement costs.
ON CONFLICT DO NOTHING;

-- name: insert_parked
-- Their params are an envelope, made by ingest.parking: `sent` are those of the sender.
INSERT INTO parked_postbacks (
    postback_id, received_at, until, click_ids, click_id, goal_value, txn_id, remote_ip, params, key_id, sealed
)
SELECT
    log_id,
    timestamptz 'epoch' + received_us * interval '1 microsecond',
    timestamptz 'epoch' + (params ->> 'until_us')::bigint * interval '1 microsecond',
    ARRAY(SELECT jsonb_array_elements_text(params -> 'click_ids')),
    click_id, goal_value, txn_id, remote_ip, params -> 'sent', params ->> 'key_id', decode(params ->> 'sealed', 'base64')
FROM incoming_v1
WHERE kind = 'p1'
ORDER BY log_id
ON CONFLICT DO NOTHING;

-- name: log_repeats
-- Conversions that were already stored from another postback: Redis had forgotten its claim. The same received_at is the
-- same postback, delivered again. OFFSET 0 keeps this one index look-up a row, whatever the statistics say.
INSERT INTO postback_log (
    log_id, received_at, outcome, reason, advertiser_id, campaign_id, click_id, goal_value, txn_id, conversion_id,
    remote_ip, params
)
SELECT
    log_id, incoming_at,
    CASE WHEN claimed = sent THEN 'duplicate' ELSE 'conflict' END,
    reason, advertiser_id, campaign_id, click_id, goal_value, txn_id, conversion_id, remote_ip,
    CASE WHEN claimed = sent THEN params ELSE params || jsonb_build_object('claimed', claimed, 'sent', sent) END
FROM (
    SELECT
        incoming_v1.*,
        timestamptz 'epoch' + received_us * interval '1 microsecond' AS incoming_at,
        coalesce(trim_scale(coalesce(original_micros, sale_micros) * 0.000001)
            || coalesce(original_currency, currency), '') AS sent
    FROM incoming_v1
    WHERE kind = 'c1'
) AS incoming
CROSS JOIN LATERAL (
    SELECT
        stored.received_at AS stored_at,
        coalesce(trim_scale(coalesce(stored.original_amount, stored.sale_amount))
            || coalesce(stored.original_currency, stored.currency), '') AS claimed
    FROM conversions AS stored
    WHERE stored.conversion_id = incoming.conversion_id
        AND stored.clicked_at = timestamptz 'epoch' + incoming.clicked_ms * interval '1 millisecond'
    OFFSET 0
) AS original
WHERE stored_at <> incoming_at
ORDER BY log_id, incoming_at
ON CONFLICT DO NOTHING;

-- name: insert_status_changes
-- $1 boolean: whether conversions were there already. Repeats that give a status, whether their conversion is there yet or
-- not: conversions_net puts both together. A conversion that is itself a repeat is one from another postback.
INSERT INTO status_changes (conversion_id, clicked_at, change_id, received_at, status, source)
SELECT conversion_id, conversion_clicked_at, log_id, incoming_at, split_part(ltrim(status, '='), '|', 1), 'postback'
FROM (
    SELECT
        incoming_v1.*,
        timestamptz 'epoch' + clicked_ms * interval '1 millisecond' AS conversion_clicked_at,
        timestamptz 'epoch' + received_us * interval '1 microsecond' AS incoming_at
    FROM incoming_v1
    WHERE starts_with(status, '=')
) AS incoming
WHERE kind IN ('d1', 'x1') OR $1 AND kind = 'c1' AND EXISTS (
    SELECT FROM conversions AS stored
    WHERE stored.conversion_id = incoming.conversion_id
        AND stored.clicked_at = conversion_clicked_at
        AND stored.received_at <> incoming_at
)
ORDER BY conversion_id, log_id
ON CONFLICT DO NOTHING;

-- name: insert_holds
-- One that was released before comes again with its batch, and goes again when it is found due.
INSERT INTO holds (conversion_id, clicked_at, release_at)
SELECT
    conversion_id,
    timestamptz 'epoch' + clicked_ms * interval '1 millisecond',
    timestamptz 'epoch' + received_us * interval '1 microsecond'
        + split_part(status, '=', 2)::bigint * interval '1 millisecond'
FROM incoming_v1
WHERE kind = 'c1' AND starts_with(status, 'held=')
ORDER BY conversion_id, received_us
ON CONFLICT DO NOTHING;

-- name: insert_dead_letter
-- $1 text: entry id; $2 text: kind; $3 bytea: payload; $4 bytea: what was claimed first, on repeats; $5 text: error.
INSERT INTO dead_letters (entry_id, kind, payload, prior, error) VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING;

-- name: delete_dead_letter
-- $1 bigint: its id.
DELETE FROM dead_letters WHERE dead_letter_id = $1;
