//! A private stack with an installation on it, and the built product.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::ensure;
use chrono::TimeDelta;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use sqlx::{Connection as _, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_producers::Record;
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::{Ids, Options, Simulator, SourceMix};
use stocktide_runtime::clock;
use stocktide_runtime::config::{Config, Sources};
use stocktide_store::{catalogue, migrate};

use crate::conditions;
use crate::meter::Watched;

/// Customers of the measurements that came before.
const USERS: u64 = 50_000;
/// How many the simulator spreads over a day.
const EVENTS_A_DAY: u64 = 100_000;
/// The installation's.
pub const CURRENCY: &str = "GBP";
/// The processors' group; of installations that come after, with a number.
const KAFKA_GROUP: &str = "stocktide-processor";

/// The stack, and how the product is configured on it.
pub struct World {
    pub stack: Stack,
    pub config: Config,
    /// The installation's database.
    pub database_url: String,
    settings: BTreeMap<String, String>,
    /// Installations that were there before.
    before: u32,
}

impl World {
    pub async fn start(settings: &[(&str, &str)]) -> anyhow::Result<World> {
        let postgres = [("shared_buffers", "1GB"), ("max_wal_size", "16GB"), ("checkpoint_timeout", "30min")];
        let postgres_settings = postgres.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let stack = Stack::start(StackOptions { postgres_settings, ..StackOptions::default() }).await?;
        let mut settings: BTreeMap<String, String> =
            settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let database_url = stack.database_url();
        settings.insert("STOCKTIDE_KAFKA_BROKERS".to_owned(), stack.kafka_brokers());
        let config = configured(&mut settings, &database_url, KAFKA_GROUP)?;
        let world = World { stack, config, database_url, settings, before: 0 };
        world.install().await?;
        Ok(world)
    }

    /// Begins anew on the same stack, so that its servers are warm: another, empty database, and empty topics. The database before is
    /// dropped.
    pub async fn renew(&mut self) -> anyhow::Result<()> {
        self.before += 1;
        let name = format!("installation_{}", self.before);
        let last = std::mem::replace(&mut self.database_url, self.stack.create_database(&name).await?);
        drop_database(&self.database_url, last.rsplit('/').next().unwrap_or_default()).await?;
        // Another group, too: the broker forgets what was committed for topics that are gone in its own time.
        let group = format!("{KAFKA_GROUP}-{}", self.before);
        self.config = configured(&mut self.settings, &self.database_url, &group)?;
        self.delete_topics().await?;
        self.install().await
    }

    async fn install(&self) -> anyhow::Result<()> {
        migrate::run(&self.database_url, CURRENCY, "UTC").await?;
        stocktide_runtime::kafka::ensure_topics(&self.config).await?;
        let pool = sqlx::PgPool::connect(&self.database_url).await?;
        catalogue::load(&pool, &shelves().files(CURRENCY)).await?;
        conditions::tell(&pool).await?;
        pool.close().await;
        Ok(())
    }

    /// Deletes all topics, and returns when the broker has done it.
    async fn delete_topics(&self) -> anyhow::Result<()> {
        let admin = self.admin()?;
        let asked = Instant::now();
        loop {
            let metadata = admin.inner().fetch_metadata(None, Duration::from_secs(10))?;
            let names: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
            let names: Vec<&str> = names.into_iter().filter(|name| !name.starts_with("__")).collect();
            if names.is_empty() {
                return Ok(());
            }
            ensure!(asked.elapsed() < Duration::from_secs(30), "{} are still there", names.join(", "));
            // Each answer stands for itself: one that is gone by now is no failure.
            admin.delete_topics(&names, &AdminOptions::new()).await?;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn admin(&self) -> anyhow::Result<AdminClient<DefaultClientContext>> {
        Ok(ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create()?)
    }

    /// The product's command with its configuration; it stands beside this program.
    pub fn product(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let program: PathBuf = std::env::current_exe()?.with_file_name("stocktide");
        ensure!(program.exists(), "{} is not there: run `cargo build --release` first", program.display());
        let mut command = Command::new(program);
        command.args(arguments).envs(&self.settings).stdin(Stdio::null());
        Ok(command)
    }

    /// Holds everything that was written against the promises.
    pub fn verify(&self) -> anyhow::Result<()> {
        let done = self.product(&["verify"])?.output()?;
        ensure!(done.status.success(), "stocktide verify: {}", String::from_utf8_lossy(&done.stdout));
        Ok(())
    }

    /// 2 % redeliveries, 0.2 % broken records, random ids: the workload of the measurements that came before.
    fn workload(events: Option<u64>, seed: u64) -> anyhow::Result<Options> {
        let options = Options::new(SourceMix::All, seed, "2025-06-01T00:00:00Z".parse()?);
        let (ids, users) = (Ids::V4, USERS);
        Ok(Options { count: events, duplicates_ppm: 20_000, malformed_ppm: 2_000, ids, users, ..options })
    }

    pub fn simulate(events: Option<u64>, seed: u64) -> anyhow::Result<Simulator> {
        Simulator::new(shelves(), World::workload(events, seed)?)
    }

    pub fn send_backlog(&self, events: u64, seed: u64) -> anyhow::Result<()> {
        self.send_all(World::simulate(Some(events), seed)?)
    }

    /// The same, with the orders of so many users.
    pub fn send_backlog_of(&self, events: u64, seed: u64, users: u64) -> anyhow::Result<()> {
        let options = Options { users, ..World::workload(Some(events), seed)? };
        self.send_all(Simulator::new(shelves(), options)?)
    }

    /// The same, with ids of this kind, and later than so many events before: where ids go by time, these are the newest.
    pub fn send_backlog_after(&self, before: u64, events: u64, ids: Ids) -> anyhow::Result<()> {
        let options = World::workload(Some(events), before)?;
        let days = i64::try_from(before.div_ceil(EVENTS_A_DAY))?;
        let options = Options { ids, start: options.start + TimeDelta::days(days), ..options };
        let end = options.start + TimeDelta::days(i64::try_from(events.div_ceil(EVENTS_A_DAY))?);
        ensure!(
            end < clock::now(),
            "{before} events of history and {events} more reach into the future, whose events are rejected"
        );
        self.send_all(Simulator::new(shelves(), options)?)
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
        let admin = self.admin()?;
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
        let mut connection = PgConnection::connect(&self.database_url).await?;
        sqlx::raw_sql("CHECKPOINT").execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    pub async fn stop(self) -> anyhow::Result<()> {
        Ok(self.stack.stop().await?)
    }
}

/// What the product is configured with from these settings, a database and a group.
fn configured(
    settings: &mut BTreeMap<String, String>,
    database_url: &str,
    group: &str,
) -> anyhow::Result<Config> {
    settings.insert("STOCKTIDE_DATABASE_URL".to_owned(), database_url.to_owned());
    settings.insert("STOCKTIDE_KAFKA_GROUP".to_owned(), group.to_owned());
    let environment = settings.iter().map(|(name, value)| (name.clone(), value.into())).collect();
    Ok(Config::load(&Sources { file: None, environment, flags: Vec::new() })?)
}

/// Drops a database by way of another one.
pub async fn drop_database(by: &str, name: &str) -> anyhow::Result<()> {
    let mut connection = PgConnection::connect(by).await?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("DROP DATABASE \"{name}\" WITH (FORCE)")))
        .execute(&mut connection)
        .await?;
    Ok(connection.close().await?)
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
