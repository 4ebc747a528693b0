//! One report for each day, and its files.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use chrono::NaiveDate;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use stocktide_domain::interval::BusinessDay;
use stocktide_store::jobs;
use tokio::process::Command;

use crate::nemesis::look_after;
use crate::service::Service;
use crate::workload::REPORTS;
use crate::world::World;

/// What was found.
#[derive(Debug, Default)]
pub struct Reports {
    /// How many reports there are, all revisions.
    pub revisions: i64,
    /// What is not as it should be.
    pub problems: Vec<String>,
}

#[derive(Deserialize)]
struct Manifest {
    revision: i32,
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

/// How often reports are asked for, and how many at a time: so that there is always a run in hand, and the machine has time for more.
const ASK_EVERY: Duration = Duration::from_millis(500);
const ASK_FOR: i64 = 2;
/// How long a fault of a job worker waits for the worker to have a run in hand.
const AT_WORK: Duration = Duration::from_secs(2);

/// Lets the days whose reports are the oldest wait for a worker again, over and over, until it is dropped. What failed for good is left
/// as it is.
pub async fn ask_for_more(world: &World) {
    let sql =
        "SELECT data_date FROM job_runs WHERE job = $1 AND state = 'succeeded' ORDER BY finished_at LIMIT $2";
    let ask = async || {
        let dates: Vec<NaiveDate> =
            sqlx::query_scalar(sql).bind(REPORTS).bind(ASK_FOR).fetch_all(&world.database).await?;
        let day = |date| BusinessDay::of(date, world.config.business.timezone);
        let days: Vec<_> = dates.into_iter().map(day).collect();
        jobs::requeue(&world.database, REPORTS, &days).await
    };
    loop {
        // The database may be away; it is asked again.
        let _ = ask().await;
        tokio::time::sleep(ASK_EVERY).await;
    }
}

/// Waits for a moment until a job worker has a run in hand; whether it has.
pub async fn at_work(world: &World, worker: &Service) -> bool {
    let Some(pid) = worker.pid().await else { return false };
    let sql = "SELECT EXISTS (SELECT FROM job_runs WHERE state = 'running' AND worker LIKE $1)";
    let has_one = async {
        loop {
            let asked = sqlx::query_scalar(sql).bind(format!("{pid}-%")).fetch_one(&world.database).await;
            if matches!(asked, Ok(true)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(AT_WORK, has_one).await.is_ok()
}

/// Waits until the job workers have nothing to do, and looks at what they have left; has every day's report made once more, and looks
/// at them again, at their figures, too.
///
/// # Errors
/// The database or the reports' directory cannot be read.
pub async fn check(world: &World, bound: Duration) -> anyhow::Result<Reports> {
    let mut found = Reports::default();
    if let Err(left) = settle(world, bound).await {
        found.problems.push(format!("jobs: {left}"));
        return Ok(found);
    }
    look(world, None, &mut found).await?;
    if let Err(error) = make_again(world).await {
        found.problems.push(format!("jobs: {error:#}"));
        return Ok(found);
    }
    // What was wrong before is told once.
    if found.problems.is_empty() {
        look(world, Some(sums(world).await?), &mut found).await?;
    }
    Ok(found)
}

/// Revisions without gaps, files that are of the newest, and, where they are given, each day's total.
async fn look(
    world: &World,
    sums: Option<BTreeMap<NaiveDate, String>>,
    found: &mut Reports,
) -> anyhow::Result<()> {
    found.revisions = 0;
    let sql = "SELECT report_date, count(*)::int, max(revision), min(revision), sum(total_sales) FILTER (WHERE latest)::text
        FROM (SELECT *, revision = max(revision) OVER (PARTITION BY report_date) AS latest FROM reports) r
        GROUP BY report_date ORDER BY report_date";
    let rows: Vec<(NaiveDate, i32, i32, i32, String)> =
        sqlx::query_as(sql).fetch_all(&world.database).await?;
    let mut sums = sums.unwrap_or_default();
    for (date, rows, newest, oldest, total) in rows {
        found.revisions += i64::from(rows);
        if oldest != 1 || newest != rows {
            found.problems.push(format!("reports: {date} has {rows} revisions from {oldest} to {newest}"));
        }
        if let Some((day, sum)) = sums.remove_entry(&date).filter(|(_, sum)| *sum != total) {
            found.problems.push(format!("reports: {day} says {total}, the day's lines add up to {sum}"));
        }
        let directory = world.reports.join(format!("daily_report/date={date}"));
        if let Err(error) = check_files(&directory, newest) {
            found.problems.push(format!("reports: {date}: {error:#}"));
        }
    }
    found.problems.extend(sums.into_keys().map(|date| format!("reports: {date} has none")));
    Ok(())
}

async fn settle(world: &World, bound: Duration) -> Result<(), String> {
    let deadline = Instant::now() + bound;
    let sql = "SELECT state, count(*) FROM job_runs WHERE state <> 'succeeded' GROUP BY state ORDER BY state";
    loop {
        let left: Result<Vec<(String, i64)>, _> = sqlx::query_as(sql).fetch_all(&world.database).await;
        match left {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) if Instant::now() >= deadline => {
                return Err(format!("runs that are not done: {left:?}"));
            }
            Err(error) if Instant::now() >= deadline => return Err(error.to_string()),
            _ => {}
        }
        look_after(world).await.map_err(|error| format!("{error:#}"))?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Has all days with lines made once more, so that the last revisions are of what the ledger holds now.
async fn make_again(world: &World) -> anyhow::Result<()> {
    let sql = "SELECT min(\"timestamp\" AT TIME ZONE 'UTC')::date::text, max(\"timestamp\" AT TIME ZONE 'UTC')::date::text FROM orders";
    let (from, to): (Option<String>, Option<String>) = sqlx::query_as(sql).fetch_one(&world.database).await?;
    let (from, to) = from.zip(to).context("no sale at all")?;
    let mut command = Command::new(&world.program);
    command.args(["jobs", "backfill", REPORTS, "--force", "--from", &from, "--to", &to]);
    command.env("STOCKTIDE_JOBS_FILE", &world.schedule).env("STOCKTIDE_LOG_FILTER", "error");
    command.env("STOCKTIDE_REPORTS_URL", format!("file://{}", world.reports.display()));
    command.env("STOCKTIDE_DATABASE_URL", world.config.database_url()?);
    let output = command.kill_on_drop(true).output().await?;
    ensure!(output.status.success(), "backfill: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

/// Gross sales of each day, from the lines.
async fn sums(world: &World) -> anyhow::Result<BTreeMap<NaiveDate, String>> {
    let sql =
        "SELECT (\"timestamp\" AT TIME ZONE 'UTC')::date, sum(quantity * unit_price)::numeric(24, 4)::text
        FROM orders WHERE kind = 'sale' GROUP BY 1";
    let rows: Vec<(NaiveDate, String)> = sqlx::query_as(sql).fetch_all(&world.database).await?;
    Ok(rows.into_iter().collect())
}

/// The manifest is of the newest revision, every file is as it says, and there is no other.
fn check_files(directory: &Path, newest: i32) -> anyhow::Result<()> {
    let manifest = std::fs::read(directory.join("manifest.json")).context("no manifest")?;
    let manifest: Manifest = serde_json::from_slice(&manifest)?;
    ensure!(manifest.revision == newest, "the files are of revision {}, not {newest}", manifest.revision);
    for entry in &manifest.files {
        let bytes = std::fs::read(directory.join(&entry.name)).with_context(|| entry.name.clone())?;
        let digest: Vec<String> = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = digest.concat();
        ensure!(
            (bytes.len() as u64, &digest) == (entry.bytes, &entry.sha256),
            "{} is not what the manifest says",
            entry.name
        );
    }
    let found = std::fs::read_dir(directory)?.count();
    ensure!(found == manifest.files.len() + 1, "{found} files, the manifest names {}", manifest.files.len());
    Ok(())
}
