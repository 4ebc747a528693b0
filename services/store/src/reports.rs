//! The `reports` table: what each daily report said, revision by revision.
//!
//! A report's night: [`plan`] says which revision a day's figures are, the files are written, [`record`] keeps the row. Both
//! may be repeated at any point: equal figures are the same revision, so a run that was killed in between and taken over
//! writes the same files and ends with one row.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgPool, Row};
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::Figures;

use crate::report::{self, Seen};

/// Why a report's row could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ReportsError {
    /// The database is away, or refuses.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// The figures of a row cannot be read by this version.
    #[error("the figures of {date}, revision {revision}, cannot be read: {problem}")]
    Unreadable {
        /// The business day.
        date: NaiveDate,
        /// The revision.
        revision: u32,
        /// What is wrong with them.
        problem: String,
    },
    /// The figures have no JSON form: a mistake in the program.
    #[error("the figures cannot be kept: {0}")]
    Unwritable(#[from] serde_json::Error),
    /// Somebody else has recorded other figures under this revision since it was planned: plan again.
    #[error("another run has recorded revision {revision} of {date} with other figures")]
    Overtaken {
        /// The business day.
        date: NaiveDate,
        /// The revision.
        revision: u32,
    },
}

/// A report as it was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The business day.
    pub date: NaiveDate,
    /// Which revision of the day's report.
    pub revision: u32,
    /// What it says.
    pub figures: Figures,
    /// SHA-256 of the figures, in hexadecimal.
    pub figures_sha256: String,
    /// The version of the program that wrote the files last.
    pub code_version: String,
    /// The URL of the files' directory.
    pub place: String,
    /// When this revision was recorded first.
    pub created_at: DateTime<Utc>,
}

/// Which revision a day's figures are.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// The revision, from 1.
    pub revision: u32,
    /// The figures of the revision before; none for the first.
    pub previous: Option<Figures>,
    /// Whether this revision is recorded already.
    pub is_recorded: bool,
}

/// A report to be recorded.
#[derive(Debug, Clone)]
pub struct NewReport<'a> {
    /// Which revision, as planned.
    pub revision: u32,
    /// What it says.
    pub figures: &'a Figures,
    /// SHA-256 of the figures.
    pub figures_sha256: &'a str,
    /// The version of the program.
    pub code_version: &'a str,
    /// The URL of the files' directory.
    pub place: &'a str,
    /// What the figures were made from; none: that is not known.
    pub seen: Option<Seen>,
    /// The time.
    pub now: DateTime<Utc>,
}

const COLUMNS: &str = "report_date, revision, figures::text, figures_sha256, code_version, place, created_at";

/// Says which revision figures with this digest are: the last one where they are equal to its, else the next.
///
/// # Errors
/// [`ReportsError::Database`] or [`ReportsError::Unreadable`].
pub async fn plan(pool: &PgPool, date: NaiveDate, figures_sha256: &str) -> Result<Plan, ReportsError> {
    let Some(last) = latest(pool, date).await? else {
        return Ok(Plan { revision: 1, previous: None, is_recorded: false });
    };
    if last.figures_sha256 != figures_sha256 {
        return Ok(Plan { revision: last.revision + 1, previous: Some(last.figures), is_recorded: false });
    }
    let previous = match last.revision.checked_sub(1) {
        Some(before @ 1..) => revision(pool, date, before).await?.map(|report| report.figures),
        _ => None,
    };
    Ok(Plan { revision: last.revision, previous, is_recorded: true })
}

