//! A process of the product that the harness runs: killed, frozen, asked to end, and started again.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

/// How long a process that is asked to end may take: its own deadline, and a little.
const END_PATIENCE: Duration = Duration::from_secs(40);

/// What a process is started with; the number says how often it was started before.
pub type Start = Box<dyn Fn(u32) -> Command + Send + Sync>;

/// One process of the installation, by its place.
pub struct Service {
    /// Such as `processor-1`.
    pub name: String,
    log: PathBuf,
    start: Start,
    /// Whether a crash at its end counts. It does not where libfaketime is loaded: what that keeps is gone before the last thread is.
    pub judged_at_its_end: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    child: Option<Child>,
    starts: u32,
    /// Whether it is meant to run: one that ended all the same ended by itself.
    wanted: bool,
    ended: Vec<String>,
}

impl Service {
    /// Not started yet. It logs to a file of its name in `logs`.
    pub fn new(name: String, logs: &Path, start: Start) -> Service {
        let log = logs.join(format!("{name}.log"));
        Service { name, log, start, judged_at_its_end: true, state: Mutex::default() }
    }

    /// Starts it; nothing happens when it runs.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn start(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        if state.child.is_some() {
            return Ok(());
        }
        self.launch(&mut state)
    }

    fn launch(&self, state: &mut State) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(&self.log).context("a log")?;
        let mut command = (self.start)(state.starts);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        // Ctrl-C at the terminal is for the harness, which ends all in order.
        command.process_group(0);
        state.child = Some(command.spawn().with_context(|| format!("starting {}", self.name))?);
        state.starts += 1;
        state.wanted = true;
        Ok(())
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&self) {
        let mut state = self.state.lock().await;
        self.note_end(&mut state);
        state.wanted = false;
        if let Some(mut child) = state.child.take() {
            // One that is gone already is gone.
            let _ = child.kill().await;
        }
    }

    /// SIGTERM; returns when it has ended, by force where it does not in time.
    pub async fn end(&self) {
        let mut state = self.state.lock().await;
        self.note_end(&mut state);
        state.wanted = false;
        let Some(mut child) = state.child.take() else { return };
        send(&child, Signal::TERM);
        let Ok(ended) = tokio::time::timeout(END_PATIENCE, child.wait()).await else {
            state.ended.push(format!("{} did not end when asked", self.name));
            let _ = child.kill().await;
            return;
        };
        // One that has only just been started does not listen to SIGTERM yet, and ends by it.
        let badly = |status: &ExitStatus| !status.success() && status.signal() != Some(Signal::TERM.as_raw());
        if let Some(status) = ended.ok().filter(badly).filter(|_| self.judged_at_its_end) {
            let told = self.tell("ended badly when asked to", Some(status));
            state.ended.push(told);
        }
    }

    /// SIGSTOP, or SIGCONT.
    pub async fn freeze(&self, freeze: bool) {
        let state = self.state.lock().await;
        if let Some(child) = &state.child {
            send(child, if freeze { Signal::STOP } else { Signal::CONT });
        }
    }

    /// Starts it again where it ended by itself, as whatever runs it in production does, and notes that.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn look_after(&self) -> anyhow::Result<()> {
        let mut state = self.state.lock().await;
        self.note_end(&mut state);
        if state.wanted && state.child.is_none() {
            self.launch(&mut state)?;
        }
        Ok(())
    }

    /// How often it ended without having been asked to, and its last words, since this was last asked.
    pub async fn endings(&self) -> Vec<String> {
        let mut state = self.state.lock().await;
        self.note_end(&mut state);
        std::mem::take(&mut state.ended)
    }

    /// Its process, while there is one.
    pub async fn pid(&self) -> Option<u32> {
        self.state.lock().await.child.as_ref().and_then(Child::id)
    }

    /// How often it was started.
    pub async fn starts(&self) -> u32 {
        self.state.lock().await.starts
    }

    fn note_end(&self, state: &mut State) {
        let ended = state.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
        let Some(status) = ended else { return };
        state.child = None;
        if state.wanted {
            let told = self.tell("ended by itself", Some(status));
            state.ended.push(told);
        }
    }

    fn tell(&self, what: &str, status: Option<ExitStatus>) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let status = status.map(|status| format!(" ({status})")).unwrap_or_default();
        format!("{} {what}{status}: {last}", self.name)
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    // It may have ended, and has not been reaped: then nobody is there to hear it, and no other process has its number.
    let _ = pid.map(|pid| kill_process(pid, signal));
}
