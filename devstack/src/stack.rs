//! A stack and its parts, from the owner's side.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::guard::Guard;
use rustix::process::Signal;

use crate::kafka::{Cluster, Front, KafkaNode, NodePorts, class_path, voters};
use crate::parts::Parts;
use crate::postgres::{NAME, Postgres, Setup};
use crate::process::ProcessId;
use crate::record::{Server, brokers, url};
use crate::security::Security;
use crate::state::{StateDir, cluster_name};
use crate::{DevstackError, Result, cds, java, ports};

/// What to start.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Where the stack keeps its data and logs; `None`: a temporary directory that is deleted at the end.
    pub state_dir: Option<PathBuf>,
    /// Kafka nodes, each broker and controller in one: 1 or 3. Internal topics and new ones get as many replicas.
    pub kafka_nodes: u16,
    /// Whether to start PostgreSQL.
    pub postgres: bool,
    /// Whether to start Kafka.
    pub kafka: bool,
    /// Where the programs are kept; `None`: [`parts_dir`](crate::parts_dir).
    pub parts_dir: Option<PathBuf>,
    /// Settings of PostgreSQL (`postgresql.conf`); they win over this crate's own.
    pub postgres_settings: Vec<(String, String)>,
    /// Settings of every Kafka node (`server.properties`); they win over this crate's own.
    pub kafka_settings: Vec<(String, String)>,
    /// Whether the servers ask who is there; `None`: they let everybody in.
    pub security: Option<Security>,
    /// Further listeners of the Kafka nodes, for clients that come through proxies.
    pub kafka_fronts: Vec<Front>,
}

impl Default for StackOptions {
    /// PostgreSQL and one Kafka node in a temporary directory.
    fn default() -> Self {
        Self {
            state_dir: None,
            kafka_nodes: 1,
            postgres: true,
            kafka: true,
            parts_dir: None,
            postgres_settings: Vec::new(),
            kafka_settings: Vec::new(),
            security: None,
            kafka_fronts: Vec::new(),
        }
    }
}

/// How PostgreSQL is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PostgresStop {
    /// Connections are cut, transactions rolled back, a checkpoint is written.
    Fast,
    /// All is dropped at once; the next start recovers from the log.
    Immediate,
}

/// A running stack. It ends when this value is dropped, and when the process that has it ends in whatever way.
#[derive(Debug)]
pub struct Stack {
    // Dropped in this order: the servers, the watchdog, the directory.
    postgres: Option<Postgres>,
    nodes: Vec<KafkaNode>,
    guard: Arc<Guard>,
    fronts: Vec<Front>,
    state: StateDir,
}

impl Stack {
    /// Starts a stack and returns when it takes connections. Fetches the programs first if they are not there yet.
    ///
    /// # Errors
    /// [`DevstackError`]; nothing is left running. `AlreadyRunning` when `state_dir` has a stack that runs.
    pub async fn start(options: StackOptions) -> Result<Self> {
        if options.kafka && !matches!(options.kafka_nodes, 1 | 3) {
            return Err(DevstackError::NodeCount { wanted: options.kafka_nodes });
        }
        let parts = Parts::at(options.parts_dir.clone());
        let state = StateDir::claim(options.state_dir.as_deref()).await?;
        let guard = Arc::new(Guard::start(state.temporary())?);
        let fronts = options.kafka_fronts.clone();
        let mut stack = Self { postgres: None, nodes: Vec::new(), guard, fronts, state };
        // Before Java is asked for: Maven says better what is missing when nothing is there.
        parts.prepare().await?;
        if options.postgres {
            stack.postgres = Some(stack.make_postgres(&parts, &options).await?);
        }
        if options.kafka {
            stack.nodes = stack.make_nodes(&parts, &options).await?;
        }
        stack.bring_up().await?;
        Ok(stack)
    }

    /// The superuser's URI of the database `stocktide`: `postgres://stocktide@127.0.0.1:PORT/stocktide`. Empty when the stack has
    /// no PostgreSQL.
    pub fn database_url(&self) -> String {
        self.postgres.as_ref().map(|postgres| url(postgres.port(), NAME)).unwrap_or_default()
    }

    /// All brokers, as `127.0.0.1:PORT,…`. Empty when the stack has no Kafka.
    pub fn kafka_brokers(&self) -> String {
        brokers(self.nodes.iter().map(KafkaNode::port))
    }

    /// The listeners that ask who is there, as `localhost:PORT,…`. Empty where security was not asked for.
    pub fn secure_brokers(&self) -> String {
        let ports = self.nodes.iter().filter_map(KafkaNode::secure_port);
        ports.map(|port| format!("localhost:{port}")).collect::<Vec<_>>().join(",")
    }

    /// The URI with which a user of PostgreSQL comes by TLS, as far as the host: `postgres://USER@localhost:PORT/stocktide`; the
    /// password is not in it.
    pub fn secure_database_url(&self, user: &str) -> String {
        let port = self.postgres.as_ref().map_or(0, Postgres::port);
        format!("postgres://{user}@localhost:{port}/{NAME}")
    }

