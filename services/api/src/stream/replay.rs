//! What a client missed, read again for it alone.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use stocktide_runtime::Config;
use stocktide_runtime::kafka::{INVENTORY_UPDATES, LogContext};
use tokio::sync::mpsc;

use super::client::Wanted;
use super::place::Place;
use super::{change, reset};
use crate::pulse::reader;

/// More than this is not read again: the stock itself is quicker to read.
const MOST_RECORDS: i64 = 100_000;
/// How long it may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long one request to a broker may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends what lies between two places, as far as it is wanted. It blocks, and ends early when nobody listens any more.
pub fn run(config: &Config, from: &Place, to: &Place, wanted: &Wanted, frames: &mpsc::Sender<Bytes>) {
    let told = match between(config, from, to, wanted, frames) {
        Ok(None) => return,
        Ok(Some(why)) => why.to_owned(),
        Err(error) => {
            tracing::warn!("a client could not catch up: {error:#}");
            "what was missed could not be read".to_owned()
        }
    };
    let _ = frames.blocking_send(reset(to, &told));
}

/// Nothing when all was sent, or else why it could not be.
fn between(
    config: &Config,
    from: &Place,
    to: &Place,
    wanted: &Wanted,
    frames: &mpsc::Sender<Bytes>,
) -> anyhow::Result<Option<&'static str>> {
    let missed: i64 = (0..to.0.len()).map(|at| (to.of(at) - from.of(at)).max(0)).sum();
    if missed > MOST_RECORDS {
        return Ok(Some("too much was missed to be told again"));
    }
    if from.0.len() > to.0.len() {
        return Ok(Some("the id is not of this topic"));
    }
    let consumer = reader(config)?;
    let mut place = Place((0..to.0.len()).map(|at| from.of(at)).collect());
    let mut assignment = TopicPartitionList::new();
    let mut open = vec![false; to.0.len()];
    for (at, open) in open.iter_mut().enumerate() {
        let number = i32::try_from(at)?;
        if from.of(at) > to.of(at) {
            return Ok(Some("the id is not of this topic"));
        }
        if from.of(at) == to.of(at) {
            continue;
        }
        if consumer.fetch_watermarks(INVENTORY_UPDATES, number, PATIENCE)?.0 > from.of(at) {
            return Ok(Some("what was missed has been deleted"));
        }
        assignment.add_partition_offset(INVENTORY_UPDATES, number, Offset::Offset(from.of(at)))?;
        *open = true;
    }
    consumer.assign(&assignment)?;
    read(&consumer, &mut place, &mut open, to, wanted, frames)
}

fn read(
    consumer: &BaseConsumer<LogContext>,
    place: &mut Place,
    open: &mut [bool],
    to: &Place,
    wanted: &Wanted,
    frames: &mpsc::Sender<Bytes>,
) -> anyhow::Result<Option<&'static str>> {
    let until = Instant::now() + DEADLINE;
    while open.iter().any(|open| *open) {
        if Instant::now() > until {
            return Ok(Some("what was missed took too long to read"));
        }
        let (partition, record) = match consumer.poll(PATIENCE) {
            None => continue,
            // The end that can be read now is not before the one that was wanted.
            Some(Err(KafkaError::PartitionEOF(partition))) => (partition, None),
            Some(Err(error)) => return Err(error.into()),
            Some(Ok(message)) => (message.partition(), Some(message)),
        };
        let at = usize::try_from(partition)?;
        let record = record.filter(|message| message.offset() < to.of(at));
        if let Some(message) = &record {
            place.pass(partition, message.offset());
            let change = change(place, message.payload().unwrap_or_default());
            let frame = change.filter(|change| wanted.takes(change)).map(|change| change.frame);
            if let Some(frame) = frame
                && frames.blocking_send(frame).is_err()
            {
                return Ok(None);
            }
        }
        if record.is_none() || place.of(at) >= to.of(at) {
            place.pass(partition, to.of(at) - 1);
            open[at] = false;
        }
    }
    Ok(None)
}
