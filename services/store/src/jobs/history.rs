//! What ran, what failed and why.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{AssertSqlSafe, PgPool};

use super::{RUN, Run, RunState, Task};

/// Which runs are wanted.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this job only.
    pub job: Option<String>,
    /// In this state only.
    pub state: Option<RunState>,
    /// So many at most.
    pub limit: i64,
}

/// How many runs of a job are in a state.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Counted {
    /// The job.
    pub job: String,
    /// The state.
    pub state: RunState,
    /// How many.
    pub runs: i64,
    /// When the last of them was finished.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Runs, those first that were asked for last.
///
/// # Errors
/// When the database is away or refuses.
pub async fn runs(pool: &PgPool, filter: &Filter) -> Result<Vec<Run>, sqlx::Error> {
    let sql = format!(
        "SELECT {RUN} FROM job_runs WHERE ($1::text IS NULL OR job = $1) AND ($2::text IS NULL OR state = $2)
         ORDER BY run_id DESC LIMIT $3"
    );
    // The text is put together from constants only.
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(&filter.job)
        .bind(filter.state)
        .bind(filter.limit)
        .fetch_all(pool)
        .await
}

/// One run; none: there is no such number.
///
/// # Errors
/// When the database is away or refuses.
pub async fn run(pool: &PgPool, run_id: i64) -> Result<Option<Run>, sqlx::Error> {
    let sql = format!("SELECT {RUN} FROM job_runs WHERE run_id = $1");
    sqlx::query_as(AssertSqlSafe(sql)).bind(run_id).fetch_optional(pool).await
}

/// The tasks of a run that have been begun, in that order.
///
/// # Errors
/// When the database is away or refuses.
pub async fn tasks(pool: &PgPool, run_id: i64) -> Result<Vec<Task>, sqlx::Error> {
    let sql = "SELECT task, state, attempts, started_at, finished_at, rows, output, error FROM job_tasks
               WHERE run_id = $1 ORDER BY started_at, task";
    sqlx::query_as(sql).bind(run_id).fetch_all(pool).await
}

/// The run of each job whose business day is the latest.
///
/// # Errors
/// When the database is away or refuses.
pub async fn latest(pool: &PgPool) -> Result<Vec<Run>, sqlx::Error> {
    let sql = format!("SELECT DISTINCT ON (job) {RUN} FROM job_runs ORDER BY job, data_date DESC");
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await
}

/// How many runs of each job are in each state.
///
/// # Errors
/// When the database is away or refuses.
pub async fn counts(pool: &PgPool) -> Result<Vec<Counted>, sqlx::Error> {
    let sql = "SELECT job, state, count(*) AS runs, max(finished_at) AS finished_at FROM job_runs GROUP BY job, state";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// The run of each job that succeeded last, and the one that failed last.
///
/// # Errors
/// When the database is away or refuses.
pub async fn last_ended(pool: &PgPool) -> Result<Vec<Run>, sqlx::Error> {
    let sql = format!(
        "SELECT DISTINCT ON (job, state) {RUN} FROM job_runs WHERE state IN ('succeeded', 'failed')
         ORDER BY job, state, finished_at DESC"
    );
    sqlx::query_as(AssertSqlSafe(sql)).fetch_all(pool).await
}

/// What a task of any of these jobs handed on last, be it with a success or with a failure; none: nothing yet.
///
/// # Errors
/// When the database is away or refuses.
pub async fn last_output(
    pool: &PgPool,
    jobs: &[&str],
    task: &str,
) -> Result<Option<serde_json::Value>, sqlx::Error> {
    let sql = "SELECT done.output FROM job_tasks AS done JOIN job_runs USING (run_id)
               WHERE job = ANY($1) AND task = $2 AND done.output IS NOT NULL
               ORDER BY done.finished_at DESC NULLS LAST LIMIT 1";
    sqlx::query_scalar(sql).bind(jobs).bind(task).fetch_optional(pool).await
}

/// The runs of a job for the business days of a range, both ends included, in order.
///
/// # Errors
/// When the database is away or refuses.
pub async fn between(
    pool: &PgPool,
    job: &str,
    from: NaiveDate,
    to: NaiveDate,
) -> Result<Vec<Run>, sqlx::Error> {
    let sql = format!(
        "SELECT {RUN} FROM job_runs WHERE job = $1 AND data_date BETWEEN $2 AND $3 ORDER BY data_date"
    );
    sqlx::query_as(AssertSqlSafe(sql)).bind(job).bind(from).bind(to).fetch_all(pool).await
}
