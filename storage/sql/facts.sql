-- What an event's conversion was counted with. The claim in Redis says the same, until Redis forgets it.

-- name: fact
-- $1 uuid: the conversion; $2 bigint: its click's time in epoch ms. Amount and currency as they were sent.
SELECT coalesce(trim_scale(coalesce(original_amount, sale_amount)) || coalesce(original_currency, currency), '')
FROM conversions
WHERE conversion_id = $1 AND clicked_at = 'epoch'::timestamptz + $2::bigint * interval '1 millisecond';
