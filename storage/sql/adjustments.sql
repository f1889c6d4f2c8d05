-- Adjustments, and statuses that operators give. Amounts cross as bigint micros, times of clicks as ms since the epoch.

-- name: lock
-- One who adjusts at a time, until the transaction ends: what is left of a conversion is what was looked at.
SELECT pg_advisory_xact_lock(hashtextextended('postback adjustments', 0));

-- name: of_clicks
-- $1 text[]: click ids. All their conversions.
SELECT click_id, goal_value, txn_id, conversion_id
FROM conversions
WHERE click_id = ANY ($1::text[]);

-- name: conversions
-- $1 uuid[], $2 bigint[]: conversions and the times of their clicks. As counted, and as they stand now. OFFSET 0 keeps this
-- one index look-up a row, whatever the statistics say.
SELECT
    net.conversion_id, clicked_ms, net.goal_id, net.goal_version, net.publisher_id, net.country::text, net.currency::text,
    net.status,
    net.status_given OR EXISTS (
        SELECT FROM status_changes AS change
        WHERE change.conversion_id = net.conversion_id AND change.clicked_at = net.clicked_at AND change.source <> 'hold'
    ) AS is_given,
    (net.sale_amount * 1000000)::bigint, (net.revenue * 1000000)::bigint, (net.payout * 1000000)::bigint,
    (net.net_sale_amount * 1000000)::bigint, (net.net_revenue * 1000000)::bigint, (net.net_payout * 1000000)::bigint
FROM unnest($1::uuid[], $2::bigint[]) AS wanted (id, clicked_ms)
CROSS JOIN LATERAL (
    SELECT conversions_net.*, counted.status_given
    FROM conversions_net JOIN conversions AS counted USING (conversion_id, clicked_at)
    WHERE conversion_id = wanted.id AND clicked_at = timestamptz 'epoch' + clicked_ms * interval '1 millisecond'
    OFFSET 0
) AS net;

-- name: adjustments
-- $1 uuid[]: their ids. Those that there are.
SELECT
    adjustment_id, conversion_id, (extract(epoch FROM clicked_at) * 1000)::bigint, kind, (sale_amount * 1000000)::bigint,
    (revenue * 1000000)::bigint, (payout * 1000000)::bigint, reference, reason, made_by
FROM adjustments
WHERE adjustment_id = ANY ($1::uuid[]);

-- name: status_changes
-- $1 uuid[], $2 bigint[], $3 uuid[]: conversions, the times of their clicks, changes. Those that there are.
SELECT change_id, status
FROM unnest($1::uuid[], $2::bigint[], $3::uuid[]) AS wanted (conversion_id, clicked_ms, change_id)
JOIN status_changes AS change USING (conversion_id, change_id)
WHERE change.clicked_at = timestamptz 'epoch' + clicked_ms * interval '1 millisecond';

-- name: insert_adjustments
-- Arrays of equal length, in the order of the columns. The primary key is the second lock: what is there stays.
INSERT INTO adjustments (
    adjustment_id, conversion_id, clicked_at, kind, sale_amount, revenue, payout, reference, reason, made_by
)
SELECT
    adjustment_id, conversion_id, timestamptz 'epoch' + clicked_ms * interval '1 millisecond', kind,
    sale_micros * 0.000001, revenue_micros * 0.000001, payout_micros * 0.000001, reference, reason, made_by
FROM unnest(
    $1::uuid[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[], $9::text[],
    $10::text[]
) AS one (
    adjustment_id, conversion_id, clicked_ms, kind, sale_micros, revenue_micros, payout_micros, reference, reason, made_by
)
ON CONFLICT DO NOTHING;

-- name: insert_status_changes
-- Arrays of equal length, in the order of the columns. Each is later than all that was said before it, whatever the clocks
-- say: who gives a status has seen those. A statement has one time, so microseconds keep their own order.
INSERT INTO status_changes (
    conversion_id, clicked_at, change_id, received_at, status, source, made_by, reference, reason
)
SELECT
    conversion_id, clicked_at, change_id, greatest(statement_timestamp(), said.last_at) + place * interval '1 microsecond',
    status, 'operator', made_by, reference, reason
FROM (
    SELECT one.*, timestamptz 'epoch' + clicked_ms * interval '1 millisecond' AS clicked_at
    FROM unnest($1::uuid[], $2::bigint[], $3::uuid[], $4::text[], $5::text[], $6::text[], $7::text[])
        WITH ORDINALITY AS one (conversion_id, clicked_ms, change_id, status, reference, reason, made_by, place)
) AS new
CROSS JOIN LATERAL (
    SELECT max(received_at) AS last_at
    FROM (
        SELECT received_at FROM conversions AS counted
        WHERE counted.conversion_id = new.conversion_id AND counted.clicked_at = new.clicked_at
        UNION ALL
        SELECT received_at FROM status_changes AS change
        WHERE change.conversion_id = new.conversion_id AND change.clicked_at = new.clicked_at
    ) AS said
) AS said
ORDER BY conversion_id, change_id
ON CONFLICT DO NOTHING;

-- name: goal_documents
-- $1 bigint[], $2 int[]: goals and versions of them that are not theirs any more. What they were, from the changes that made
-- them or, where that is older than the history, from the changes that ended them.
SELECT DISTINCT ON (id, wanted.version)
    id, wanted.version, campaign_id, (CASE change.version WHEN wanted.version THEN after ELSE before END)::text
FROM unnest($1::bigint[], $2::int[]) AS wanted (id, version)
JOIN catalog_history AS change
    ON change.kind = 'goal' AND change.entity_id = wanted.id::text
    AND (change.version = wanted.version OR change.version = wanted.version + 1 AND change.before IS NOT NULL)
ORDER BY id, wanted.version, change.version;
