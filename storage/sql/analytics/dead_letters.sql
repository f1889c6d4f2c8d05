-- What did PostgreSQL refuse for its data, how often, and since when?
SELECT
    kind, left(error, 120) AS error, count(*) AS entries, min(failed_at) AS first_at, max(failed_at) AS last_at,
    min(dead_letter_id) AS for_example
FROM dead_letters
WHERE failed_at >= :'since'::timestamptz AND failed_at < :'until'::timestamptz
GROUP BY kind, left(error, 120)
ORDER BY entries DESC, for_example;
