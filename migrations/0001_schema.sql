-- The tables that the processor keeps, each in the same transaction as the others.

-- What must not change under a running installation; one row, written by the first `stocktide migrate`.
CREATE TABLE installation (
    only_row          boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    currency          text   NOT NULL,
    timezone          text   NOT NULL,
    catalogue_version bigint NOT NULL DEFAULT 0
);
COMMENT ON COLUMN installation.timezone IS 'business days and months follow it';
COMMENT ON COLUMN installation.catalogue_version IS 'rises with every catalogue load; the processor compares it in each batch';

-- The catalogue -----------------------------------------------------------------------------------------------------

CREATE TABLE products (
    product_id    text PRIMARY KEY,
    name          text NOT NULL,
    category      text NOT NULL DEFAULT '',
    price         numeric(18, 4) NOT NULL CHECK (price >= 0),
    currency      text NOT NULL,
    reorder_point bigint,
    kind          text NOT NULL DEFAULT 'stock' CHECK (kind IN ('stock', 'service'))
);

CREATE TABLE locations (
    location_id text PRIMARY KEY,
    name        text NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('online', 'store', 'warehouse')),
    timezone    text NOT NULL
);
COMMENT ON COLUMN locations.timezone IS 'for display; business days follow installation.timezone';

CREATE TABLE suppliers (
    supplier_id text PRIMARY KEY,
    name        text NOT NULL,
    contact     text NOT NULL DEFAULT ''
);

-- Stock -------------------------------------------------------------------------------------------------------------

CREATE TABLE inventory (
    product_id       text   NOT NULL REFERENCES products,
    location_id      text   NOT NULL REFERENCES locations,
    quantity_on_hand bigint NOT NULL,
    version          bigint NOT NULL DEFAULT 0,
    opening_quantity bigint NOT NULL DEFAULT 0,
    last_updated     timestamptz NOT NULL,
    PRIMARY KEY (product_id, location_id)
) WITH (fillfactor = 50);  -- room for in-page updates: every batch rewrites the rows that it sells from
COMMENT ON COLUMN inventory.version IS 'the number of changes so far; 0 means no event has touched the row';

CREATE VIEW inventory_totals AS
    SELECT product_id, sum(quantity_on_hand)::bigint AS quantity_on_hand, max(last_updated) AS last_updated
    FROM inventory GROUP BY product_id;

-- Sales and restocks: headers, and the lines, which are the ledger -----------------------------------------------------

CREATE TABLE order_headers (
    source           text NOT NULL,
    order_id         text NOT NULL,
    user_id          text,
    location_id      text NOT NULL,
    shipping_address text,
    payment_method   text,
    stated_value     numeric(18, 4),
    order_value      numeric(18, 4) NOT NULL,
    value_mismatch   boolean NOT NULL,
    status           text NOT NULL CHECK (status IN ('placed', 'shipped', 'delivered', 'cancelled')),
    ordered_at       timestamptz NOT NULL,
    event_id         uuid NOT NULL,
    PRIMARY KEY (source, order_id)
);
COMMENT ON TABLE order_headers IS 'one row per online order and store sale; source is the input topic';
COMMENT ON COLUMN order_headers.order_value IS 'recomputed: the sum of quantity x unit price';

-- Append-only. delta … stock_status are the movement's result; they are null on lines of services, which move no stock.
CREATE TABLE orders (
    order_id       text   NOT NULL,
    line_no        integer NOT NULL,
    product_id     text   NOT NULL,
    quantity       bigint NOT NULL,
    unit_price     numeric(18, 4) NOT NULL,
    source         text   NOT NULL,
    location_id    text   NOT NULL,
    user_id        text,
    "timestamp"    timestamptz NOT NULL,
    event_id       uuid   NOT NULL,
    kind           text   NOT NULL CHECK (kind IN ('sale', 'cancellation', 'return')),
    original_id    text,
    delta          bigint,
    quantity_after bigint,
    version        bigint,
    stock_status   text,
    processed_at   timestamptz NOT NULL,
    partition      integer NOT NULL,
    "offset"       bigint NOT NULL
);
COMMENT ON COLUMN orders.quantity IS 'negative on cancellations and returns';
COMMENT ON COLUMN orders.original_id IS 'the order that a return undoes, where the event says so';
COMMENT ON COLUMN orders.delta IS 'the event''s whole change of this stock row; its lines on one row share it';
CREATE INDEX orders_order_id ON orders (order_id);
CREATE INDEX orders_original_id ON orders (original_id) WHERE original_id IS NOT NULL;
CREATE INDEX orders_processed_at ON orders USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX orders_timestamp ON orders USING brin ("timestamp") WITH (pages_per_range = 32, autosummarize = on);

