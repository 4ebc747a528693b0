//! A stack's state directory: whose it is, what an earlier owner left in it, and where PostgreSQL's data go.

use std::env;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::account::{self, Account, can_enter, make_dir};
use crate::process::{ProcessId, boot_id};
use crate::record::Record;
use crate::{DevstackError, Result, parts};

/// The lock file's name; who has it owns the directory.
pub(crate) const LOCK: &str = "lock";

/// A state directory that is ours until this value is dropped.
#[derive(Debug)]
pub(crate) struct StateDir {
    pub(crate) path: PathBuf,
    pub(crate) record: Record,
    temporary: Option<TempDir>,
    _lock: File,
}

/// The name in the titles of a stack's PostgreSQL processes, and Kafka's cluster id.
pub(crate) fn cluster_name(id: &str) -> String {
    format!("stocktide-{id}")
}

impl StateDir {
    /// Takes `wanted`, or a new temporary directory. What crashed there before is ended; what runs there is an error.
    pub(crate) async fn claim(wanted: Option<&Path>) -> Result<Self> {
        let (path, temporary) = match wanted {
            Some(path) => (kept(path)?, None),
            None => temporary().map(|dir| (dir.path().to_path_buf(), Some(dir)))?,
        };
        let lock = match parts::lock(&path.join(LOCK), Duration::from_secs(1)).await {
            Err(DevstackError::Busy { state_dir })
                if Record::load(&path)?.is_some_and(|record| record.ready) =>
            {
                return Err(DevstackError::AlreadyRunning { state_dir });
            }
            other => other?,
        };
        let mut record = match Record::load(&path)? {
            Some(record) => record,
            None => Record { id: new_id()?, ..Record::default() },
        };
        // We have the lock, so a holder is dead, and what it held is about to end: only a stack without one is running.
        let alive = |process: Option<ProcessId>| process.is_some_and(|process| process.is_alive());
        let runs = record.servers().count() > 0 && record.servers().all(|server| alive(server.process));
        if record.holder.is_none() && record.ready && runs {
            return Err(DevstackError::AlreadyRunning { state_dir: path });
        }
        record.end_processes(false).await;
        record.forget_processes();
        record.boot_id = boot_id();
        record.holder = ProcessId::current();
        record.save(&path)?;
        let logs = path.join("logs");
        fs::create_dir_all(&logs).map_err(DevstackError::file("create", &logs))?;
        Ok(Self { path, record, temporary, _lock: lock })
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// The directory to remove at the end, if it is a temporary one.
    pub(crate) fn temporary(&self) -> Option<&Path> {
        self.temporary.as_ref().map(TempDir::path)
    }

    pub(crate) fn save(&self) -> Result<()> {
        self.record.save(&self.path)
    }

    /// Leaves the directory where it is, temporary or not.
    pub(crate) fn keep(&mut self) {
        self.temporary = self.temporary.take().and_then(|dir| {
            let _ = dir.keep();
            None
        });
    }

    /// Where PostgreSQL's data go, and the user it runs as.
    ///
    /// That is inside of the state directory, unless we are root and the state directory is in a place that no other user can
    /// enter, such as `/root`: PostgreSQL refuses to run as root, so its data then go to `/var/lib/stocktide`.
    pub(crate) fn postgres_home(&mut self) -> Result<(PathBuf, Option<Account>)> {
        let inside = self.path.join("postgres");
        let home = self.record.postgres_home.clone().unwrap_or_else(|| inside.clone());
        let account = account::for_postgres(&home.join("data"))?;
        make_dir(&home, 0o755, account.as_ref())?;
        if can_enter(account.as_ref(), &home) {
            self.record.postgres_home = Some(home.clone());
            return Ok((home, account));
        }
        let shared = Path::new("/var/lib/stocktide");
        let outside = shared.join(&self.record.id);
        make_dir(shared, 0o755, None)?;
        make_dir(&outside, 0o755, account.as_ref())?;
        if self.temporary.is_some() || !can_enter(account.as_ref(), &outside) {
            let user = account.map(|account| account.name).unwrap_or_default();
            let remedy = if self.temporary.is_some() { "TMPDIR" } else { "--state-dir" };
            return Err(DevstackError::Unreachable { path: inside, user, remedy });
        }
        // A pointer to them in their usual place.
        let _ = fs::remove_dir(&inside).and_then(|()| std::os::unix::fs::symlink(&outside, &inside));
        tracing::info!(data = %outside.display(), "PostgreSQL's user cannot enter the state directory");
        self.record.postgres_home = Some(outside.clone());
        Ok((outside, account))
    }
}

/// A kept state directory, made if it is not there, with an absolute path.
fn kept(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).map_err(DevstackError::file("create", path))?;
    let path = path.canonicalize().map_err(DevstackError::file("find", path))?;
    // It may lie in somebody's repository.
    let ignore = path.join(".gitignore");
    if !ignore.exists() {
        fs::write(&ignore, "*\n").map_err(DevstackError::file("write", &ignore))?;
    }
    Ok(path)
}

/// A new temporary directory. Root's must let PostgreSQL's user through.
fn temporary() -> Result<TempDir> {
    let base = env::temp_dir();
    let dir = tempfile::Builder::new()
        .prefix("stocktide-")
        .tempdir_in(&base)
        .map_err(DevstackError::file("create a directory in", &base))?;
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755))
            .map_err(DevstackError::file("set the mode of", dir.path()))?;
    }
    Ok(dir)
}

/// Sixteen random hexadecimal digits.
fn new_id() -> Result<String> {
    let source = Path::new("/proc/sys/kernel/random/uuid");
    let uuid = fs::read_to_string(source).map_err(DevstackError::file("read", source))?;
    Ok(uuid.chars().filter(char::is_ascii_hexdigit).take(16).collect())
}
