//! Announcing runs to workers through apalis's queue, and finding those that got lost.

use std::time::Duration;

use apalis::prelude::{TaskBuilder, TaskId};
use apalis_postgres::{PgTask, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use ulid::Ulid;

/// The name of the queue in apalis's tables.
pub const QUEUE: &str = "stocktide-jobs";

/// A run whose worker was lost so often is not given to another: it may be the run that kills them.
const MOST_LOSSES: i32 = 5;

/// What the queue holds: that a run may be waiting.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Announcement {
    /// The run's number.
    pub run_id: i64,
}

/// What [`recover`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Runs whose worker was heard of no more; they wait again.
    pub taken_over: Vec<i64>,
    /// Runs that waited without an announcement; they have one now.
    pub announced: Vec<i64>,
    /// Runs that lost too many workers; they failed.
    pub given_up: Vec<i64>,
}

/// Makes apalis's tables, or brings them up to date. Needs the rights of the database's owner.
///
/// # Errors
/// When the database is away or refuses.
pub async fn prepare(pool: &PgPool) -> Result<(), sqlx::migrate::MigrateError> {
    PostgresStorage::migrations().run(pool).await
}

/// Whether the tables are there: of runs, and apalis's.
///
/// # Errors
/// When the database is away or refuses.
pub async fn is_prepared(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let sql = "SELECT to_regclass('job_runs') IS NOT NULL AND to_regclass('apalis.jobs') IS NOT NULL";
    sqlx::query_scalar(sql).fetch_one(pool).await
}

/// The timezone of business days that the installation was set up with; none: it has not been set up.
///
/// # Errors
/// When the database is away, refuses or was not migrated.
pub async fn timezone(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT timezone FROM installation").fetch_optional(pool).await
}

/// Puts an announcement of each run into the queue.
pub(super) async fn announce(connection: &mut PgConnection, runs: &[i64]) -> Result<(), sqlx::Error> {
    if runs.is_empty() {
        return Ok(());
    }
    // apalis reads its ids as ULIDs, and a worker dies of one that is not.
    let ids: Vec<Ulid> = runs.iter().map(|_| Ulid::generate()).collect();
    let announcements = runs.iter().zip(&ids).map(|(run_id, id)| announcement(*run_id, *id));
    let announcements = announcements.collect::<Result<Vec<PgTask>, sqlx::Error>>()?;
    apalis_postgres::queries::push_tasks(connection, QUEUE, announcements).await.map_err(
        |error| match error {
            apalis_postgres::Error::Database(error) => error,
            other => sqlx::Error::AnyDriverError(Box::new(other)),
        },
    )?;
    sqlx::query(
        "UPDATE job_runs SET queue_id = given.id FROM unnest($1::bigint[], $2::text[]) AS given (run_id, id)
         WHERE job_runs.run_id = given.run_id",
    )
    .bind(runs)
    .bind(ids.iter().map(Ulid::to_string).collect::<Vec<String>>())
    .execute(connection)
    .await?;
    Ok(())
}

fn announcement(run_id: i64, id: Ulid) -> Result<PgTask, sqlx::Error> {
    let body = serde_json::to_vec(&Announcement { run_id }).map_err(|e| sqlx::Error::Encode(Box::new(e)))?;
    Ok(TaskBuilder::new(body).task_id(TaskId::from_ulid(id)).build())
}

/// Lets runs wait again whose worker gave no sign of life for `takeover`, and announces again what waits unannounced, of the
/// jobs that the asker `knows`: whoever does not know a job would only hand its runs to itself. Several workers may do so at
/// once.
///
/// # Errors
/// When the database is away or refuses; nothing is changed then.
pub async fn recover(pool: &PgPool, knows: &[&str], takeover: Duration) -> Result<Recovered, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let lost: Vec<(i64, bool)> = sqlx::query_as(
        "WITH lost AS (
             SELECT run_id FROM job_runs
             WHERE state = 'running' AND heartbeat_at < now() - make_interval(secs => $1)
             FOR UPDATE SKIP LOCKED)
         UPDATE job_runs SET losses = losses + 1,
             state = CASE WHEN losses + 1 < $2 THEN 'queued' ELSE 'failed' END,
             queued_at = now(),
             finished_at = CASE WHEN losses + 1 < $2 THEN NULL ELSE now() END,
             error = CASE WHEN losses + 1 < $2 THEN NULL ELSE 'its worker was lost ' || losses + 1 || ' times' END
         WHERE run_id IN (SELECT run_id FROM lost)
         RETURNING run_id, state = 'queued'",
    )
    .bind(takeover.as_secs_f64())
    .bind(MOST_LOSSES)
    .fetch_all(&mut *transaction)
    .await?;
    // Announcements that nobody can have any more: a queue that was emptied, one that was consumed by a worker that was killed
    // before it could claim the run, and that apalis gave up, or one that a worker got a while ago that does not know the job.
    let announced: Vec<i64> = sqlx::query_scalar(
        "SELECT run_id FROM job_runs AS run
         WHERE state = 'queued' AND queued_at < now() - make_interval(secs => $1) AND job = ANY($2) AND NOT EXISTS (
             SELECT FROM apalis.jobs WHERE id = run.queue_id
                 AND (status IN ('Pending', 'Queued', 'Running') OR status = 'Failed' AND attempts < max_attempts
                      OR done_at > now() - make_interval(secs => $1)))
         FOR UPDATE SKIP LOCKED",
    )
    .bind(takeover.as_secs_f64())
    .bind(knows)
    .fetch_all(&mut *transaction)
    .await?;
    let (waiting, failed): (Vec<_>, Vec<_>) = lost.into_iter().partition(|(_, waits)| *waits);
    let number = |runs: Vec<(i64, bool)>| runs.into_iter().map(|(run_id, _)| run_id).collect::<Vec<_>>();
    let recovered = Recovered { taken_over: number(waiting), announced, given_up: number(failed) };
    let again: Vec<i64> = recovered.taken_over.iter().chain(&recovered.announced).copied().collect();
    announce(&mut transaction, &again).await?;
    transaction.commit().await?;
    Ok(recovered)
}

/// Deletes what apalis keeps of announcements and workers that are a week gone: the history of runs is in `job_runs`.
///
/// # Errors
/// When the database is away or refuses.
pub async fn sweep(pool: &PgPool) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM apalis.jobs WHERE job_type = $1 AND done_at < now() - interval '7 days'
             AND (status IN ('Done', 'Killed') OR status = 'Failed' AND attempts >= max_attempts)",
    )
    .bind(QUEUE)
    .execute(pool)
    .await?;
    sqlx::query(
        "DELETE FROM apalis.workers AS worker WHERE worker_type = $1 AND last_seen < now() - interval '7 days'
             AND NOT EXISTS (SELECT FROM apalis.jobs WHERE lock_by = worker.id)",
    )
    .bind(QUEUE)
    .execute(pool)
    .await?;
    Ok(())
}
