//! Runs that a person asks for, executed in the foreground; no scheduler and no worker need to run beside.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::{self, Cause, Claim, Force, Run, RunState};
use tokio_util::sync::CancellationToken;

use crate::execute::{Ended, execute};
use crate::rails::Rails;

/// What a person wants of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// All of it, even if it succeeded before.
    Anew,
    /// All of it, unless it succeeded before.
    Unless,
    /// What failed.
    Rest,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Came {
    /// It was executed here.
    Ran(Run),
    /// It had succeeded already, or did so in other hands.
    Already(Run),
    /// It was to stop.
    Interrupted,
}

impl Came {
    /// Whether the run succeeded, here or before.
    pub fn succeeded(&self) -> bool {
        match self {
            Came::Ran(run) | Came::Already(run) => run.state == RunState::Succeeded,
            Came::Interrupted => false,
        }
    }
}

/// The day of a date, if it is over.
///
/// # Errors
/// A line that says which is the last one that is.
pub fn day_that_is_over(rails: &Rails, date: NaiveDate, now: DateTime<Utc>) -> Result<BusinessDay, String> {
    let timezone = rails.config.business.timezone;
    let day = BusinessDay::of(date, timezone);
    let last = BusinessDay::last_before(now, timezone).date;
    if day.end <= now {
        return Ok(day);
    }
    Err(format!("{date} is not over yet in {timezone}; allowed: days up to {last}"))
}

/// The days from one date to another, both included.
///
/// # Errors
/// A line that says what is wrong with the range.
pub fn days_that_are_over(
    rails: &Rails,
    (from, to): (NaiveDate, NaiveDate),
    now: DateTime<Utc>,
) -> Result<Vec<BusinessDay>, String> {
    const MOST: usize = 10_000;
    if from > to {
        return Err(format!("{from} comes after {to}; allowed: the same day or an earlier one"));
    }
    if from.checked_add_days(Days::new(MOST as u64)).is_none_or(|end| end <= to) {
        return Err(format!("{from} to {to} are too many days; allowed: {MOST} at once"));
    }
    day_that_is_over(rails, to, now)?;
    let timezone = rails.config.business.timezone;
    Ok(from.iter_days().take_while(|date| *date <= to).map(|date| BusinessDay::of(date, timezone)).collect())
}

/// Executes a job's run for a day. Where it is in other hands it waits for what they make of it.
///
/// # Errors
/// When the database is away or refuses.
pub async fn run_day(
    rails: &Rails,
    job: &str,
    day: BusinessDay,
    (cause, wish): (Cause, Wish),
    stop: &CancellationToken,
) -> Result<Came, sqlx::Error> {
    /// How often the other hands are looked at.
    const LOOK: Duration = Duration::from_millis(250);
    let mut wish = wish;
    loop {
        let force = if wish == Wish::Anew { Force::Succeeded } else { Force::Failed };
        let takeover = rails.config.jobs.takeover;
        match jobs::claim_day(&rails.pool, job, day, &rails.process, (cause, force), takeover).await? {
            Claim::Held(run) => {
                if wish != Wish::Rest {
                    jobs::forget_tasks(&rails.pool, run.run_id, run.claim).await?;
                }
                match execute(rails, &run, stop).await? {
                    Ended::Finished(run) => return Ok(Came::Ran(*run)),
                    Ended::Stopped => {
                        // Nobody may be there to go on with it.
                        jobs::finish(&rails.pool, run.run_id, run.claim, Some("interrupted")).await?;
                        return Ok(Came::Interrupted);
                    }
                    Ended::Lost => wish = Wish::Rest,
                }
            }
            Claim::Refused(run) if run.state == RunState::Succeeded => return Ok(Came::Already(run)),
            Claim::Refused(run) => {
                tracing::info!(
                    run_id = run.run_id,
                    worker = run.worker,
                    "the run is in other hands: waiting for it"
                );
                // What they are at is what was wished for.
                wish = Wish::Rest;
                if !ends_elsewhere(rails, run.run_id, LOOK, stop).await? {
                    return Ok(Came::Interrupted);
                }
            }
        }
    }
}

/// Waits until nobody has the run, or its holder is silent; false: it was to stop.
async fn ends_elsewhere(
    rails: &Rails,
    run_id: i64,
    look: Duration,
    stop: &CancellationToken,
) -> Result<bool, sqlx::Error> {
    loop {
        tokio::select! {
            () = tokio::time::sleep(look) => {}
            () = stop.cancelled() => return Ok(false),
        }
        let Some(run) = jobs::run(&rails.pool, run_id).await? else { return Ok(true) };
        let silent = stocktide_runtime::clock::now() - run.heartbeat_at.unwrap_or(run.created_at);
        let is_silent = silent.to_std().is_ok_and(|silent| silent > rails.config.jobs.takeover);
        if run.state != RunState::Running || is_silent {
            return Ok(true);
        }
    }
}
