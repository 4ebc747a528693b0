//! What a stack writes down about itself (`stack.json` in its state directory), and what others can do with that.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use crate::postgres::{self, NAME};
use crate::process::{ProcessId, boot_id, until};
use crate::state::{LOCK, cluster_name};
use crate::{DevstackError, Result, parts};

const FILE: &str = "stack.json";
/// A holder has its own deadlines for every part; this is past all of them.
const HOLDER_PATIENCE: Duration = Duration::from_secs(90);
const STOP_PATIENCE: Duration = Duration::from_secs(30);

/// The contents of `stack.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Names the stack: in Kafka's cluster id and in the titles of PostgreSQL's processes.
    pub(crate) id: String,
    /// Process ids hold in this boot only.
    pub(crate) boot_id: String,
    /// The process that ends the stack when it ends; none when the stack was left in the background.
    pub(crate) holder: Option<ProcessId>,
    /// Whether the last start came to its end.
    pub(crate) ready: bool,
    pub(crate) postgres_home: Option<PathBuf>,
    pub(crate) postgres: Option<Server>,
    /// In the order of the node ids, from 1.
    pub(crate) kafka: Vec<Server>,
}

/// One server of a stack.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Server {
    pub(crate) port: u16,
    /// The KRaft controller's port; a Kafka node has one.
    pub(crate) controller_port: Option<u16>,
    pub(crate) process: Option<ProcessId>,
}

impl Record {
    /// The record in `state_dir`; pids of an earlier boot are dropped. `None`: no stack was ever started there.
    pub(crate) fn load(state_dir: &Path) -> Result<Option<Self>> {
        let path = state_dir.join(FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(DevstackError::file("read", &path)(error)),
        };
        let mut record: Self = serde_json::from_slice(&text)
            .map_err(io::Error::from)
            .map_err(DevstackError::file("understand", &path))?;
        if record.boot_id != boot_id() {
            record.forget_processes();
        }
        Ok(Some(record))
    }

    /// Writes it down; a reader sees the old or the new one.
    pub(crate) fn save(&self, state_dir: &Path) -> Result<()> {
        let (path, fresh) = (state_dir.join(FILE), state_dir.join("stack.json.new"));
        let text = serde_json::to_vec_pretty(self)
            .map_err(io::Error::from)
            .map_err(DevstackError::file("write", &path))?;
        fs::write(&fresh, text).map_err(DevstackError::file("write", &fresh))?;
        fs::rename(&fresh, &path).map_err(DevstackError::file("replace", &path))
    }

    pub(crate) fn forget_processes(&mut self) {
        self.holder = None;
        self.ready = false;
        self.servers_mut().for_each(|server| server.process = None);
    }

    pub(crate) fn servers(&self) -> impl Iterator<Item = &Server> {
        self.postgres.iter().chain(&self.kafka)
    }

    fn servers_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.postgres.iter_mut().chain(&mut self.kafka)
    }

    /// Ends whatever of the recorded processes still runs, in order if `gently`. Answers whether something ran.
    pub(crate) async fn end_processes(&self, gently: bool) -> bool {
        let postgres = self.postgres.as_ref().and_then(|server| server.process);
        let brokers: Vec<ProcessId> = self.kafka.iter().filter_map(|server| server.process).collect();
        let (fast, term) = if gently { (Signal::INT, Signal::TERM) } else { (Signal::QUIT, Signal::KILL) };
        let mut ran = postgres.is_some_and(|process| process.signal(fast));
        for broker in &brokers {
            ran |= broker.signal(term);
        }
        let mut all = brokers;
        all.extend(postgres);
        if !until(STOP_PATIENCE, || !all.iter().any(ProcessId::is_alive)).await {
            for process in &all {
                process.signal(Signal::KILL);
            }
            until(STOP_PATIENCE, || !all.iter().any(ProcessId::is_alive)).await;
        }
        if let Some(home) = &self.postgres_home {
            postgres::end_all(&cluster_name(&self.id), &home.join("data")).await;
        }
        ran
    }
}

/// How a part of a stack is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartState {
    /// Its process runs.
    Running,
    /// It has none.
    Stopped,
}

/// One part of a stack, as seen from outside.
#[derive(Debug, Clone, Serialize)]
pub struct PartStatus {
    /// `postgres`, `kafka-1`, …
    pub name: String,
    /// Whether it runs.
    pub state: PartState,
    /// Its process id, if it runs.
    pub pid: Option<i32>,
    /// Its TCP port on 127.0.0.1; kept over restarts where it stays free.
    pub port: u16,
    /// Its log file.
    pub log: PathBuf,
}

