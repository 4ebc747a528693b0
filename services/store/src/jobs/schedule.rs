//! The schedule's way into the table of runs.

use chrono::NaiveDate;
use sqlx::{PgConnection, PgPool};
use stocktide_domain::interval::BusinessDay;

use super::{Cause, queue};

/// What a schedule says of the days from a given one on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Due {
    /// The days that are to have a run, in order.
    pub days: Vec<BusinessDay>,
    /// The first day that is not decided yet; none: nothing was decided.
    pub next: Option<NaiveDate>,
}

/// The first day of each job that its schedule has not looked at.
///
/// # Errors
/// When the database is away or refuses.
pub async fn positions(pool: &PgPool) -> Result<Vec<(String, NaiveDate)>, sqlx::Error> {
    sqlx::query_as("SELECT job, next_date FROM job_schedules").fetch_all(pool).await
}

/// Has a job's schedule look again at all days from `start` on, unless it made a run for `first`, which is the first of them
/// that it asks for, or an earlier day; none: it asks for none of them yet. Answers whether it will.
///
/// # Errors
/// When the database is away or refuses.
pub async fn rewind(
    pool: &PgPool,
    job: &str,
    start: NaiveDate,
    first: Option<NaiveDate>,
) -> Result<bool, sqlx::Error> {
    let rewound = sqlx::query(
        "UPDATE job_schedules SET next_date = $2 WHERE job = $1 AND next_date > $2
             AND NOT EXISTS (SELECT FROM job_runs WHERE job = $1 AND cause = $4 AND data_date <= coalesce($3, 'infinity'::date))",
    )
    .bind(job)
    .bind(start)
    .bind(first)
    .bind(Cause::Schedule)
    .execute(pool)
    .await?;
    Ok(rewound.rows_affected() == 1)
}

/// Inserts the runs that a job's schedule asks for and that are missing, and announces them, all in one transaction; answers
/// their numbers. Several schedulers may do so at once: the job's row in `job_schedules` lets them take turns.
///
/// `first` is where a job begins that was never scheduled before; `due` is told the first day that was not looked at.
///
/// # Errors
/// When the database is away or refuses; nothing is changed then.
pub async fn schedule(
    pool: &PgPool,
    job: &str,
    first: NaiveDate,
    due: impl FnOnce(NaiveDate) -> Due,
) -> Result<Vec<i64>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let position = "SELECT next_date FROM job_schedules WHERE job = $1 FOR UPDATE";
    sqlx::query("INSERT INTO job_schedules (job, next_date) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(job)
        .bind(first)
        .execute(&mut *transaction)
        .await?;
    let next: NaiveDate = sqlx::query_scalar(position).bind(job).fetch_one(&mut *transaction).await?;
    let due = due(next);
    let inserted = insert_missing(&mut transaction, job, &due.days).await?;
    queue::announce(&mut transaction, &inserted).await?;
    if let Some(next) = due.next {
        sqlx::query("UPDATE job_schedules SET next_date = $2 WHERE job = $1 AND next_date < $2")
            .bind(job)
            .bind(next)
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(inserted)
}

/// Runs that a person asked for earlier are there already and stay as they are.
async fn insert_missing(
    connection: &mut PgConnection,
    job: &str,
    days: &[BusinessDay],
) -> Result<Vec<i64>, sqlx::Error> {
    let dates: Vec<NaiveDate> = days.iter().map(|day| day.date).collect();
    let starts: Vec<_> = days.iter().map(|day| day.start).collect();
    let ends: Vec<_> = days.iter().map(|day| day.end).collect();
    let timezones: Vec<&str> = days.iter().map(|day| day.timezone.name()).collect();
    sqlx::query_scalar(
        "INSERT INTO job_runs (job, data_date, timezone, interval_start, interval_end, state, cause, queued_at)
         SELECT $1, day.*, 'queued', $6, now()
         FROM unnest($2::date[], $3::text[], $4::timestamptz[], $5::timestamptz[]) AS day
         ON CONFLICT (job, interval_start, interval_end) DO NOTHING
         RETURNING run_id",
    )
    .bind(job)
    .bind(dates)
    .bind(timezones)
    .bind(starts)
    .bind(ends)
    .bind(Cause::Schedule)
    .fetch_all(connection)
    .await
}
