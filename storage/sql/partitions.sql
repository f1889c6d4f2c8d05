-- Monthly partitions. A new one is made on its own and then attached: creating it in place would lock its table out.

-- name: attached
-- $1 text: the partitioned table. The names of its partitions.
SELECT child.relname
FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid
WHERE inhparent = to_regclass($1);

-- name: lock
-- One maker of partitions at a time, until its transaction ends.
SELECT pg_advisory_xact_lock(hashtextextended('postback partitions', 0));

-- name: create
-- {table}, {partition}: identifiers. A detached table of that name is taken as it is.
CREATE TABLE IF NOT EXISTS {partition} (LIKE {table} INCLUDING ALL);

-- name: attach
-- {table}, {partition}: identifiers; {since}, {until}: ISO dates, a month in UTC.
ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ('{since} 00:00+00') TO ('{until} 00:00+00');
