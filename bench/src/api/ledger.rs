//! Orders of many users, their payments and the rollups, made by the server: the same rows that a processor would have written,
//! but for the log and what has been published.

use anyhow::Context;
use sqlx::PgPool;
use stocktide_store::api;

/// Lines of an order.
pub const LINES: u64 = 5;

/// The indexes are made again afterwards, which takes less time.
const MAKE: &[(&str, &str)] = &[
    // As little beside the tables as may be.
    ("settings", "ALTER SYSTEM SET max_wal_size = '2GB'"),
    ("settings", "SELECT pg_reload_conf()"),
    (
        "indexes",
        "DROP INDEX orders_order_id, orders_original_id, orders_processed_at, orders_timestamp, orders_product,
            order_headers_user_id",
    ),
    (
        "orders",
        "INSERT INTO order_headers (source, order_id, user_id, location_id, shipping_address, payment_method, stated_value,
                order_value, value_mismatch, status, ordered_at, event_id)
            SELECT 'online_orders', 'L' || i, 'u' || 1 + (i * 7919 + i / 3) % {users}, 'online', i || ' High Street', 'card', v, v,
                i % 997 = 0, 'placed', date_trunc('day', now()) - interval '374 days' + i * interval '374 days' / {orders}, md5(i::text)::uuid
            FROM (SELECT i, {lines} * (1 + i % 5) * (1.35 + i % 90) AS v FROM generate_series(1, {orders}::bigint) i) o",
    ),
    (
        "lines",
        "INSERT INTO orders (order_id, line_no, product_id, quantity, unit_price, source, location_id, user_id, \"timestamp\",
                event_id, kind, delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
            SELECT 'L' || i, n, 'P' || lpad(((i * 31 + n * 17) % 2000 + 1)::text, 5, '0'), 1 + i % 5, 1.35 + i % 90, 'online_orders',
                'online', 'u' || 1 + (i * 7919 + i / 3) % {users}, at, md5(i::text)::uuid, 'sale', -1 - i % 5, 1000, 1, 'in_stock',
                at + interval '2 s', i % 4, i
            FROM (SELECT i, date_trunc('day', now()) - interval '374 days' + i * interval '374 days' / {orders} AS at
                  FROM generate_series(1, {orders}::bigint) i) o, generate_series(1, {lines}) n",
    ),
    (
        "indexes again",
        "CREATE INDEX orders_order_id ON orders (order_id);
         CREATE INDEX orders_original_id ON orders (original_id) WHERE original_id IS NOT NULL;
         CREATE INDEX orders_processed_at ON orders USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
         CREATE INDEX orders_timestamp ON orders USING brin (\"timestamp\") WITH (pages_per_range = 32, autosummarize = on);
         CREATE INDEX orders_product ON orders USING brin (product_id text_bloom_ops)
            WITH (pages_per_range = 32, autosummarize = on);
         CREATE INDEX order_headers_user_id ON order_headers (user_id) WHERE user_id IS NOT NULL",
    ),
    ("events", "INSERT INTO applied_events SELECT event_id FROM order_headers"),
    (
        "payments",
        "INSERT INTO payments (payment_id, order_id, payment_method, card_last_four, payment_status, payment_datetime, amount,
                event_id, amount_mismatch)
            SELECT 'p' || order_id, order_id, 'card', '4242', 'captured', ordered_at, order_value, event_id, false
            FROM order_headers",
    ),
    (
        "users",
        "INSERT INTO user_stats (user_id, orders, units, gross, first_order_at, last_order_at)
            SELECT user_id, count(*), sum({lines} * 2)::bigint, sum(order_value), min(ordered_at), max(ordered_at)
            FROM order_headers GROUP BY user_id",
    ),
    (
        "months",
        "INSERT INTO sales_by_month (month, topic, partition, orders, units, gross)
            SELECT date_trunc('month', ordered_at AT TIME ZONE 'UTC')::date, 'online_orders', p, count(*), sum({lines} * 2)::bigint,
                sum(order_value)
            FROM order_headers, generate_series(0, 3) p WHERE p = hashtext(order_id) & 3 GROUP BY 1, 3",
    ),
    ("stock", "UPDATE inventory SET version = 1, last_updated = (SELECT max(processed_at) FROM orders)
        WHERE location_id = 'online'"),
    ("statistics", "VACUUM ANALYZE"),
    ("disk", "CHECKPOINT"),
];

/// Makes it.
///
/// # Errors
/// The database fails.
pub async fn make(pool: &PgPool, lines: u64, users: u64) -> anyhow::Result<()> {
    for (name, sql) in MAKE {
        let sql = sql.replace("{orders}", &(lines / LINES).to_string());
        let sql = sql.replace("{lines}", &LINES.to_string()).replace("{users}", &users.to_string());
        let began = std::time::Instant::now();
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(pool).await.context(*name)?;
        eprintln!("{name}: {:.0} s", began.elapsed().as_secs_f64());
    }
    Ok(())
}

/// How large it is, in words.
///
/// # Errors
/// The database fails.
pub async fn size(pool: &PgPool) -> anyhow::Result<String> {
    let sql = "SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM order_headers), (SELECT count(*) FROM user_stats),
               (SELECT count(*) FROM payments), pg_size_pretty(pg_database_size(current_database()))";
    let (lines, orders, users, payments, size): (i64, i64, i64, i64, String) =
        sqlx::query_as(sql).fetch_one(pool).await?;
    Ok(format!("{lines} lines, {orders} orders, {payments} payments, {users} users, {size}"))
}

/// The plans of what must be quick, as they were executed.
///
/// # Errors
/// The database fails.
pub async fn plans(pool: &PgPool) -> anyhow::Result<Vec<(&'static str, String)>> {
    let [by_spend, by_orders, monthly] = api::STATEMENTS;
    let asked = [
        (
            "orders_payments_facts by order_id",
            "SELECT * FROM orders_payments_facts WHERE order_id = 'L12345'".to_owned(),
        ),
        (
            "orders_payments_facts by customer",
            "SELECT * FROM orders_payments_facts WHERE customer_id = 'u4711'".to_owned(),
        ),
        ("/stats/top/10", by_spend.replace("$1", "10")),
        ("/stats/top/10?by=orders", by_orders.replace("$1", "10")),
        (
            "/stats/monthly, 12 months",
            monthly
                .replace("$1", "'2024-06-01'")
                .replace("$2", "'2025-05-01'")
                .replace("$3", "'online_orders'"),
        ),
    ];
    let mut plans = Vec::new();
    for (name, sql) in asked {
        // The second time, so that what is told is not the disk.
        let mut plan = Vec::new();
        for _ in 0..2 {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {sql}"));
            plan = sqlx::query_scalar::<_, String>(explain).fetch_all(pool).await.context(name)?;
        }
        plans.push((name, plan.join("\n")));
    }
    Ok(plans)
}
