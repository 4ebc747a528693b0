//! The private PostgreSQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;
use tokio_postgres::NoTls;

use crate::account::{self, Account};
use crate::error::last_lines;
use crate::guard::{Guard, Part, Program};
use crate::ports::Port;
use crate::process::{ProcessId, of_postgres, until, until_blocking};
use crate::record::url;
use crate::security::{Security, write_secret};
use crate::{DevstackError, Parts, Result};

/// The superuser, and the database that is made first.
pub(crate) const NAME: &str = "stocktide";
const READY_PATIENCE: Duration = Duration::from_mins(2);
/// What the server says when a process of its predecessor has not let go of the memory that they shared.
const STILL_IN_USE: &str = "pre-existing shared memory block";
const STOP_PATIENCE: Duration = Duration::from_secs(20);

/// Everything that is not a default. `port` and the socket's directory are added per stack.
const SETTINGS: &[(&str, &str)] = &[
    ("listen_addresses", "127.0.0.1"),
    ("max_connections", "200"),
    ("shared_buffers", "256MB"),
    ("max_wal_size", "4GB"),
    // Durability as in production: the tests prove what survives a kill.
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("autovacuum", "on"),
    ("track_io_timing", "on"),
    ("timezone", "UTC"),
    ("log_timezone", "UTC"),
    ("log_line_prefix", "%m [%p] %u@%d "),
    ("log_lock_waits", "on"),
];

/// Who is let in where security is asked for: the stack itself, and whoever shows a password under TLS.
const HBA: &str = "\
local   all  all                          trust
host    all  stocktide    127.0.0.1/32    trust
hostssl all  all          127.0.0.1/32    scram-sha-256
";

/// A PostgreSQL server of a stack, running or not.
#[derive(Debug)]
pub(crate) struct Postgres {
    home: PathBuf,
    bin: PathBuf,
    log: PathBuf,
    cluster: String,
    account: Option<Account>,
    port: Port,
    settings: Vec<(String, String)>,
    security: Option<Security>,
    guard: Arc<Guard>,
    part: Option<Part>,
}

/// What a [`Postgres`] is made of.
pub(crate) struct Setup<'a> {
    pub(crate) parts: &'a Parts,
    /// Holds `data` and the socket; must be enterable by `account`.
    pub(crate) home: PathBuf,
    pub(crate) logs: &'a Path,
    /// Names this server among all others in its processes' titles.
    pub(crate) cluster: String,
    pub(crate) account: Option<Account>,
    pub(crate) port: Port,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) security: Option<Security>,
    pub(crate) guard: Arc<Guard>,
}

