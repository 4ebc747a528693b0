//! The private Apache Kafka: nodes that are broker and KRaft controller in one.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::process::Command;

use crate::error::last_lines;
use crate::guard::{Guard, Part, Program};
use crate::java::Java;
use crate::metadata;
use crate::ports::Port;
use crate::process::ProcessId;
use crate::security::{Security, write_secret};
use crate::{DevstackError, Result};

const READY_PATIENCE: Duration = Duration::from_mins(2);
const STOP_PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

const LOG4J: &str = r#"<Configuration status="WARN">
  <Appenders><Console name="out"><PatternLayout pattern="%d %p %c{1}: %m%n"/></Console></Appenders>
  <Loggers><Root level="INFO"><AppenderRef ref="out"/></Root></Loggers>
</Configuration>
"#;

/// `listener.security.protocol.map` without the fronts.
const PROTOCOLS: &str = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL";

/// Everything that is not a default and holds for clusters of every size.
const SETTINGS: &[(&str, &str)] = &[
    ("process.roles", "broker,controller"),
    ("controller.listener.names", "CONTROLLER"),
    ("inter.broker.listener.name", "PLAINTEXT"),
    ("auto.create.topics.enable", "false"),
    ("message.max.bytes", "8388608"),
    ("replica.fetch.max.bytes", "8388608"),
    ("log.retention.ms", "-1"),
    ("offsets.topic.num.partitions", "5"),
    ("transaction.state.log.num.partitions", "3"),
    ("group.initial.rebalance.delay.ms", "0"),
    ("group.min.session.timeout.ms", "1000"),
    // A killed writer's open transaction hides what lies behind it: abort it soon after its own timeout.
    ("transaction.abort.timed.out.transaction.cleanup.interval.ms", "1000"),
    // A broker that was killed is let in again only when its old session has ended; the default is 9 s.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    // The cleaner's default buffer is a quarter of the heap.
    ("log.cleaner.threads", "1"),
    ("log.cleaner.dedupe.buffer.size", "8388608"),
];

/// Of a cluster that asks who is there. Who comes by the stack's own listener has no name, and may do everything.
const SECURE_SETTINGS: &[(&str, &str)] = &[
    ("sasl.enabled.mechanisms", "SCRAM-SHA-512,OAUTHBEARER"),
    (
        "listener.name.secure.scram-sha-512.sasl.jaas.config",
        "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    ),
    (
        "listener.name.secure.oauthbearer.sasl.jaas.config",
        "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required;",
    ),
    ("ssl.keystore.type", "PEM"),
    ("authorizer.class.name", "org.apache.kafka.metadata.authorizer.StandardAuthorizer"),
    ("allow.everyone.if.no.acl.found", "false"),
    ("super.users", "User:ANONYMOUS"),
];

/// What all nodes of a cluster share.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) java: Java,
    pub(crate) class_path: OsString,
    /// Further flags of the JVM: the archive of loaded classes.
    pub(crate) jvm_flags: Vec<OsString>,
    pub(crate) id: String,
    pub(crate) logs: PathBuf,
    /// `1@127.0.0.1:PORT,2@…`
    pub(crate) voters: String,
    pub(crate) nodes: u16,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) security: Option<Security>,
    pub(crate) fronts: Vec<Front>,
    pub(crate) guard: Arc<Guard>,
}

/// A further listener of every node, whose clients are told to come by another way: through a proxy.
#[derive(Debug, Clone)]
pub struct Front {
    /// The listener's name, in capitals.
    pub name: String,
    /// The port of 127.0.0.1 that clients are told, of each node in turn.
    pub advertised: Vec<u16>,
}

/// A node's ports.
#[derive(Debug)]
pub(crate) struct NodePorts {
    pub(crate) broker: Port,
    /// Where it asks who is there.
    pub(crate) secure: Option<Port>,
    pub(crate) controller: Port,
    /// In the order of [`Cluster::fronts`].
    pub(crate) fronts: Vec<Port>,
}

/// One node, running or not.
#[derive(Debug)]
pub(crate) struct KafkaNode {
    pub(crate) id: u16,
    dir: PathBuf,
    ports: NodePorts,
    cluster: Cluster,
    part: Option<Part>,
}

/// The `controller.quorum.voters` of nodes that have these ports.
pub(crate) fn voters(ports: &[NodePorts]) -> String {
    let voter =
        |(index, ports): (usize, &NodePorts)| format!("{}@127.0.0.1:{}", index + 1, ports.controller.number);
    ports.iter().enumerate().map(voter).collect::<Vec<_>>().join(",")
}

