//! The built program, run as a person would.
#![allow(dead_code)] // each test file uses a part

use std::fs::DirEntry;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// `stocktide` in an environment that configures nothing.
pub fn stocktide(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stocktide"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("STOCKTIDE_") {
            command.env_remove(name);
        }
    }
    // Nor may a stocktide.toml of whoever runs the tests.
    command.current_dir(std::env::temp_dir()).args(args);
    command
}

/// Stops a process (SIGSTOP), and returns when each of its threads stands still.
pub fn freeze(process: Pid) {
    kill_process(process, Signal::STOP).unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    let stands = |task: std::io::Result<DirEntry>| {
        // A thread may be gone by now. Its name, in brackets, may hold anything; its state comes behind.
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('T'))
    };
    let tasks = format!("/proc/{}/task", process.as_raw_nonzero());
    while !std::fs::read_dir(&tasks).unwrap().all(stands) {
        assert!(Instant::now() < deadline, "{process:?} does not stand still");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a run said, and its exit code.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code.
    pub code: i32,
    /// Its answer.
    pub stdout: String,
    /// Its complaints and logs.
    pub stderr: String,
}

impl Outcome {
    /// The one line that stderr must consist of.
    pub fn complaint(&self) -> &str {
        let line = self.stderr.strip_suffix('\n').unwrap_or(&self.stderr);
        assert!(!line.contains('\n') && line.starts_with("stocktide: "), "{self:?}");
        &line["stocktide: ".len()..]
    }

    /// Stdout as JSON documents, one a line.
    pub fn documents(&self) -> Vec<serde_json::Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Itself, after a check that the run succeeded.
    pub fn done(self) -> Outcome {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Outcome {
    let Output { status, stdout, stderr } = command.output().unwrap();
    Outcome {
        code: status.code().unwrap(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}