impl Postgres {
    /// Takes over the directory; nothing runs yet.
    pub(crate) async fn new(setup: Setup<'_>) -> Result<Self> {
        let Setup { parts, home, logs, cluster, account, port, settings, security, guard } = setup;
        let bin = parts.postgres.join("bin");
        check_version(&bin.join("postgres")).await?;
        if !account::can_enter(account.as_ref(), &bin) {
            let user = account.map(|account| account.name).unwrap_or_default();
            return Err(DevstackError::Unreachable { path: bin, user, remedy: "STOCKTIDE_PARTS_DIR" });
        }
        let log = logs.join("postgres.log");
        Ok(Self { home, bin, log, cluster, account, port, settings, security, guard, part: None })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number
    }

    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.part.as_ref().and_then(Part::id)
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        Some(self.part.as_mut()?.ended()?.to_string())
    }

    /// Starts the server; makes the data directory first when there is none. Returns before it is ready.
    pub(crate) async fn launch(&mut self) -> Result<ProcessId> {
        let data = self.data();
        if !data.exists() {
            self.init(&data).await?;
        }
        // Nobody but this stack uses the directory (its lock is ours), so what still runs on it was left behind.
        end_all(&self.cluster, &data).await;
        let stale = data.join("postmaster.pid");
        if stale.exists() {
            fs::remove_file(&stale).map_err(DevstackError::file("remove", &stale))?;
        }
        self.configure()?;
        let part = self.guard.spawn(&Program {
            path: self.bin.join("postgres"),
            args: vec!["-D".into(), data.into_os_string()],
            account: self.account.clone(),
            log: self.log.clone(),
            // Immediate shutdown: the postmaster takes its children along.
            last_signal: "QUIT",
        })?;
        let id = part.id();
        self.part = Some(part);
        id.ok_or_else(|| self.not_ready("ended at once".to_owned()))
    }

    /// Waits until connections are taken, and makes the first database if it is not there.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        while let Some(status) = self.ready_or_ended(deadline).await? {
            let refused = self.not_ready(format!("ended at once ({status})"));
            // A process that was killed is out of sight a moment before its share of the memory is: that passes.
            if Instant::now() >= deadline || !refused.to_string().contains(STILL_IN_USE) {
                return Err(refused);
            }
            if let Some(part) = self.part.take() {
                self.forget(&part)?;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            self.launch().await?;
        }
        let found =
            self.sql("postgres", &format!("SELECT 1 FROM pg_database WHERE datname = '{NAME}'")).await?;
        if found == 0 { self.create_database(NAME).await } else { Ok(()) }
    }

    /// Waits until connections are taken, or it has ended: then how.
    async fn ready_or_ended(&mut self, deadline: Instant) -> Result<Option<String>> {
        let pid_file = self.data().join("postmaster.pid");
        // The eighth line is how pg_ctl knows, too.
        let is_ready = || {
            fs::read_to_string(&pid_file)
                .is_ok_and(|text| text.lines().nth(7).map(str::trim) == Some("ready"))
        };
        let mut ended = None;
        let part = &mut self.part;
        let done = until(deadline.saturating_duration_since(Instant::now()), || {
            ended = part.as_mut().and_then(Part::ended).map(|status| status.to_string());
            ended.is_some() || is_ready()
        })
        .await;
        if !done && ended.is_none() {
            return Err(self.not_ready(format!("was not ready after {} s", READY_PATIENCE.as_secs())));
        }
        Ok(ended)
    }

    pub(crate) async fn create_database(&self, name: &str) -> Result<()> {
        self.sql("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).await.map(|_| ())
    }

    /// Ends it in order: connections are cut, a checkpoint is written.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.stop_by(Signal::INT).await
    }

    /// Ends it by one of the signals that the server knows.
    pub(crate) async fn stop_by(&mut self, signal: Signal) -> Result<()> {
        if let Some(mut part) = self.part.take() {
            part.end(signal, STOP_PATIENCE).await;
            end_all(&self.cluster, &self.data()).await;
            self.forget(&part)?;
        }
        Ok(())
    }

    /// SIGKILL to every process of the server, as a power cut would have it; returns when all are gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        if let Some(mut part) = self.part.take() {
            part.end(Signal::KILL, Duration::from_secs(10)).await;
            end_all(&self.cluster, &self.data()).await;
            self.forget(&part)?;
        }
        Ok(())
    }

    /// Lets it run on after this process.
    pub(crate) fn release(&mut self) {
        if let Some(part) = self.part.take() {
            part.release();
        }
    }

    fn forget(&self, part: &Part) -> Result<()> {
        part.id().map_or(Ok(()), |id| self.guard.forget(id))
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    /// Makes the data directory beside its final place, so that an interrupted attempt is not taken for one.
    async fn init(&self, data: &Path) -> Result<()> {
        let fresh = self.home.join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(DevstackError::file("remove", &fresh))?;
        }
        account::make_dir(&fresh, 0o700, self.account.as_ref())?;
        let mut command = std::process::Command::new(self.bin.join("initdb"));
        command.arg("-D").arg(&fresh).args(["-U", NAME, "--auth=trust", "--encoding=UTF8", "--no-sync"]);
        // The built-in provider sorts the same on every machine, whatever locales it has.
        command.args(["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]);
        command.current_dir("/").env("LC_ALL", "C");
        account::run_as(&mut command, self.account.as_ref());
        let output = Command::from(command)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(DevstackError::file("run", &self.bin.join("initdb")))?;
        if output.status.success() {
            return fs::rename(&fresh, data).map_err(DevstackError::file("move into place", data));
        }
        Err(DevstackError::Failed {
            program: "initdb".to_owned(),
            status: output.status.to_string(),
            output: last_lines(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()), 10),
        })
    }

    /// Writes the whole configuration anew, so that a kept directory follows this program's settings.
    fn configure(&self) -> Result<()> {
        let socket = self.home.display().to_string();
        let mut lines = vec!["# Written by stocktide at each start; ALTER SYSTEM overrides it.".to_owned()];
        lines.push(setting("port", &self.port.number.to_string()));
        lines.push(setting("cluster_name", &self.cluster));
        // A socket's path has room for 107 bytes; where it does not fit, TCP remains.
        lines.push(setting("unix_socket_directories", if socket.len() < 85 { &socket } else { "" }));
        lines.extend(SETTINGS.iter().map(|(name, value)| setting(name, value)));
        lines.extend(self.settings.iter().map(|(name, value)| setting(name, value)));
        if let Some(security) = &self.security {
            let account = self.account.as_ref();
            let (certificate, key) = (self.data().join("server.crt"), self.data().join("server.key"));
            write_secret(&certificate, &security.certificate, account)?;
            write_secret(&key, &security.key, account)?;
            write_secret(&self.data().join("pg_hba.conf"), HBA, account)?;
            lines.push(setting("ssl", "on"));
        }
        let path = self.data().join("postgresql.conf");
        fs::write(&path, lines.join("\n") + "\n").map_err(DevstackError::file("write", &path))
    }

    /// Runs one statement; answers the number of rows.
    async fn sql(&self, database: &str, statement: &str) -> Result<usize> {
        let failed = |source| DevstackError::Sql {
            action: format!("run {statement:?} on the private PostgreSQL"),
            source,
        };
        let (client, connection) =
            tokio_postgres::connect(&url(self.port(), database), NoTls).await.map_err(failed)?;
        let connection = tokio::spawn(connection);
        let rows = client.query(statement, &[]).await.map_err(failed)?;
        drop(client);
        let _ = connection.await;
        Ok(rows.len())
    }

    fn not_ready(&self, what: String) -> DevstackError {
        let tail = last_lines(&fs::read_to_string(&self.log).unwrap_or_default(), 12);
        DevstackError::NotReady { part: "PostgreSQL".to_owned(), what, log: self.log.clone(), tail }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(mut part) = self.part.take() {
            part.end_blocking(Signal::QUIT, Duration::from_secs(5));
            let data = self.data();
            until_blocking(Duration::from_secs(5), || kill_once(&self.cluster, &data));
        }
    }
}

