//! What goes on while the faults happen: events of all topics, sound and broken, and nightly reports.

use std::path::Path;

use anyhow::Context as _;
use sqlx::PgPool;

/// `stocktide produce` of each producer: what moves stock; orders each with its payment; and a loop of orders with payments
/// most of which come too early or never find their order. All of them by the clock, whether or not the brokers answer.
pub const SOURCES: &[&[&str]] = &[
    &["all", "--rate", "150", "--late", "5", "--follow-ups", "30"],
    &["--preset", "paid-orders", "--rate", "60", "--follow-ups", "30"],
    &["--preset", "orders-and-payments", "--rate", "50"],
];

/// The job that makes the reports.
pub const REPORTS: &str = "daily_report";
/// Business days before today on which events happen.
pub const DAYS: u32 = 20;
/// Records of one producer's life, which no episode lets it reach, over those days.
const RECORDS: &str = "30000";
const PER_DAY: &str = "2000";

/// What all producers are told. Each life of each has a seed of its own.
pub fn common(seed: u64, index: usize, starts: u32, first: &str) -> Vec<String> {
    let seed =
        seed.wrapping_mul(1_000).wrapping_add(index as u64 * 300).wrapping_add(starts.into()) % 1_000_000_000;
    let seed = seed.to_string();
    let args = ["--catalogue", "loaded", "--count", RECORDS, "--seed", &seed, "--start", first];
    let faults = ["--per-day", PER_DAY, "--duplicates", "4", "--malformed", "2"];
    args.iter().chain(&faults).map(|arg| (*arg).to_owned()).collect()
}

/// The first instant of the first day of events.
///
/// # Errors
/// The database is away.
pub async fn first_day(database: &PgPool) -> anyhow::Result<String> {
    let sql = "SELECT to_char(date_trunc('day', now() AT TIME ZONE 'UTC') - $1 * interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    sqlx::query_scalar(sql).bind(i32::try_from(DAYS)?).fetch_one(database).await.context("the day")
}

/// Writes the schedule of an episode: the reports of all days, and an entry of its own for each episode that looks which of them
/// have got more lines since, and has them made again.
///
/// # Errors
/// The file cannot be written, or the database is away.
pub async fn schedule(path: &Path, episode: u32, database: &PgPool) -> anyhow::Result<()> {
    let first = first_day(database).await?;
    let date = first.split('T').next().unwrap_or_default();
    let entry = |name: &str, builds: &str, more: &str| {
        format!(
            "[[job]]\nname = \"{name}\"\nbuilds = \"{builds}\"\ncron = \"0 0 * * *\"\n{more}retries = 30\nbackoff = \"50ms\"\n\
             timeout = \"30s\"\n\n"
        )
    };
    let mut text = entry(REPORTS, "daily_report", &format!("start = \"{date}\"\n"));
    for number in 0..=episode {
        text.push_str(&entry(&format!("revise_{number}"), "revise", ""));
    }
    std::fs::write(path, text).with_context(|| path.display().to_string())
}