/// All jars, in an order that stays: an archive of classes fits one class path only.
pub(crate) fn class_path(jars: &Path) -> Result<OsString> {
    let mut paths: Vec<PathBuf> = fs::read_dir(jars)
        .map_err(DevstackError::file("read", jars))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jar"))
        .collect();
    paths.sort();
    let paths: Vec<OsString> = paths.into_iter().map(PathBuf::into_os_string).collect();
    Ok(paths.join(OsStr::new(":")))
}

impl KafkaNode {
    /// A node with its directory `dir`; nothing runs yet. `id` starts at 1.
    pub(crate) fn new(id: u16, dir: PathBuf, ports: NodePorts, cluster: Cluster) -> Self {
        Self { id, dir, ports, cluster, part: None }
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.broker.number
    }

    /// Where it asks who is there.
    pub(crate) fn secure_port(&self) -> Option<u16> {
        self.ports.secure.as_ref().map(|port| port.number)
    }

    /// Where its further listeners are, in their order.
    pub(crate) fn front_ports(&self) -> impl Iterator<Item = u16> {
        self.ports.fronts.iter().map(|port| port.number)
    }

    pub(crate) fn controller_port(&self) -> u16 {
        self.ports.controller.number
    }

    pub(crate) fn process(&self) -> Option<ProcessId> {
        self.part.as_ref().and_then(Part::id)
    }

    /// How it ended by itself, if it did.
    pub(crate) fn ended(&mut self) -> Option<String> {
        Some(self.part.as_mut()?.ended()?.to_string())
    }

    /// Starts the node; formats its storage first when it is new. Returns before it is ready.
    pub(crate) async fn launch(&mut self) -> Result<ProcessId> {
        self.configure()?;
        if !self.dir.join("data/meta.properties").exists() {
            self.format().await?;
        }
        let mut args = self.jvm();
        args.extend(["kafka.Kafka".into(), self.properties().into_os_string()]);
        let part = self.cluster.guard.spawn(&Program {
            path: self.cluster.java.path.clone(),
            args,
            account: None,
            log: self.log(),
            last_signal: "KILL",
        })?;
        let id = part.id();
        self.part = Some(part);
        id.ok_or_else(|| self.not_ready("ended at once".to_owned()))
    }

