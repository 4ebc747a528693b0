//! The watchdog of a stack, and how a part is started so that it never outlives its owner.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::process::Signal;

use crate::account::{Account, run_as};
use crate::process::{ProcessId, until, until_blocking};
use crate::{DevstackError, Result};

/// Reads orders until the owner's end of the pipe closes, then ends what is still watched and removes the directory `$1`.
/// A process is known by pid and start (field 22 of its stat line), and an unreaped one (state Z) counts as gone.
const WATCHDOG: &str = r#"
trap '' HUP INT TERM
watched=
while read -r order pid start signal; do
  case $order in
    watch) watched="$watched $pid:$start:$signal" ;;
    forget) kept=; for one in $watched; do [ "${one%%:*}" = "$pid" ] || kept="$kept $one"; done; watched=$kept ;;
    leave) exit 0 ;;
  esac
done
alive() {
  IFS= read -r line 2>/dev/null <"/proc/$pid/stat" || return 1
  set -- ${line##*) }
  [ "$1" != Z ] && [ "${20}" = "$start" ]
}
each() {
  left=
  for one in $watched; do
    pid=${one%%:*} start=${one#*:} signal=${one##*:}; start=${start%:*}
    if alive; then left="$left $one"; [ -z "$1" ] || kill -s "${2:-$signal}" "$pid" 2>/dev/null; fi
  done
  return 0
}
gone() {
  tries=50
  while each '' && [ -n "$left" ] && [ $tries -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
}
each now
gone
each now KILL
gone
[ -z "$1" ] || rm -rf -- "$1"
"#;

/// Waits for the word to go on, so that the watchdog knows the process before it becomes the part. The owner's death closes
/// the pipe, and the part is then never started.
const GATE: &str = r#"read -r go && exec "$@" </dev/null"#;

/// What a part is started with.
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Whom to run it as; `None`: as ourselves.
    pub(crate) account: Option<Account>,
    /// Where its output is appended.
    pub(crate) log: PathBuf,
    /// How the watchdog asks it to end: fast, yet so that it takes its own children along.
    pub(crate) last_signal: &'static str,
}

/// The owner's end of the watchdog's pipe.
#[derive(Debug)]
pub(crate) struct Guard {
    watchdog: Mutex<(Child, Option<ChildStdin>)>,
}

impl Guard {
    /// Starts the watchdog of a stack; `temporary` is removed when the owner dies without having done so.
    pub(crate) fn start(temporary: Option<&Path>) -> Result<Self> {
        let mut watchdog = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "stocktide-watchdog"])
            .arg(temporary.unwrap_or(Path::new("")))
            .current_dir("/")
            .env("LC_ALL", "C")
            // A group of its own: Ctrl-C at the terminal is for the owner, who ends the stack in order.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(DevstackError::file("run", Path::new("/bin/sh")))?;
        let pipe = watchdog.stdin.take();
        Ok(Self { watchdog: Mutex::new((watchdog, pipe)) })
    }

    /// Starts `program` behind the gate and under watch.
    pub(crate) fn spawn(&self, program: &Program) -> Result<Part> {
        let log = open_log(&program.log)?;
        let errors = log.try_clone().map_err(DevstackError::file("open", &program.log))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "stocktide-gate"]).arg(&program.path).args(&program.args);
        command.current_dir("/").env("LC_ALL", "C").process_group(0);
        command.stdin(Stdio::piped()).stdout(log).stderr(errors);
        run_as(&mut command, program.account.as_ref());
        let mut child = command.spawn().map_err(DevstackError::file("run", &program.path))?;
        let gate = child.stdin.take();
        // Nobody else reaps it, so its entry is there until we do.
        let id = i32::try_from(child.id()).ok().and_then(ProcessId::of);
        let part = Part { child, id, ended: None };
        let id = id.ok_or_else(|| gone(&program.path))?;
        self.order(&format!("watch {} {} {}\n", id.pid, id.start_ticks, program.last_signal))?;
        gate.map_or(Ok(()), |mut gate| gate.write_all(b"go\n"))
            .map_err(DevstackError::file("start", &program.path))?;
        Ok(part)
    }

    /// Takes a part that has ended off the watchdog's list.
    pub(crate) fn forget(&self, id: ProcessId) -> Result<()> {
        self.order(&format!("forget {} {}\n", id.pid, id.start_ticks))
    }

    /// Dismisses the watchdog: its parts stay when the owner ends.
    pub(crate) fn dismiss(&self) -> Result<()> {
        self.order("leave\n")
    }

    fn order(&self, line: &str) -> Result<()> {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        let pipe = watchdog.1.as_mut().ok_or_else(|| gone(Path::new("the watchdog")))?;
        pipe.write_all(line.as_bytes()).map_err(DevstackError::file("instruct", Path::new("the watchdog")))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut watchdog = self.watchdog.lock().unwrap_or_else(PoisonError::into_inner);
        watchdog.1 = None;
        let _ = watchdog.0.wait();
    }
}

