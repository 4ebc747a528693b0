//! `daily_report`: a business day's figures as files, and a row in `reports`.
//!
//! Everything after `collect` follows from what it read in its one snapshot, so a run that is taken over or retried says the
//! same as it would have said at first, whatever has come in meanwhile.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use stocktide_domain::report::Figures;
use stocktide_reports::manifest::Entry;
use stocktide_reports::{File, RenderContext, Storage, StorageError, StorageOptions, figures_sha256, render};
use stocktide_store::report::{ReportOptions, collect};
use stocktide_store::reports::{self, NewReport, ReportsError};

use super::narrative;
use crate::job::{Job, Task, TaskContext, TaskError, TaskOutput};

/// The job.
pub struct DailyReport;

/// The version that stands in the manifest.
const CODE_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The tasks that answer for one file each.
const SHEETS: [&str; 4] = ["sales", "top_sellers", "low_stock", "data_quality"];

impl Job for DailyReport {
    fn tasks(&self) -> &[Task] {
        &[
            Task { name: "collect", after: &[] },
            Task { name: "sales", after: &["collect"] },
            Task { name: "top_sellers", after: &["collect"] },
            Task { name: "low_stock", after: &["collect"] },
            Task { name: "data_quality", after: &["collect"] },
            Task { name: "files", after: &SHEETS },
            Task { name: "upload", after: &["files"] },
            Task { name: "record", after: &["upload"] },
            Task { name: "narrative", after: &["record"] },
        ]
    }

    fn run_task<'a>(
        &'a self,
        context: &'a TaskContext,
        task: &'a str,
    ) -> BoxFuture<'a, Result<TaskOutput, TaskError>> {
        Box::pin(async move {
            match task {
                "collect" => figures(context).await,
                "files" => files(context).await,
                "upload" => upload(context).await,
                "record" => record(context).await,
                "narrative" => narrative::task(context).await,
                section => sheet(context, section),
            }
        })
    }
}

/// Reads all figures in one snapshot.
async fn figures(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let wanted = &context.config.reports;
    let options = ReportOptions { top_n: wanted.top_n, cover_days: wanted.cover_days };
    let figures = collect(&context.pool, context.day, &options).await?;
    TaskOutput::new(None, &figures)
}

/// One section as its file will be.
fn sheet(context: &TaskContext, section: &str) -> Result<TaskOutput, TaskError> {
    let figures: Figures = context.output("collect")?;
    let first = RenderContext { revision: 1, code_version: CODE_VERSION.to_owned(), previous: None };
    let files = render(&figures, &first).map_err(TaskError::for_good)?;
    let file = files.iter().find(|file| file.name.strip_suffix(".csv") == Some(section));
    let file =
        file.ok_or_else(|| TaskError::for_good(anyhow::anyhow!("a report has no file {section}.csv")))?;
    TaskOutput::new(file.rows, &Entry::of(file))
}

/// What `files` hands on.
#[derive(Debug, Serialize, Deserialize)]
struct Planned {
    revision: u32,
    figures_sha256: String,
    files: Vec<Entry>,
}

/// Says which revision the figures are, and what the files will be; the sections' must be those that were answered for.
async fn files(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let figures: Figures = context.output("collect")?;
    let digest = figures_sha256(&figures).map_err(TaskError::for_good)?;
    let plan = reports::plan(&context.pool, context.day.date, &digest).await.map_err(of_table)?;
    let rendered = rendered(&figures, plan.revision, plan.previous)?;
    let entries: Vec<Entry> = rendered.iter().map(Entry::of).collect();
    for section in SHEETS {
        let answered: Entry = context.output(section)?;
        if !entries.contains(&answered) {
            let error = anyhow::anyhow!("{} is not what task {section} made", answered.name);
            return Err(TaskError::for_good(error));
        }
    }
    TaskOutput::new(None, &Planned { revision: plan.revision, figures_sha256: digest, files: entries })
}

fn rendered(figures: &Figures, revision: u32, previous: Option<Figures>) -> Result<Vec<File>, TaskError> {
    let context = RenderContext { revision, code_version: CODE_VERSION.to_owned(), previous };
    render(figures, &context).map_err(TaskError::for_good)
}

/// What `upload` hands on.
#[derive(Debug, Serialize, Deserialize)]
struct Uploaded {
    place: String,
    /// Names of the files that were written; none: the same report was there already.
    written: Vec<String>,
}

/// Puts the files where they belong, the manifest last.
async fn upload(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let (figures, planned): (Figures, Planned) = (context.output("collect")?, context.output("files")?);
    let date = context.day.date;
    let previous = match planned.revision {
        0 | 1 => None,
        later => reports::revision(&context.pool, date, later - 1).await.map_err(of_table)?,
    };
    let files = rendered(&figures, planned.revision, previous.map(|report| report.figures))?;
    if files.iter().map(Entry::of).ne(planned.files) {
        let error = anyhow::anyhow!("the files are not those of task files any more; trigger the day again");
        return Err(TaskError::for_good(error));
    }
    let storage =
        Storage::open(&context.config.reports.url, &StorageOptions::of_process()).map_err(of_store)?;
    let put = storage.put_report(date, &files).await.map_err(of_store)?;
    let written = put.written.iter().map(|name| (*name).to_owned()).collect();
    TaskOutput::new(None, &Uploaded { place: storage.report_place(date), written })
}

/// Keeps the row in `reports`.
async fn record(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let (figures, planned): (Figures, Planned) = (context.output("collect")?, context.output("files")?);
    let uploaded: Uploaded = context.output("upload")?;
    let report = NewReport {
        revision: planned.revision,
        figures: &figures,
        figures_sha256: &planned.figures_sha256,
        code_version: CODE_VERSION,
        place: &uploaded.place,
        now: context.now,
    };
    reports::record(&context.pool, &report).await.map_err(of_table)?;
    TaskOutput::new(None, &serde_json::json!({ "revision": planned.revision, "place": uploaded.place }))
}

fn of_table(error: ReportsError) -> TaskError {
    match error {
        ReportsError::Database(error) => TaskError::from(error),
        other => TaskError::for_good(other),
    }
}

fn of_store(error: StorageError) -> TaskError {
    if error.is_transient() { TaskError::again(error) } else { TaskError::for_good(error) }
}
