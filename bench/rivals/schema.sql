-- The tables that every rival writes, unless its folder has a schema.sql of its own. Plain: what a careful user would begin with, and
-- less than the product keeps (no headers of orders, no restock lines, no rollups, no versions, no progress).
--
-- The harness fills products, locations, suppliers and the opening stock, then ANALYZEs. A schema.sql of one's own must have these
-- tables with at least the columns of the first four; of events_log it reads event_id, of orders quantity.

CREATE TABLE products (
    product_id text PRIMARY KEY,
    name       text NOT NULL,
    category   text NOT NULL,
    price      numeric(18, 4) NOT NULL
);

CREATE TABLE locations (
    location_id text PRIMARY KEY,
    name        text NOT NULL,
    kind        text NOT NULL
);

CREATE TABLE suppliers (
    supplier_id text PRIMARY KEY,
    name        text NOT NULL
);

-- Stock: a row for each product at each location.
CREATE TABLE inventory (
    product_id       text   NOT NULL,
    location_id      text   NOT NULL,
    quantity_on_hand bigint NOT NULL,
    PRIMARY KEY (product_id, location_id)
) WITH (fillfactor = 50);  -- room for in-page updates, as the product's has

-- Lines: one per line of an order that is placed, of a sale, of a return (quantity below zero), and for each line of an order that is
-- cancelled one more with the quantity below zero. Restocks have none.
CREATE TABLE orders (
    order_id    text    NOT NULL,
    line_no     integer NOT NULL,
    kind        text    NOT NULL,  -- sale, cancellation or return
    product_id  text    NOT NULL,
    location_id text    NOT NULL,
    user_id     text,
    quantity    bigint  NOT NULL,
    unit_price  numeric(18, 4),
    ordered_at  timestamptz NOT NULL,
    event_id    uuid    NOT NULL
);
CREATE INDEX orders_order_id ON orders (order_id);  -- a cancellation looks its order up

-- Every event that was applied, once: the audit trail and the dedupe. Rejected records stand in the topic dlq only.
CREATE TABLE events_log (
    event_id     uuid PRIMARY KEY,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    raw_event    text NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now()
);
