//! Scheduler and worker in one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Days, NaiveDate, Utc};
use stocktide_domain::interval::BusinessDay;
use stocktide_runtime::clock;
use stocktide_store::jobs::{self, Counted, Due, Recovered, RunState, Waiting};
use tokio_util::sync::CancellationToken;

use crate::built_in;
use crate::metrics::Standing;
use crate::rails::{self, Rails};
use crate::schedule::{CatchUp, Entry};
use crate::timetable::PIECE;
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
    let mut left = BTreeMap::new();
    while !stop.is_cancelled() {
        let looked = tick(rails, clock::now()).await;
        if let Ok(ticked) = &looked {
            tell_left(rails, &mut left, &ticked.left);
        }
        let is_more = looked.as_ref().is_ok_and(|ticked| ticked.more);
        let is_time = swept.is_none_or(|at| at.elapsed() > SWEEP);
        let done = match looked {
            Ok(_) if is_time => jobs::sweep(&rails.pool).await.inspect(|()| swept = Some(Instant::now())),
            other => other.map(|_| ()),
        };
        rails.health.set("jobs", done.map_err(|error| format!("the schedule cannot be followed: {error}")));
        if is_more {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(rails.config.jobs.poll) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Says once which jobs' runs are left to others.
fn tell_left(rails: &Rails, before: &mut BTreeMap<String, i64>, now: &BTreeMap<String, i64>) {
    for (job, runs) in now.iter().filter(|(job, _)| !before.contains_key(*job)) {
        tracing::warn!(job, runs, "the schedule followed here has no such job: its runs are left to others");
    }
    let names: Vec<&str> = now.keys().map(String::as_str).collect();
    let note =
        || format!("left to others, as the schedule followed here has no such job: {}", names.join(", "));
    rails.health.note("jobs", (!names.is_empty()).then(note));
    before.clone_from(now);
}

/// What one look around did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ticked {
    /// Runs that were missing.
    pub scheduled: Vec<i64>,
    /// Runs that were lost.
    pub recovered: Recovered,
    /// How many runs wait of jobs that the schedule followed here has not, by job.
    pub left: BTreeMap<String, i64>,
    /// Further days may be due at once: one look is about so many at most.
    pub more: bool,
}

/// Makes the runs that are due at `now` and missing, lets lost ones wait again, and shows what there is.
///
/// # Errors
/// When the database is away or refuses; what was done before stays.
pub async fn tick(rails: &Rails, now: DateTime<Utc>) -> Result<Ticked, sqlx::Error> {
    let business = rails.config.business.timezone;
    let mut ticked = Ticked::default();
    for entry in rails.schedule.entries() {
        if let Some(start) = entry.start {
            look_back(rails, entry, start, now).await?;
        }
        let first = entry.start.unwrap_or_else(|| BusinessDay::last_before(now, business).date);
        let mut more = false;
        let due = |from: NaiveDate| {
            let from = entry.start.map_or(from, |start| from.max(start));
            let due = entry.timetable.due(from, now, business, entry.catch_up);
            more = due.next.is_some_and(|next| from.checked_add_days(Days::new(PIECE as u64)) == Some(next));
            due
        };
        let scheduled = jobs::schedule(&rails.pool, &entry.name, first, due).await?;
        ticked.more |= more;
        if !scheduled.is_empty() {
            tracing::info!(job = entry.name, runs = scheduled.len(), "runs are due");
        }
        ticked.scheduled.extend(scheduled);
    }
    ticked.recovered =
        jobs::recover(&rails.pool, &rails.schedule.known(), rails.config.jobs.takeover).await?;
    let Recovered { taken_over, given_up, .. } = &ticked.recovered;
    for run_id in taken_over {
        tracing::warn!(run_id, "the run's worker was heard of no more: it waits for another");
    }
    for run_id in given_up {
        tracing::error!(run_id, "the run lost too many workers: it failed");
    }
    rails.metrics.takeovers.inc_by(taken_over.len() as u64);
    let standing = standing(rails).await?;
    rails.metrics.show(&rails.schedule, &standing);
    let unknown = |counted: &&Counted| rails.schedule.get(&counted.job).is_none();
    let waiting = standing.counts.iter().filter(|counted| counted.state == RunState::Queued);
    ticked.left = waiting.filter(unknown).map(|counted| (counted.job.clone(), counted.runs)).collect();
    Ok(ticked)
}

/// Once per process and job: where `start` was set, or set to an earlier day, after the job had been scheduled, its days from
/// there on are looked at again, and those that have no run get theirs.
async fn look_back(
    rails: &Rails,
    entry: &Entry,
    start: NaiveDate,
    now: DateTime<Utc>,
) -> Result<(), sqlx::Error> {
    if rails.has_looked_back(&entry.name) {
        return Ok(());
    }
    let due = entry.timetable.due(start, now, rails.config.business.timezone, CatchUp::All);
    let first = due.days.first().map(|day| day.date);
    if jobs::rewind(&rails.pool, &entry.name, start, first).await? {
        tracing::info!(job = entry.name, %start, "the job's days are looked at again from its start on");
    }
    rails.note_look_back(&entry.name);
    Ok(())
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

/// What comes next of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outlook {
    /// Runs that wait, and those that the next looks will make.
    pub due: i64,
    /// The first of these, else the next to come: the business day, and when it was or will be due.
    pub next: Option<(BusinessDay, DateTime<Utc>)>,
}

/// What comes next of a job, by the first day that its schedule has not looked at and by what waits already.
pub fn outlook(
    rails: &Rails,
    entry: &Entry,
    position: Option<NaiveDate>,
    waiting: Option<&Waiting>,
    now: DateTime<Utc>,
) -> Outlook {
    let business = rails.config.business.timezone;
    let first = entry.start.unwrap_or_else(|| BusinessDay::last_before(now, business).date);
    let from = position.unwrap_or(first);
    let mut from = entry.start.map_or(from, |start| from.max(start));
    let mut due = waiting.map_or(0, |waiting| waiting.runs);
    let mut earliest = waiting.map(|waiting| BusinessDay::of(waiting.first, business));
    while let Due { days, next: Some(next) } = entry.timetable.due(from, now, business, entry.catch_up) {
        due += i64::try_from(days.len()).unwrap_or(i64::MAX);
        earliest = earliest.into_iter().chain(days.first().copied()).min_by_key(|day| day.start);
        from = next;
    }
    let overdue = earliest.map(|day| (day, entry.timetable.due_at(day).unwrap_or(day.end)));
    Outlook { due, next: overdue.or_else(|| entry.timetable.next_run(from, now, business)) }
}
