//! The beginning of a session: what is published, what is applied, and what lies between.
//!
//! Kafka's committed offset K never passes the database's next_offset P. What lies in [K, P) was applied and perhaps not
//! published; the ledger and the log hold its result, so it is made again from there and published, without reading the
//! input again (docs/adr/0002). Records from P on are new. What a timer put out is found by its number: K's metadata says up
//! to which it is published (docs/adr/0010).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::consumer::Consumer;
use rdkafka::{Offset, TopicPartitionList};
use stocktide_domain::Source;
use stocktide_store::broken::{self, Broken};
use stocktide_store::{Partition, Position, Published, Stand, StoreError, Writer};

use crate::intake::{GroupConsumer, Start};
use crate::publisher::{Job, Mark, PublishedUpTo, Publisher};
use crate::session::Session;

/// Offsets whose outputs are made again in one go.
const CHUNK: i64 = 5_000;
/// How long one request to the broker may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// Why a recovery did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Kafka or the database is away, or a transaction is still pending: try again.
    #[error("{0:#}")]
    Passing(anyhow::Error),
    /// A log seems to have lost records. An answer that was long on its way, or a broker that does not know yet that it leads the
    /// partition no more, says so, too: to be believed once it has been said for a while.
    #[error("{0}")]
    Short(String),
    /// Going on would break a promise: stop and say so.
    #[error("{0}")]
    Stop(String),
}

impl From<anyhow::Error> for RecoveryError {
    fn from(error: anyhow::Error) -> RecoveryError {
        RecoveryError::Passing(error)
    }
}

impl From<StoreError> for RecoveryError {
    fn from(error: StoreError) -> RecoveryError {
        match error {
            StoreError::Stop(_) | StoreError::Doubtful(_) => RecoveryError::Stop(error.to_string()),
            other => RecoveryError::Passing(other.into()),
        }
    }
}

/// What Kafka says of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Log {
    /// K, where there is one.
    committed: Option<i64>,
    /// The number in its metadata, where there is one.
    number: Option<i64>,
    /// The first offset that is there.
    low: i64,
    /// The offset after the last one that is stable.
    high: i64,
}

impl Log {
    /// Whether K is older than what this process itself has published: a coordinator that does not know yet that it is none any
    /// more answers with what it knew. To publish from there would repeat.
    fn is_behind(&self, known: &Published) -> bool {
        self.committed.is_some_and(|committed| {
            committed < known.offset
                || (committed == known.offset && self.number.is_some_and(|number| number < known.timer_seq))
        })
    }
}

/// Where a session's partitions are read on.
pub struct Recovered {
    /// Every partition.
    pub starts: BTreeMap<Partition, Start>,
    /// Where those of `payments` stand, for the timer.
    pub stands: BTreeMap<i32, Stand>,
}

/// Reads the positions of a session's partitions, publishes what is applied and not published, and says where to read on.
///
/// # Errors
/// [`RecoveryError`].
pub async fn recover(
    session: &Arc<Session>,
    consumer: &Arc<GroupConsumer>,
    writer: &Writer,
    publisher: &Publisher,
) -> Result<Recovered, RecoveryError> {
    // First of all no older transaction of this process may still be on its way.
    let prepared = publisher.prepare().await;
    if let Some(reason) = publisher.refused() {
        return Err(RecoveryError::Stop(reason.to_owned()));
    }
    prepared?;
    // Should K be gone, this tells that something was published (rule 5).
    writer.note_published(&publisher.published()).await?;
    // Rule 1: K first, then P.
    let logs = read_logs(session, consumer).await?;
    let known = publisher.published();
    for ((source, number), log) in &logs {
        if let Some(known) = known.get(&(*source, *number)).filter(|known| log.is_behind(known)) {
            let offset = known.offset;
            return Err(anyhow!(
                "{source}/{number}: the group's coordinator is behind: {offset} is published"
            )
            .into());
        }
    }
    let starts = logs.iter().map(|(partition, log)| (*partition, log.low)).collect();
    let positions = writer.positions(&starts).await?;
    let mut found = Recovered { starts: BTreeMap::new(), stands: BTreeMap::new() };
    for (partition, log) in logs {
        let position = positions.get(&partition).context("a progress row is missing")?;
        let published = settle(partition, log, position).map_err(RecoveryError::Stop)?;
        reaches(partition, log, position).map_err(RecoveryError::Short)?;
        let mut number = settle_timer(partition, log, position).map_err(RecoveryError::Stop)?;
        if broken::is(Broken::TimerCursorLost) {
            number = position.timer_seq;
        }
        let published = Mark { offset: published, timer_seq: number };
        republish(session, partition, published, position, writer, publisher).await?;
        if partition.0 == Source::Payments {
            republish_timer(session, partition, number, position, writer, publisher).await?;
            let stand = Stand { next_offset: position.next_offset, timer_seq: position.timer_seq };
            found.stands.insert(partition.1, stand);
        }
        found.starts.insert(partition, start(log, position));
    }
    Ok(found)
}