    /// Where the data and the logs (`logs/postgres.log`, `logs/kafka-1.log`, …) are.
    pub fn state_dir(&self) -> &Path {
        &self.state.path
    }

    /// The servers' main processes, as far as they run.
    pub fn processes(&self) -> Vec<ProcessId> {
        let postgres = self.postgres.as_ref().and_then(Postgres::process);
        postgres.into_iter().chain(self.nodes.iter().filter_map(KafkaNode::process)).collect()
    }

    /// PostgreSQL's main process, while it runs.
    pub fn postgres_process(&self) -> Option<ProcessId> {
        self.postgres.as_ref().and_then(Postgres::process)
    }

    /// The process of Kafka node `node` (from 1), while it runs.
    pub fn broker_process(&self, node: u16) -> Option<ProcessId> {
        self.nodes.iter().find(|candidate| candidate.id == node).and_then(KafkaNode::process)
    }

    /// Where a front's listeners are, of each Kafka node in turn; none for a name that was not asked for.
    pub fn front_ports(&self, name: &str) -> Vec<u16> {
        let of = |node: &KafkaNode| {
            self.fronts
                .iter()
                .zip(node.front_ports())
                .find(|(front, _)| front.name == name)
                .map(|found| found.1)
        };
        self.nodes.iter().filter_map(of).collect()
    }

    /// Which server ended by itself, and how; `None` while all that were started run.
    pub fn failure(&mut self) -> Option<String> {
        if let Some(how) = self.postgres.as_mut().and_then(Postgres::ended) {
            return Some(format!(
                "PostgreSQL ended ({how}); its log: {}",
                self.state.logs().join("postgres.log").display()
            ));
        }
        let logs = self.state.logs();
        self.nodes.iter_mut().find_map(|node| {
            let how = node.ended()?;
            let log = logs.join(format!("kafka-{}.log", node.id));
            Some(format!("Kafka node {} ended ({how}); its log: {}", node.id, log.display()))
        })
    }

    /// Makes an empty database and answers its URI; for tests that have one each.
    pub async fn create_database(&self, name: &str) -> Result<String> {
        let postgres = self.postgres.as_ref().ok_or_else(no_postgres)?;
        postgres.create_database(name).await?;
        Ok(url(postgres.port(), name))
    }

    /// SIGKILL to every process of the PostgreSQL server, as a power cut would have it. Returns when all are gone.
    pub async fn kill_postgres(&mut self) -> Result<()> {
        self.postgres.as_mut().ok_or_else(no_postgres)?.kill().await?;
        self.write_down()
    }

    /// Asks PostgreSQL to stop, and returns when it has.
    pub async fn stop_postgres(&mut self, how: PostgresStop) -> Result<()> {
        let signal = match how {
            PostgresStop::Fast => Signal::INT,
            PostgresStop::Immediate => Signal::QUIT,
        };
        self.postgres.as_mut().ok_or_else(no_postgres)?.stop_by(signal).await?;
        self.write_down()
    }

    /// Starts PostgreSQL again, on the same port and data. Nothing happens when it runs.
    pub async fn start_postgres(&mut self) -> Result<()> {
        let postgres = self.postgres.as_mut().ok_or_else(no_postgres)?;
        if postgres.process().is_some() && postgres.ended().is_none() {
            return Ok(());
        }
        postgres.kill().await?;
        postgres.launch().await?;
        postgres.ready().await?;
        self.write_down()
    }

    /// SIGKILL to Kafka node `node` (from 1). Returns when it is gone.
    pub async fn kill_broker(&mut self, node: u16) -> Result<()> {
        self.node(node)?.kill().await?;
        self.write_down()
    }

    /// Asks Kafka node `node` (from 1) to stop in order, and returns when it has.
    pub async fn stop_broker(&mut self, node: u16) -> Result<()> {
        self.node(node)?.stop().await?;
        self.write_down()
    }

    /// Starts Kafka node `node` (from 1) again, on the same ports and data. Nothing happens when it runs.
    ///
    /// After a kill the cluster lets it in when its old session has ended, 3 s after the kill.
    pub async fn start_broker(&mut self, node: u16) -> Result<()> {
        let node = self.node(node)?;
        if node.process().is_some() && node.ended().is_none() {
            return Ok(());
        }
        node.kill().await?;
        node.launch().await?;
        node.ready().await?;
        self.write_down()
    }

    /// Starts all Kafka nodes again that do not run, at once: one alone would wait for a quorum.
    ///
    /// After a kill the cluster lets a node in when its old session has ended, 3 s after the kill.
    pub async fn start_brokers(&mut self) -> Result<()> {
        let mut started = Vec::new();
        for node in &mut self.nodes {
            if node.process().is_none() || node.ended().is_some() {
                node.kill().await?;
                node.launch().await?;
                started.push(node.id);
            }
        }
        for node in self.nodes.iter_mut().filter(|node| started.contains(&node.id)) {
            node.ready().await?;
        }
        self.write_down()
    }

