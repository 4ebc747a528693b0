//! What waits in the input topics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Message, Offset, TopicPartitionList};
use stocktide_runtime::kafka::{self, INPUT_TOPICS, LogContext, client_config};
use stocktide_runtime::{Config, clock};
use stocktide_store::figures::Applied;

use crate::metrics::Metrics;

/// How long one request to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the input topics, in no group.
pub struct Inputs {
    config: Config,
    metrics: Arc<Metrics>,
    client: Option<Client>,
}

type Client = BaseConsumer<LogContext>;

/// What is seen of a partition.
struct Seen {
    topic: &'static str,
    partition: i32,
    /// Records that wait, offsets without a record included.
    waiting: i64,
    /// Since when the first of them has been there.
    since: Option<i64>,
    lost: i64,
}

impl Inputs {
    pub fn new(config: &Config, metrics: Arc<Metrics>) -> Inputs {
        Inputs { config: config.clone(), metrics, client: None }
    }

    /// Shows what waits beyond what is applied; nothing where the one or the other cannot be seen, or no broker is configured.
    pub async fn look(&mut self, applied: Option<Vec<Applied>>) -> anyhow::Result<()> {
        let seen = match applied {
            Some(applied) if self.config.kafka.brokers.is_some() => self.see(applied).await,
            _ => Ok(Vec::new()),
        };
        let metrics = &self.metrics;
        metrics.waiting.reset();
        metrics.waiting_seconds.reset();
        metrics.lost.reset();
        let now = clock::now().timestamp_millis();
        for Seen { topic, partition, waiting, since, lost } in seen? {
            let partition = partition.to_string();
            let labels = [topic, partition.as_str()];
            metrics.waiting.with_label_values(&labels).set(waiting);
            let seconds = since.map_or(0.0, |since| (now - since).max(0) as f64 / 1_000.0);
            metrics.waiting_seconds.with_label_values(&labels).set(seconds);
            metrics.lost.with_label_values(&labels).set(lost);
        }
        Ok(())
    }

    async fn see(&mut self, applied: Vec<Applied>) -> anyhow::Result<Vec<Seen>> {
        let client = match self.client.take() {
            Some(client) => client,
            None => client(&self.config)?,
        };
        let applied: BTreeMap<(String, i32), i64> =
            applied.into_iter().map(|at| ((at.topic, at.partition), at.next_offset)).collect();
        // The client's calls block.
        let (client, seen) = tokio::task::spawn_blocking(move || {
            let seen = see(&client, &applied);
            (client, seen)
        })
        .await?;
        self.client = Some(client);
        seen
    }
}

fn client(config: &Config) -> anyhow::Result<Client> {
    let mut settings = client_config(config);
    settings
        // Needed by every consumer; it joins no group and commits nothing.
        .set("group.id", "stocktide-watch")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("fetch.wait.max.ms", "10")
        // One record is looked at.
        .set("fetch.message.max.bytes", "16384")
        .set("queued.max.messages.kbytes", "1024");
    kafka::consumer(&settings, LogContext).context("no Kafka consumer")
}

fn see(client: &Client, applied: &BTreeMap<(String, i32), i64>) -> anyhow::Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for topic in INPUT_TOPICS {
        let metadata = client.fetch_metadata(Some(topic), PATIENCE).context("Kafka's metadata")?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let found = found.with_context(|| format!("topic {topic} does not exist"))?;
        for partition in found.partitions().iter().map(MetadataPartition::id) {
            let (low, high) = client
                .fetch_watermarks(topic, partition, PATIENCE)
                .with_context(|| format!("the ends of {topic}/{partition}"))?;
            let next = applied.get(&(topic.to_owned(), partition)).copied();
            seen.push(see_partition(client, (topic, partition), next.unwrap_or(low), (low, high))?);
        }
    }
    Ok(seen)
}

fn see_partition(
    client: &Client,
    (topic, partition): (&'static str, i32),
    next: i64,
    (low, high): (i64, i64),
) -> anyhow::Result<Seen> {
    let lost = (low - next).max(0);
    let from = next.max(low);
    let since = if from < high { oldest(client, topic, partition, from, high)? } else { None };
    // The offsets of a producer's transactions, and of what it aborted, hold no record that anybody receives.
    let waiting = if since.is_some() { high - from } else { 0 };
    Ok(Seen { topic, partition, waiting, since, lost })
}

/// The timestamp of the first record of `[from, high)` that a reader of committed records gets, in milliseconds since 1970.
fn oldest(client: &Client, topic: &str, partition: i32, from: i64, high: i64) -> anyhow::Result<Option<i64>> {
    let mut start = TopicPartitionList::new();
    start.add_partition_offset(topic, partition, Offset::Offset(from))?;
    client.assign(&start)?;
    let first = first_of(client, (topic, partition));
    client.unassign()?;
    // A topic older than timestamps has none: then it waits since now.
    let time = |message: &BorrowedMessage<'_>| {
        message.timestamp().to_millis().unwrap_or_else(|| clock::now().timestamp_millis())
    };
    Ok(first?.filter(|message| message.offset() < high).map(|message| time(&message)))
}

/// The first record that comes of the assigned partition; none, where its end comes first. What does not come is no sign that nothing waits.
fn first_of<'a>(
    client: &'a Client,
    (topic, partition): (&str, i32),
) -> anyhow::Result<Option<BorrowedMessage<'a>>> {
    let deadline = Instant::now() + PATIENCE;
    let mut said = None;
    while let Some(left) = deadline.checked_duration_since(Instant::now()) {
        match client.poll(left) {
            Some(Ok(message)) if message.topic() == topic && message.partition() == partition => {
                return Ok(Some(message));
            }
            Some(Err(KafkaError::PartitionEOF(at))) if at == partition => return Ok(None),
            // Brokers that came and went since somebody last polled are told of now, too.
            Some(Err(error)) => said = Some(error),
            Some(Ok(_)) | None => {}
        }
    }
    let said = said.map_or_else(String::new, |error| format!(": {error}"));
    anyhow::bail!("no record of {topic}/{partition} came within {} s{said}", PATIENCE.as_secs())
}