/// K of every partition, each one's error checked, and what its log holds.
async fn read_logs(
    session: &Session,
    consumer: &Arc<GroupConsumer>,
) -> anyhow::Result<BTreeMap<Partition, Log>> {
    let (partitions, consumer) = (session.partitions.clone(), Arc::clone(consumer));
    let read = move || {
        let committed = committed_with_metadata(&*consumer, &partitions)?;
        let mut logs = BTreeMap::new();
        for (partition, committed) in partitions.into_iter().zip(committed) {
            let (topic, number) = (partition.0.topic(), partition.1);
            let (low, high) = consumer
                .fetch_watermarks(topic, number, PATIENCE)
                .with_context(|| format!("{topic}/{number}"))?;
            let number = committed.as_ref().and_then(|(_, metadata)| metadata.parse().ok());
            let committed = committed.map(|(offset, _)| offset);
            logs.insert(partition, Log { committed, number, low, high });
        }
        Ok(logs)
    };
    tokio::task::spawn_blocking(read).await?
}

/// The group's committed offsets, in the order of the partitions. While a transaction on one is pending the broker does
/// not answer for it, and this fails after its patience.
///
/// # Errors
/// When the broker, or a single partition, does not answer.
pub fn committed<C: rdkafka::consumer::ConsumerContext>(
    consumer: &rdkafka::consumer::BaseConsumer<C>,
    partitions: &[Partition],
) -> anyhow::Result<Vec<Option<i64>>> {
    let committed = committed_with_metadata(consumer, partitions)?;
    Ok(committed.into_iter().map(|committed| committed.map(|(offset, _)| offset)).collect())
}

/// As [`committed`], with the offsets' metadata.
fn committed_with_metadata<C: rdkafka::consumer::ConsumerContext>(
    consumer: &rdkafka::consumer::BaseConsumer<C>,
    partitions: &[Partition],
) -> anyhow::Result<Vec<Option<(i64, String)>>> {
    let mut list = TopicPartitionList::with_capacity(partitions.len());
    for (source, partition) in partitions {
        list.add_partition(source.topic(), *partition);
    }
    let answer = consumer.committed_offsets(list, PATIENCE).context("reading the committed offsets")?;
    let of = |(source, partition): &Partition| {
        let element = answer
            .find_partition(source.topic(), *partition)
            .context("a partition is missing in the answer")?;
        element.error().with_context(|| format!("committed offset of {source}/{partition}"))?;
        match element.offset() {
            Offset::Offset(offset) => Ok(Some((offset, element.metadata().to_owned()))),
            _ => Ok(None),
        }
    };
    partitions.iter().map(of).collect()
}

/// Holds K, P and the log against each other (rules 5 and 9); answers where publishing goes on, or why to stop.
fn settle((source, number): Partition, log: Log, position: &Position) -> Result<i64, String> {
    let (name, next) = (format!("{source}/{number}"), position.next_offset);
    let published = match (log.committed, position.published_offset) {
        (Some(committed), _) => committed,
        (None, None) => position.start_offset,
        (None, Some(hint)) => {
            return Err(format!(
                "{name}: the group's committed offset is gone, though records below {hint} were published"
            ));
        }
    };
    if published > next {
        return Err(format!(
            "{name}: Kafka has {published} as published, the database only {next} as applied: the database has lost commits"
        ));
    }
    if log.low > next {
        return Err(never_read((source, number), log.low, next));
    }
    if published < next && published < position.log_floor {
        return Err(format!(
            "{name}: records from {published} on have to be published again, but the log was cut at {}",
            position.log_floor
        ));
    }
    Ok(published)
}

/// Whether the log has all that was read of it (rule 9).
fn reaches((source, number): Partition, log: Log, position: &Position) -> Result<(), String> {
    let (high, next) = (log.high, position.next_offset);
    if high >= next {
        return Ok(());
    }
    Err(short((source, number), high, next))
}

/// Records that somebody deleted before they were read.
pub(crate) fn never_read((source, number): Partition, low: i64, next: i64) -> String {
    format!(
        "{source}/{number}: the log starts at {low}, and records from {next} on were never read: they are gone"
    )
}

