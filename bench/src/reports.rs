//! What a daily report's figures cost over the same queries in psql, on a ledger of many lines.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use chrono_tz::Europe::London;
use sqlx::postgres::PgPoolOptions;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_domain::interval::BusinessDay;
use stocktide_store::migrate;
use stocktide_store::report::{ReportOptions, collect, psql_script};

/// Lines of an order.
const LINES: u64 = 10;

/// The span of the Online Retail data set.
const DAYS: u64 = 374;

const CATALOGUE: &str = "
    INSERT INTO products SELECT 'p' || lpad(i::text, 5, '0'), 'Product ' || i, 'c' || i % 20, 1 + i % 30, 'GBP',
        CASE WHEN i % 5 <> 0 THEN 500 END, CASE WHEN i % 200 = 0 THEN 'service' ELSE 'stock' END
    FROM generate_series(1, 4000) i;
    INSERT INTO locations VALUES ('online', 'Online', 'online', 'UTC'), ('store-1', 'Store', 'store', 'UTC');
    INSERT INTO inventory (product_id, location_id, quantity_on_hand, opening_quantity, last_updated)
        SELECT product_id, location_id, 20000, 20000, now() FROM products, locations WHERE products.kind = 'stock';
    SELECT setseed(0.4)";

/// The indexes are made again afterwards, which takes less time.
const LEDGER: &str = "
    DROP INDEX orders_order_id, orders_processed_at, orders_timestamp;
    INSERT INTO order_headers (source, order_id, user_id, location_id, stated_value, order_value, value_mismatch, status,
            ordered_at, event_id)
        SELECT CASE WHEN i % 4 = 0 THEN 'store_sales' ELSE 'online_orders' END, 'o' || i, 'u' || i % 4000,
            CASE WHEN i % 4 = 0 THEN 'store-1' ELSE 'online' END, 100, 100, i % 997 = 0, 'placed',
            '2010-12-01Z'::timestamptz + i * interval '1 day' * {days} / {orders}, gen_random_uuid()
        FROM generate_series(1, {orders}) i;
    INSERT INTO orders (order_id, line_no, product_id, quantity, unit_price, source, location_id, user_id, \"timestamp\",
            event_id, kind, delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
        SELECT order_id, n, 'p' || lpad(product::text, 5, '0'),
            CASE WHEN order_id LIKE '%77' THEN -1 ELSE 1 END * (1 + floor(power(random(), 6) * 200))::int, 1 + n * 0.35,
            source, location_id, user_id, ordered_at, event_id,
            CASE WHEN order_id LIKE '%77' THEN 'return' ELSE 'sale' END,
            CASE WHEN product % 200 <> 0 THEN -3 END, CASE WHEN product % 200 <> 0 THEN 1000 END,
            CASE WHEN product % 200 <> 0 THEN 1 END, CASE WHEN product % 200 <> 0 THEN 'in_stock' END,
            ordered_at + interval '2 s', n % 4, 1
        FROM (SELECT h.*, n, (1 + floor(3999 * power(random(), 2)))::int AS product
              FROM order_headers h, generate_series(1, {lines}) n) l;
    CREATE INDEX orders_order_id ON orders (order_id);
    CREATE INDEX orders_processed_at ON orders USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
    CREATE INDEX orders_timestamp ON orders USING brin (\"timestamp\") WITH (pages_per_range = 32, autosummarize = on);
    INSERT INTO restock_lines (restock_id, line_no, product_id, quantity, source, location_id, \"timestamp\", event_id, kind,
            delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
        SELECT 'r' || i, 1, 'p' || lpad((1 + i % 3999)::text, 5, '0'), 500, 'supplier_restocks',
            CASE WHEN i % 2 = 0 THEN 'online' ELSE 'store-1' END, at, gen_random_uuid(), 'received', 500, 500, 1, 'in_stock',
            at, 0, i
        FROM (SELECT i, '2010-12-01Z'::timestamptz + i * interval '1 day' * {days} / ({orders} / 4) AS at
              FROM generate_series(1, {orders} / 4) i) r;";

/// Makes the ledger, then measures both in turn.
pub async fn measure(lines: u64, repeats: u32) -> anyhow::Result<()> {
    let settings = [("shared_buffers", "1GB"), ("max_wal_size", "16GB"), ("checkpoint_timeout", "30min")];
    let postgres_settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let stack =
        Stack::start(StackOptions { kafka: false, postgres_settings, ..StackOptions::default() }).await?;
    let url = stack.database_url();
    migrate::run(&url, "GBP", London.name()).await?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let begun = Instant::now();
    let ledger = LEDGER
        .replace("{orders}", &(lines / LINES).to_string())
        .replace("{lines}", &LINES.to_string())
        .replace("{days}", &DAYS.to_string());
    sqlx::raw_sql(CATALOGUE).execute(&pool).await.context("the catalogue")?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(ledger)).execute(&pool).await.context("the ledger")?;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&pool).await?;
    let (count, last): (i64, DateTime<Utc>) =
        sqlx::query_as("SELECT count(*), max(\"timestamp\") FROM orders").fetch_one(&pool).await?;
    println!("{count} order lines in {DAYS} days, made in {:.0} s", begun.elapsed().as_secs_f64());
    let day = BusinessDay::last_before(last, London);
    in_turn(&pool, &url, day, repeats).await?;
    pool.close().await;
    stack.stop().await?;
    Ok(())
}

/// `collect` and psql, one after the other; which is first changes.
async fn in_turn(pool: &sqlx::PgPool, url: &str, day: BusinessDay, repeats: u32) -> anyhow::Result<()> {
    let options = ReportOptions::default();
    let before = peak_kilobytes();
    // Once for the caches, and for what the script has to know.
    let figures = collect(pool, day, &options).await?;
    let script = psql_script(day, &options, figures.data_quality.outliers.largest_usual);
    psql(url, &script)?;
    println!(
        "{:>10} {:>10} {:>10} {:>6}   ({}: {} lines)",
        "", "collect s", "psql s", "ratio", day.date, figures.sales.total.lines
    );
    let mut ratios = Vec::new();
    for repeat in 1..=repeats {
        let (mut ours, mut bare) = (0.0, 0.0);
        for turn in 0..2 {
            let begun = Instant::now();
            if (repeat + turn) % 2 == 0 {
                collect(pool, day, &options).await?;
                ours = begun.elapsed().as_secs_f64();
            } else {
                psql(url, &script)?;
                bare = begun.elapsed().as_secs_f64();
            }
        }
        println!("{repeat:>10} {ours:>10.3} {bare:>10.3} {:>6.3}", ours / bare);
        ratios.push(ours / bare);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median ratio {:.3}", ratios[ratios.len() / 2]);
    println!("peak memory of this process: {before} kB before, {} kB after", peak_kilobytes());
    Ok(())
}

/// Runs a script and throws its answers away.
fn psql(url: &str, script: &str) -> anyhow::Result<()> {
    let mut psql = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--output=/dev/null", url])
        .stdin(Stdio::piped())
        .spawn()
        .context("psql cannot be started")?;
    psql.stdin.take().context("psql takes no input")?.write_all(script.as_bytes())?;
    ensure!(psql.wait()?.success(), "psql failed");
    Ok(())
}

fn peak_kilobytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
