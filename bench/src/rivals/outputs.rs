//! The records of the output topics, as a reader in read_committed sees them.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde::Deserialize;

use super::expected::{Expected, Row};

const WITHIN: Duration = Duration::from_secs(30);

/// One output topic.
pub struct Output {
    topic: &'static str,
    partitions: i32,
    brokers: String,
    /// Asks where the topic ends.
    asking: BaseConsumer,
    /// By partition, the offsets of its records. Transactions leave markers between them.
    offsets: Vec<Vec<i64>>,
}

/// What an update is checked for.
#[derive(Deserialize)]
struct Update {
    product_id: String,
    location_id: String,
    quantity_on_hand: i64,
}

impl Output {
    pub fn new(topic: &'static str, brokers: &str) -> anyhow::Result<Output> {
        let asking = consumer(brokers)?;
        let metadata = asking.fetch_metadata(Some(topic), WITHIN)?;
        let partitions = metadata.topics().first().context("no such topic")?.partitions().len();
        Ok(Output {
            topic,
            partitions: i32::try_from(partitions)?,
            brokers: brokers.to_owned(),
            asking,
            offsets: vec![Vec::new(); partitions],
        })
    }

    /// Where each partition ends for a reader in read_committed.
    pub fn ends(&self) -> anyhow::Result<Vec<i64>> {
        let mut asked = TopicPartitionList::new();
        for partition in 0..self.partitions {
            asked.add_partition_offset(self.topic, partition, Offset::End)?;
        }
        let answered = self.asking.offsets_for_times(asked, WITHIN)?;
        let mut ends = vec![0; self.offsets.len()];
        for end in answered.elements() {
            end.error()?;
            let place = ends.get_mut(usize::try_from(end.partition())?).context("another partition")?;
            *place = end.offset().to_raw().context("no offset")?;
        }
        Ok(ends)
    }

    /// Reads on to the end. Its reader lives no longer, since it would read ahead while a rival is timed.
    pub fn read(&mut self, mut each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        let reader = consumer(&self.brokers)?;
        let mut partitions = TopicPartitionList::new();
        for (partition, offsets) in (0..).zip(&self.offsets) {
            let next = offsets.last().map_or(0, |last| last + 1);
            partitions.add_partition_offset(self.topic, partition, Offset::Offset(next))?;
        }
        reader.assign(&partitions)?;
        let mut open: BTreeSet<i32> = (0..self.partitions).collect();
        while !open.is_empty() {
            match reader.poll(WITHIN).with_context(|| format!("{} cannot be read", self.topic))? {
                Ok(message) => {
                    open.insert(message.partition());
                    let partition = usize::try_from(message.partition())?;
                    self.offsets[partition].push(message.offset());
                    each(message.payload().unwrap_or_default());
                }
                Err(KafkaError::PartitionEOF(partition)) => drop(open.remove(&partition)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Records that were read.
    pub fn count(&self) -> u64 {
        self.offsets.iter().map(|offsets| offsets.len() as u64).sum()
    }

    /// Those of them that lie before these ends.
    pub fn count_before(&self, ends: &[i64]) -> u64 {
        let before = |(offsets, end): (&Vec<i64>, &i64)| offsets.partition_point(|offset| offset < end);
        self.offsets.iter().zip(ends).map(|pair| before(pair) as u64).sum()
    }
}

/// The changed rows whose last quantity has not been told yet.
pub struct Untold<'e> {
    expected: &'e Expected,
    rows: HashSet<Row>,
}

impl<'e> Untold<'e> {
    pub fn new(expected: &'e Expected) -> Untold<'e> {
        Untold { expected, rows: expected.changed.clone() }
    }

    /// Takes in an update.
    pub fn hear(&mut self, update: &[u8]) {
        if let Ok(update) = serde_json::from_slice::<Update>(update) {
            let row = (update.product_id, update.location_id);
            if self.expected.stock.get(&row) == Some(&update.quantity_on_hand) {
                self.rows.remove(&row);
            }
        }
    }

    pub fn check(&self) -> anyhow::Result<()> {
        let first = self.rows.iter().next();
        ensure!(
            self.rows.is_empty(),
            "the last quantity of {} stock rows is in no update, of {first:?} for one",
            self.rows.len()
        );
        Ok(())
    }
}

fn consumer(brokers: &str) -> anyhow::Result<BaseConsumer> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", brokers).set("group.id", "rivals").set("enable.auto.commit", "false");
    client.set("isolation.level", "read_committed").set("enable.partition.eof", "true");
    Ok(client.create()?)
}
