//! `revise`: reports whose day got more lines in the ledger are made again.

use std::collections::BTreeSet;

use anyhow::Context as _;
use chrono::{Days, NaiveDate};
use serde::Serialize;
use stocktide_domain::interval::BusinessDay;
use stocktide_store::{jobs, reports};

use super::DAILY_REPORT;
use crate::job::{TaskContext, TaskError, TaskOutput};
use crate::schedule::Schedule;

/// The reports that compare themselves with a day: those of so many days later.
const COMPARED: [u64; 2] = [1, 7];

/// What was found and done.
#[derive(Debug, Serialize)]
struct Revised {
    /// The first of the days that were looked at; the run's own day is the last.
    from: NaiveDate,
    /// Days whose report was made before some of their lines came in.
    stale: Vec<NaiveDate>,
    /// Days that compare themselves with those.
    compared: Vec<NaiveDate>,
    /// The runs that wait for a worker now.
    queued: Vec<i64>,
}

/// Its one task. A run that is waiting or being executed is left alone: if it has not seen the lines, the next look finds it.
pub async fn reports(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let (last, timezone) = (context.day.date, context.day.timezone);
    let back = u64::from(context.config.reports.revise_days.max(1)) - 1;
    let from = last.checked_sub_days(Days::new(back)).unwrap_or(last);
    let days: Vec<BusinessDay> = from
        .iter_days()
        .take_while(|date| *date <= last)
        .map(|date| BusinessDay::of(date, timezone))
        .collect();
    let reported = reports::out_of_date(&context.pool, &days).await?;
    let stale: BTreeSet<NaiveDate> =
        reported.iter().filter_map(|(date, is_stale)| is_stale.then_some(*date)).collect();
    let later = |date: &NaiveDate| COMPARED.map(|days| date.checked_add_days(Days::new(days)));
    let later: BTreeSet<NaiveDate> = stale.iter().flat_map(later).flatten().collect();
    let has_report = |date: &&NaiveDate| reported.iter().any(|(reported, _)| reported == *date);
    let compared: Vec<NaiveDate> = later.difference(&stale).filter(has_report).copied().collect();
    let again: Vec<BusinessDay> =
        days.into_iter().filter(|day| stale.contains(&day.date) || compared.contains(&day.date)).collect();
    context.metrics.stale_days.set(stale.len() as i64);
    let queued = jobs::requeue(&context.pool, &job(context)?, &again).await?;
    let revised = Revised { from, stale: stale.into_iter().collect(), compared, queued };
    TaskOutput::new(Some(revised.stale.len() as u64), &revised)
}

/// The name under which daily reports are scheduled.
fn job(context: &TaskContext) -> Result<String, TaskError> {
    let (file, business) = (context.config.jobs.file.as_deref(), context.config.business.timezone);
    let known = super::registry().map_err(TaskError::for_good)?.names();
    let schedule = Schedule::load(file, business, &known).map_err(TaskError::for_good)?;
    let entry = schedule.entries().iter().find(|entry| entry.builds == DAILY_REPORT);
    let name = entry.map(|entry| entry.name.clone());
    name.context("no job of the schedule builds daily_report").map_err(TaskError::for_good)
}
