//! Runs of scheduled jobs: one row per job and business day, which is the truth. apalis's queue announces runs to workers; an
//! announcement too many does no harm, since a run has to be [claimed](claim) before it is executed.
//!
//! A claim is numbered, and everything that its holder writes is conditional on the number: a worker that was taken for dead
//! and wakes up late finds that it may write nothing any more.

mod claims;
mod history;
mod queue;
mod schedule;
mod tasks;

use std::time::Duration;

use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use stocktide_domain::interval::BusinessDay;

pub use claims::{Claim, Force, claim, claim_day, finish, heartbeat, release};
pub use history::{Counted, Filter, between, counts, last_ended, last_output, latest, run, runs, tasks};
pub use queue::{Announcement, QUEUE, Recovered, is_prepared, prepare, recover, sweep, timezone};
pub use schedule::{Due, schedule};
pub use tasks::{begin_task, fail_task, forget_tasks, succeed_task};

/// What became of a run so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum RunState {
    /// Waits for a worker.
    Queued,
    /// Is being executed.
    Running,
    /// All its tasks succeeded.
    Succeeded,
    /// A task failed for good; it can be retried by hand.
    Failed,
}

impl RunState {
    /// All of them, in the order of a run's life.
    pub const ALL: [RunState; 4] =
        [RunState::Queued, RunState::Running, RunState::Succeeded, RunState::Failed];

    /// Its name, as it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            RunState::Queued => "queued",
            RunState::Running => "running",
            RunState::Succeeded => "succeeded",
            RunState::Failed => "failed",
        }
    }
}

/// Who asked for a run first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum Cause {
    /// The schedule.
    Schedule,
    /// A person, for one day.
    Trigger,
    /// A person, for a range of days.
    Backfill,
}

/// A run of a job for one business day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Run {
    /// Its number.
    pub run_id: i64,
    /// The job's name.
    pub job: String,
    /// The business day.
    pub data_date: NaiveDate,
    /// The timezone of the business day, by its IANA name.
    pub timezone: String,
    /// The day's first instant.
    pub interval_start: DateTime<Utc>,
    /// The first instant after the day.
    pub interval_end: DateTime<Utc>,
    /// What became of it so far.
    pub state: RunState,
    /// Who asked for it first.
    pub cause: Cause,
    /// How often a worker has taken it.
    pub claim: i32,
    /// Workers that took it and were heard of no more, since it was last asked for.
    pub losses: i32,
    /// Who has or had it last.
    pub worker: Option<String>,
    /// When it was first asked for.
    pub created_at: DateTime<Utc>,
    /// When it last began to wait for a worker.
    pub queued_at: Option<DateTime<Utc>>,
    /// When its execution began; a takeover goes on with it.
    pub started_at: Option<DateTime<Utc>>,
    /// The last sign of life of whoever has it.
    pub heartbeat_at: Option<DateTime<Utc>>,
    /// When it succeeded or failed.
    pub finished_at: Option<DateTime<Utc>>,
    /// Rows that its tasks made.
    pub rows: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
}

impl Run {
    /// The business day; none: the timezone is not known here.
    pub fn day(&self) -> Option<BusinessDay> {
        let timezone = self.timezone.parse().ok()?;
        Some(BusinessDay {
            date: self.data_date,
            timezone,
            start: self.interval_start,
            end: self.interval_end,
        })
    }

    /// How long the execution took.
    pub fn duration(&self) -> Option<Duration> {
        (self.finished_at? - self.started_at?).to_std().ok()
    }
}

/// What became of a task so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, sqlx::Type)]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[serde(rename_all = "lowercase")]
pub enum TaskState {
    /// Is being executed, or was when its worker was lost.
    Running,
    /// Done.
    Succeeded,
    /// Failed, for good or until it is retried.
    Failed,
}

impl TaskState {
    /// Its name, as it stands in the table.
    pub fn name(self) -> &'static str {
        match self {
            TaskState::Running => "running",
            TaskState::Succeeded => "succeeded",
            TaskState::Failed => "failed",
        }
    }
}

/// A task of a run that has been begun.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Task {
    /// Its name.
    pub task: String,
    /// What became of it so far.
    pub state: TaskState,
    /// How often it was begun, over all executions of the run.
    pub attempts: i32,
    /// When it was begun last.
    pub started_at: DateTime<Utc>,
    /// When it succeeded or failed last.
    pub finished_at: Option<DateTime<Utc>>,
    /// Rows that it made.
    pub rows: Option<i64>,
    /// What it hands on to the tasks after it.
    pub output: Option<serde_json::Value>,
    /// Why it failed.
    pub error: Option<String>,
}

/// The columns of [`Run`].
const RUN: &str = "run_id, job, data_date, timezone, interval_start, interval_end, state, cause, claim, losses, worker, \
                   created_at, queued_at, started_at, heartbeat_at, finished_at, rows, error";
