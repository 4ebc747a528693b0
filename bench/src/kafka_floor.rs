//! Bare Kafka: a client that reads the input and drops it, and one that writes the product's very outputs, as the product's own
//! clients are configured. It is the least that any product on this client library must pay.

use std::time::{Duration, Instant};

use anyhow::Context;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::OwnedMessage;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Message, Offset, TopicPartitionList};
use serde_json::{Value, json};
use stocktide_domain::Source;
use stocktide_processor::clients;

use crate::meter;
use crate::world::{World, send_when_there_is_room};

/// Where the outputs are written a second time.
const TOPIC: &str = "kafka_floor";
const PATIENCE: Duration = Duration::from_secs(30);

/// What one half of it took.
#[derive(Debug, Clone, Copy)]
struct Half {
    records: usize,
    bytes: usize,
    seconds: f64,
    cpu: f64,
}

/// Both halves, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct KafkaFloor {
    read: Half,
    written: Half,
    events: f64,
}

impl KafkaFloor {
    /// CPU of both clients, microseconds per event of the input.
    pub fn client_micros(&self) -> f64 {
        (self.read.cpu + self.written.cpu) * 1e6 / self.events
    }

    /// Its figures by event of the input.
    pub fn json(&self) -> Value {
        let half = |half: Half| {
            json!({ "records": half.records, "bytes": half.bytes, "events_per_s": self.events / half.seconds,
                    "client_cpu_us_per_event": half.cpu * 1e6 / self.events })
        };
        json!({ "read": half(self.read), "written": half(self.written) })
    }
}

/// Reads the three inputs of the backlog, then writes all updates again in as many transactions as the events make batches.
pub async fn measure(world: &World, batch: usize) -> anyhow::Result<KafkaFloor> {
    let inputs = [Source::OnlineOrders, Source::StoreSales, Source::SupplierRestocks].map(Source::topic);
    let (mut records, mut bytes) = (0, 0);
    let read = timed(|| {
        each(world, &inputs, |message| {
            records += 1;
            bytes += message.payload_len();
        })
    })?;
    let read = Half { records, bytes, ..read };
    let mut outputs: Vec<OwnedMessage> = Vec::new();
    each(world, &["inventory_updates"], |message| outputs.push(message.detach()))?;
    world.create_topic(TOPIC, world.config.topics.partitions).await?;
    let producer: BaseProducer = clients::producer(&world.config, TOPIC).create()?;
    producer.init_transactions(PATIENCE)?;
    let transactions = records.div_ceil(batch).max(1);
    let written = timed(|| {
        for part in outputs.chunks(outputs.len().div_ceil(transactions).max(1)) {
            write(&producer, part)?;
        }
        Ok(())
    })?;
    let bytes = outputs.iter().filter_map(|output| output.payload()).map(<[u8]>::len).sum();
    let written = Half { records: outputs.len(), bytes, ..written };
    Ok(KafkaFloor { read, written, events: records as f64 })
}

/// How long something takes, and what CPU of this process.
fn timed(work: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Half> {
    let own = || meter::own_seconds(std::process::id(), false);
    let (cpu, begun) = (own()?, Instant::now());
    work()?;
    Ok(Half { records: 0, bytes: 0, seconds: begun.elapsed().as_secs_f64(), cpu: own()? - cpu })
}

/// All records of some topics that a read_committed reader sees.
fn each(
    world: &World,
    topics: &[&str],
    mut take: impl FnMut(&rdkafka::message::BorrowedMessage<'_>),
) -> anyhow::Result<()> {
    let mut client = clients::consumer(&world.config);
    client.set("group.id", TOPIC).set("enable.partition.eof", "true");
    let consumer: BaseConsumer = client.create()?;
    let mut partitions = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE)?;
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            partitions.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
    }
    consumer.assign(&partitions)?;
    let mut open = partitions.count();
    while open > 0 {
        match consumer.poll(PATIENCE).context("Kafka is silent")? {
            Ok(message) => take(&message),
            Err(rdkafka::error::KafkaError::PartitionEOF(_)) => open -= 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// One transaction.
fn write(producer: &BaseProducer, records: &[OwnedMessage]) -> anyhow::Result<()> {
    producer.begin_transaction()?;
    for record in records {
        let mut next = BaseRecord::to(TOPIC).key(record.key().unwrap_or_default());
        next.payload = record.payload();
        next.headers = rdkafka::message::Message::headers(record).cloned();
        send_when_there_is_room(producer, next)?;
    }
    // A commit flushes, and in steps that are longer than this takes.
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    producer.commit_transaction(PATIENCE)?;
    Ok(())
}
