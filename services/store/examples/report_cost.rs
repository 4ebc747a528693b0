//! What the figures of a day's report cost: time, and this process's peak memory. To be held against the same queries in psql.
//!
//! `cargo run --release -p stocktide-store --example report_cost -- postgres://… 2011-12-08 [Europe/London]`

use std::time::Instant;

use anyhow::Context;
use sqlx::postgres::PgPoolOptions;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::report::{ReportOptions, collect};

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let (url, date) =
        args.next().zip(args.next()).context("usage: report_cost DATABASE_URL DATE [TIMEZONE]")?;
    let timezone = args.next().unwrap_or_else(|| "UTC".to_owned());
    let timezone = timezone.parse().with_context(|| format!("{timezone} is no IANA timezone"))?;
    let day = BusinessDay::of(date.parse().with_context(|| format!("{date} is no date"))?, timezone);
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await?;
    for _ in 0..3 {
        let begun = Instant::now();
        let figures = collect(&pool, day, &ReportOptions::default()).await?;
        println!(
            "{:.3} s: {} lines, gross {}, {} low, {} unusual",
            begun.elapsed().as_secs_f64(),
            figures.sales.total.lines,
            figures.sales.total.gross,
            figures.low_stock.rows.len(),
            figures.data_quality.outliers.found
        );
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!(
        "{}",
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no peak memory to be read")
    );
    Ok(())
}
