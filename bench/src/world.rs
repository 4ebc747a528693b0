//! A private stack with an installation on it, and the built product.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::{Connection as _, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_producers::Record;
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::{Ids, Options, Simulator, SourceMix};
use stocktide_runtime::config::{Config, Sources};
use stocktide_store::{catalogue, migrate};

use crate::conditions;
use crate::meter::Watched;

/// Customers of the measurements that came before.
const USERS: u64 = 50_000;
/// The installation's.
pub const CURRENCY: &str = "GBP";

/// The stack, and how the product is configured on it.
pub struct World {
    pub stack: Stack,
    pub config: Config,
    settings: Vec<(String, String)>,
}

impl World {
    pub async fn start(settings: &[(&str, &str)]) -> anyhow::Result<World> {
        let postgres = [("shared_buffers", "1GB"), ("max_wal_size", "16GB"), ("checkpoint_timeout", "30min")];
        let postgres_settings = postgres.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let stack = Stack::start(StackOptions { postgres_settings, ..StackOptions::default() }).await?;
        let mut settings: Vec<(String, String)> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings.push(("STOCKTIDE_DATABASE_URL".to_owned(), stack.database_url()));
        settings.push(("STOCKTIDE_KAFKA_BROKERS".to_owned(), stack.kafka_brokers()));
        let environment = settings.iter().map(|(name, value)| (name.clone(), value.into())).collect();
        let config = Config::load(&Sources { file: None, environment, flags: Vec::new() })?;
        let world = World { stack, config, settings };
        migrate::run(&world.stack.database_url(), CURRENCY, "UTC").await?;
        stocktide_runtime::kafka::ensure_topics(&world.config).await?;
        let pool = sqlx::PgPool::connect(&world.stack.database_url()).await?;
        catalogue::load(&pool, &shelves().files(CURRENCY)).await?;
        conditions::tell(&pool).await?;
        pool.close().await;
        Ok(world)
    }

    /// The product's command with its configuration; it stands beside this program.
    pub fn product(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let program: PathBuf = std::env::current_exe()?.with_file_name("stocktide");
        ensure!(program.exists(), "{} is not there: run `cargo build --release` first", program.display());
        let mut command = Command::new(program);
        command.args(arguments).envs(self.settings.iter().cloned()).stdin(Stdio::null());
        Ok(command)
    }

    /// Holds everything that was written against the promises.
    pub fn verify(&self) -> anyhow::Result<()> {
        let done = self.product(&["verify"])?.output()?;
        ensure!(done.status.success(), "stocktide verify: {}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }

    /// 2 % redeliveries, 0.2 % broken records, random ids: the workload of the measurements that came before.
    pub fn simulate(events: Option<u64>, seed: u64) -> anyhow::Result<Simulator> {
        World::simulate_of(events, seed, USERS, Ids::V4)
    }

    fn simulate_of(events: Option<u64>, seed: u64, users: u64, ids: Ids) -> anyhow::Result<Simulator> {
        let start = "2025-06-01T00:00:00Z".parse()?;
        let options = Options::new(SourceMix::All, seed, start);
        let options =
            Options { count: events, duplicates_ppm: 20_000, malformed_ppm: 2_000, ids, users, ..options };
        Simulator::new(shelves(), options)
    }

    pub fn send_backlog(&self, events: u64, seed: u64) -> anyhow::Result<()> {
        self.send_all(World::simulate(Some(events), seed)?)
    }

    /// The same, with the orders of so many users.
    pub fn send_backlog_of(&self, events: u64, seed: u64, users: u64) -> anyhow::Result<()> {
        self.send_all(World::simulate_of(Some(events), seed, users, Ids::V4)?)
    }

    /// The same, with ids of this kind.
    pub fn send_backlog_with(&self, ids: Ids, events: u64, seed: u64) -> anyhow::Result<()> {
        self.send_all(World::simulate_of(Some(events), seed, USERS, ids)?)
    }

    fn send_all(&self, records: Simulator) -> anyhow::Result<()> {
        let producer = self.producer(20)?;
        for record in records {
            send(&producer, &record)?;
        }
        producer.flush(Duration::from_mins(1))?;
        Ok(())
    }

    pub fn producer(&self, linger_ms: u32) -> anyhow::Result<BaseProducer> {
        let mut client = ClientConfig::new();
        // Idempotence is acks=all.
        client.set("bootstrap.servers", self.stack.kafka_brokers()).set("enable.idempotence", "true");
        Ok(client.set("linger.ms", linger_ms.to_string()).create()?)
    }

    /// Makes a topic, which the product knows nothing of.
    pub async fn create_topic(&self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let mut client = ClientConfig::new();
        let admin: AdminClient<DefaultClientContext> =
            client.set("bootstrap.servers", self.stack.kafka_brokers()).create()?;
        let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for made in admin.create_topics(&[topic], &AdminOptions::new()).await? {
            made.map_err(|(name, error)| anyhow::anyhow!("topic {name}: {error}"))?;
        }
        Ok(())
    }

    /// The servers, PostgreSQL first.
    pub fn servers(&self) -> Vec<Watched> {
        let mut pids = self.stack.processes().into_iter().map(|process| process.pid.unsigned_abs());
        ["postgres", "kafka"]
            .into_iter()
            .filter_map(|name| Some(Watched { name, pid: pids.next()? }))
            .collect()
    }

    /// Writes out what PostgreSQL holds, so that who comes next does not pay for it.
    pub async fn checkpoint(&self) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.stack.database_url()).await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.stack.stop().await?)
    }
}

/// 2,000 products at 9 locations.
pub fn shelves() -> SimCatalogue {
    SimCatalogue::synthetic(Size { products: 2_000, locations: 9 })
}

/// Hands a record to the producer, however full its queue is.
pub fn send(producer: &BaseProducer, record: &Record) -> anyhow::Result<()> {
    let mut next = BaseRecord::to(record.topic).key(record.key.as_bytes());
    next.payload = record.value.as_deref();
    send_when_there_is_room(producer, next)
}

/// The same of a record as the client has it.
pub fn send_when_there_is_room(
    producer: &BaseProducer,
    mut next: BaseRecord<'_, [u8], [u8]>,
) -> anyhow::Result<()> {
    while let Err((error, back)) = producer.send(next) {
        ensure!(error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull), "{error}");
        producer.poll(Duration::from_millis(20));
        next = back;
    }
    Ok(())
}
