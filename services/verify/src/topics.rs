//! The topics, read without joining any group and without leaving a trace on the broker.

use std::error::Error;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use rdkafka::admin::{AdminOptions, ResourceSpecifier};
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};

use stocktide_runtime::kafka;

use crate::record::Record;

/// How long a request may take.
const REQUEST: Duration = Duration::from_secs(15);
/// How long errors that pass may take to do so.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a broker may deliver nothing while there is more to read.
const STALL: Duration = Duration::from_mins(1);

/// Tells in debug logs only what goes on below: a broker that cannot be reached is told once, as the error of the request.
#[derive(Clone, Copy)]
struct Quiet;

impl ClientContext for Quiet {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka::token(file)
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", facility, "{message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// A connection to the topics.
pub struct Topics {
    config: ClientConfig,
    committed: BaseConsumer<Quiet>,
    uncommitted: BaseConsumer<Quiet>,
}

/// The part of a partition that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The offset after the last one.
    pub to: i64,
}

/// A committed offset of the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// K.
    pub offset: i64,
    /// The number in its metadata: up to it the timer's outputs are published.
    pub number: Option<i64>,
}

/// Where a partition begins and ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// The first offset that is still there.
    pub low: i64,
    /// Up to where a read_committed reader gets.
    pub stable: i64,
    /// The offset after the last one.
    pub end: i64,
}

impl Topics {
    /// A connection; `group` is the processor's, whose offsets are looked at.
    ///
    /// # Errors
    /// A property that librdkafka does not take.
    pub fn new(kafka: &ClientConfig, group: &str) -> anyhow::Result<Topics> {
        let mut config = kafka.clone();
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("check.crcs", "true")
            // Half of the time would pass in waiting: after each full queue, and at the end of each partition.
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.wait.max.ms", "20")
            .set("isolation.level", "read_committed");
        let committed = kafka::consumer(&config, Quiet).context("the Kafka client")?;
        let mut of_all = config.clone();
        of_all.set("isolation.level", "read_uncommitted");
        let uncommitted = kafka::consumer(&of_all, Quiet).context("the Kafka client")?;
        Ok(Topics { config, committed, uncommitted })
    }

