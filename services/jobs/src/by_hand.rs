//! Runs that a person asks for, executed in the foreground; no scheduler and no worker need to run beside.

use std::time::Duration;

use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs::{self, Cause, Claim, Force, Run, RunState, Task};
use tokio_util::sync::CancellationToken;

use crate::execute::{Ended, execute};
use crate::rails::Rails;
use crate::schedule::first_day;
use crate::timetable::existed;

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
    /// It was to stop: the run is what it was before, or waits for whoever goes on with it.
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

/// The day of a date, if it was one and is over.
///
/// # Errors
/// A line that says which are allowed.
pub fn day_that_is_over(rails: &Rails, date: NaiveDate, now: DateTime<Utc>) -> Result<BusinessDay, String> {
    let timezone = rails.config.business.timezone;
    let last = BusinessDay::last_before(now, timezone).date;
    if date < first_day() {
        return Err(format!("{date} is too early; allowed: days from {} to {last}", first_day()));
    }
    // Far beyond it there are no instants any more.
    if date > last {
        return Err(format!("{date} is not over yet in {timezone}; allowed: days up to {last}"));
    }
    let day = BusinessDay::of(date, timezone);
    if !existed(day) {
        return Err(format!("{}; allowed: the days before and after it", left_out(date, timezone)));
    }
    Ok(day)
}

/// That there was no such day.
pub fn left_out(date: NaiveDate, timezone: Tz) -> String {
    format!("{date} did not exist in {timezone}, where a clock was put forward over it")
}

/// The days from one date to another, both included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    /// Those that there were.
    pub days: Vec<BusinessDay>,
    /// Dates that a clock was put forward over.
    pub left_out: Vec<NaiveDate>,
}

/// The days from one date to another, both included.
///
/// # Errors
/// A line that says what is wrong with the range.
pub fn days_that_are_over(
    rails: &Rails,
    (from, to): (NaiveDate, NaiveDate),
    now: DateTime<Utc>,
) -> Result<Range, String> {
    const MOST: usize = 10_000;
    if from > to {
        return Err(format!("{from} comes after {to}; allowed: the same day or an earlier one"));
    }
    let timezone = rails.config.business.timezone;
    let last = BusinessDay::last_before(now, timezone).date;
    if from < first_day() {
        return Err(format!("{from} is too early; allowed: days from {} to {last}", first_day()));
    }
    if from.checked_add_days(Days::new(MOST as u64)).is_none_or(|end| end <= to) {
        return Err(format!("{from} to {to} are too many days; allowed: {MOST} at once"));
    }
    if to > last {
        return Err(format!("{to} is not over yet in {timezone}; allowed: days up to {last}"));
    }
    let dates = from.iter_days().take_while(|date| *date <= to);
    let (days, missing): (Vec<_>, Vec<_>) =
        dates.map(|date| BusinessDay::of(date, timezone)).partition(|day| existed(*day));
    Ok(Range { days, left_out: missing.into_iter().map(|day| day.date).collect() })
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
        let before = Before::of(rails, job, day).await?;
        match jobs::claim_day(&rails.pool, job, day, &rails.process, (cause, force), takeover).await? {
            Claim::Held(run) => {
                if wish != Wish::Rest {
                    jobs::forget_tasks(&rails.pool, run.run_id, run.claim).await?;
                }
                match execute(rails, &run, stop).await? {
                    Ended::Finished(run) => return Ok(Came::Ran(*run)),
                    Ended::Stopped => {
                        give_back(rails, &run, before).await?;
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

/// What a run was before it was taken.
struct Before {
    run: Run,
    tasks: Vec<Task>,
}

impl Before {
    /// None: there is nothing that an interruption could spoil.
    async fn of(rails: &Rails, job: &str, day: BusinessDay) -> Result<Option<Before>, sqlx::Error> {
        let run = jobs::run_of_day(&rails.pool, job, day).await?;
        let ended = |run: &Run| matches!(run.state, RunState::Succeeded | RunState::Failed);
        let Some(run) = run.filter(ended) else { return Ok(None) };
        let tasks = jobs::tasks(&rails.pool, run.run_id).await?;
        Ok(Some(Before { run, tasks }))
    }
}

/// Gives an interrupted run back: as it was, if it had ended before; else it waits for whoever goes on with it, as does one
/// that had succeeded and of which something was done again already.
async fn give_back(rails: &Rails, run: &Run, before: Option<Before>) -> Result<(), sqlx::Error> {
    let (pool, run_id) = (&rails.pool, run.run_id);
    // Somebody else may have had it in between.
    let before = before.filter(|before| before.run.run_id == run_id && before.run.claim + 1 == run.claim);
    let Some(Before { run: was, tasks }) = before else {
        jobs::release(pool, run_id, run.claim).await?;
        return Ok(());
    };
    if was.state != RunState::Succeeded {
        // What was got done shortens the retry.
        jobs::restore(pool, run.claim, &was, None).await?;
        return Ok(());
    }
    let job = rails.schedule.get(&run.job).and_then(|entry| rails.registry.get(&entry.builds));
    let begun = jobs::tasks(pool, run_id).await?;
    if job.is_some_and(|job| begun.iter().all(|task| job.only_reads(&task.task))) {
        jobs::restore(pool, run.claim, &was, Some(&tasks)).await?;
    } else {
        jobs::release(pool, run_id, run.claim).await?;
    }
    Ok(())
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
