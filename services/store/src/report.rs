//! The figures of a daily report, read from the ledger and the catalogue.
//!
//! All of them come from one snapshot. A day's lines are found by the BRIN index over their timestamps; only the stock at the
//! day's end reads the whole ledger, one pass with a sum per stock row, for it must not depend on the current stock. What
//! comes back is bounded by the catalogue and by the limits of the lists, never by the number of lines.

mod quality;
mod sales;
mod script;
mod stock;

use chrono::{DateTime, Days, Utc};
use sqlx::{PgConnection, PgPool};
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{DataQuality, Day, Figures, LowStock};

pub use script::psql_script;

/// What a report may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportOptions {
    /// Products in each list of top sellers.
    pub top_n: u32,
    /// Days up to the day's end that demand, and what is a usual quantity, are taken from; at least 1.
    pub cover_days: u32,
}

impl Default for ReportOptions {
    fn default() -> ReportOptions {
        ReportOptions { top_n: 10, cover_days: 28 }
    }
}

/// An interval of time; the end does not belong to it.
#[derive(Debug, Clone, Copy)]
struct Span {
    start: DateTime<Utc>,
    end: DateTime<Utc>,
}

impl Span {
    /// The `days` business days of which `day` is the last.
    fn last_days(day: BusinessDay, days: u32) -> Span {
        let first = days_before(day, u64::from(days.max(1)) - 1);
        Span { start: first.start, end: day.end }
    }
}

impl From<BusinessDay> for Span {
    fn from(day: BusinessDay) -> Span {
        Span { start: day.start, end: day.end }
    }
}

/// A business day some days earlier.
fn days_before(day: BusinessDay, days: u64) -> BusinessDay {
    let date = day.date.checked_sub_days(Days::new(days)).unwrap_or(day.date);
    BusinessDay::of(date, day.timezone)
}

/// One snapshot for all queries.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Compiling a plan to machine code takes longer than most of these queries run. And lines lie on disk in about the order of
/// their timestamps, which the planner does not reckon with where it weighs a bitmap scan: it would read the whole ledger for
/// 9 days of 374 (14 s instead of 1 s at 20 million lines).
const SETTINGS: [&str; 2] = ["SET LOCAL jit = off", "SET LOCAL enable_seqscan = off"];

/// All figures of a business day.
///
/// # Errors
/// When the database is away or not migrated, or a sum of money leaves the 922 million million that an amount holds.
pub async fn collect(
    pool: &PgPool,
    day: BusinessDay,
    options: &ReportOptions,
) -> Result<Figures, sqlx::Error> {
    let mut snapshot = pool.begin_with(BEGIN).await?;
    let figures = read(&mut snapshot, day, options).await?;
    snapshot.commit().await?;
    Ok(figures)
}

async fn read(
    db: &mut PgConnection,
    day: BusinessDay,
    options: &ReportOptions,
) -> Result<Figures, sqlx::Error> {
    for setting in SETTINGS {
        sqlx::query(setting).execute(&mut *db).await?;
    }
    let currency = sqlx::query_scalar("SELECT currency FROM installation").fetch_one(&mut *db).await?;
    let sales = sales::sales(db, day).await?;
    let top_sellers = sales::top_sellers(db, day, options.top_n).await?;
    let cover_days = options.cover_days.max(1);
    let stock = stock::at_end(db, day, cover_days).await?;
    let data_quality = DataQuality {
        fates: quality::fates(db, day).await?,
        rejects: quality::rejects(db, day).await?,
        outliers: quality::outliers(db, day, cover_days).await?,
        value_mismatches: quality::value_mismatches(db, day).await?,
        late_events: quality::late_events(db, day).await?,
        oversold: stock::oversold(&stock),
    };
    let low_stock = LowStock { as_of: day.end, cover_days, rows: stock::low(&stock, cover_days) };
    Ok(Figures { day: Day::from(day), currency, sales, top_sellers, low_stock, data_quality })
}
