//! The processes of a rival, with all that they start.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::rival::Rival;
use crate::meter;

/// How long a rival may take to end.
const TO_END: Duration = Duration::from_secs(30);
/// How often it is looked up what they have started; a JVM's threads are many, and each has a list.
const FAMILIES: Duration = Duration::from_secs(1);
/// Lines of a log that are shown when something goes wrong.
const SHOWN: usize = 30;

/// What every instance is told.
#[derive(Debug)]
pub struct Surroundings {
    pub brokers: String,
    pub database_url: String,
    pub records: u64,
    pub work_dir: PathBuf,
    /// Where the logs go.
    pub log_dir: PathBuf,
}

/// They are killed when this is dropped.
#[derive(Debug)]
pub struct Instances {
    name: String,
    running: Vec<(Child, PathBuf)>,
    /// Of each, itself and all that it has started, as looked up at that moment.
    families: Vec<Vec<u32>>,
    looked_up: Instant,
    /// The most memory of one of them, in MiB, with what it started.
    pub peak_mib: f64,
}

impl Instances {
    /// Starts them, all at once.
    pub fn start(rival: &Rival, count: usize, told: &Surroundings) -> anyhow::Result<Instances> {
        let mut instances = Instances {
            name: rival.name.clone(),
            running: Vec::new(),
            families: Vec::new(),
            looked_up: Instant::now(),
            peak_mib: 0.0,
        };
        for instance in 0..count {
            let path = told.log_dir.join(format!("{}-{instance}.log", rival.name));
            let log = File::create(&path)?;
            let mut command = rival.command("run")?;
            command
                .env("KAFKA_BROKERS", &told.brokers)
                .env("DATABASE_URL", &told.database_url)
                .env("INSTANCE", instance.to_string())
                .env("INSTANCES", count.to_string())
                .env("EVENTS", told.records.to_string())
                .env("WORK_DIR", &told.work_dir)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log);
            instances.running.push((command.spawn()?, path));
        }
        Ok(instances)
    }

    /// CPU seconds of all of them so far; fails once one has ended.
    pub fn look(&mut self) -> anyhow::Result<f64> {
        for (child, _) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                bail!("an instance of {} has ended by itself ({status})", self.name);
            }
        }
        if self.families.is_empty() || self.looked_up.elapsed() > FAMILIES {
            self.families = self.running.iter().map(|(child, _)| meter::family(child.id())).collect();
            self.looked_up = Instant::now();
        }
        let mut seconds = 0.0;
        for family in &self.families {
            seconds += family.iter().map(|&pid| meter::own_seconds(pid, true).unwrap_or(0.0)).sum::<f64>();
            let mib: f64 = family.iter().filter_map(|&pid| meter::mebibytes(pid, "VmRSS")).sum();
            self.peak_mib = self.peak_mib.max(mib);
        }
        Ok(seconds)
    }

    /// Ends them as an operator would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        for (child, _) in &self.running {
            let pid = Pid::from_raw(i32::try_from(child.id())?).context("no such process")?;
            kill_process(pid, Signal::TERM)?;
        }
        let deadline = Instant::now() + TO_END;
        for (child, _) in &mut self.running {
            while child.try_wait()?.is_none() {
                if Instant::now() > deadline {
                    bail!("{} does not end within {} s of SIGTERM", self.name, TO_END.as_secs());
                }
                std::thread::sleep(meter::LOOK);
            }
        }
        self.running.clear();
        Ok(())
    }

    /// The last lines of each log.
    pub fn logs(&self) -> String {
        self.running.iter().map(|(_, path)| tail(path)).collect()
    }
}

impl Drop for Instances {
    fn drop(&mut self) {
        for (child, _) in &mut self.running {
            for pid in meter::family(child.id()) {
                if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let _ = child.wait();
        }
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = &lines[lines.len().saturating_sub(SHOWN)..];
    format!("\n--- {}\n{}", path.display(), shown.join("\n"))
}