    /// A topic's partitions.
    ///
    /// # Errors
    /// The broker does not answer, or has no such topic.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        let metadata = patiently(|| self.committed.fetch_metadata(Some(topic), REQUEST));
        let metadata = metadata.context("no answer from Kafka")?;
        let partitions = metadata
            .topics()
            .iter()
            .find(|t| t.name() == topic)
            .map(rdkafka::metadata::MetadataTopic::partitions)
            .unwrap_or_default();
        ensure!(!partitions.is_empty(), "topic {topic} does not exist: create it with `stocktide migrate`");
        Ok(partitions.iter().map(rdkafka::metadata::MetadataPartition::id).collect())
    }

    /// Where a partition begins and ends.
    ///
    /// # Errors
    /// The broker does not answer.
    pub fn extent(&self, topic: &str, partition: i32) -> anyhow::Result<Extent> {
        let ask = |consumer: &BaseConsumer<Quiet>| {
            let answer = patiently(|| consumer.fetch_watermarks(topic, partition, REQUEST));
            answer.with_context(|| format!("the offsets of {topic}-{partition}"))
        };
        let (low, stable) = ask(&self.committed)?;
        let (_, end) = ask(&self.uncommitted)?;
        Ok(Extent { low, stable, end })
    }

    /// The group's committed offsets, in the order asked for; with the numbers in their metadata, where there are any.
    ///
    /// # Errors
    /// The broker does not answer in time, or not for every partition; a transaction that is about to commit offsets makes
    /// it wait.
    pub fn committed(
        &self,
        of: &[(String, i32)],
        timeout: Duration,
    ) -> anyhow::Result<Vec<Option<Committed>>> {
        if of.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in of {
            list.add_partition(topic, *partition);
        }
        let list = self.committed.committed_offsets(list, timeout).context("the group's offsets")?;
        let offset = |(topic, partition): &(String, i32)| -> anyhow::Result<Option<Committed>> {
            let element = list.find_partition(topic, *partition).context("no answer")?;
            element.error()?;
            Ok(match element.offset() {
                Offset::Offset(offset) => Some(Committed { offset, number: element.metadata().parse().ok() }),
                _ => None,
            })
        };
        of.iter()
            .map(|of| offset(of).with_context(|| format!("the group's offset of {}-{}", of.0, of.1)))
            .collect()
    }

    /// Before when (microseconds since 1970) the records of a topic may have aged out; none where it keeps all.
    ///
    /// # Errors
    /// The broker does not answer, or not to us.
    pub async fn aged_before(&self, topic: &str) -> anyhow::Result<Option<i64>> {
        let admin = kafka::admin(&self.config, Quiet).context("the Kafka client")?;
        let asked = [ResourceSpecifier::Topic(topic)];
        let answer =
            admin.describe_configs(&asked, &AdminOptions::new().request_timeout(Some(REQUEST))).await;
        let answer = answer
            .context("no answer from Kafka")?
            .into_iter()
            .next()
            .context("an empty answer from Kafka")?;
        let config = answer.map_err(|code| anyhow!("the configuration of {topic}: {code}"))?;
        let value = |name: &str| {
            config.get(name).and_then(|entry| entry.value.as_deref()?.parse::<i64>().ok()).unwrap_or(-1)
        };
        Ok(match (value("retention.ms"), value("retention.bytes")) {
            (_, bytes) if bytes >= 0 => Some(i64::MAX),
            (ms, _) if ms >= 0 => {
                let now = stocktide_runtime::clock::now().timestamp_micros();
                Some(now.saturating_sub(ms.saturating_mul(1_000)))
            }
            _ => None,
        })
    }

    /// Reads spans of one topic in read_committed, all partitions at once, each in its order.
    ///
    /// # Errors
    /// The broker fails for good, or delivers nothing for a minute.
    pub fn read(&self, topic: &str, spans: &[Span], each: &mut dyn FnMut(&Record<'_>)) -> anyhow::Result<()> {
        let mut open: Vec<Span> = spans.iter().copied().filter(|span| span.from < span.to).collect();
        if open.is_empty() {
            return Ok(());
        }
        let consumer = kafka::consumer(&self.config, Quiet).context("the Kafka client")?;
        consumer.assign(&assignment(topic, &open)?)?;
        let mut heard = Instant::now();
        while !open.is_empty() {
            let Some(event) = consumer.poll(Duration::from_secs(1)) else {
                ensure!(
                    heard.elapsed() < STALL,
                    "{topic}: nothing came for {} s, partitions left: {open:?}",
                    STALL.as_secs()
                );
                continue;
            };
            match event {
                Ok(message) => {
                    heard = Instant::now();
                    let (partition, offset) = (message.partition(), message.offset());
                    let Some(span) = open.iter().find(|span| span.partition == partition) else { continue };
                    if offset < span.to {
                        each(&record(&message));
                    }
                    if offset + 1 >= span.to {
                        close(&consumer, topic, &mut open, partition)?;
                    }
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    heard = Instant::now();
                    close(&consumer, topic, &mut open, partition)?;
                }
                Err(error) if is_passing(&error) => {
                    ensure!(heard.elapsed() < STALL, "{topic}: {error}");
                }
                Err(error) => bail!("{topic}: {error}"),
            }
        }
        Ok(())
    }
}

fn assignment(topic: &str, spans: &[Span]) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for span in spans {
        list.add_partition_offset(topic, span.partition, Offset::Offset(span.from))?;
    }
    Ok(list)
}

/// Reads no more of a partition.
fn close(
    consumer: &BaseConsumer<Quiet>,
    topic: &str,
    open: &mut Vec<Span>,
    partition: i32,
) -> anyhow::Result<()> {
    open.retain(|span| span.partition != partition);
    let mut list = TopicPartitionList::new();
    list.add_partition(topic, partition);
    consumer.pause(&list).with_context(|| format!("{topic}-{partition}"))
}

fn record<'m>(message: &'m rdkafka::message::BorrowedMessage<'_>) -> Record<'m> {
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key(),
        value: message.payload(),
        headers: stocktide_runtime::kafka::headers(message),
    }
}

/// Asks again while the answer is an error that passes: a partition that was just made has no leader for a moment.
fn patiently<T>(mut ask: impl FnMut() -> Result<T, KafkaError>) -> Result<T, KafkaError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error) if is_passing(&error) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(50));
            }
            answer => return answer,
        }
    }
}

/// Errors that pass, and that librdkafka deals with by itself where it reads.
fn is_passing(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{
        AllBrokersDown, BrokerTransportFailure, NotLeaderForPartition, OperationTimedOut, Resolve,
    };
    let code = error.rdkafka_error_code();
    code.is_some_and(|code| {
        [AllBrokersDown, BrokerTransportFailure, NotLeaderForPartition, OperationTimedOut, Resolve]
            .contains(&code)
    })
}
