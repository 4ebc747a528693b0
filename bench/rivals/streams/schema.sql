-- As the common one, but each line has a key: a batch that the sink sends again must find what it wrote.

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

CREATE TABLE inventory (
    product_id       text   NOT NULL,
    location_id      text   NOT NULL,
    quantity_on_hand bigint NOT NULL,
    PRIMARY KEY (product_id, location_id)
) WITH (fillfactor = 50);

-- No index on order_id: here no cancellation looks its order up in the database.
CREATE TABLE orders (
    order_id    text    NOT NULL,
    line_no     integer NOT NULL,
    kind        text    NOT NULL,
    product_id  text    NOT NULL,
    location_id text    NOT NULL,
    user_id     text,
    quantity    bigint  NOT NULL,
    unit_price  numeric(18, 4),
    ordered_at  timestamptz NOT NULL,
    event_id    uuid    NOT NULL,
    PRIMARY KEY (event_id, line_no)
);

CREATE TABLE events_log (
    event_id     uuid PRIMARY KEY,
    topic        text NOT NULL,
    partition    integer NOT NULL,
    "offset"     bigint NOT NULL,
    raw_event    text NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now()
);