CREATE TABLE restock_lines (
    restock_id     text   NOT NULL,
    line_no        integer NOT NULL,
    product_id     text   NOT NULL,
    quantity       bigint NOT NULL,
    unit_cost      numeric(18, 4),
    source         text   NOT NULL,
    location_id    text   NOT NULL,
    supplier_id    text,
    note           text,
    "timestamp"    timestamptz NOT NULL,
    event_id       uuid   NOT NULL,
    kind           text   NOT NULL CHECK (kind IN ('received', 'adjustment')),
    delta          bigint,
    quantity_after bigint,
    version        bigint,
    stock_status   text,
    processed_at   timestamptz NOT NULL,
    partition      integer NOT NULL,
    "offset"       bigint NOT NULL
);
CREATE INDEX restock_lines_processed_at ON restock_lines USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX restock_lines_timestamp ON restock_lines USING brin ("timestamp") WITH (pages_per_range = 32, autosummarize = on);

CREATE VIEW stock_movements AS
    SELECT product_id, location_id, kind, source, order_id AS business_id, line_no,
           CASE kind WHEN 'sale' THEN -quantity ELSE abs(quantity) END AS line_delta,
           delta, quantity_after, version, stock_status, "timestamp" AS occurred_at, processed_at, event_id, partition, "offset"
    FROM orders WHERE delta IS NOT NULL
    UNION ALL
    SELECT product_id, location_id, kind, source, restock_id, line_no,
           quantity,
           delta, quantity_after, version, stock_status, "timestamp", processed_at, event_id, partition, "offset"
    FROM restock_lines WHERE delta IS NOT NULL;
COMMENT ON VIEW stock_movements IS
    'one row per line that moved stock; sum line_delta, not delta, which the lines of one event on one stock row share';

-- The audit trail and the dedupe ---------------------------------------------------------------------------------------

-- One row per record that was applied or rejected (duplicates are only counted). The key is the record, not the event.
CREATE TABLE events_log (
    event_id      uuid,
    raw_event     bytea,
    processed_at  timestamptz NOT NULL,
    status        text NOT NULL CHECK (status IN ('applied', 'rejected')),
    reason        text,
    topic         text NOT NULL,
    partition     integer NOT NULL,
    "offset"      bigint NOT NULL,
    detail        text,
    redacted      boolean NOT NULL DEFAULT false,
    record_key    bytea,
    header_names  text[],
    header_values bytea[]
) PARTITION BY RANGE (processed_at);
COMMENT ON COLUMN events_log.raw_event IS 'the record''s value; null for a tombstone; card numbers are masked where redacted is set';
COMMENT ON COLUMN events_log.record_key IS 'with the headers, kept for rejected records only: what dlq is made from';
CREATE INDEX events_log_processed_at ON events_log USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX events_log_rejected ON events_log (processed_at) WHERE status = 'rejected';
CREATE TABLE events_log_default PARTITION OF events_log DEFAULT;

-- Makes the monthly partition that holds a moment, unless it is there. Rows that find none go to the default one.
CREATE FUNCTION ensure_events_log_partition(moment timestamptz) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    month date := date_trunc('month', moment AT TIME ZONE 'UTC');
    name  text := 'events_log_' || to_char(month, 'YYYYMM');
BEGIN
    IF to_regclass(name) IS NULL THEN
        PERFORM pg_advisory_xact_lock(hashtext('ensure_events_log_partition'));
        EXECUTE format('CREATE TABLE IF NOT EXISTS %I PARTITION OF events_log FOR VALUES FROM (%L) TO (%L)', name,
                       month::timestamp AT TIME ZONE 'UTC', (month + interval '1 month') AT TIME ZONE 'UTC');
    END IF;
EXCEPTION WHEN check_violation THEN
    NULL;  -- the default partition holds rows of this month already: they stay there
END $$;

CREATE VIEW events AS
    SELECT event_id, CASE status WHEN 'applied' THEN convert_from(raw_event, 'UTF8')::json END AS event,
           processed_at, status, reason, detail, topic, partition, "offset"
    FROM events_log;
COMMENT ON VIEW events IS 'events_log for reading; the bytes of a rejected record need not be text and stand in events_log.raw_event';

CREATE TABLE applied_events (
    event_id uuid PRIMARY KEY
);
COMMENT ON TABLE applied_events IS 'the global dedupe; a table of its own, so that the log can age out and this does not';

CREATE TABLE partition_progress (
    topic             text    NOT NULL,
    partition         integer NOT NULL,
    start_offset      bigint  NOT NULL,
    next_offset       bigint  NOT NULL,
    published_offset  bigint,
    published_at      timestamptz,
    last_processed_at timestamptz,
    last_offset       bigint,
    last_digest       bytea,
    log_floor         bigint  NOT NULL,
    applied           bigint  NOT NULL DEFAULT 0,
    duplicates        bigint  NOT NULL DEFAULT 0,
    rejected          bigint  NOT NULL DEFAULT 0,
    parked            bigint  NOT NULL DEFAULT 0,
    PRIMARY KEY (topic, partition)
) WITH (fillfactor = 50);
COMMENT ON COLUMN partition_progress.next_offset IS 'P: records below it have met their fate';
COMMENT ON COLUMN partition_progress.published_offset IS 'a hint, never ahead of Kafka''s committed offset K: what lies below it is published';
COMMENT ON COLUMN partition_progress.published_at IS 'processed_at of the batch that ended at published_offset: bounds the search for what is not';
COMMENT ON COLUMN partition_progress.last_digest IS 'SHA-256 of the record at last_offset: tells a recreated topic from the one that was read';
COMMENT ON COLUMN partition_progress.log_floor IS 'below it the log may have aged out; a replay that needs it stops';

