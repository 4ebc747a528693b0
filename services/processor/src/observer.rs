//! Looks at the topics from outside the group.
//!
//! A broker answers a connection's requests one after the other, and those of a consumer that has nothing to read wait
//! behind its fetches, half a second each: so looking needs a client of its own.

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Message, Offset, TopicPartitionList};
use stocktide_runtime::config::Config;
use stocktide_runtime::kafka::{self, LogContext};

use crate::clients;

/// How long one request to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A reader of committed records that belongs to no group.
pub struct Observer(BaseConsumer<LogContext>);

impl Observer {
    /// Connects when it is first asked.
    ///
    /// # Errors
    /// When the configuration makes no consumer.
    pub fn new(config: &Config) -> anyhow::Result<Observer> {
        let mut client = clients::consumer(config);
        let client = client.set("enable.partition.eof", "true").set("fetch.wait.max.ms", "10");
        Ok(Observer(kafka::consumer(client, LogContext).context("no Kafka consumer")?))
    }

    /// The same, of all records: it sees the ends that lie behind pending transactions.
    ///
    /// # Errors
    /// See [`Observer::new`].
    pub fn of_uncommitted(config: &Config) -> anyhow::Result<Observer> {
        let mut client = clients::consumer(config);
        let client = client.set("isolation.level", "read_uncommitted");
        Ok(Observer(kafka::consumer(client, LogContext).context("no Kafka consumer")?))
    }

    /// The numbers of a topic's partitions, at least one.
    ///
    /// # Errors
    /// When the broker does not answer, or there is no such topic.
    pub fn partitions(&self, topic: &str) -> anyhow::Result<Vec<i32>> {
        // Nothing is assigned: this serves what the client has to ask and to say, such as that its token runs out.
        self.0.poll(Duration::ZERO);
        let metadata = self.0.fetch_metadata(Some(topic), PATIENCE).context("Kafka's metadata")?;
        let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
        let partitions: Vec<i32> =
            found.into_iter().flat_map(|t| t.partitions().iter().map(MetadataPartition::id)).collect();
        anyhow::ensure!(!partitions.is_empty(), "topic {topic} does not exist: run `stocktide migrate`");
        Ok(partitions)
    }

    /// The first offset of a partition, and the one after the last that it may read.
    ///
    /// # Errors
    /// When the broker does not answer.
    pub fn extent(&self, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
        self.0
            .fetch_watermarks(topic, partition, PATIENCE)
            .with_context(|| format!("the ends of {topic}/{partition}"))
    }

    /// Whether a reader of committed records receives none of `[from, to)`: a producer's transactions leave control records
    /// and what was aborted, which nobody receives.
    ///
    /// # Errors
    /// When the client refuses to read.
    pub fn nothing_readable(&self, topic: &str, partition: i32, from: i64, to: i64) -> anyhow::Result<bool> {
        let mut start = TopicPartitionList::new();
        start.add_partition_offset(topic, partition, Offset::Offset(from))?;
        self.0.assign(&start)?;
        let nothing = match self.0.poll(PATIENCE) {
            Some(Ok(message)) => message.offset() >= to,
            Some(Err(error)) => matches!(error, KafkaError::PartitionEOF(_)),
            None => false,
        };
        self.0.unassign()?;
        Ok(nothing)
    }
}
