//! Runs that are to be done again, all of them.

use chrono::NaiveDate;
use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;

use super::{Cause, queue};

/// Lets a job's runs for these days wait for a worker, with nothing of what an earlier execution did, and announces them, all in
/// one transaction; answers their numbers. A run that waits already, or is being executed, stays as it is.
///
/// # Errors
/// When the database is away or refuses; nothing is changed then.
pub async fn requeue(pool: &PgPool, job: &str, days: &[BusinessDay]) -> Result<Vec<i64>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let dates: Vec<NaiveDate> = days.iter().map(|day| day.date).collect();
    let starts: Vec<_> = days.iter().map(|day| day.start).collect();
    let ends: Vec<_> = days.iter().map(|day| day.end).collect();
    let timezones: Vec<&str> = days.iter().map(|day| day.timezone.name()).collect();
    let runs: Vec<i64> = sqlx::query_scalar(
        "INSERT INTO job_runs (job, data_date, timezone, interval_start, interval_end, state, cause, queued_at)
         SELECT $1, day.date, day.timezone, day.start, day.finish, 'queued', $6, now()
         FROM unnest($2::date[], $3::text[], $4::timestamptz[], $5::timestamptz[]) AS day (date, timezone, start, finish)
         ORDER BY day.date
         ON CONFLICT (job, interval_start, interval_end) DO UPDATE SET state = 'queued', queued_at = now(), losses = 0,
             started_at = NULL, finished_at = NULL, rows = NULL, error = NULL
         WHERE job_runs.state IN ('succeeded', 'failed')
         RETURNING run_id",
    )
    .bind(job)
    .bind(dates)
    .bind(timezones)
    .bind(starts)
    .bind(ends)
    .bind(Cause::Schedule)
    .fetch_all(&mut *transaction)
    .await?;
    sqlx::query("DELETE FROM job_tasks WHERE run_id = ANY($1)")
        .bind(&runs)
        .execute(&mut *transaction)
        .await?;
    queue::announce(&mut transaction, &runs).await?;
    transaction.commit().await?;
    Ok(runs)
}