-- Rollups ----------------------------------------------------------------------------------------------------------

-- Per input partition, so that no row is shared by all processors; readers sum.
CREATE TABLE sales_by_month (
    month            date    NOT NULL,
    topic            text    NOT NULL,
    partition        integer NOT NULL,
    orders           bigint  NOT NULL DEFAULT 0,
    units            bigint  NOT NULL DEFAULT 0,
    gross            numeric(24, 4) NOT NULL DEFAULT 0,
    cancelled_orders bigint  NOT NULL DEFAULT 0,
    cancelled_units  bigint  NOT NULL DEFAULT 0,
    cancelled_value  numeric(24, 4) NOT NULL DEFAULT 0,
    returns          bigint  NOT NULL DEFAULT 0,
    returned_units   bigint  NOT NULL DEFAULT 0,
    returned_value   numeric(24, 4) NOT NULL DEFAULT 0,
    PRIMARY KEY (month, topic, partition)
) WITH (fillfactor = 50);
COMMENT ON TABLE sales_by_month IS 'by the month in which each event happened, in installation.timezone; net = gross - cancelled_value - returned_value';

CREATE TABLE user_stats (
    user_id          text PRIMARY KEY,
    orders           bigint NOT NULL DEFAULT 0,
    units            bigint NOT NULL DEFAULT 0,
    gross            numeric(24, 4) NOT NULL DEFAULT 0,
    cancelled_orders bigint NOT NULL DEFAULT 0,
    cancelled_value  numeric(24, 4) NOT NULL DEFAULT 0,
    returned_value   numeric(24, 4) NOT NULL DEFAULT 0,
    first_order_at   timestamptz,
    last_order_at    timestamptz
) WITH (fillfactor = 70);
COMMENT ON TABLE user_stats IS 'online orders only';

CREATE VIEW global_stats AS
    SELECT coalesce(sum(orders), 0)::bigint AS orders, coalesce(sum(units), 0)::bigint AS units,
           coalesce(sum(gross), 0) AS gross, coalesce(sum(cancelled_value), 0) AS cancelled_value,
           coalesce(sum(returned_value), 0) AS returned_value,
           coalesce(sum(gross - cancelled_value - returned_value), 0) AS revenue
    FROM sales_by_month WHERE topic = 'online_orders';

-- Payments and reports: filled by what builds on the main path -----------------------------------------------------------

CREATE TABLE payments (
    payment_id       text PRIMARY KEY,
    order_id         text NOT NULL,
    payment_method   text,
    card_last_four   text CHECK (card_last_four ~ '^[0-9]{4}$'),
    payment_status   text NOT NULL,
    payment_datetime timestamptz NOT NULL,
    amount           numeric(18, 4),
    event_id         uuid NOT NULL
);
CREATE INDEX payments_order_id ON payments (order_id, payment_datetime DESC);

CREATE VIEW orders_payments_facts AS
    SELECT h.order_id, h.user_id AS customer_id, l.item, l.quantity,
           CASE WHEN l.lines = 1 THEN l.unit_price ELSE h.order_value END AS price,
           h.shipping_address, h.status AS order_status, h.ordered_at AS creation_date,
           p.payment_id, coalesce(p.payment_method, h.payment_method) AS payment_method, p.card_last_four,
           p.payment_status, p.payment_datetime
    FROM order_headers h
    CROSS JOIN LATERAL (
        SELECT string_agg(coalesce(pr.name, o.product_id), '; ' ORDER BY o.line_no) AS item,
               sum(o.quantity)::bigint AS quantity, count(*) AS lines, min(o.unit_price) AS unit_price
        FROM orders o LEFT JOIN products pr USING (product_id)
        WHERE o.order_id = h.order_id AND o.source = h.source AND o.kind = 'sale'
    ) l
    LEFT JOIN LATERAL (
        SELECT * FROM payments p WHERE p.order_id = h.order_id ORDER BY p.payment_datetime DESC, p.payment_id LIMIT 1
    ) p ON true
    WHERE h.source = 'online_orders';
CREATE INDEX order_headers_user_id ON order_headers (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE reports (
    report_date date    NOT NULL,
    revision    integer NOT NULL,
    total_sales numeric(24, 4) NOT NULL,
    top_sellers jsonb   NOT NULL,
    low_stock   jsonb   NOT NULL,
    created_at  timestamptz NOT NULL,
    PRIMARY KEY (report_date, revision)
);
