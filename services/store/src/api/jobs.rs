//! Runs of scheduled jobs, page by page.

use chrono::{DateTime, NaiveDate, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{Page, ReadError};
use crate::jobs::RunState;

/// A run of a job for one business day.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, sqlx::FromRow)]
pub struct JobRun {
    /// Its number.
    pub run_id: i64,
    /// The job's name.
    pub job: String,
    /// The business day.
    pub data_date: NaiveDate,
    /// `queued`, `running`, `succeeded` or `failed`.
    pub state: String,
    /// `schedule`, `trigger` or `backfill`.
    pub cause: String,
    /// How often a worker has taken it.
    pub attempts: i32,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When its execution began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it succeeded or failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// How long the execution took, in seconds.
    pub seconds: Option<f64>,
    /// Rows that its tasks made.
    pub rows: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
}

/// Runs, those first that were asked for last.
///
/// # Errors
/// [`ReadError`].
pub async fn job_runs(
    pool: &PgPool,
    job: Option<&str>,
    state: Option<RunState>,
    page: &Page<i64>,
) -> Result<Vec<JobRun>, ReadError> {
    let sql = "SELECT run_id, job, data_date, state, cause, claim AS attempts, created_at, started_at, finished_at,
               extract(epoch FROM finished_at - started_at)::float8 AS seconds, rows, error FROM job_runs
        WHERE run_id < coalesce($1::bigint, 9223372036854775807) AND ($2::text IS NULL OR job = $2) AND ($3::text IS NULL OR state = $3)
        ORDER BY run_id DESC LIMIT $4";
    let state = state.map(RunState::name);
    Ok(sqlx::query_as(sql).bind(page.after).bind(job).bind(state).bind(page.limit).fetch_all(pool).await?)
}
