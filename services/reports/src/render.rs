//! From figures to files: pure, so that the same figures give the same bytes wherever and whenever they are rendered.
//!
//! The files' content follows from the figures, the revision and the revision before it. What made them, the version of the
//! program, stands in the manifest alone, so that an upgrade that changes no file rewrites none.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stocktide_domain::report::Figures;

use crate::changes::{MOST_CHANGES, Revised};
use crate::file::{File, sha256};
use crate::manifest::{Entry, Interval, MANIFEST, Manifest};

mod chart;
mod page;
mod sheets;

pub use sheets::money as two_decimals;

/// Which report it is, as the documents name it.
pub const REPORT: &str = "daily_report";

/// The names of a report's files, in the order in which they are written.
pub const FILES: [&str; 7] = [
    "sales.csv",
    "top_sellers.csv",
    "low_stock.csv",
    "data_quality.csv",
    "report.json",
    "report.html",
    MANIFEST,
];

/// What a report says beside the figures.
#[derive(Debug, Clone)]
pub struct RenderContext {
    /// 1 for the first report of the day; one more whenever its figures changed.
    pub revision: u32,
    /// The version of the program.
    pub code_version: String,
    /// The figures of the revision before; none for the first.
    pub previous: Option<Figures>,
}

/// `report.json`: the figures and which revision of them it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(title = "Stocktide daily report")]
pub struct Document {
    /// `daily_report`.
    pub report: String,
    /// 1 for the first report of the day; one more whenever its figures changed (late events, a changed catalogue or setting).
    pub revision: u32,
    /// The figures.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Why figures could not be written as files: a mistake in the program, since every figure has a text form.
#[derive(Debug, thiserror::Error)]
#[error("the report cannot be written as {file}: {problem}")]
pub struct RenderError {
    /// The file.
    pub file: &'static str,
    /// What the encoder said.
    pub problem: String,
}

/// The files of a report, in the order in which they are to be written: the manifest last.
///
/// # Errors
/// [`RenderError`], which would be a mistake in the program.
pub fn render(figures: &Figures, context: &RenderContext) -> Result<Vec<File>, RenderError> {
    let revised = context.previous.as_ref().map(|previous| Revised::of(previous, figures));
    let revised = revised.transpose().map_err(in_file(MANIFEST))?;
    let document =
        Document { report: REPORT.to_owned(), revision: context.revision, figures: figures.clone() };
    let json = pretty("report.json", &document)?;
    let page = page::page(figures, context.revision, revised.as_ref());
    let mut files = sheets::sheets(figures)?;
    files.push(File { name: "report.json", bytes: json, rows: None });
    files.push(File { name: "report.html", bytes: page.into_bytes(), rows: None });
    let manifest = manifest(figures, context, &files, revised)?;
    files.push(File { name: MANIFEST, bytes: pretty(MANIFEST, &manifest)?, rows: None });
    Ok(files)
}

/// One of the CSV files, by its name; none: there is no such one.
///
/// # Errors
/// [`RenderError`], which would be a mistake in the program.
pub fn sheet(figures: &Figures, name: &str) -> Result<Option<File>, RenderError> {
    sheets::sheet(figures, name)
}

/// The SHA-256 of figures: two collections of a day are the same report exactly when it is equal.
///
/// # Errors
/// [`RenderError`], which would be a mistake in the program.
pub fn figures_sha256(figures: &Figures) -> Result<String, RenderError> {
    Ok(sha256(&serde_json::to_vec(figures).map_err(in_file("report.json"))?))
}

fn manifest(
    figures: &Figures,
    context: &RenderContext,
    files: &[File],
    revised: Option<Revised>,
) -> Result<Manifest, RenderError> {
    let (reason, mut differing) = match revised {
        Some(Revised { reason, changes }) => (Some(reason), changes),
        None => (None, Vec::new()),
    };
    let further_changes = differing.len().saturating_sub(MOST_CHANGES) as u64;
    differing.truncate(MOST_CHANGES);
    let day = &figures.day;
    Ok(Manifest {
        report: REPORT.to_owned(),
        date: day.date,
        interval: Interval { timezone: day.timezone.clone(), start: day.start, end: day.end },
        revision: context.revision,
        figures_sha256: figures_sha256(figures)?,
        code_version: context.code_version.clone(),
        files: files.iter().map(Entry::of).collect(),
        reason,
        changes: differing,
        further_changes,
    })
}

fn pretty(file: &'static str, document: &impl Serialize) -> Result<Vec<u8>, RenderError> {
    let mut bytes = serde_json::to_vec_pretty(document).map_err(in_file(file))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn in_file<E: std::fmt::Display>(file: &'static str) -> impl Fn(E) -> RenderError {
    move |problem| RenderError { file, problem: problem.to_string() }
}
