//! Scheduler and worker in one process.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use stocktide_domain::interval::BusinessDay;
use stocktide_runtime::clock;
use stocktide_store::jobs::{self, Recovered};
use tokio_util::sync::CancellationToken;

use crate::built_in;
use crate::metrics::Standing;
use crate::rails::{self, Rails};
use crate::worker;

/// How often what apalis keeps is swept.
const SWEEP: Duration = Duration::from_hours(1);

/// Schedules and executes until `shutdown`; then what is in hand is finished, or given back for others.
///
/// # Errors
/// When there is no database to begin with, or the worker cannot be ended in order.
pub async fn serve(rails: Arc<Rails>, shutdown: CancellationToken) -> anyhow::Result<()> {
    // A pool of its own: the runs' work must not keep apalis from saying that it lives.
    let queue = rails::pool(&rails.config.database_url()?, 4).await.context("the queue's connections")?;
    tracing::info!(jobs = rails.schedule.names(), process = rails.process, "jobs are scheduled and executed");
    let stop = shutdown.child_token();
    let working = tokio::spawn(worker::work(Arc::clone(&rails), queue, stop.clone()));
    let guard = stop.clone().drop_guard();
    look_around(&rails, &stop).await;
    drop(guard);
    working.await.context("the worker")?
}

/// Turns the schedule into runs and finds lost ones, every `jobs.poll`.
async fn look_around(rails: &Rails, stop: &CancellationToken) {
    let mut swept: Option<Instant> = None;
    while !stop.is_cancelled() {
        let looked = tick(rails, clock::now()).await;
        let is_time = swept.is_none_or(|at| at.elapsed() > SWEEP);
        let done = match looked {
            Ok(_) if is_time => jobs::sweep(&rails.pool).await.inspect(|()| swept = Some(Instant::now())),
            other => other.map(|_| ()),
        };
        rails.health.set("jobs", done.map_err(|error| format!("the schedule cannot be followed: {error}")));
        tokio::select! {
            () = tokio::time::sleep(rails.config.jobs.poll) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// What one look around did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Runs that were missing.
    pub scheduled: Vec<i64>,
    /// Runs that were lost.
    pub recovered: Recovered,
}

/// Makes the runs that are due at `now` and missing, lets lost ones wait again, and shows what there is.
///
/// # Errors
/// When the database is away or refuses; what was done before stays.
pub async fn tick(rails: &Rails, now: DateTime<Utc>) -> Result<Ticked, sqlx::Error> {
    let business = rails.config.business.timezone;
    let mut ticked = Ticked::default();
    for entry in rails.schedule.entries() {
        let first = entry.start.unwrap_or_else(|| BusinessDay::last_before(now, business).date);
        let due = |from| entry.timetable.due(from, now, business, entry.catch_up);
        let scheduled = jobs::schedule(&rails.pool, &entry.name, first, due).await?;
        if !scheduled.is_empty() {
            tracing::info!(job = entry.name, runs = scheduled.len(), "runs are due");
        }
        ticked.scheduled.extend(scheduled);
    }
    ticked.recovered = jobs::recover(&rails.pool, rails.config.jobs.takeover).await?;
    let Recovered { taken_over, given_up, .. } = &ticked.recovered;
    for run_id in taken_over {
        tracing::warn!(run_id, "the run's worker was heard of no more: it waits for another");
    }
    for run_id in given_up {
        tracing::error!(run_id, "the run lost too many workers: it failed");
    }
    rails.metrics.takeovers.with_label_values(&[] as &[&str]).inc_by(taken_over.len() as u64);
    rails.metrics.show(&rails.schedule, &standing(rails).await?);
    Ok(ticked)
}

/// How the jobs stand, by the tables.
async fn standing(rails: &Rails) -> Result<Standing, sqlx::Error> {
    let builds_reconcile =
        rails.schedule.entries().iter().filter(|entry| entry.builds == built_in::RECONCILE);
    let reconciling: Vec<&str> = builds_reconcile.map(|entry| entry.name.as_str()).collect();
    Ok(Standing {
        counts: jobs::counts(&rails.pool).await?,
        ended: jobs::last_ended(&rails.pool).await?,
        reconciled: jobs::last_output(&rails.pool, &reconciling, built_in::VERIFY).await?,
    })
}
