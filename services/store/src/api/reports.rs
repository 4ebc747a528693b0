//! Which daily reports there are.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{Page, ReadError, amount};

/// The last revision of a day's report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct ReportRow {
    /// The business day.
    pub report_date: NaiveDate,
    /// The revision, from 1.
    pub revision: i32,
    /// Gross sales of the day, all sources.
    pub total_sales: String,
    /// SHA-256 of the figures.
    pub figures_sha256: String,
    /// When this revision was recorded first.
    pub created_at: DateTime<Utc>,
}

/// The days that have a report, the newest first, each with its last revision.
///
/// # Errors
/// [`ReadError`].
pub async fn reports(pool: &PgPool, page: &Page<NaiveDate>) -> Result<Vec<ReportRow>, ReadError> {
    let sql = concat!(
        "SELECT DISTINCT ON (report_date) report_date, revision, ",
        amount!("total_sales"),
        " AS total_sales, figures_sha256, created_at FROM reports WHERE report_date < coalesce($1::date, 'infinity')
          ORDER BY report_date DESC, revision DESC LIMIT $2"
    );
    Ok(sqlx::query_as(sql).bind(page.after).bind(page.limit).fetch_all(pool).await?)
}
