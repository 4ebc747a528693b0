//! How the installation fares: looked at every other second, so that asking costs nothing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use serde::Serialize;
use stocktide_domain::Source;
use stocktide_runtime::admin::Health;
use stocktide_runtime::kafka::{self, LogContext, client_config};
use stocktide_runtime::{Config, clock};
use stocktide_store::api::{self, Fates, PgPool};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::metrics::Metrics;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(2);
/// How many looks back the throughput is told.
const LOOKS: usize = 60;
/// How long one request to a broker may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What became of the records so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Counted {
    /// Records whose effect is in the database.
    pub applied: i64,
    /// Records whose event had been applied before.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order.
    pub parked: i64,
}

/// One look.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Look {
    /// When.
    pub at: DateTime<Utc>,
    /// Records a second that met their fate since the look before.
    pub records_per_second: f64,
    /// Records that waited; null where Kafka could not be asked.
    pub lag: Option<i64>,
}

/// A topic's records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct TopicStatus {
    /// The input topic.
    pub topic: String,
    /// What became of them so far.
    #[serde(flatten)]
    pub fates: Counted,
    /// Records that wait; null where Kafka could not be asked.
    pub lag: Option<i64>,
    /// When the last one met its fate.
    pub last_processed_at: Option<DateTime<Utc>>,
}

/// A part, and why it does not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Part {
    /// Whether it works.
    pub ok: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Part {
    /// From what became of a look.
    pub fn of(looked: Result<(), String>) -> Part {
        Part { ok: looked.is_ok(), detail: looked.err() }
    }
}

/// How the installation fares.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Status {
    /// When it was looked last; null: not yet.
    pub at: Option<DateTime<Utc>>,
    /// Records a second that met their fate, over the last look.
    pub records_per_second: f64,
    /// Records that wait, in all input topics; null where Kafka could not be asked.
    pub lag: Option<i64>,
    /// All topics' fates.
    pub fates: Counted,
    /// Each input topic.
    pub topics: Vec<TopicStatus>,
    /// The looks of the last two minutes, the oldest first.
    #[schema(value_type = Vec<Look>)]
    pub history: VecDeque<Look>,
    /// The parts: `database` and `kafka`.
    pub parts: BTreeMap<&'static str, Part>,
}

/// The last look.
pub struct Pulse(RwLock<Status>);

impl Pulse {
    /// Nobody has looked yet.
    pub fn new() -> Pulse {
        let unknown = || Part::of(Err("not looked at yet".to_owned()));
        Pulse(RwLock::new(Status {
            at: None,
            records_per_second: 0.0,
            lag: None,
            fates: Counted::default(),
            topics: Vec::new(),
            history: VecDeque::new(),
            parts: BTreeMap::from([("database", unknown()), ("kafka", unknown())]),
        }))
    }

    /// The last look.
    pub fn status(&self) -> Status {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, at: DateTime<Utc>, fates: Result<Vec<Fates>, String>, lags: Result<Lags, String>) {
        let mut status = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let lag = lags.as_ref().ok().map(|lags| lags.values().sum());
        if let Ok(fates) = &fates {
            let before = status.at.map(|then| (then, status.fates));
            status.topics = by_topic(fates, lags.as_ref().ok());
            status.fates = status.topics.iter().fold(Counted::default(), |sum, topic| sum.and(topic.fates));
            status.records_per_second = before.map_or(0.0, |(then, before)| {
                let seconds = (at - then).as_seconds_f64().max(0.001);
                (status.fates.settled() - before.settled()).max(0) as f64 / seconds
            });
            status.at = Some(at);
            let look = Look { at, records_per_second: status.records_per_second, lag };
            status.history.push_back(look);
            while status.history.len() > LOOKS {
                status.history.pop_front();
            }
        }
        status.lag = lag;
        status.parts.insert("database", Part::of(fates.map(|_| ())));
        status.parts.insert("kafka", Part::of(lags.map(|_| ())));
    }
}

impl Counted {
    fn and(self, other: Counted) -> Counted {
        Counted {
            applied: self.applied + other.applied,
            duplicates: self.duplicates + other.duplicates,
            rejected: self.rejected + other.rejected,
            parked: self.parked + other.parked,
        }
    }

    fn settled(self) -> i64 {
        self.applied + self.duplicates + self.rejected
    }
}

/// Records that wait, by topic.
type Lags = BTreeMap<&'static str, i64>;

fn by_topic(fates: &[Fates], lags: Option<&Lags>) -> Vec<TopicStatus> {
    let mut topics: BTreeMap<&str, TopicStatus> = BTreeMap::new();
    for source in Source::ALL {
        topics.insert(
            source.topic(),
            TopicStatus { topic: source.topic().to_owned(), ..TopicStatus::default() },
        );
    }
    for part in fates {
        let topic = topics
            .entry(&part.topic)
            .or_insert_with(|| TopicStatus { topic: part.topic.clone(), ..TopicStatus::default() });
        let Fates { applied, duplicates, rejected, parked, .. } = *part;
        topic.fates = topic.fates.and(Counted { applied, duplicates, rejected, parked });
        topic.last_processed_at = topic.last_processed_at.max(part.last_processed_at);
    }
    let mut topics: Vec<TopicStatus> = topics.into_values().collect();
    for topic in &mut topics {
        topic.lag = lags.and_then(|lags| lags.get(topic.topic.as_str())).copied();
    }
    topics
}