/// Records a report whose files are there. Recording it again changes nothing but where the files are and what wrote them.
///
/// # Errors
/// [`ReportsError::Overtaken`] where the revision is another's; [`ReportsError::Database`].
pub async fn record(pool: &PgPool, report: &NewReport<'_>) -> Result<(), ReportsError> {
    let figures = report.figures;
    let date = figures.day.date;
    let written = sqlx::query(
        "INSERT INTO reports (report_date, revision, total_sales, top_sellers, low_stock, figures, figures_sha256,
                              code_version, place, created_at, as_of, ledger_lines)
         VALUES ($1, $2, $3::numeric, $4::jsonb, $5::jsonb, $6::jsonb, $7, $8, $9, $10, $11, $12)
         ON CONFLICT (report_date, revision) DO UPDATE SET code_version = excluded.code_version, place = excluded.place,
             as_of = excluded.as_of, ledger_lines = excluded.ledger_lines
         WHERE reports.figures_sha256 = excluded.figures_sha256",
    )
    .bind(date)
    .bind(i32::try_from(report.revision).unwrap_or(i32::MAX))
    .bind(figures.sales.total.gross.to_string())
    .bind(serde_json::to_string(&figures.top_sellers)?)
    .bind(serde_json::to_string(&figures.low_stock)?)
    .bind(serde_json::to_string(figures)?)
    .bind(report.figures_sha256)
    .bind(report.code_version)
    .bind(report.place)
    .bind(report.now)
    .bind(report.seen.map(|seen| seen.as_of))
    .bind(report.seen.map(|seen| seen.ledger_lines))
    .execute(pool)
    .await?;
    if written.rows_affected() == 1 {
        Ok(())
    } else {
        Err(ReportsError::Overtaken { date, revision: report.revision })
    }
}

/// The last revision of a day's report.
///
/// # Errors
/// [`ReportsError::Database`] or [`ReportsError::Unreadable`].
pub async fn latest(pool: &PgPool, date: NaiveDate) -> Result<Option<Recorded>, ReportsError> {
    let sql = format!("SELECT {COLUMNS} FROM reports WHERE report_date = $1 ORDER BY revision DESC LIMIT 1");
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(date).fetch_optional(pool).await?;
    row.as_ref().map(recorded).transpose()
}

/// One revision of a day's report.
///
/// # Errors
/// As [`latest`].
pub async fn revision(
    pool: &PgPool,
    date: NaiveDate,
    revision: u32,
) -> Result<Option<Recorded>, ReportsError> {
    let sql = format!("SELECT {COLUMNS} FROM reports WHERE report_date = $1 AND revision = $2");
    let number = i32::try_from(revision).unwrap_or(i32::MAX);
    let row = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(date).bind(number).fetch_optional(pool).await?;
    row.as_ref().map(recorded).transpose()
}

/// The last day that has a report.
///
/// # Errors
/// When the database is away or not migrated.
pub async fn last_date(pool: &PgPool) -> Result<Option<NaiveDate>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(report_date) FROM reports").fetch_one(pool).await
}

/// Which of some days have a report, and whether the ledger has another number of the day's lines now than it was made from.
///
/// # Errors
/// When the database is away or not migrated.
pub async fn out_of_date(pool: &PgPool, days: &[BusinessDay]) -> Result<Vec<(NaiveDate, bool)>, sqlx::Error> {
    let mut snapshot = pool.begin().await?;
    report::by_index(&mut snapshot).await?;
    let mut found = Vec::new();
    for day in days {
        let sql = "SELECT ledger_lines FROM reports WHERE report_date = $1 ORDER BY revision DESC LIMIT 1";
        let made: Option<Option<i64>> =
            sqlx::query_scalar(sql).bind(day.date).fetch_optional(&mut *snapshot).await?;
        let Some(made_from) = made else { continue };
        let (_, lines): (DateTime<Utc>, i64) =
            sqlx::query_as(report::SEEN).bind(day.start).bind(day.end).fetch_one(&mut *snapshot).await?;
        found.push((day.date, made_from != Some(lines)));
    }
    snapshot.commit().await?;
    Ok(found)
}

fn recorded(row: &PgRow) -> Result<Recorded, ReportsError> {
    let (date, revision): (NaiveDate, i32) = (row.try_get(0)?, row.try_get(1)?);
    let revision = revision.unsigned_abs();
    let figures: String = row.try_get(2)?;
    let figures = serde_json::from_str(&figures).map_err(|error| ReportsError::Unreadable {
        date,
        revision,
        problem: error.to_string(),
    })?;
    Ok(Recorded {
        date,
        revision,
        figures,
        figures_sha256: row.try_get(3)?,
        code_version: row.try_get(4)?,
        place: row.try_get(5)?,
        created_at: row.try_get(6)?,
    })
}
