//! What was done and what came of it, one line an episode, kept in files that are committed.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use crate::check::Findings;
use crate::fault::{Kind, Lane, Mix};
use crate::nemesis::Injected;

/// An episode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// What it is repeated with.
    pub seed: u64,
    /// The product's commit; of a negative control `broken: NAME COMMIT`.
    pub code: String,
    /// How long faults were injected, in seconds.
    pub seconds: f64,
    /// Brokers.
    pub kafka_nodes: usize,
    /// Processors.
    pub processors: usize,
    /// The kinds that were drawn from and their weights, where it was not all of them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub weights: Vec<(Kind, u32)>,
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
    /// What its faults were drawn from.
    pub fn mix(&self) -> Mix {
        Mix { weights: self.weights.clone(), only: !self.weights.is_empty(), ..Mix::default() }
    }

    /// How many faults another episode has in common with this one, if none differs: those of a lane come in the same order, but
    /// the one whose faults took longer has fewer of them.
    ///
    /// # Errors
    /// The first fault of a lane that differs.
    pub fn in_common(&self, other: &Episode) -> Result<usize, String> {
        let mut common = 0;
        for lane in Lane::ALL {
            for (ours, theirs) in self.drawn(lane).zip(other.drawn(lane)) {
                if ours != theirs {
                    return Err(format!("{} {} in place of {} {}", theirs.0, theirs.1, ours.0, ours.1));
                }
                common += 1;
            }
        }
        Ok(common)
    }

    /// Kind and target of each fault of a lane.
    fn drawn(&self, lane: Lane) -> impl Iterator<Item = (Kind, &str)> {
        let parsed = self.faults.iter().filter_map(|line| {
            let mut words = line.split(' ').skip(1);
            Some((words.next()?.parse::<Kind>().ok()?, words.next()?))
        });
        parsed.filter(move |(kind, _)| kind.lane() == lane)
    }

    /// Whether everything was as it should be.
    pub fn is_well(&self) -> bool {
        self.findings.problems.is_empty()
    }

    /// The names of the checks that failed, each once.
    pub fn problem_names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for problem in &self.findings.problems {
            let name = problem.split(':').next().unwrap_or_default();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// How many faults took place.
    pub fn injections(&self) -> usize {
        self.kinds().count()
    }

    /// The kind of each fault that took place.
    pub fn kinds(&self) -> impl Iterator<Item = Kind> {
        self.of_faults(|line| !line.contains(MISSED))
    }

    /// The kind of each fault that came to nothing.
    pub fn missed(&self) -> impl Iterator<Item = Kind> {
        self.of_faults(|line| line.contains(MISSED))
    }

    fn of_faults(&self, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = Kind> {
        let lines = self.faults.iter().filter(move |line| wanted(line));
        lines.filter_map(|line| line.split(' ').nth(1)?.parse().ok())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn episode(faults: &[&str]) -> Episode {
        Episode {
            seed: 1,
            code: String::new(),
            seconds: 1.0,
            kafka_nodes: 3,
            processors: 3,
            weights: Vec::new(),
            left_out: Vec::new(),
            findings: Findings::default(),
            faults: faults.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    #[test]
    fn two_episodes_of_a_seed_have_the_same_faults_lane_by_lane_as_far_as_both_go() {
        let one = episode(&[
            "0.1 kill-broker broker-1 3.0",
            "0.2 lose-commit-answer processor-3/postgres 5.0 missed: no COMMIT went by",
            "4.0 kill-broker broker-2 3.0",
        ]);
        let slower = episode(&[
            "0.1 lose-commit-answer processor-3/postgres 1.0",
            "0.3 kill-broker broker-1 9.0",
            "2.0 lose-commit processor-1/postgres 1.0",
        ]);
        assert_eq!(one.in_common(&slower), Ok(2));
        let another = episode(&["0.1 kill-broker broker-3 3.0"]);
        let differs = one.in_common(&another);
        assert_eq!(differs, Err("kill-broker broker-3 in place of kill-broker broker-1".to_owned()));
    }

    #[test]
    fn what_an_episode_was_drawn_from_is_read_back() {
        let drawn = Episode { weights: vec![(Kind::KillBroker, 4)], ..episode(&[]) };
        let text = serde_json::to_string(&drawn).unwrap();
        assert!(text.contains(r#""weights":[["kill-broker",4]]"#), "{text}");
        let read: Episode = serde_json::from_str(&text).unwrap();
        assert!(read.mix().only && read.mix().weights == drawn.weights);
    }
}