/// A stack, as seen from outside.
#[derive(Debug, Clone, Serialize)]
pub struct StackStatus {
    /// Whether every part runs and the start has come to its end.
    pub running: bool,
    /// The state directory.
    pub state_dir: PathBuf,
    /// The superuser's URI, if PostgreSQL runs.
    pub database_url: Option<String>,
    /// `host:port,…` of the brokers that run.
    pub kafka_brokers: Option<String>,
    /// The process that holds the stack; none when it was left in the background.
    pub held_by: Option<i32>,
    /// PostgreSQL, then the Kafka nodes.
    pub parts: Vec<PartStatus>,
}

/// A stack that this process does not hold: the way to see and end one that was left in the background, or is held elsewhere.
#[derive(Debug, Clone)]
pub struct RecordedStack {
    state_dir: PathBuf,
    record: Record,
}

impl RecordedStack {
    /// The stack in `state_dir`; `None` when none was ever started there.
    pub fn open(state_dir: &Path) -> Result<Option<Self>> {
        let Some(record) = Record::load(state_dir)? else { return Ok(None) };
        let state_dir = state_dir.canonicalize().map_err(DevstackError::file("find", state_dir))?;
        Ok(Some(Self { state_dir, record }))
    }

    /// How it is now.
    pub fn status(&self) -> StackStatus {
        let part = |name: String, server: &Server| {
            let pid = server.process.filter(ProcessId::is_alive).map(|process| process.pid);
            let state = if pid.is_some() { PartState::Running } else { PartState::Stopped };
            let log = self.state_dir.join("logs").join(format!("{name}.log"));
            PartStatus { name, state, pid, port: server.port, log }
        };
        let mut parts: Vec<PartStatus> =
            self.record.postgres.iter().map(|server| part("postgres".to_owned(), server)).collect();
        let database_url =
            parts.iter().find(|part| part.state == PartState::Running).map(|part| url(part.port, NAME));
        let nodes: Vec<PartStatus> = self
            .record
            .kafka
            .iter()
            .zip(1..)
            .map(|(server, node)| part(format!("kafka-{node}"), server))
            .collect();
        let ports: Vec<u16> =
            nodes.iter().filter(|part| part.state == PartState::Running).map(|part| part.port).collect();
        parts.extend(nodes);
        StackStatus {
            running: self.record.ready
                && !parts.is_empty()
                && parts.iter().all(|part| part.state == PartState::Running),
            state_dir: self.state_dir.clone(),
            database_url,
            kafka_brokers: (!ports.is_empty()).then(|| brokers(ports)),
            held_by: self.record.holder.filter(ProcessId::is_alive).map(|holder| holder.pid),
            parts,
        }
    }

    /// Ends it in order, its holder included. The data stay. Answers whether anything ran.
    pub async fn stop(self) -> Result<bool> {
        let mut ran = false;
        if let Some(holder) = self.record.holder {
            ran |= holder.signal(Signal::TERM);
            if !until(HOLDER_PATIENCE, || !holder.is_alive()).await {
                return Err(DevstackError::Busy { state_dir: self.state_dir });
            }
        }
        let _lock = parts::lock(&self.state_dir.join(LOCK), STOP_PATIENCE).await?;
        // Read again under the lock: the holder, or another `down`, has written since.
        let Some(mut record) = Record::load(&self.state_dir)? else { return Ok(ran) };
        ran |= record.end_processes(true).await;
        record.forget_processes();
        record.save(&self.state_dir)?;
        Ok(ran)
    }
}

/// The superuser's URI of a database of the PostgreSQL on `port`.
pub(crate) fn url(port: u16, database: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let escaped = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    format!("postgres://{NAME}@127.0.0.1:{port}/{}", database.bytes().map(escaped).collect::<String>())
}

/// The bootstrap list of brokers on these ports.
pub(crate) fn brokers(ports: impl IntoIterator<Item = u16>) -> String {
    ports.into_iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_record_of_an_earlier_boot_names_no_process_and_keeps_the_ports() {
        let dir = tempfile::tempdir().unwrap();
        let server = Server { port: 15_001, controller_port: None, process: ProcessId::current() };
        let record = Record {
            boot_id: "another boot".into(),
            holder: ProcessId::current(),
            ready: true,
            postgres: Some(server),
            ..Record::default()
        };
        record.save(dir.path()).unwrap();
        let loaded = RecordedStack::open(dir.path()).unwrap().unwrap().status();
        assert!(!loaded.running && loaded.held_by.is_none());
        assert_eq!((loaded.parts[0].pid, loaded.parts[0].port), (None, 15_001));
    }

    #[test]
    fn a_directory_without_a_stack_is_told_apart_from_a_damaged_record() {
        let dir = tempfile::tempdir().unwrap();
        assert!(RecordedStack::open(dir.path()).unwrap().is_none());
        fs::write(dir.path().join(FILE), "{").unwrap();
        let error = RecordedStack::open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("stack.json"), "{error}");
    }
}
