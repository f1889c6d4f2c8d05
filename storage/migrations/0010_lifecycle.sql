-- What is dropped and what is erased leaves a note; what retention deletes stays in the rollups.

CREATE TABLE dropped_partitions (
    table_name text NOT NULL,
    month      date NOT NULL,
    dropped_at timestamptz NOT NULL DEFAULT now(),
    dropped_by text NOT NULL,
    PRIMARY KEY (table_name, month)
);
COMMENT ON TABLE dropped_partitions IS 'Months that were dropped: not made ahead again, and publishers are told of nothing in them a second time.';
COMMENT ON COLUMN dropped_partitions.table_name IS 'The partitioned table.';
COMMENT ON COLUMN dropped_partitions.month IS 'The first day of the month, in UTC.';
COMMENT ON COLUMN dropped_partitions.dropped_at IS 'When it was dropped last.';
COMMENT ON COLUMN dropped_partitions.dropped_by IS 'Who: retention, or a person.';

CREATE TABLE erasures (
    erasure_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    erased_at    timestamptz NOT NULL DEFAULT now(),
    erased_by    text NOT NULL,
    click_digest bytea NOT NULL CHECK (length(click_digest) = 32),
    erased       jsonb NOT NULL
);
COMMENT ON TABLE erasures IS 'Clicks whose personal data was erased.';
COMMENT ON COLUMN erasures.erased_by IS 'Who did it.';
COMMENT ON COLUMN erasures.click_digest IS 'SHA-256 of the click_id: who has the id finds the row, and nobody else learns it.';
COMMENT ON COLUMN erasures.erased IS 'How many rows were changed, by table.';

CREATE OR REPLACE FUNCTION count_clicks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('postback.is_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO rollup_clicks
        SELECT date_bin('1 hour', clicked_at, '2000-01-01 00:00+00'), campaign_id, publisher_id, country, -count(*)
        FROM old_rows
        GROUP BY 1, 2, 3, 4;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO rollup_clicks
        SELECT date_bin('1 hour', clicked_at, '2000-01-01 00:00+00'), campaign_id, publisher_id, country, count(*)
        FROM new_rows
        GROUP BY 1, 2, 3, 4;
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION touch_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('postback.is_retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    INSERT INTO rollup_touched (conversion_id, clicked_at)
    SELECT DISTINCT conversion_id, clicked_at FROM changed_rows;
    RETURN NULL;
END $$;
