//! Executing runs in the foreground.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::NaiveDate;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use stocktide_domain::interval::BusinessDay;
use stocktide_jobs::Rails;
use stocktide_jobs::by_hand::{self, Came, Wish};
use stocktide_runtime::{clock, shutdown};
use stocktide_store::jobs::{self, Cause, Run, RunState};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{BackfillArgs, ShowArgs, TriggerArgs, known, show};
use crate::cli::table::table;
use crate::cli::{Usage, say};

/// `jobs trigger`.
pub async fn trigger(args: TriggerArgs, rails: Arc<Rails>) -> anyhow::Result<ExitCode> {
    known(&rails, &args.name)?;
    let day = by_hand::day_that_is_over(&rails, args.date, clock::now()).map_err(Usage)?;
    let asked = (Cause::Trigger, Wish::Anew);
    let came = by_hand::run_day(&rails, &args.name, day, asked, &shutdown::on_signal()).await?;
    told(&rails, &came, args.json.json).await
}

/// `jobs retry`.
pub async fn retry(args: ShowArgs, rails: Arc<Rails>) -> anyhow::Result<ExitCode> {
    let run = jobs::run(&rails.pool, args.run).await?;
    let run = run.with_context(|| {
        format!("there is no run {}; `stocktide jobs runs` shows which there are", args.run)
    })?;
    known(&rails, &run.job)?;
    let day =
        run.day().with_context(|| format!("run {}: timezone {:?} is not known", run.run_id, run.timezone))?;
    let asked = (run.cause, Wish::Rest);
    let came = by_hand::run_day(&rails, &run.job, day, asked, &shutdown::on_signal()).await?;
    told(&rails, &came, args.json.json).await
}

/// The run that was asked for, and whether it succeeded.
async fn told(rails: &Rails, came: &Came, as_json: bool) -> anyhow::Result<ExitCode> {
    match came {
        Came::Ran(run) => show::details(rails, run, as_json).await?,
        Came::Already(run) => {
            if !as_json {
                say(format!("run {} has succeeded already: nothing was done", run.run_id))?;
            }
            show::details(rails, run, as_json).await?;
        }
        Came::Interrupted => anyhow::bail!(
            "interrupted: what was begun is as it was before, or waits for `jobs run` or `jobs retry`"
        ),
    }
    Ok(if came.succeeded() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `jobs backfill`.
pub async fn backfill(args: BackfillArgs, rails: Arc<Rails>) -> anyhow::Result<ExitCode> {
    known(&rails, &args.name)?;
    let range = by_hand::days_that_are_over(&rails, (args.from, args.to), clock::now()).map_err(Usage)?;
    for date in range.left_out {
        eprintln!("left out: {}", by_hand::left_out(date, rails.config.business.timezone));
    }
    let days = range.days;
    if args.dry_run {
        return plan(&args, &rails, &days).await;
    }
    let bar = progress(days.len());
    let begun = std::time::Instant::now();
    let outcome = all(&args, &rails, days, &bar).await;
    bar.finish_and_clear();
    let summary = outcome?;
    let seconds = begun.elapsed().as_secs_f64();
    if args.json.json {
        say(json!({
            "job": args.name, "from": args.from, "to": args.to, "succeeded": summary.succeeded,
            "already": summary.already, "failed": summary.failed.len(), "left": summary.left, "seconds": seconds,
        }))?;
    } else {
        if !summary.failed.is_empty() {
            let rows: Vec<_> = summary.failed.values().map(show::row).collect();
            say(table(&show::HEADER, &rows))?;
        }
        let Summary { succeeded, already, failed, left } = &summary;
        let failed = failed.len();
        say(format!(
            "{}: {succeeded} succeeded, {already} had succeeded already, {failed} failed, {left} left, in {seconds:.1} seconds",
            args.name
        ))?;
    }
    let is_done = summary.failed.is_empty() && summary.left == 0;
    Ok(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What became of a backfill's days.
#[derive(Default)]
struct Summary {
    succeeded: usize,
    already: usize,
    failed: BTreeMap<NaiveDate, Run>,
    left: usize,
}

async fn all(
    args: &BackfillArgs,
    rails: &Arc<Rails>,
    days: Vec<BusinessDay>,
    bar: &ProgressBar,
) -> anyhow::Result<Summary> {
    let stop = shutdown::on_signal();
    let (mut waiting, mut in_hand) = (days.into_iter(), JoinSet::new());
    let mut summary = Summary::default();
    loop {
        while in_hand.len() < usize::from(args.parallel) && !stop.is_cancelled() {
            let Some(day) = waiting.next() else { break };
            bar.set_message(day.date.to_string());
            in_hand.spawn(one(Arc::clone(rails), args.name.clone(), day, args.force, stop.clone()));
        }
        let Some(joined) = in_hand.join_next().await else { break };
        match joined.context("a run broke off")?? {
            Came::Already(_) => summary.already += 1,
            Came::Ran(run) if run.state == RunState::Succeeded => summary.succeeded += 1,
            Came::Ran(run) => {
                summary.failed.insert(run.data_date, run);
            }
            Came::Interrupted => summary.left += 1,
        }
        bar.inc(1);
    }
    summary.left += waiting.count();
    Ok(summary)
}

async fn one(
    rails: Arc<Rails>,
    job: String,
    day: BusinessDay,
    force: bool,
    stop: CancellationToken,
) -> Result<Came, sqlx::Error> {
    let wish = if force { Wish::Anew } else { Wish::Unless };
    by_hand::run_day(&rails, &job, day, (Cause::Backfill, wish), &stop).await
}

/// What a backfill would do.
async fn plan(args: &BackfillArgs, rails: &Rails, days: &[BusinessDay]) -> anyhow::Result<ExitCode> {
    let runs = jobs::between(&rails.pool, &args.name, args.from, args.to).await?;
    let mut rows = Vec::new();
    for day in days {
        let run = runs.iter().find(|run| run.interval_start == day.start && run.interval_end == day.end);
        let state = run.map(|run| run.state);
        let would = match state {
            Some(RunState::Succeeded) if !args.force => "leave",
            Some(RunState::Running) => "wait",
            _ => "execute",
        };
        if args.json.json {
            say(
                json!({ "date": day.date, "run_id": run.map(|run| run.run_id), "state": state, "would": would }),
            )?;
        }
        rows.push(vec![day.date.to_string(), state.map_or("-", RunState::name).to_owned(), would.to_owned()]);
    }
    if !args.json.json {
        say(table(&["date", "state", "would"], &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn progress(days: usize) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(days as u64);
    style.map(|style| bar.clone().with_style(style)).unwrap_or(bar)
}
