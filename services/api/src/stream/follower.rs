//! The one reader of `inventory_updates`, on a thread of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Message as _, Offset, TopicPartitionList};
use stocktide_runtime::Config;
use stocktide_runtime::kafka::{INVENTORY_UPDATES, LogContext};
use tokio_util::sync::CancellationToken;

use super::place::Place;
use super::{Chunk, Hub, change, reset};
use crate::metrics::Metrics;
use crate::pulse::{partitions, reader};

/// How long it waits for a record.
const POLL: Duration = Duration::from_millis(100);
/// How long after an error it begins anew.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it looks for partitions that were added.
const LOOK_AROUND: Duration = Duration::from_secs(30);
/// How long one request to a broker may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most records in a chunk.
const CHUNK: usize = 500;

/// Follows until `shutdown`. It blocks.
pub fn run(config: &Config, hub: &Arc<Hub>, metrics: &Arc<Metrics>, shutdown: &CancellationToken) {
    let mut told = String::new();
    while !shutdown.is_cancelled() {
        match session(config, hub, metrics, shutdown) {
            Ok(()) => told.clear(),
            Err(error) => {
                let error = format!("{error:#}");
                if error != told {
                    tracing::warn!("the stream of stock changes: {error}");
                    told = error;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// Reads until the partitions have become more, or something is wrong.
fn session(
    config: &Config,
    hub: &Hub,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> anyhow::Result<()> {
    let consumer = reader(config)?;
    let numbers = partitions(&consumer, INVENTORY_UPDATES)?;
    let mut place = begin(&consumer, hub, &numbers)?;
    let mut looked = Instant::now();
    while !shutdown.is_cancelled() {
        read_some(&consumer, hub, metrics, &mut place)?;
        if looked.elapsed() > LOOK_AROUND {
            if partitions(&consumer, INVENTORY_UPDATES)?.len() != numbers.len() {
                return Ok(());
            }
            looked = Instant::now();
        }
    }
    Ok(())
}

/// Goes on where the reader was, or begins at the end.
fn begin(consumer: &BaseConsumer<LogContext>, hub: &Hub, numbers: &[i32]) -> anyhow::Result<Place> {
    let before = hub.lock().clone();
    let mut place = Place::default();
    let mut assignment = TopicPartitionList::new();
    let mut lost = false;
    for (at, number) in numbers.iter().enumerate() {
        let (low, high) = consumer.fetch_watermarks(INVENTORY_UPDATES, *number, PATIENCE)?;
        let next = match &before {
            None => high,
            Some(before) if (low..=high).contains(&before.of(at)) => before.of(at),
            // Records were deleted before they were read, or the topic is another.
            Some(_) => {
                lost = true;
                high
            }
        };
        place.0.push(next);
        assignment.add_partition_offset(INVENTORY_UPDATES, *number, Offset::Offset(next))?;
    }
    consumer.assign(&assignment)?;
    let mut known = hub.lock();
    if lost {
        let _ = hub
            .chunks
            .send(Arc::new(Chunk::Reset(reset(&place, "records were deleted before they were read"))));
    }
    *known = Some(place.clone());
    Ok(place)
}

fn read_some(
    consumer: &BaseConsumer<LogContext>,
    hub: &Hub,
    metrics: &Metrics,
    place: &mut Place,
) -> anyhow::Result<()> {
    let mut changes = Vec::new();
    let mut wait = POLL;
    while changes.len() < CHUNK {
        match consumer.poll(wait) {
            Some(Ok(message)) => {
                place.pass(message.partition(), message.offset());
                changes.extend(change(place, message.payload().unwrap_or_default()));
                wait = Duration::ZERO;
            }
            None
            | Some(Err(
                KafkaError::PartitionEOF(_)
                // librdkafka connects again by itself.
                | KafkaError::MessageConsumption(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::OperationTimedOut
                    | RDKafkaErrorCode::Resolve,
                ),
            )) => break,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    if changes.is_empty() {
        return Ok(());
    }
    metrics.stream_records.inc_by(changes.len() as u64);
    let mut whole = BytesMut::with_capacity(changes.iter().map(|change| change.frame.len()).sum());
    changes.iter().for_each(|change| whole.extend_from_slice(&change.frame));
    let whole: Bytes = whole.freeze();
    let mut known = hub.lock();
    // Nobody need be there.
    let _ = hub.chunks.send(Arc::new(Chunk::Changes(changes, whole)));
    *known = Some(place.clone());
    Ok(())
}