/// Ends every process of the server whose cluster and data directory these are.
pub(crate) async fn end_all(cluster: &str, data: &Path) {
    until(Duration::from_secs(10), || kill_once(cluster, data)).await;
}

/// Kills what is there; true when nothing was.
fn kill_once(cluster: &str, data: &Path) -> bool {
    let left = of_postgres(cluster, data);
    for process in &left {
        process.signal(Signal::KILL);
    }
    left.is_empty()
}

fn setting(name: &str, value: &str) -> String {
    format!("{name} = '{}'", value.replace('\'', "''"))
}

async fn check_version(postgres: &Path) -> Result<()> {
    let output = Command::new(postgres)
        .arg("--version")
        .kill_on_drop(true)
        .output()
        .await
        .map_err(DevstackError::file("run", postgres))?;
    let version = version(&String::from_utf8_lossy(&output.stdout));
    if loses_updates(&version) {
        return Err(DevstackError::LossyPostgres { path: postgres.to_path_buf(), version });
    }
    Ok(())
}

/// `18.6` from `postgres (PostgreSQL) 18.6 (Debian …)`.
fn version(text: &str) -> String {
    text.split_ascii_whitespace().nth(2).unwrap_or("of no known version").to_owned()
}

/// 18.0 and 18.1 skip concurrently updated rows in `UPDATE … FROM` and `SELECT … FOR UPDATE` with a join.
fn loses_updates(version: &str) -> bool {
    matches!(version, "18" | "18.0" | "18.1")
        || ["18beta", "18rc", "18devel"].iter().any(|early| version.starts_with(early))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_lose_updates_are_known() {
        for bad in ["18.0", "18.1", "18beta2", "18rc1"] {
            assert!(loses_updates(bad), "{bad}");
        }
        for good in ["17.6", "18.2", "18.6", "18.10", "19.0", "19beta1"] {
            assert!(!loses_updates(good), "{good}");
        }
        assert_eq!(version("postgres (PostgreSQL) 18.6"), "18.6");
    }

    #[test]
    fn a_setting_may_hold_quotes() {
        assert_eq!(setting("cluster_name", "it's"), "cluster_name = 'it''s'");
    }
}
