CREATE TEMPORARY FUNCTION decode_event AS 'rivals.flink.Decode';;

-- Bytes, so that what is no JSON can go to the dlq as it is.
CREATE TABLE events (
    record_key   BYTES,
    record_value BYTES,
    topic       STRING METADATA VIRTUAL,
    `partition` INT    METADATA VIRTUAL,
    `offset`    BIGINT METADATA VIRTUAL
) WITH (
    'connector' = 'kafka',
    'topic' = 'online_orders;store_sales;supplier_restocks',
    'properties.bootstrap.servers' = '${KAFKA_BROKERS}',
    'properties.group.id' = 'rival-flink',
    'scan.startup.mode' = 'earliest-offset',
    'key.format' = 'raw', 'key.fields' = 'record_key',
    'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
);;

CREATE TABLE dlq (
    record_key   BYTES,
    record_value BYTES,
    headers    MAP<STRING, BYTES> METADATA
) WITH (
    'connector' = 'kafka',
    'topic' = 'dlq',
    'properties.bootstrap.servers' = '${KAFKA_BROKERS}',
    'properties.transaction.timeout.ms' = '600000',
    'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'rival-dlq',
    'key.format' = 'raw', 'key.fields' = 'record_key',
    'value.format' = 'raw', 'value.fields-include' = 'EXCEPT_KEY'
);;

CREATE TABLE inventory_updates (
    record_key       STRING,
    event_id         STRING,
    product_id       STRING,
    location_id      STRING,
    delta            BIGINT,
    quantity_on_hand BIGINT,
    version          BIGINT,
    source           STRING
) WITH (
    'connector' = 'kafka',
    'topic' = 'inventory_updates',
    'properties.bootstrap.servers' = '${KAFKA_BROKERS}',
    'properties.transaction.timeout.ms' = '600000',
    'properties.compression.type' = 'lz4', 'properties.linger.ms' = '20',
    'sink.delivery-guarantee' = 'exactly-once', 'sink.transactional-id-prefix' = 'rival-updates',
    'key.format' = 'raw', 'key.fields' = 'record_key',
    'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY'
);;

CREATE TABLE inventory (
    product_id       STRING,
    location_id      STRING,
    quantity_on_hand BIGINT,
    PRIMARY KEY (product_id, location_id) NOT ENFORCED
) WITH (
    'connector' = 'jdbc', 'url' = '${JDBC_URL}', 'username' = '${JDBC_USER}', 'password' = '', 'table-name' = 'inventory',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '200 ms'
);;

CREATE TABLE orders (
    order_id    STRING,
    line_no     INT,
    kind        STRING,
    product_id  STRING,
    location_id STRING,
    user_id     STRING,
    quantity    BIGINT,
    unit_price  DECIMAL(18, 4),
    ordered_at  STRING,
    event_id    STRING,
    PRIMARY KEY (event_id, line_no) NOT ENFORCED
) WITH (
    'connector' = 'jdbc', 'url' = '${JDBC_URL}', 'username' = '${JDBC_USER}', 'password' = '', 'table-name' = 'orders',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '200 ms'
);;

CREATE TABLE events_log (
    event_id       STRING,
    topic          STRING,
    from_partition INT,
    from_offset    BIGINT,
    raw_event      STRING,
    PRIMARY KEY (event_id) NOT ENFORCED
) WITH (
    'connector' = 'jdbc', 'url' = '${JDBC_URL}', 'username' = '${JDBC_USER}', 'password' = '', 'table-name' = 'events_log',
    'sink.buffer-flush.max-rows' = '5000', 'sink.buffer-flush.interval' = '200 ms'
);;

-- The views below that are marked shared are read more than once. See Main.

/* shared */ CREATE TEMPORARY VIEW decoded AS
SELECT e.*, d.*
FROM events AS e, LATERAL TABLE(decode_event(topic, record_value)) AS d;;

-- Each event once: the first record of its event_id, whatever its topic.
/* shared */ CREATE TEMPORARY VIEW fresh AS
SELECT event_id, kind, order_id, location_id, user_id, happened_at, lines, topic, `partition`, `offset`, record_value
FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY event_id ORDER BY seen_at) AS nth
    FROM (SELECT *, PROCTIME() AS seen_at FROM decoded WHERE reason IS NULL)
) WHERE nth = 1;;

-- A cancellation names its order only: it gives back the lines of the order, which stay in the join's state.
CREATE TEMPORARY VIEW movements AS
SELECT event_id, kind, order_id, location_id, user_id, happened_at, topic, lines, 1 AS sign
FROM fresh WHERE CARDINALITY(lines) > 0
UNION ALL
SELECT c.event_id, c.kind, o.order_id, o.location_id, o.user_id, c.happened_at, c.topic, o.lines, -1
FROM (SELECT * FROM fresh WHERE kind = 'CANCELLATION') AS c
JOIN (SELECT * FROM fresh WHERE kind = 'SALE' AND topic = 'online_orders') AS o ON c.order_id = o.order_id;;

/* shared */ CREATE TEMPORARY VIEW all_lines AS
SELECT m.event_id, m.kind, m.order_id, m.location_id, m.user_id, m.happened_at, m.topic,
       l.line_no, l.product_id, l.unit_price, m.sign * l.quantity AS quantity, m.sign * l.change AS change, l.opening
FROM movements AS m CROSS JOIN UNNEST(m.lines) AS l (line_no, product_id, quantity, unit_price, change, opening);;

-- Running totals: every change with the stock after it.
/* shared */ CREATE TEMPORARY VIEW changes AS
SELECT event_id, product_id, location_id, change, topic,
       opening + SUM(change) OVER so_far AS quantity_on_hand, COUNT(*) OVER so_far AS version
FROM (SELECT *, PROCTIME() AS changed_at FROM all_lines WHERE change <> 0)
WINDOW so_far AS (PARTITION BY product_id, location_id ORDER BY changed_at
                  ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW);;

EXECUTE STATEMENT SET BEGIN

INSERT INTO dlq SELECT record_key, record_value, MAP['reason', CAST(reason AS BYTES)] FROM decoded WHERE reason IS NOT NULL;

INSERT INTO events_log SELECT event_id, topic, `partition`, `offset`, DECODE(record_value, 'UTF-8') FROM fresh;

INSERT INTO orders
SELECT order_id, line_no, LOWER(kind), product_id, location_id, user_id, quantity, unit_price, happened_at, event_id
FROM all_lines WHERE kind <> 'RESTOCK';

INSERT INTO inventory_updates
SELECT product_id, event_id, product_id, location_id, change, quantity_on_hand, version, topic FROM changes;

INSERT INTO inventory SELECT product_id, location_id, quantity_on_hand FROM changes;

END
