//! A rival: a folder of `bench/rivals`, by the contract in its README.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};

/// What a rival may say that it cannot do, so that it is not looked for.
#[derive(Debug, Clone, Copy)]
pub enum Check {
    Instances,
    EventsLog,
    Orders,
    Updates,
    Quantities,
    Dlq,
}

impl Check {
    /// What a line of `cannot` begins with.
    fn key(self) -> &'static str {
        match self {
            Check::Instances => "instances:",
            Check::EventsLog => "events_log:",
            Check::Orders => "orders:",
            Check::Updates => "updates:",
            Check::Quantities => "quantities:",
            Check::Dlq => "dlq:",
        }
    }
}

/// One of them.
#[derive(Debug)]
pub struct Rival {
    pub name: String,
    pub folder: PathBuf,
    /// What it cannot do, in its own words.
    pub cannot: Vec<String>,
    /// The events that it is given at most.
    pub most: Option<u64>,
}

/// What `setup` answers when there is something that this machine does not have.
const NOT_HERE: i32 = 3;

impl Rival {
    /// All rivals of a folder, by name.
    pub fn all(folder: &Path) -> anyhow::Result<Vec<Rival>> {
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        let mut folders: Vec<PathBuf> =
            entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
        folders.retain(|folder| folder.join("run").exists());
        folders.sort();
        folders.into_iter().map(Rival::read).collect()
    }

    fn read(folder: PathBuf) -> anyhow::Result<Rival> {
        let name = folder.file_name().context("a folder without a name")?.to_string_lossy().into_owned();
        let text = |file: &str| std::fs::read_to_string(folder.join(file)).ok();
        let cannot = text("cannot").unwrap_or_default();
        let cannot = cannot.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
        let most = text("events").map(|number| number.trim().parse::<u64>()).transpose();
        let most = most.with_context(|| format!("{name}/events is no number"))?;
        Ok(Rival { name, folder, cannot, most })
    }

    /// Whether it does a part of the job.
    pub fn does(&self, check: Check) -> bool {
        !self.cannot.iter().any(|line| line.starts_with(check.key()))
    }

    /// Its tables, or the common ones.
    pub fn schema(&self) -> anyhow::Result<String> {
        let own = self.folder.join("schema.sql");
        let file = if own.exists() { own } else { self.folder.with_file_name("schema.sql") };
        std::fs::read_to_string(&file).with_context(|| file.display().to_string())
    }

    /// Installs it; says why, where it cannot be had here.
    pub fn set_up(&self) -> anyhow::Result<Option<String>> {
        let output = self.command("setup")?.stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => Ok(None),
            Some(NOT_HERE) => Ok(Some(said.lines().last().unwrap_or("it does not say why").to_owned())),
            _ => bail!("{}/setup: {}\n{said}", self.name, output.status),
        }
    }

    /// One of its programs.
    pub fn command(&self, program: &str) -> anyhow::Result<Command> {
        let path = self.folder.join(program);
        ensure!(path.exists(), "{} is not there", path.display());
        let mut command = Command::new(path);
        command.current_dir(&self.folder).env("STOCKTIDE_RIVALS", installed()?);
        Ok(command)
    }
}

/// Where rivals are installed.
fn installed() -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("STOCKTIDE_RIVALS") {
        return Ok(folder.into());
    }
    let home = std::env::var_os("HOME").context("neither STOCKTIDE_RIVALS nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cache/stocktide/rivals"))
}