/// A started part. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Part {
    child: Child,
    id: Option<ProcessId>,
    ended: Option<ExitStatus>,
}

impl Part {
    pub(crate) fn id(&self) -> Option<ProcessId> {
        self.id
    }

    /// How it ended, if it did. Reaps it.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Sends `signal` unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            self.id.map(|id| id.signal(signal));
        }
    }

    /// Asks it to end with `signal` and waits; kills it when `patience` runs out.
    pub(crate) async fn end(&mut self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if !until(patience, || self.ended().is_some()).await {
            self.signal(Signal::KILL);
            until(Duration::from_secs(10), || self.ended().is_some()).await;
        }
    }

    /// As [`Part::end`], for drop.
    pub(crate) fn end_blocking(&mut self, signal: Signal, patience: Duration) {
        self.signal(signal);
        if !until_blocking(patience, || self.ended().is_some()) {
            self.signal(Signal::KILL);
            until_blocking(Duration::from_secs(10), || self.ended().is_some());
        }
    }

    /// Lets it live on when this value is dropped.
    pub(crate) fn release(mut self) {
        self.ended = Some(ExitStatus::default());
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.end_blocking(Signal::KILL, Duration::ZERO);
    }
}

fn gone(path: &Path) -> DevstackError {
    DevstackError::File {
        action: "start",
        path: path.to_path_buf(),
        source: io::ErrorKind::BrokenPipe.into(),
    }
}

/// Opens a log for appending; one that grew past 20 MB is set aside as `.1` first.
fn open_log(path: &Path) -> Result<File> {
    if fs::metadata(path).is_ok_and(|log| log.len() > 20_000_000) {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".1");
        fs::rename(path, aside).map_err(DevstackError::file("set aside", path))?;
    }
    File::options().create(true).append(true).open(path).map_err(DevstackError::file("open", path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn sleeper(dir: &Path, script: &str) -> Program {
        Program {
            path: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            account: None,
            log: dir.join("log"),
            last_signal: "QUIT",
        }
    }

    #[test]
    fn when_the_owner_is_gone_the_watchdog_ends_the_parts_and_removes_the_directory() {
        let dir = tempfile::tempdir().unwrap().keep();
        let guard = Guard::start(Some(&dir)).unwrap();
        let polite = guard.spawn(&sleeper(&dir, "exec sleep 600")).unwrap();
        let stubborn = guard.spawn(&sleeper(&dir, "trap '' QUIT; while :; do sleep 1; done")).unwrap();
        let ids = [polite.id().unwrap(), stubborn.id().unwrap()];
        // As the kernel does for an owner that was killed: nothing of ours runs, only the pipe closes.
        polite.release();
        stubborn.release();
        drop(guard);
        assert!(ids.iter().all(|id| !id.is_alive()));
        assert!(!dir.exists());
    }

    #[test]
    fn a_forgotten_part_and_those_of_a_dismissed_watchdog_live_on() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Guard::start(None).unwrap();
        let forgotten = guard.spawn(&sleeper(dir.path(), "exec sleep 600")).unwrap();
        let watched = guard.spawn(&sleeper(dir.path(), "exec sleep 600")).unwrap();
        let (forgotten_id, watched_id) = (forgotten.id().unwrap(), watched.id().unwrap());
        guard.forget(forgotten_id).unwrap();
        drop(guard);
        assert!(forgotten_id.is_alive());
        assert!(!watched_id.is_alive());

        let guard = Guard::start(Some(dir.path())).unwrap();
        let left = guard.spawn(&sleeper(dir.path(), "exec sleep 600")).unwrap();
        guard.dismiss().unwrap();
        drop(guard);
        assert!(left.id().unwrap().is_alive());
        assert!(dir.path().exists());
        drop((forgotten, left));
        assert!(!forgotten_id.is_alive());
    }
}
