//! Watches how far the group is: for the metrics, and to end a processor that is to run until it has caught up.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataPartition;
use rdkafka::{Offset, TopicPartitionList};
use stocktide_domain::Source;
use stocktide_runtime::config::Config;
use stocktide_runtime::kafka::OUTPUT_TOPICS;
use stocktide_store::Partition;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::clients;
use crate::intake::GroupConsumer;
use crate::recovery::committed;
use crate::run::RunOptions;

/// How often the group's offsets are looked at.
const EVERY: Duration = Duration::from_millis(200);
/// How long one request to the broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The ends that the group has to reach.
pub struct CaughtUp {
    config: Config,
    consumer: Arc<GroupConsumer>,
    ends: BTreeMap<Partition, i64>,
}

impl CaughtUp {
    /// Where the options ask for it, cancels the processor when the group has caught up with the ends that the input has
    /// now, and what it published can be read.
    pub fn watch(
        config: &Config,
        options: &RunOptions,
        consumer: Arc<GroupConsumer>,
        shutdown: CancellationToken,
    ) -> JoinHandle<anyhow::Result<()>> {
        let (config, wanted) = (config.clone(), options.until_caught_up);
        tokio::task::spawn_blocking(move || {
            if !wanted {
                return Ok(());
            }
            let watched = CaughtUp::read(config, consumer, &shutdown).and_then(|state| match state {
                Some(mut state) => state.wait(&shutdown),
                None => Ok(()),
            });
            shutdown.cancel();
            watched
        })
    }

    fn read(
        config: Config,
        consumer: Arc<GroupConsumer>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<Option<CaughtUp>> {
        let mut ends = BTreeMap::new();
        for source in Source::ALL {
            let partitions = loop {
                if shutdown.is_cancelled() {
                    return Ok(None);
                }
                match partitions(&*consumer, source.topic()) {
                    Ok(partitions) => break partitions,
                    Err(error) => tracing::warn!("{error:#}"),
                }
                std::thread::sleep(EVERY);
            };
            for partition in partitions {
                let (low, high) = consumer.fetch_watermarks(source.topic(), partition, PATIENCE).context("end offsets")?;
                if high > low {
                    ends.insert((source, partition), high);
                }
            }
        }
        Ok(Some(CaughtUp { config, consumer, ends }))
    }

    /// Returns when the group has caught up, or the processor is ending.
    fn wait(&mut self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        while !shutdown.is_cancelled() {
            match self.left() {
                Ok(left) if left.is_empty() => return self.wait_until_readable(shutdown),
                Ok(left) => self.skip_control_records(&left)?,
                // A pending transaction, or a broker that is away: both pass.
                Err(error) => tracing::debug!("{error:#}"),
            }
            std::thread::sleep(EVERY);
        }
        Ok(())
    }

    /// The partitions that the group has not finished, and where it is there.
    fn left(&self) -> anyhow::Result<BTreeMap<Partition, i64>> {
        let partitions: Vec<Partition> = self.ends.keys().copied().collect();
        let committed = committed(&*self.consumer, &partitions)?;
        let at = partitions.into_iter().zip(committed).map(|(partition, at)| (partition, at.unwrap_or(0)));
        Ok(at.filter(|(partition, at)| self.ends.get(partition).is_some_and(|end| at < end)).collect())
    }

    /// A producer's transactions end in control records, which nobody receives: a partition in which nothing else is
    /// left is done. Asked only about the last few offsets of a partition.
    fn skip_control_records(&mut self, left: &BTreeMap<Partition, i64>) -> anyhow::Result<()> {
        for (partition, at) in left {
            let close = self.ends.get(partition).is_some_and(|end| end - at <= 8);
            if close && nothing_readable(&self.config, *partition, *at)? {
                self.ends.remove(partition);
            }
        }
        Ok(())
    }

    /// A commit is answered before its markers are everywhere. This waits until readers of committed records see to the
    /// ends that the outputs have now.
    fn wait_until_readable(&self, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let all: BaseConsumer = clients::consumer(&self.config).set("isolation.level", "read_uncommitted").create()?;
        for topic in OUTPUT_TOPICS {
            for partition in partitions(&all, topic)? {
                let (_, end) = all.fetch_watermarks(topic, partition, PATIENCE).context("end offsets")?;
                while self.consumer.fetch_watermarks(topic, partition, PATIENCE).context("stable offsets")?.1 < end {
                    if shutdown.is_cancelled() {
                        return Ok(());
                    }
                    std::thread::sleep(EVERY);
                }
            }
        }
        Ok(())
    }
}

fn partitions<C: rdkafka::consumer::ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
) -> anyhow::Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).context("Kafka's metadata")?;
    let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    let partitions: Vec<i32> = found.into_iter().flat_map(|t| t.partitions().iter().map(MetadataPartition::id)).collect();
    anyhow::ensure!(!partitions.is_empty(), "topic {topic} does not exist: run `stocktide migrate`");
    Ok(partitions)
}

/// Whether a reader of committed records that starts at an offset comes to the end without having received one.
fn nothing_readable(config: &Config, (source, partition): Partition, at: i64) -> anyhow::Result<bool> {
    let reader: BaseConsumer = clients::consumer(config).set("enable.partition.eof", "true").create()?;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(source.topic(), partition, Offset::Offset(at))?;
    reader.assign(&from)?;
    Ok(matches!(reader.poll(PATIENCE), Some(Err(KafkaError::PartitionEOF(_)))))
}
