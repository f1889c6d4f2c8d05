-- What moves a conversion after it was counted: statuses and adjustments. Both are only ever added to.

ALTER TABLE conversions ADD COLUMN status_given boolean NOT NULL DEFAULT false;
COMMENT ON COLUMN conversions.status IS 'The status it was counted with; what moved it since is in status_changes, the one in force in conversions_net.';
COMMENT ON COLUMN conversions.status_given IS 'Whether its own postback gave the status; false: the goal implied it.';

CREATE TABLE status_changes (
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL,
    change_id     uuid NOT NULL,
    received_at   timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    status        text NOT NULL CHECK (status IN ('approved', 'pending', 'cancelled', 'rejected')),
    source        text NOT NULL CHECK (source IN ('postback', 'operator', 'hold')),
    made_by       text,
    reference     text,
    reason        text,
    PRIMARY KEY (conversion_id, clicked_at, change_id)
) PARTITION BY RANGE (clicked_at);
CREATE INDEX status_changes_recorded ON status_changes USING brin (recorded_at);
COMMENT ON TABLE status_changes IS 'Each status that a conversion was given after it was counted, perhaps before its row is there. The one in force is the last by (received_at, change_id) of postbacks and operators; without any, that of the hold. Partitioned by the month of clicked_at (UTC), as conversions is.';
COMMENT ON COLUMN status_changes.conversion_id IS 'The conversion that is moved.';
COMMENT ON COLUMN status_changes.clicked_at IS 'The conversion''s.';
COMMENT ON COLUMN status_changes.change_id IS 'What makes a repeat harmless. Of a postback: its log_id in postback_log; of an operator: computed from conversion and reference, or random; of a hold: the conversion''s id.';
COMMENT ON COLUMN status_changes.received_at IS 'When it was said: by a postback, when a receiver read it. The order of these decides.';
COMMENT ON COLUMN status_changes.recorded_at IS 'When it was written.';
COMMENT ON COLUMN status_changes.source IS 'postback: a repeat that gave a status; operator: a person or file; hold: the goal''s hold has passed.';
COMMENT ON COLUMN status_changes.made_by IS 'Who, of an operator''s.';
COMMENT ON COLUMN status_changes.reference IS 'The operator''s own name of the change, if given: the same one is applied once.';
COMMENT ON COLUMN status_changes.reason IS 'Why, in the operator''s words.';

CREATE TABLE holds (
    conversion_id uuid PRIMARY KEY,
    clicked_at    timestamptz NOT NULL,
    release_at    timestamptz NOT NULL
);
CREATE INDEX holds_release_at ON holds (release_at);
COMMENT ON TABLE holds IS 'Pending conversions that are approved when their goal''s hold has passed, unless a status was given meanwhile. A row goes when it is due.';
COMMENT ON COLUMN holds.clicked_at IS 'The conversion''s.';
COMMENT ON COLUMN holds.release_at IS 'When the hold has passed: the goal''s hold after received_at.';

CREATE TABLE adjustments (
    adjustment_id uuid PRIMARY KEY,
    conversion_id uuid NOT NULL,
    clicked_at    timestamptz NOT NULL,
    recorded_at   timestamptz NOT NULL DEFAULT now(),
    kind          text NOT NULL CHECK (kind IN ('refund', 'chargeback', 'correction')),
    sale_amount   numeric(18,6) NOT NULL,
    revenue       numeric(18,6) NOT NULL,
    payout        numeric(18,6) NOT NULL,
    reference     text NOT NULL,
    reason        text,
    made_by       text NOT NULL
);
CREATE INDEX adjustments_conversion ON adjustments (conversion_id);
CREATE INDEX adjustments_recorded ON adjustments USING brin (recorded_at);
COMMENT ON TABLE adjustments IS 'What was taken back from, or added to, conversions. Only ever added to; conversions_net sums it up.';
COMMENT ON COLUMN adjustments.adjustment_id IS 'Computed from conversion and reference: the same adjustment is applied once.';
COMMENT ON COLUMN adjustments.clicked_at IS 'The conversion''s.';
COMMENT ON COLUMN adjustments.sale_amount IS 'What is added to the conversion''s sale_amount, in its currency: negative for what is taken back.';
COMMENT ON COLUMN adjustments.revenue IS 'What is added to the conversion''s revenue.';
COMMENT ON COLUMN adjustments.payout IS 'What is added to the conversion''s payout.';
COMMENT ON COLUMN adjustments.reference IS 'The caller''s own name of the adjustment, e.g. the refund''s id.';
COMMENT ON COLUMN adjustments.reason IS 'Why, in the caller''s words.';
COMMENT ON COLUMN adjustments.made_by IS 'Who made it.';

-- LATERAL: one index look-up a conversion, so that a few conversions cost little, whatever the tables hold.
CREATE VIEW conversions_net AS
SELECT
    c.conversion_id, c.clicked_at, c.received_at, c.recorded_at, c.advertiser_id, c.publisher_id, c.campaign_id,
    c.goal_id, c.goal_value, c.goal_version, c.click_id, c.txn_id,
    coalesce(moved.status, c.status) AS status,
    c.status AS first_status,
    c.reason, c.country, c.currency, c.sale_amount, c.revenue, c.payout,
    (c.sale_amount + adjusted.sale_amount)::numeric(18,6) AS net_sale_amount,
    (c.revenue + adjusted.revenue)::numeric(18,6) AS net_revenue,
    (c.payout + adjusted.payout)::numeric(18,6) AS net_payout,
    adjusted.adjustments,
    c.original_amount, c.original_currency, c.exchange_rate, c.event_at, c.params
FROM conversions AS c
LEFT JOIN LATERAL (
    SELECT change.status
    FROM status_changes AS change
    WHERE change.conversion_id = c.conversion_id
        AND change.clicked_at = c.clicked_at
        AND (change.received_at >= c.received_at OR NOT c.status_given)
    ORDER BY change.source = 'hold', change.received_at DESC, change.change_id DESC
    LIMIT 1
) AS moved ON true
CROSS JOIN LATERAL (
    SELECT
        count(*) AS adjustments,
        coalesce(sum(one.sale_amount), 0) AS sale_amount,
        coalesce(sum(one.revenue), 0) AS revenue,
        coalesce(sum(one.payout), 0) AS payout
    FROM adjustments AS one
    WHERE one.conversion_id = c.conversion_id
) AS adjusted;
COMMENT ON VIEW conversions_net IS 'Conversions as they stand now: with the status in force, and with adjustments summed up.';
COMMENT ON COLUMN conversions_net.status IS 'The status in force: the last that was given, else the hold''s, else the one it was counted with.';
COMMENT ON COLUMN conversions_net.first_status IS 'The status it was counted with.';
COMMENT ON COLUMN conversions_net.net_sale_amount IS 'sale_amount with adjustments; null without one.';
COMMENT ON COLUMN conversions_net.net_revenue IS 'revenue with adjustments, whatever the status.';
COMMENT ON COLUMN conversions_net.net_payout IS 'payout with adjustments, whatever the status.';
COMMENT ON COLUMN conversions_net.adjustments IS 'How many adjustments it has.';
