-- A conflict names what was claimed first: its dead letter must too, to be stored later as it would have been.

ALTER TABLE dead_letters ADD COLUMN prior bytea NOT NULL DEFAULT '';
COMMENT ON COLUMN dead_letters.prior IS 'What the earlier claim held, on repeats.';
