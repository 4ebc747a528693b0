//! What becomes of a run's tasks. Every function here is for the holder of a claim, and says so when it is not his any more.

use serde_json::Value;
use sqlx::PgPool;

/// A task is begun; answers how often it was begun before and now. None: the claim is lost.
///
/// # Errors
/// When the database is away or refuses.
pub async fn begin_task(
    pool: &PgPool,
    run_id: i64,
    claim: i32,
    task: &str,
) -> Result<Option<i32>, sqlx::Error> {
    sqlx::query_scalar(
        "WITH held AS (
             SELECT run_id FROM job_runs WHERE run_id = $1 AND claim = $2 AND state = 'running' FOR SHARE)
         INSERT INTO job_tasks AS task (run_id, task, state, attempts, started_at)
         SELECT run_id, $3, 'running', 1, now() FROM held
         ON CONFLICT (run_id, task) DO UPDATE SET state = 'running', attempts = task.attempts + 1, started_at = now(),
             finished_at = NULL, error = NULL
         RETURNING attempts",
    )
    .bind(run_id)
    .bind(claim)
    .bind(task)
    .fetch_optional(pool)
    .await
}

/// A task is done, made so many rows, and hands `output` on; false: the claim is lost.
///
/// # Errors
/// When the database is away or refuses.
pub async fn succeed_task(
    pool: &PgPool,
    run_id: i64,
    claim: i32,
    task: &str,
    rows: Option<i64>,
    output: &Value,
) -> Result<bool, sqlx::Error> {
    let done = sqlx::query(
        "WITH held AS (
             SELECT run_id FROM job_runs WHERE run_id = $1 AND claim = $2 AND state = 'running' FOR SHARE)
         UPDATE job_tasks SET state = 'succeeded', finished_at = now(), rows = $4, output = $5
         WHERE run_id = (SELECT run_id FROM held) AND task = $3",
    )
    .bind(run_id)
    .bind(claim)
    .bind(task)
    .bind(rows)
    .bind(output)
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// A task failed, and hands `output` on if its failure is an answer; false: the claim is lost.
///
/// # Errors
/// When the database is away or refuses.
pub async fn fail_task(
    pool: &PgPool,
    run_id: i64,
    claim: i32,
    task: &str,
    error: &str,
    output: Option<&Value>,
) -> Result<bool, sqlx::Error> {
    let failed = sqlx::query(
        "WITH held AS (
             SELECT run_id FROM job_runs WHERE run_id = $1 AND claim = $2 AND state = 'running' FOR SHARE)
         UPDATE job_tasks SET state = 'failed', finished_at = now(), error = $4, output = coalesce($5, output)
         WHERE run_id = (SELECT run_id FROM held) AND task = $3",
    )
    .bind(run_id)
    .bind(claim)
    .bind(task)
    .bind(error)
    .bind(output)
    .execute(pool)
    .await?;
    Ok(failed.rows_affected() == 1)
}

/// Forgets what became of the tasks, so that all of them are executed again; false: the claim is lost.
///
/// # Errors
/// When the database is away or refuses.
pub async fn forget_tasks(pool: &PgPool, run_id: i64, claim: i32) -> Result<bool, sqlx::Error> {
    let held: Option<i64> = sqlx::query_scalar(
        "WITH held AS (
             SELECT run_id FROM job_runs WHERE run_id = $1 AND claim = $2 AND state = 'running' FOR SHARE),
         gone AS (DELETE FROM job_tasks WHERE run_id = (SELECT run_id FROM held))
         SELECT run_id FROM held",
    )
    .bind(run_id)
    .bind(claim)
    .fetch_optional(pool)
    .await?;
    Ok(held.is_some())
}