/// Records that were read, and are in the log no more.
pub(crate) fn short((source, number): Partition, high: i64, next: i64) -> String {
    format!("{source}/{number}: the log ends at {high}, below the {next} that was read: it lost records")
}

/// Holds the number that is published of what the timer put out against the number that it has reached (rule 6); answers
/// where publishing goes on, or why to stop.
fn settle_timer((source, number): Partition, log: Log, position: &Position) -> Result<i64, String> {
    let (name, reached) = (format!("{source}/{number}"), position.timer_seq);
    match (log.committed, log.number) {
        // Nothing was ever published: see `settle`.
        (None, _) => Ok(0),
        (Some(_), Some(published)) if published > reached => Err(format!(
            "{name}: Kafka has number {published} of the timer as published, the database only {reached}: the database has lost \
             commits"
        )),
        (Some(_), Some(published)) => Ok(published),
        (Some(_), None) if reached == 0 => Ok(0),
        (Some(offset), None) => Err(format!(
            "{name}: the committed offset {offset} does not say up to which number the timer's outputs are published: it was \
             not committed by a processor"
        )),
    }
}

/// Publishes what [K, P) put out, in pieces; all of them carry the timer's number that is published already.
async fn republish(
    session: &Arc<Session>,
    partition: Partition,
    published: Mark,
    position: &Position,
    writer: &Writer,
    publisher: &Publisher,
) -> Result<(), RecoveryError> {
    let mut at = published.offset;
    // Somebody has set the offset back to before what is noted, of whose outputs nothing is known but that they are older.
    let since = position.published_at.filter(|_| position.published_offset.is_none_or(|noted| at >= noted));
    while at < position.next_offset && session.is_live() {
        let to = (at + CHUNK).min(position.next_offset);
        let mut outputs = writer.outputs_of(partition, at, to, since).await?;
        if broken::is(Broken::ReplaysDropped) {
            outputs.clear();
        }
        tracing::info!(topic = %partition.0, partition = partition.1, from = at, to, outputs = outputs.len(), "publishing again");
        publisher.publish(Job {
            in_hand: session.take(),
            outputs,
            offsets: BTreeMap::from([(partition, Mark { offset: to, ..published })]),
            processed_at: Some(position.searched_from()),
            span: tracing::Span::none(),
        });
        // In step with the publisher, so that a long way back takes little memory.
        publisher.prepare().await?;
        at = to;
    }
    if session.is_live() { Ok(()) } else { Err(anyhow::anyhow!("the session ended").into()) }
}

/// Publishes what the timer put out above a number, in pieces, when all records of [K, P) are published.
async fn republish_timer(
    session: &Arc<Session>,
    partition: Partition,
    published: i64,
    position: &Position,
    writer: &Writer,
    publisher: &Publisher,
) -> Result<(), RecoveryError> {
    let mut at = published;
    while at < position.timer_seq && session.is_live() {
        let to = (at + CHUNK).min(position.timer_seq);
        let outputs = writer.timer_outputs_of(partition.1, at, to, position.published_at).await?;
        tracing::info!(topic = %partition.0, partition = partition.1, after = at, to, "publishing the timer's outputs again");
        let mark = Mark { offset: position.next_offset, timer_seq: to };
        publisher.publish(Job {
            in_hand: session.take(),
            outputs,
            offsets: BTreeMap::from([(partition, mark)]),
            processed_at: Some(position.searched_from()),
            span: tracing::Span::none(),
        });
        publisher.prepare().await?;
        at = to;
    }
    if session.is_live() { Ok(()) } else { Err(anyhow::anyhow!("the session ended").into()) }
}

fn start(log: Log, position: &Position) -> Start {
    let last = position.last.clone().filter(|(offset, _)| *offset >= log.low);
    Start { next_offset: position.next_offset, last }
}

