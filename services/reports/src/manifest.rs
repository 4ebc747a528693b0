//! `manifest.json`: what a report consists of. It is written last, so a report is there when its manifest is.

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::changes::Change;
use crate::file::File;

/// The manifest's name within the report's directory.
pub const MANIFEST: &str = "manifest.json";

/// What `manifest.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Manifest {
    /// Which report it is: `daily_report`.
    pub report: String,
    /// The business day.
    pub date: NaiveDate,
    /// The data interval.
    pub interval: Interval,
    /// 1 for the first report of the day; one more whenever its figures changed.
    pub revision: u32,
    /// SHA-256 of the figures, whatever files are made of them.
    pub figures_sha256: String,
    /// The version of Stocktide that wrote the files.
    pub code_version: String,
    /// The report's other files, in the order in which they were written.
    pub files: Vec<Entry>,
    /// Why there is a further revision, as far as the figures say; absent in the first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Figures that differ from the revision before, the most telling first; empty in the first.
    pub changes: Vec<Change>,
    /// How many more differ than `changes` names.
    pub further_changes: u64,
}

/// The data interval: a business day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Interval {
    /// Whose midnight it is from and to.
    pub timezone: String,
    /// Its first instant.
    pub start: DateTime<Utc>,
    /// The first instant after it.
    pub end: DateTime<Utc>,
}

/// A file in the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Entry {
    /// Its name within the report's directory.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256, in lower-case hexadecimal.
    pub sha256: String,
    /// Records in it, without the header; absent where it has no records.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub rows: Option<u64>,
}

impl Entry {
    /// The entry of a file.
    pub fn of(file: &File) -> Entry {
        Entry {
            name: file.name.to_owned(),
            bytes: file.bytes.len() as u64,
            sha256: file.sha256(),
            rows: file.rows,
        }
    }
}
