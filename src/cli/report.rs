//! `stocktide report`: the daily report in the terminal, and its files.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::NaiveDate;
use clap::Subcommand;
use serde_json::json;
use stocktide_domain::interval::BusinessDay;
use stocktide_reports::render::{Document, REPORT};
use stocktide_reports::{Storage, StorageError, StorageOptions};
use stocktide_runtime::{Config, clock};
use stocktide_store::reports;

use super::table::table;
use super::{Usage, connect, say};

mod words;

/// How long is waited for remarks that may not be there.
const PATIENCE: Duration = Duration::from_secs(5);

/// Show a daily report, or fetch its files.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide report show                   the last report
  stocktide report show 2011-03-27 --json | jq .sales.total
  stocktide report fetch 2011-03-27 --to reports-of-march

Reports are made by stocktide jobs.")]
pub struct ReportArgs {
    #[command(subcommand)]
    command: ReportCommand,
}

#[derive(Debug, Subcommand)]
enum ReportCommand {
    Show(ShowArgs),
    Fetch(FetchArgs),
}

/// Print a report.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide report show 2011-03-27")]
struct ShowArgs {
    /// The business day, such as 2011-03-27; the last one that has a report if it is left out.
    #[arg(value_parser = date)]
    date: Option<NaiveDate>,
    /// An earlier revision instead of the last one.
    #[arg(long, value_name = "N", requires = "date", value_parser = clap::value_parser!(u32).range(1..))]
    revision: Option<u32>,
    /// report.json on one line.
    #[arg(long)]
    json: bool,
}

/// Fetch a report's files from where reports.url keeps them, each checked against the manifest.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide report fetch 2011-03-27 --to reports-of-march")]
struct FetchArgs {
    /// The business day, such as 2011-03-27.
    #[arg(value_parser = date)]
    date: NaiveDate,
    /// The directory to put them in, as daily_report/date=DATE/ within it.
    #[arg(long, value_name = "DIR", default_value = ".")]
    to: PathBuf,
    /// One JSON object on one line: the date, the revision, the directory and the files.
    #[arg(long)]
    json: bool,
}

fn date(text: &str) -> Result<NaiveDate, String> {
    text.parse().map_err(|_| "allowed: a date like 2011-03-27".to_owned())
}

/// Runs it.
///
/// # Errors
/// When the date is not over yet, there is no such report, or the database or the files cannot be reached.
pub async fn run(args: ReportArgs, config: &Config) -> anyhow::Result<ExitCode> {
    match args.command {
        ReportCommand::Show(args) => show(args, config).await,
        ReportCommand::Fetch(args) => fetch(args, config).await,
    }
}

async fn show(args: ShowArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if let Some(date) = args.date {
        check_over(date, config)?;
    }
    let pool = connect(config).await?;
    let last = match args.date {
        Some(date) => Some(date),
        None => reports::last_date(&pool).await.context("the reports")?,
    };
    let Some(date) = last else {
        bail!("there is no report yet; stocktide jobs trigger {REPORT} --date DATE makes one");
    };
    let report = match args.revision {
        Some(revision) => reports::revision(&pool, date, revision).await?,
        None => reports::latest(&pool, date).await?,
    };
    let Some(report) = report else {
        match args.revision {
            Some(revision) => bail!("there is no revision {revision} of the report of {date}"),
            None => {
                bail!("there is no report of {date}; stocktide jobs trigger {REPORT} --date {date} makes it")
            }
        }
    };
    if args.json {
        let document =
            Document { report: REPORT.to_owned(), revision: report.revision, figures: report.figures };
        say(serde_json::to_string(&document)?)?;
    } else {
        let is_last =
            reports::latest(&pool, date).await?.is_some_and(|last| last.revision == report.revision);
        // They are on the last revision only.
        let remarks = if is_last { remarks(date, config).await } else { None };
        say(words::in_words(&report, remarks.as_deref()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A language model's remarks on a report, if there are any, with the label that says whose they are. The report stands in
/// the database: that the files are out of reach keeps nobody from reading it.
async fn remarks(date: NaiveDate, config: &Config) -> Option<String> {
    let options = StorageOptions { retries: 0, deadline: PATIENCE, ..StorageOptions::of_process() };
    let found = match Storage::open(&config.reports.url, &options) {
        Ok(storage) => storage.narrative(date).await,
        Err(error) => Err(error),
    };
    found.unwrap_or_else(|error| {
        tracing::warn!("whether there are remarks of a language model cannot be seen: {error}");
        None
    })
}

async fn fetch(args: FetchArgs, config: &Config) -> anyhow::Result<ExitCode> {
    check_over(args.date, config)?;
    let options = StorageOptions::of_process();
    let storage = Storage::open(&config.reports.url, &options).map_err(usage)?;
    let Some((manifest, files)) = storage.report(args.date).await? else {
        bail!("there is no report at {}", storage.report_place(args.date));
    };
    let target = Storage::in_directory(&args.to, &options).map_err(usage)?;
    target.put_report(args.date, &files).await?;
    let directory = args.to.join(stocktide_reports::storage::directory_of(args.date));
    if args.json {
        let answer = json!({
            "date": args.date,
            "revision": manifest.revision,
            "directory": directory,
            "files": manifest.files,
        });
        say(answer)?;
    } else {
        let rows = files.iter().map(|file| {
            let rows = file.rows.map_or_else(|| "-".to_owned(), |rows| rows.to_string());
            vec![file.name.to_owned(), file.bytes.len().to_string(), rows, file.sha256()]
        });
        say(table(&["file", "bytes", "rows", "sha256"], &rows.collect::<Vec<_>>()))?;
        say(format!("\nRevision {}, in {}", manifest.revision, directory.display()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses a day that is not over: there cannot be a report of it.
fn check_over(date: NaiveDate, config: &Config) -> Result<(), Usage> {
    let timezone = config.business.timezone;
    let last = BusinessDay::last_before(clock::now(), timezone).date;
    if date <= last {
        return Ok(());
    }
    Err(Usage(format!("{date} is not over yet in {timezone}; allowed: dates up to {last}")))
}

/// A URL or setting that cannot be used is the caller's to mend.
fn usage(error: StorageError) -> anyhow::Error {
    match error {
        StorageError::Url { .. } | StorageError::Settings { .. } => Usage(error.to_string()).into(),
        other => other.into(),
    }
}