    /// Ends everything: in order where the data are kept, at once where they are temporary and deleted.
    pub async fn stop(mut self) -> Result<()> {
        if self.state.temporary().is_some() {
            return Ok(());
        }
        self.nodes.iter_mut().for_each(KafkaNode::ask_to_stop);
        if let Some(postgres) = &mut self.postgres {
            postgres.stop().await?;
        }
        for node in &mut self.nodes {
            node.stop().await?;
        }
        self.state.record.forget_processes();
        self.state.save()
    }

    /// Leaves the stack running in the background, its directory too if it is a temporary one, and answers that directory:
    /// [`RecordedStack`](crate::RecordedStack) finds and ends it by that.
    pub fn detach(mut self) -> Result<PathBuf> {
        self.state.record.holder = None;
        self.state.save()?;
        self.guard.dismiss()?;
        self.state.keep();
        self.postgres.iter_mut().for_each(Postgres::release);
        self.nodes.iter_mut().for_each(KafkaNode::release);
        Ok(self.state.path.clone())
    }

    async fn make_postgres(&mut self, parts: &Parts, options: &StackOptions) -> Result<Postgres> {
        let (home, account) = self.state.postgres_home()?;
        Postgres::new(Setup {
            parts,
            home,
            logs: &self.state.logs(),
            cluster: cluster_name(&self.state.record.id),
            account,
            port: ports::claim(self.state.record.postgres.as_ref().map(|server| server.port))?,
            settings: options.postgres_settings.clone(),
            security: options.security.clone(),
            guard: Arc::clone(&self.guard),
        })
        .await
    }

    async fn make_nodes(&mut self, parts: &Parts, options: &StackOptions) -> Result<Vec<KafkaNode>> {
        let wanted = options.kafka_nodes;
        let before = &self.state.record.kafka;
        let found = before.len() as u16;
        if found != 0 && found != wanted {
            return Err(DevstackError::OtherNodes { state_dir: self.state.path.clone(), found, wanted });
        }
        let java = java::find().await?;
        let claim = |index: usize| -> Result<NodePorts> {
            let before = before.get(index);
            Ok(NodePorts {
                broker: ports::claim(before.map(|server| server.port))?,
                secure: options.security.as_ref().map(|_| ports::claim(None)).transpose()?,
                controller: ports::claim(before.and_then(|server| server.controller_port))?,
                fronts: options.kafka_fronts.iter().map(|_| ports::claim(None)).collect::<Result<_>>()?,
            })
        };
        let ports = (0..usize::from(wanted)).map(claim).collect::<Result<Vec<_>>>()?;
        let cluster = Cluster {
            class_path: class_path(&parts.kafka)?,
            jvm_flags: cds::flags(parts, &java).await,
            java,
            id: cluster_name(&self.state.record.id),
            logs: self.state.logs(),
            voters: voters(&ports),
            nodes: wanted,
            settings: options.kafka_settings.clone(),
            security: options.security.clone(),
            fronts: options.kafka_fronts.clone(),
            guard: Arc::clone(&self.guard),
        };
        let dir = |id: u16| self.state.path.join(format!("kafka-{id}"));
        Ok((1..).zip(ports).map(|(id, ports)| KafkaNode::new(id, dir(id), ports, cluster.clone())).collect())
    }

    /// Starts all parts at once, writes their processes down, and waits until all are ready.
    async fn bring_up(&mut self) -> Result<()> {
        let (postgres, nodes) = (&mut self.postgres, &mut self.nodes);
        let launch_postgres = async {
            match postgres {
                Some(postgres) => postgres.launch().await.map(|_| ()),
                None => Ok(()),
            }
        };
        let launch_nodes = async {
            for node in nodes {
                node.launch().await?;
            }
            Ok(())
        };
        tokio::try_join!(launch_postgres, launch_nodes)?;
        self.write_down()?;
        if let Some(postgres) = &mut self.postgres {
            postgres.ready().await?;
        }
        for node in &mut self.nodes {
            node.ready().await?;
        }
        self.state.record.ready = true;
        self.write_down()
    }

    fn write_down(&mut self) -> Result<()> {
        if let Some(postgres) = &self.postgres {
            let (port, process) = (postgres.port(), postgres.process());
            self.state.record.postgres = Some(Server { port, controller_port: None, process });
        }
        if !self.nodes.is_empty() {
            let server = |node: &KafkaNode| Server {
                port: node.port(),
                controller_port: Some(node.controller_port()),
                process: node.process(),
            };
            self.state.record.kafka = self.nodes.iter().map(server).collect();
        }
        self.state.save()
    }

    fn node(&mut self, node: u16) -> Result<&mut KafkaNode> {
        self.nodes
            .iter_mut()
            .find(|candidate| candidate.id == node)
            .ok_or_else(|| DevstackError::NoSuchPart { part: format!("Kafka node {node}") })
    }
}

fn no_postgres() -> DevstackError {
    DevstackError::NoSuchPart { part: "PostgreSQL".to_owned() }
}
