//! What a daily report costs over the bare queries in psql, on a ledger of many lines: its figures alone, and the whole of it,
//! all tasks with their rows in the database and the files in a directory.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use chrono_tz::Europe::London;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_domain::interval::BusinessDay;
use stocktide_jobs::by_hand::{self, Wish};
use stocktide_jobs::{Rails, built_in};
use stocktide_runtime::admin::Health;
use stocktide_runtime::{Config, Secret};
use stocktide_store::jobs::Cause;
use stocktide_store::migrate;
use stocktide_store::report::{ReportOptions, collect, psql_script};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// Lines of an order.
const LINES: u64 = 10;

/// The span of the Online Retail data set.
const DAYS: u64 = 374;

const CATALOGUE: &str = "
    INSERT INTO products SELECT 'p' || lpad(i::text, 5, '0'), 'Product ' || i, 'c' || i % 20, 1 + i % 30, 'GBP',
        CASE WHEN i % 5 <> 0 THEN 500 END, CASE WHEN i % 200 = 0 THEN 'service' ELSE 'stock' END
    FROM generate_series(1, {products}) i;
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
        FROM (SELECT h.*, n, (1 + floor({products} * power(random(), 2)))::int AS product
              FROM order_headers h, generate_series(1, {lines}) n) l;
    CREATE INDEX orders_order_id ON orders (order_id);
    CREATE INDEX orders_processed_at ON orders USING brin (processed_at) WITH (pages_per_range = 32, autosummarize = on);
    CREATE INDEX orders_timestamp ON orders USING brin (\"timestamp\") WITH (pages_per_range = 32, autosummarize = on);
    INSERT INTO restock_lines (restock_id, line_no, product_id, quantity, source, location_id, \"timestamp\", event_id, kind,
            delta, quantity_after, version, stock_status, processed_at, partition, \"offset\")
        SELECT 'r' || i, 1, 'p' || lpad((1 + i % {products})::text, 5, '0'), 500, 'supplier_restocks',
            CASE WHEN i % 2 = 0 THEN 'online' ELSE 'store-1' END, at, gen_random_uuid(), 'received', 500, 500, 1, 'in_stock',
            at, 0, i
        FROM (SELECT i, '2010-12-01Z'::timestamptz + i * interval '1 day' * {days} / ({orders} / 4) AS at
              FROM generate_series(1, {orders} / 4) i) r;";

/// Makes the ledger, then measures in turn.
pub async fn measure(lines: u64, products: u16, repeats: u32) -> anyhow::Result<()> {
    let settings = [("shared_buffers", "1GB"), ("max_wal_size", "16GB"), ("checkpoint_timeout", "30min")];
    let postgres_settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let stack =
        Stack::start(StackOptions { kafka: false, postgres_settings, ..StackOptions::default() }).await?;
    let url = stack.database_url();
    migrate::run(&url, "GBP", London.name()).await?;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    let begun = Instant::now();
    let filled = |sql: &str| {
        sqlx::AssertSqlSafe(
            sql.replace("{orders}", &(lines / LINES).to_string())
                .replace("{lines}", &LINES.to_string())
                .replace("{days}", &DAYS.to_string())
                .replace("{products}", &products.to_string()),
        )
    };
    sqlx::raw_sql(filled(CATALOGUE)).execute(&pool).await.context("the catalogue")?;
    sqlx::raw_sql(filled(LEDGER)).execute(&pool).await.context("the ledger")?;
    sqlx::raw_sql("VACUUM ANALYZE").execute(&pool).await?;
    let (count, last): (i64, DateTime<Utc>) =
        sqlx::query_as("SELECT count(*), max(\"timestamp\") FROM orders").fetch_one(&pool).await?;
    println!("{count} order lines in {DAYS} days, made in {:.0} s", begun.elapsed().as_secs_f64());
    let bench = Bench::new(pool, url, BusinessDay::last_before(last, London)).await?;
    bench.in_turn(repeats).await?;
    bench.pool.close().await;
    stack.stop().await?;
    Ok(())
}

/// What is measured, and on what.
struct Bench {
    pool: PgPool,
    url: String,
    day: BusinessDay,
    options: ReportOptions,
    /// The bare queries.
    script: String,
    rails: Rails,
    directory: TempDir,
}

/// The things measured, in the order of the table's columns.
const MEASURED: [&str; 3] = ["daily_report", "collect", "psql"];

impl Bench {
    async fn new(pool: PgPool, url: String, day: BusinessDay) -> anyhow::Result<Bench> {
        let directory = TempDir::new()?;
        let mut config = Config::defaults()?;
        config.database.url = Some(Secret::new(&url));
        config.business.timezone = London;
        config.reports.url = format!("file://{}", directory.path().join("reports").display());
        let metrics = prometheus::Registry::new();
        let rails = Rails::open(&config, built_in::registry()?, &metrics, Health::new()).await?;
        let options = ReportOptions::default();
        let figures = collect(&pool, day, &options).await?;
        let script = psql_script(day, &options, figures.data_quality.outliers.largest_usual);
        println!("{}: {} lines", day.date, figures.sales.total.lines);
        Ok(Bench { pool, url, day, options, script, rails, directory })
    }

    /// All of them, one after the other; which is first changes.
    async fn in_turn(&self, repeats: u32) -> anyhow::Result<()> {
        // Once for the caches.
        for which in 0..MEASURED.len() {
            self.once(which).await?;
        }
        let [report, figures, bare] = MEASURED.map(|name| format!("{name} s"));
        println!(
            "{:>4} {report:>15} {figures:>10} {bare:>8} {:>12} {:>13}",
            "", "report/psql", "collect/psql"
        );
        let mut ratios = [Vec::new(), Vec::new()];
        for repeat in 1..=repeats {
            let mut seconds = [0.0; MEASURED.len()];
            for turn in 0..MEASURED.len() {
                let which = (repeat as usize + turn) % MEASURED.len();
                seconds[which] = self.once(which).await?;
            }
            let [report, figures, bare] = seconds;
            ratios[0].push(report / bare);
            ratios[1].push(figures / bare);
            println!(
                "{repeat:>4} {report:>15.3} {figures:>10.3} {bare:>8.3} {:>12.3} {:>13.3}",
                report / bare,
                figures / bare
            );
        }
        let [report, figures] = ratios.map(|mut ratios| {
            ratios.sort_by(f64::total_cmp);
            ratios[ratios.len() / 2]
        });
        println!("median ratios: daily_report {report:.3}, collect {figures:.3}");
        let before = forget_peak();
        self.once(0).await?;
        println!(
            "memory of this process: {before} kB before a daily_report, {} kB at its peak",
            kilobytes("VmHWM:")
        );
        Ok(())
    }

    /// Seconds that it takes.
    async fn once(&self, which: usize) -> anyhow::Result<f64> {
        if which == 0 {
            // As a first run of the day: nothing is there yet.
            let _ = std::fs::remove_dir_all(self.directory.path().join("reports"));
            sqlx::raw_sql("DELETE FROM reports; DELETE FROM job_runs").execute(&self.pool).await?;
        }
        let begun = Instant::now();
        match which {
            0 => self.whole_report().await?,
            1 => drop(collect(&self.pool, self.day, &self.options).await?),
            _ => psql(&self.url, &self.script)?,
        }
        Ok(begun.elapsed().as_secs_f64())
    }

    async fn whole_report(&self) -> anyhow::Result<()> {
        let (asked, stop) = ((Cause::Trigger, Wish::Anew), CancellationToken::new());
        let came = by_hand::run_day(&self.rails, "daily_report", self.day, asked, &stop).await?;
        ensure!(came.succeeded(), "daily_report: {came:?}");
        Ok(())
    }
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

/// Lets the kernel begin anew with the process's peak, and answers what it holds now, in kilobytes.
fn forget_peak() -> u64 {
    // Where that is not allowed the peak is that of everything so far.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    kilobytes("VmRSS:")
}

fn kilobytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}