    /// Waits until the cluster has let this broker in.
    pub(crate) async fn ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + READY_PATIENCE;
        loop {
            if metadata::brokers(self.port()).await.is_ok_and(|nodes| nodes.contains(&i32::from(self.id))) {
                return Ok(());
            }
            if let Some(status) = self.ended() {
                return Err(self.not_ready(format!("ended before it was ready ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.not_ready(format!("was not ready after {} s", READY_PATIENCE.as_secs())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Asks it to end in order, and does not wait: nodes that ended one after another would leave the last without a quorum.
    pub(crate) fn ask_to_stop(&mut self) {
        if let Some(part) = &mut self.part {
            part.signal(Signal::TERM);
        }
    }

    /// Ends it in order.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        self.end(Signal::TERM, STOP_PATIENCE).await
    }

    /// SIGKILL; returns when it is gone.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        self.end(Signal::KILL, STOP_PATIENCE).await
    }

    async fn end(&mut self, signal: Signal, patience: Duration) -> Result<()> {
        let Some(mut part) = self.part.take() else { return Ok(()) };
        part.end(signal, patience).await;
        part.id().map_or(Ok(()), |id| self.cluster.guard.forget(id))
    }

    /// Lets it run on after this process.
    pub(crate) fn release(&mut self) {
        if let Some(part) = self.part.take() {
            part.release();
        }
    }

    fn log(&self) -> PathBuf {
        self.cluster.logs.join(format!("kafka-{}.log", self.id))
    }

    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// The JVM's arguments up to the main class.
    fn jvm(&self) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["-Xmx512m".into(), "-XX:+ExitOnOutOfMemoryError".into()];
        // Nothing of a killed JVM may stay in the system's own directory for temporary files.
        args.extend(["-XX:-UsePerfData".into(), define("java.io.tmpdir", &self.dir.join("tmp"))]);
        args.push(define("log4j2.configurationFile", &self.dir.join("log4j2.xml")));
        args.extend(self.cluster.jvm_flags.iter().cloned());
        args.extend(["-cp".into(), self.cluster.class_path.clone()]);
        args
    }

    fn configure(&self) -> Result<()> {
        let tmp = self.dir.join("tmp");
        fs::create_dir_all(&tmp).map_err(DevstackError::file("create", &tmp))?;
        let log4j = self.dir.join("log4j2.xml");
        fs::write(&log4j, LOG4J).map_err(DevstackError::file("write", &log4j))?;
        let (id, broker, controller) = (self.id, self.port(), self.controller_port());
        let at = |host: &str| {
            self.secure_port().map(|port| format!(",SECURE://{host}:{port}")).unwrap_or_default()
        };
        let (secure, advertised) = (at("127.0.0.1"), at("localhost"));
        let replicas = self.cluster.nodes.to_string();
        let in_sync = if self.cluster.nodes > 1 { "2" } else { "1" };
        let (front, front_advertised, front_protocols) = self.fronts();
        let mut lines = vec![
            "# Written by stocktide at each start.".to_owned(),
            format!("node.id={id}"),
            format!(
                "listeners=PLAINTEXT://127.0.0.1:{broker},CONTROLLER://127.0.0.1:{controller}{secure}{front}"
            ),
            format!("advertised.listeners=PLAINTEXT://127.0.0.1:{broker}{advertised}{front_advertised}"),
            format!("listener.security.protocol.map={PROTOCOLS}{front_protocols}"),
            format!("controller.quorum.voters={}", self.cluster.voters),
            format!("log.dirs={}", self.dir.join("data").display()),
        ];
        for name in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            lines.push(format!("{name}.replication.factor={replicas}"));
        }
        lines.push(format!("default.replication.factor={replicas}"));
        for name in
            ["min.insync.replicas", "transaction.state.log.min.isr", "share.coordinator.state.topic.min.isr"]
        {
            lines.push(format!("{name}={in_sync}"));
        }
        lines.extend(SETTINGS.iter().map(|(name, value)| format!("{name}={value}")));
        if let Some(security) = &self.cluster.security {
            let store = self.dir.join("server.pem");
            write_secret(&store, &format!("{}{}", security.key, security.certificate), None)?;
            lines.extend(SECURE_SETTINGS.iter().map(|(name, value)| format!("{name}={value}")));
            lines.push(format!("ssl.keystore.location={}", store.display()));
        }
        lines.extend(self.cluster.settings.iter().map(|(name, value)| format!("{name}={value}")));
        let path = self.properties();
        fs::write(&path, lines.join("\n") + "\n").map_err(DevstackError::file("write", &path))
    }

    /// What the fronts add to `listeners`, to `advertised.listeners` and to the map of protocols.
    fn fronts(&self) -> (String, String, String) {
        let (mut listeners, mut advertised, mut protocols) = (Vec::new(), Vec::new(), Vec::new());
        for (front, port) in self.cluster.fronts.iter().zip(self.front_ports()) {
            let name = &front.name;
            let told = front.advertised.get(usize::from(self.id) - 1).copied().unwrap_or(port);
            listeners.push(format!(",{name}://127.0.0.1:{port}"));
            advertised.push(format!(",{name}://127.0.0.1:{told}"));
            protocols.push(format!(",{name}:PLAINTEXT"));
        }
        (listeners.concat(), advertised.concat(), protocols.concat())
    }

    async fn format(&self) -> Result<()> {
        let properties = self.properties().display().to_string();
        let users = self.cluster.security.iter().flat_map(|security| &security.users);
        let users: Vec<String> = users
            .map(|(name, password)| format!("SCRAM-SHA-512=[name={name},password={password}]"))
            .collect();
        let mut args = vec!["format", "-t", &self.cluster.id, "-c", &properties];
        args.extend(users.iter().flat_map(|user| ["--add-scram", user.as_str()]));
        self.tool("kafka.tools.StorageTool", &args).await
    }

    async fn tool(&self, main: &str, args: &[&str]) -> Result<()> {
        let output = Command::new(&self.cluster.java.path)
            .args(self.jvm())
            .arg(main)
            .args(args)
            .current_dir("/")
            .kill_on_drop(true)
            .output()
            .await
            .map_err(DevstackError::file("run", &self.cluster.java.path))?;
        if output.status.success() {
            return Ok(());
        }
        Err(DevstackError::Failed {
            program: main.to_owned(),
            status: output.status.to_string(),
            output: last_lines(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat()), 10),
        })
    }

    fn not_ready(&self, what: String) -> DevstackError {
        let log = self.log();
        let tail = last_lines(&fs::read_to_string(&log).unwrap_or_default(), 12);
        DevstackError::NotReady { part: format!("Kafka node {}", self.id), what, log, tail }
    }
}

fn define(name: &str, value: &Path) -> OsString {
    let mut argument = OsString::from(format!("-D{name}="));
    argument.push(value);
    argument
}