/// P may not fall below what is published, and the log may not lose what was read: looked at now and then, too, not only
/// when a session begins (rule 5).
///
/// # Errors
/// [`RecoveryError::Stop`] when it has.
pub async fn still_sound(writer: &Writer, published: &PublishedUpTo) -> Result<(), RecoveryError> {
    let starts = published.iter().map(|(partition, published)| (*partition, published.offset)).collect();
    for (partition, position) in writer.positions(&starts).await? {
        let Some(published) = published.get(&partition) else { continue };
        let (source, number) = partition;
        if published.offset > position.next_offset {
            return Err(RecoveryError::Stop(format!(
                "{source}/{number}: {} is published, the database only has {} as applied: it has lost commits",
                published.offset, position.next_offset
            )));
        }
        if published.timer_seq > position.timer_seq {
            return Err(RecoveryError::Stop(format!(
                "{source}/{number}: number {} of the timer is published, the database only has {}: it has lost commits",
                published.timer_seq, position.timer_seq
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const AT: Partition = (Source::OnlineOrders, 0);

    fn position(next_offset: i64, published_offset: Option<i64>) -> Position {
        let (start_offset, log_floor) = (10, 10);
        Position {
            start_offset,
            next_offset,
            published_offset,
            published_at: None,
            last: None,
            log_floor,
            timer_seq: 7,
            timer_published: 0,
        }
    }

    #[test]
    fn publishing_goes_on_at_the_committed_offset() {
        let log = Log { committed: Some(15), number: None, low: 10, high: 30 };
        assert_eq!(settle(AT, log, &position(20, Some(12))), Ok(15));
    }

    #[test]
    fn where_nothing_was_ever_published_it_begins_at_the_recorded_start() {
        let log = Log { committed: None, number: None, low: 10, high: 30 };
        assert_eq!(settle(AT, log, &position(20, None)), Ok(10));
    }

    #[test]
    fn it_stops_rather_than_break_a_promise() {
        let cases = [
            (
                Log { committed: None, number: None, low: 10, high: 30 },
                position(20, Some(12)),
                "committed offset is gone",
            ),
            (
                Log { committed: Some(21), number: None, low: 10, high: 30 },
                position(20, Some(12)),
                "lost commits",
            ),
            (
                Log { committed: Some(15), number: None, low: 21, high: 30 },
                position(20, None),
                "the log starts at 21",
            ),
            (
                Log { committed: Some(9), number: None, low: 0, high: 30 },
                position(20, None),
                "the log was cut at 10",
            ),
        ];
        for (log, position, expected) in cases {
            let stopped = settle(AT, log, &position).unwrap_err();
            assert!(stopped.contains(expected), "{stopped}");
        }
    }

    #[test]
    fn the_timer_s_outputs_go_on_at_the_number_beside_the_committed_offset() {
        let (at, position) = ((Source::Payments, 0), position(20, Some(12)));
        let log = |committed, number| Log { committed, number, low: 10, high: 30 };
        assert_eq!(settle_timer(at, log(Some(15), Some(4)), &position), Ok(4));
        assert_eq!(settle_timer(at, log(Some(15), Some(7)), &position), Ok(7));
        assert_eq!(settle_timer(at, log(None, None), &position), Ok(0));
        let fresh = Position { timer_seq: 0, ..position.clone() };
        assert_eq!(settle_timer(at, log(Some(15), None), &fresh), Ok(0));
        let stopped = settle_timer(at, log(Some(15), Some(8)), &position).unwrap_err();
        assert!(stopped.contains("lost commits"), "{stopped}");
        let stopped = settle_timer(at, log(Some(15), None), &position).unwrap_err();
        assert!(stopped.contains("does not say up to which number"), "{stopped}");
    }

    #[test]
    fn a_log_that_ends_below_what_was_read_is_told() {
        let log = |high| Log { committed: Some(15), number: None, low: 10, high };
        assert_eq!(reaches(AT, log(20), &position(20, None)), Ok(()));
        let told = reaches(AT, log(19), &position(20, None)).unwrap_err();
        assert!(told.contains("the log ends at 19, below the 20"), "{told}");
    }

    #[test]
    fn a_coordinator_that_knows_less_than_was_published_here_is_not_believed() {
        let log = |committed, number| Log { committed, number, low: 0, high: 30 };
        let known =
            |offset, timer_seq| Published { offset, processed_at: chrono::DateTime::UNIX_EPOCH, timer_seq };
        assert!(log(Some(14), None).is_behind(&known(15, 0)));
        assert!(!log(Some(15), None).is_behind(&known(15, 0)));
        assert!(!log(Some(16), None).is_behind(&known(15, 0)), "others have published since");
        assert!(log(Some(15), Some(3)).is_behind(&known(15, 4)));
        assert!(!log(Some(16), Some(3)).is_behind(&known(15, 4)));
        assert!(!log(None, None).is_behind(&known(15, 0)), "a lost offset is another matter");
    }

    #[test]
    fn a_log_that_was_cut_between_k_and_p_is_no_reason_to_stop() {
        let log = Log { committed: Some(12), number: None, low: 18, high: 30 };
        assert_eq!(settle(AT, log, &position(20, None)), Ok(12));
        assert_eq!(start(log, &Position { last: Some((17, vec![])), ..position(20, None) }).last, None);
    }
}
