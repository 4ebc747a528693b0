//! Looking at jobs and their runs.

use std::process::ExitCode;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use stocktide_jobs::Rails;
use stocktide_jobs::serve::{self, Outlook};
use stocktide_runtime::clock;
use stocktide_store::jobs::{self, Filter, Run, RunState, Waiting};

use super::{Json, RunsArgs, ShowArgs};
use crate::cli::say;
use crate::cli::table::table;

/// Longest text of an error in a table, in characters.
const ERROR_CHARS: usize = 100;

/// `jobs list`.
pub async fn list(args: &Json, rails: &Rails) -> anyhow::Result<ExitCode> {
    let latest = jobs::latest(&rails.pool).await?;
    let (waiting, positions) = (jobs::waiting(&rails.pool).await?, jobs::positions(&rails.pool).await?);
    let now = clock::now();
    let mut rows = Vec::new();
    for entry in rails.schedule.entries() {
        let position = positions.iter().find(|(job, _)| *job == entry.name).map(|(_, next)| *next);
        let waits = waiting.iter().find(|waits| waits.job == entry.name);
        let Outlook { due, next } = serve::outlook(rails, entry, position, waits, now);
        let last = latest.iter().find(|run| run.job == entry.name);
        let timezone = entry.timetable.timezone();
        if args.json {
            say(json!({
                "name": entry.name, "builds": entry.builds, "description": entry.description, "cron": entry.cron,
                "timezone": timezone.name(), "catch_up": entry.catch_up, "start": entry.start,
                "retries": entry.retries, "timeout_seconds": entry.timeout.as_secs(), "due": due,
                "next_run": next.map(|(_, at)| at), "next_date": next.map(|(day, _)| day.date), "last_run": last,
            }))?;
            continue;
        }
        rows.push(vec![
            entry.name.clone(),
            entry.cron.clone(),
            timezone.name().to_owned(),
            due.to_string(),
            next.map_or_else(none, |(day, _)| day.date.to_string()),
            next.map_or_else(none, |(_, at)| {
                at.with_timezone(&timezone).format("%Y-%m-%d %H:%M").to_string()
            }),
            last.map_or_else(none, |run| run.data_date.to_string()),
            last.map_or_else(none, |run| run.state.name().to_owned()),
            entry.description.clone(),
        ]);
    }
    if !args.json {
        say(table(&LIST, &rows))?;
    }
    // They wait for a `jobs run` that follows another schedule.
    for Waiting { job, runs, first } in waiting.iter().filter(|w| rails.schedule.get(&w.job).is_none()) {
        if args.json {
            say(json!({ "name": job, "unknown": true, "due": runs, "next_date": first }))?;
        } else {
            say(format!(
                "left to others: {runs} runs of {job:?}, which is not in the schedule followed here"
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The columns of `jobs list`. `due` are the runs that wait, or will be made at the next look; the next date is the first of
/// these, else the next to come.
const LIST: [&str; 9] =
    ["job", "cron", "timezone", "due", "next date", "due at", "last date", "state", "what it does"];

/// `jobs runs`.
pub async fn runs(args: &RunsArgs, rails: &Rails) -> anyhow::Result<ExitCode> {
    if let Some(job) = &args.job {
        super::known(rails, job)?;
    }
    let state = RunState::ALL.into_iter().find(|state| args.state.as_deref() == Some(state.name()));
    let filter = Filter { job: args.job.clone(), state, limit: i64::from(args.limit) };
    let runs = jobs::runs(&rails.pool, &filter).await?;
    if args.json.json {
        for run in &runs {
            say(in_json(run))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    say(table(&HEADER, &runs.iter().map(row).collect::<Vec<_>>()))?;
    Ok(ExitCode::SUCCESS)
}

/// The columns of [`row`].
pub const HEADER: [&str; 9] =
    ["run", "job", "date", "state", "taken", "seconds", "rows", "finished", "error"];

/// A run as a row of a table.
pub fn row(run: &Run) -> Vec<String> {
    vec![
        run.run_id.to_string(),
        run.job.clone(),
        run.data_date.to_string(),
        run.state.name().to_owned(),
        run.claim.to_string(),
        seconds(run).map_or_else(none, |seconds| format!("{seconds:.2}")),
        run.rows.map_or_else(none, |rows| rows.to_string()),
        run.finished_at.map_or_else(none, at),
        run.error.as_deref().map(shortened).unwrap_or_default(),
    ]
}

/// A run as JSON, with its duration.
pub fn in_json(run: &Run) -> Value {
    let mut value = json!(run);
    value["seconds"] = json!(seconds(run));
    value
}

/// `jobs show`.
pub async fn one(args: &ShowArgs, rails: &Rails) -> anyhow::Result<ExitCode> {
    let run = jobs::run(&rails.pool, args.run).await?;
    let run = run.with_context(|| {
        format!("there is no run {}; `stocktide jobs runs` shows which there are", args.run)
    })?;
    details(rails, &run, args.json.json).await?;
    Ok(ExitCode::SUCCESS)
}

/// A run and its tasks.
pub async fn details(rails: &Rails, run: &Run, as_json: bool) -> anyhow::Result<()> {
    let tasks = jobs::tasks(&rails.pool, run.run_id).await?;
    if as_json {
        let mut value = in_json(run);
        value["tasks"] = json!(tasks);
        return Ok(say(value)?);
    }
    say(format!("run {} of {} for {} ({})", run.run_id, run.job, run.data_date, run.timezone))?;
    say(format!("interval   {} to {}", at(run.interval_start), at(run.interval_end)))?;
    let took = seconds(run).map(|seconds| format!(" after {seconds:.2} seconds")).unwrap_or_default();
    say(format!("state      {}{took}", run.state.name()))?;
    if let Some(worker) = &run.worker {
        say(format!("worker     {worker}, taken {} time(s)", run.claim))?;
    }
    if let Some(error) = &run.error {
        say(format!("error      {error}"))?;
    }
    let rows: Vec<Vec<String>> = tasks
        .iter()
        .map(|task| {
            let took = task.finished_at.map(|end| (end - task.started_at).as_seconds_f64());
            vec![
                task.task.clone(),
                task.state.name().to_owned(),
                task.attempts.to_string(),
                took.map_or_else(none, |seconds| format!("{seconds:.2}")),
                task.rows.map_or_else(none, |rows| rows.to_string()),
                task.error.as_deref().map(shortened).unwrap_or_default(),
            ]
        })
        .collect();
    say("")?;
    say(table(&["task", "state", "attempts", "seconds", "rows", "error"], &rows))?;
    Ok(())
}

fn seconds(run: &Run) -> Option<f64> {
    run.duration().map(|duration| duration.as_secs_f64())
}

fn at(instant: DateTime<Utc>) -> String {
    instant.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn none() -> String {
    "-".to_owned()
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= ERROR_CHARS {
        return text.to_owned();
    }
    text.chars().take(ERROR_CHARS - 1).chain(['…']).collect()
}
