//! What was done and what came of it, one line an episode, kept in files that are committed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::check::Findings;
use crate::fault::Kind;
use crate::nemesis::Injected;

/// An episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What it is repeated with.
    pub seed: u64,
    /// The product's commit, or `broken: NAME` of a negative control.
    pub code: String,
    /// How long faults were injected, in seconds.
    pub seconds: f64,
    /// Brokers.
    pub kafka_nodes: usize,
    /// Processors.
    pub processors: usize,
    /// Kinds that the machine could not do.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub left_out: Vec<Kind>,
    /// What was found.
    #[serde(flatten)]
    pub findings: Findings,
    /// The faults, as `SECONDS KIND WHOM LASTED`; one that came to nothing has why behind it.
    pub faults: Vec<String>,
}

impl Episode {
    /// Whether everything was as it should be.
    pub fn is_well(&self) -> bool {
        self.findings.problems.is_empty()
    }

    /// How many faults took place.
    pub fn injections(&self) -> usize {
        self.kinds().count()
    }

    /// The kind of each fault that took place.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        let took_place = self.faults.iter().filter(|line| !line.contains(MISSED));
        took_place.filter_map(|line| line.split(' ').nth(1)?.parse().ok())
    }
}

const MISSED: &str = " missed: ";

/// A fault as it stands in a history.
pub fn line(injected: &Injected) -> String {
    let (at, lasted) = (injected.at.as_secs_f64(), injected.lasted.as_secs_f64());
    let line = format!("{at:.1} {} {} {lasted:.1}", injected.kind, injected.whom.replace(' ', "-"));
    match &injected.missed {
        Some(why) => format!("{line}{MISSED}{}", why.lines().next().unwrap_or_default()),
        None => line,
    }
}

/// Adds an episode to a file.
///
/// # Errors
/// The file cannot be written.
pub fn append(file: &Path, episode: &Episode) -> anyhow::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let mut out =
        File::options().create(true).append(true).open(file).with_context(|| file.display().to_string())?;
    writeln!(out, "{}", serde_json::to_string(episode)?)?;
    Ok(())
}

/// All episodes of all files of a directory, file by file.
///
/// # Errors
/// A file cannot be read, or is none of ours.
pub fn read(directory: &Path) -> anyhow::Result<Vec<(PathBuf, Episode)>> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .with_context(|| directory.display().to_string())?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let mut episodes = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        for (number, line) in text.lines().enumerate() {
            let episode =
                serde_json::from_str(line).with_context(|| format!("{}:{}", file.display(), number + 1))?;
            episodes.push((file.clone(), episode));
        }
    }
    Ok(episodes)
}
