//! Taking a run, keeping it, and giving it back.

use std::time::Duration;

use sqlx::{AssertSqlSafe, PgPool};
use stocktide_domain::interval::BusinessDay;

use super::{Cause, RUN, Run, RunState, Task, queue, tasks};

/// What came of the wish to execute a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// It is the asker's, under the number in `claim`.
    Held(Run),
    /// It is in a state in which it was not asked for, or in somebody else's hands.
    Refused(Run),
}

/// Which finished runs are to be executed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Force {
    /// Those that failed.
    Failed,
    /// Those that succeeded too.
    Succeeded,
}

/// Takes a run of one of the jobs that the worker `knows`, if it waits or its worker gave no sign of life for `takeover`;
/// none: that does not hold.
///
/// # Errors
/// When the database is away or refuses.
pub async fn claim(
    pool: &PgPool,
    run_id: i64,
    worker: &str,
    knows: &[&str],
    takeover: Duration,
) -> Result<Option<Run>, sqlx::Error> {
    let sql = format!(
        "UPDATE job_runs SET {TAKEN}
         WHERE run_id = $1 AND (state = 'queued' OR {ABANDONED}) AND job = ANY($4)
         RETURNING {RUN}"
    );
    // The text is put together from constants only.
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(run_id)
        .bind(worker)
        .bind(takeover.as_secs_f64())
        .bind(knows)
        .fetch_optional(pool)
        .await
}

/// What changes when a run is taken by $2.
const TAKEN: &str = "state = 'running', claim = job_runs.claim + 1, worker = $2, heartbeat_at = now(), error = NULL,
    started_at = CASE WHEN job_runs.finished_at IS NULL THEN coalesce(job_runs.started_at, now()) ELSE now() END,
    losses = CASE WHEN job_runs.finished_at IS NULL THEN job_runs.losses ELSE 0 END, finished_at = NULL";

/// Whether whoever has it was silent for $3 seconds.
const ABANDONED: &str =
    "job_runs.state = 'running' AND job_runs.heartbeat_at < now() - make_interval(secs => $3)";

/// Takes the run of a job and day for a person who asks for it: makes it where there is none yet, and takes one that waits,
/// that was abandoned, that failed, or, by `force`, that succeeded.
///
/// # Errors
/// When the database is away or refuses.
pub async fn claim_day(
    pool: &PgPool,
    job: &str,
    day: BusinessDay,
    worker: &str,
    (cause, force): (Cause, Force),
    takeover: Duration,
) -> Result<Claim, sqlx::Error> {
    let sql = format!(
        "INSERT INTO job_runs (job, data_date, timezone, interval_start, interval_end, state, cause, claim, worker,
             started_at, heartbeat_at)
         VALUES ($1, $4, $5, $6, $7, 'running', $8, 1, $2, now(), now())
         ON CONFLICT (job, interval_start, interval_end) DO UPDATE SET {TAKEN}
         WHERE job_runs.state IN ('queued', 'failed') OR job_runs.state = 'succeeded' AND $9 OR {ABANDONED}
         RETURNING {RUN}"
    );
    let held = sqlx::query_as(AssertSqlSafe(sql))
        .bind(job)
        .bind(worker)
        .bind(takeover.as_secs_f64())
        .bind(day.date)
        .bind(day.timezone.name())
        .bind(day.start)
        .bind(day.end)
        .bind(cause)
        .bind(force == Force::Succeeded)
        .fetch_optional(pool)
        .await?;
    if let Some(run) = held {
        return Ok(Claim::Held(run));
    }
    let sql =
        format!("SELECT {RUN} FROM job_runs WHERE job = $1 AND interval_start = $2 AND interval_end = $3");
    let run =
        sqlx::query_as(AssertSqlSafe(sql)).bind(job).bind(day.start).bind(day.end).fetch_one(pool).await?;
    Ok(Claim::Refused(run))
}

/// A sign of life of the holder of a claim; false: it is not his any more.
///
/// # Errors
/// When the database is away or refuses.
pub async fn heartbeat(pool: &PgPool, run_id: i64, claim: i32) -> Result<bool, sqlx::Error> {
    let sql =
        "UPDATE job_runs SET heartbeat_at = now() WHERE run_id = $1 AND claim = $2 AND state = 'running'";
    let beaten = sqlx::query(sql).bind(run_id).bind(claim).execute(pool).await?;
    Ok(beaten.rows_affected() == 1)
}

/// Ends a run: it succeeded, or failed by `error`. Its rows are those of its tasks. None: it is not the asker's any more.
///
/// # Errors
/// When the database is away or refuses.
pub async fn finish(
    pool: &PgPool,
    run_id: i64,
    claim: i32,
    error: Option<&str>,
) -> Result<Option<Run>, sqlx::Error> {
    let sql = format!(
        "UPDATE job_runs SET state = $3, error = $4, finished_at = now(),
             rows = (SELECT sum(rows) FROM job_tasks WHERE run_id = $1)::bigint
         WHERE run_id = $1 AND claim = $2 AND state = 'running'
         RETURNING {RUN}"
    );
    let state = if error.is_none() { RunState::Succeeded } else { RunState::Failed };
    sqlx::query_as(AssertSqlSafe(sql))
        .bind(run_id)
        .bind(claim)
        .bind(state)
        .bind(error)
        .fetch_optional(pool)
        .await
}

/// Gives a run back that another worker is to go on with, and announces it in the same transaction; false: it is not the
/// asker's any more.
///
/// # Errors
/// When the database is away or refuses; it is then taken over in its time.
pub async fn release(pool: &PgPool, run_id: i64, claim: i32) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let released = sqlx::query(
        "UPDATE job_runs SET state = 'queued', queued_at = now() WHERE run_id = $1 AND claim = $2 AND state = 'running'",
    )
    .bind(run_id)
    .bind(claim)
    .execute(&mut *transaction)
    .await?;
    let released = released.rows_affected() == 1;
    if released {
        queue::announce(&mut transaction, &[run_id]).await?;
    }
    transaction.commit().await?;
    Ok(released)
}

/// Gives a run back that had ended before it was taken, as it was; false: it is not the asker's any more. `tasks` are what it had
/// to show for its tasks; none: what it has now stays.
///
/// # Errors
/// When the database is away or refuses; it is then taken over in its time.
pub async fn restore(
    pool: &PgPool,
    claim: i32,
    before: &Run,
    tasks: Option<&[Task]>,
) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let restored = sqlx::query(
        "UPDATE job_runs SET state = $3, error = $4, started_at = $5, finished_at = $6, rows = $7, losses = $8, worker = $9
         WHERE run_id = $1 AND claim = $2 AND state = 'running'",
    )
    .bind(before.run_id)
    .bind(claim)
    .bind(before.state)
    .bind(&before.error)
    .bind(before.started_at)
    .bind(before.finished_at)
    .bind(before.rows)
    .bind(before.losses)
    .bind(&before.worker)
    .execute(&mut *transaction)
    .await?;
    let restored = restored.rows_affected() == 1;
    if let Some(tasks) = tasks.filter(|_| restored) {
        sqlx::query("DELETE FROM job_tasks WHERE run_id = $1")
            .bind(before.run_id)
            .execute(&mut *transaction)
            .await?;
        for task in tasks {
            tasks::keep(&mut transaction, before.run_id, task).await?;
        }
    }
    transaction.commit().await?;
    Ok(restored)
}
