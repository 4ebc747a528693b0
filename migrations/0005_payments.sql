-- Payments: the ledger, how each payment stands, those that wait for their order, and the cursor over what a timer puts out.

-- Decides between two events of one payment at the same moment: the later one holds.
CREATE FUNCTION payment_status_order(status text) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN array_position('{pending,authorised,captured,failed,refunded}'::text[], status);

-- Append-only: every payment event that was applied.
CREATE TABLE payment_events (
    payment_id       text    NOT NULL,
    order_id         text    NOT NULL,
    payment_method   text,
    card_last_four   text    CHECK (card_last_four ~ '^[0-9]{4}$'),
    payment_status   text    NOT NULL,
    payment_datetime timestamptz NOT NULL,
    amount           numeric(18, 4),
    amount_mismatch  boolean NOT NULL,
    event_id         uuid    NOT NULL,
    processed_at     timestamptz NOT NULL,
    partition        integer NOT NULL,
    "offset"         bigint  NOT NULL,
    CHECK (payment_status_order(payment_status) IS NOT NULL)
);
COMMENT ON TABLE payment_events IS 'one row per applied event of the topic payments';
COMMENT ON COLUMN payment_events.amount_mismatch IS 'the amount is stated and not the order''s value';
COMMENT ON COLUMN payment_events.processed_at IS 'when it was joined to its order, which may be long after it was read';
CREATE INDEX payment_events_order_id ON payment_events (order_id);

-- How each payment stands. The time is no part of the index, so that its updates stay within the page.
ALTER TABLE payments
    ADD COLUMN amount_mismatch boolean NOT NULL DEFAULT false,
    ADD CHECK (payment_status_order(payment_status) IS NOT NULL),
    SET (fillfactor = 70);
DROP INDEX payments_order_id;
CREATE INDEX payments_order_id ON payments (order_id);
COMMENT ON TABLE payments IS
    'the newest event of each payment, by payment_datetime, then the order of the states, then event_id; a payment belongs to one order';
COMMENT ON COLUMN payments.amount_mismatch IS 'the amount is stated and not the order''s value';

-- Payments whose order is not known yet. Only the owner of a partition writes and deletes its rows, under the partition's
-- progress row; an order's batch merely sets order_seen, and passes over what somebody else has locked.
CREATE TABLE parked_payments (
    partition        integer NOT NULL,
    "offset"         bigint  NOT NULL,
    event_id         uuid    NOT NULL,
    payment_id       text    NOT NULL,
    order_id         text    NOT NULL,
    payment_method   text,
    card_last_four   text    CHECK (card_last_four ~ '^[0-9]{4}$'),
    payment_status   text    NOT NULL,
    payment_datetime timestamptz NOT NULL,
    amount           numeric(18, 4),
    raw_event        bytea   NOT NULL,
    record_key       bytea,
    header_names     text[]  NOT NULL,
    header_values    bytea[] NOT NULL,
    redacted         boolean NOT NULL,
    parked_at        timestamptz NOT NULL,
    expires_at       timestamptz NOT NULL,
    order_seen       boolean NOT NULL DEFAULT false,
    PRIMARY KEY (partition, "offset")
) WITH (fillfactor = 90, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
COMMENT ON TABLE parked_payments IS 'payments that wait for their order; their event_ids stand in applied_events meanwhile, and they have no row in events_log yet';
COMMENT ON COLUMN parked_payments.record_key IS 'with the headers: what dlq is made from when the order never comes; card numbers are masked where redacted is set';
COMMENT ON COLUMN parked_payments.expires_at IS 'parked_at and payments.wait as it was then';
COMMENT ON COLUMN parked_payments.order_seen IS 'set by the batch that placed the order: a hint to look soon, never needed for a right answer';
CREATE INDEX parked_payments_order_id ON parked_payments (order_id) WHERE NOT order_seen;
CREATE INDEX parked_payments_order_seen ON parked_payments (partition) WHERE order_seen;
CREATE INDEX parked_payments_parked_at ON parked_payments (partition, parked_at);
CREATE INDEX parked_payments_expires_at ON parked_payments (partition, expires_at);

-- What a timer puts out is numbered, per partition and without a gap; the number that is published stands in Kafka, in the
-- metadata of the group's committed offset.
ALTER TABLE events_log ADD COLUMN timer_seq bigint;
COMMENT ON COLUMN events_log.timer_seq IS
    'the number of a rejection that the waiting for an order ended in; null for what was settled in its own batch, and for what was applied';
CREATE INDEX events_log_timer_seq ON events_log (partition, timer_seq) WHERE timer_seq IS NOT NULL;

ALTER TABLE partition_progress
    ADD COLUMN timer_seq       bigint NOT NULL DEFAULT 0,
    ADD COLUMN timer_published bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN partition_progress.parked IS 'payments that wait: the rows of parked_payments';
COMMENT ON COLUMN partition_progress.timer_seq IS 'the last number of events_log.timer_seq';
COMMENT ON COLUMN partition_progress.timer_published IS
    'a hint, never ahead of the number in the metadata of Kafka''s committed offset: what has a number up to it is published';