/// Looks until `shutdown`.
pub async fn watch(
    pulse: Arc<Pulse>,
    config: Config,
    pool: PgPool,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) {
    let mut ends = Ends { consumer: None, seen: BTreeMap::new() };
    while !shutdown.is_cancelled() {
        metrics.connections.set(i64::from(pool.size()) - pool.num_idle() as i64);
        let asked = Instant::now();
        // Whether there was one or not: it waited.
        drop(pool.acquire().await);
        metrics.database_wait.observe(asked.elapsed().as_secs_f64());
        // What is asked of the database first is behind what is asked of Kafka afterwards, and never ahead of it.
        let fates = api::fates(&pool).await.map_err(|error| error.to_string());
        let positions = fates.as_deref().unwrap_or_default().to_vec();
        let settings = config.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let lags = ends.look(&settings, &positions).map_err(|error| format!("{error:#}"));
            (ends, lags)
        });
        let Ok((back, lags)) = looked.await else { return tracing::error!("the look at Kafka panicked") };
        ends = back;
        // Lags without positions would be the whole topics' lengths.
        let lags = if fates.is_ok() { lags } else { lags.map(|_| Lags::new()) };
        health.set("api database", fates.as_ref().map(|_| ()).map_err(Clone::clone));
        health.set("api kafka", lags.as_ref().map(|_| ()).map_err(Clone::clone));
        pulse.note(clock::now(), fates, lags);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// The input topics' ends, seen from outside the processors' group.
struct Ends {
    consumer: Option<BaseConsumer<LogContext>>,
    /// Where each partition stood at the last look.
    seen: BTreeMap<(&'static str, i32), i64>,
}

impl Ends {
    fn look(&mut self, config: &Config, fates: &[Fates]) -> anyhow::Result<Lags> {
        let consumer = match self.consumer.take() {
            Some(consumer) => consumer,
            None => reader(config)?,
        };
        let mut lags = Lags::new();
        for source in Source::ALL {
            let topic = source.topic();
            let mut waiting = 0;
            for partition in partitions(&consumer, topic)? {
                let position = fates.iter().find(|f| f.topic == topic && f.partition == partition);
                waiting += self.waiting(&consumer, topic, partition, position.map(|f| f.next_offset))?;
            }
            lags.insert(topic, waiting);
        }
        self.consumer = Some(consumer);
        Ok(lags)
    }

    /// Records of a partition that wait.
    fn waiting(
        &mut self,
        consumer: &BaseConsumer<LogContext>,
        topic: &'static str,
        partition: i32,
        position: Option<i64>,
    ) -> anyhow::Result<i64> {
        let (low, high) =
            consumer.fetch_watermarks(topic, partition, PATIENCE).context("the topics' ends")?;
        let at = position.unwrap_or(low).max(low);
        let stands_still = self.seen.insert((topic, partition), at) == Some(at);
        // A producer's transactions leave control records, which nobody receives and which no position passes.
        let is_done = at >= high || (stands_still && nothing_readable(consumer, topic, partition, at, high)?);
        Ok(if is_done { 0 } else { high - at })
    }
}

fn nothing_readable(
    consumer: &BaseConsumer<LogContext>,
    topic: &str,
    partition: i32,
    from: i64,
    to: i64,
) -> anyhow::Result<bool> {
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, partition, Offset::Offset(from))?;
    consumer.assign(&start)?;
    let nothing = match consumer.poll(PATIENCE) {
        Some(Ok(message)) => message.offset() >= to,
        Some(Err(rdkafka::error::KafkaError::PartitionEOF(_))) => true,
        Some(Err(_)) | None => false,
    };
    consumer.unassign()?;
    Ok(nothing)
}

/// The numbers of a topic's partitions.
///
/// # Errors
/// When no broker answers, or there is no such topic.
pub fn partitions(consumer: &BaseConsumer<LogContext>, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).context("Kafka does not answer")?;
    let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    let mut numbers: Vec<i32> =
        found.map_or_else(Vec::new, |t| t.partitions().iter().map(MetadataPartition::id).collect());
    numbers.sort_unstable();
    anyhow::ensure!(!numbers.is_empty(), "topic {topic} does not exist: run `stocktide migrate`");
    Ok(numbers)
}

/// A reader of committed records that commits nothing.
///
/// # Errors
/// When the configuration makes none.
pub fn reader(config: &Config) -> anyhow::Result<BaseConsumer<LogContext>> {
    let mut client = client_config(config);
    client
        // The client asks for a group's name; it is never joined.
        .set("group.id", "stocktide-api")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "50")
        .set("queued.max.messages.kbytes", "16384")
        .set("reconnect.backoff.max.ms", "1000");
    kafka::consumer(&client, LogContext).context("no Kafka consumer")
}
