//! Receives records: the consumer, on a thread of its own, from which every callback of the group comes, too.
//!
//! It gathers records while the database is busy, so that batches grow under backlog and are small when there is little
//! to do, and it keeps polling whatever happens elsewhere.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, PoisonError, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use prometheus::IntCounter;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, ClientContext, Message, Offset, TopicPartitionList};
use stocktide_domain::Source;
use stocktide_domain::decode::Rules;
use stocktide_runtime::kafka;
use stocktide_store::Partition;
use stocktide_store::broken::{self, Broken};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::batch::{BatchLimits, Received, Records, digest};
use crate::session::Session;
use crate::{native, recovery};

/// One batch is published and one applied, while the next one grows.
const IN_HAND: usize = 2;
/// For so long a full batch waits for room before the partitions are paused: pausing throws away what the client has fetched and nobody
/// has taken, so that is for a database that stands and not for one that is slow.
const PAUSE_AFTER: Duration = Duration::from_secs(5);
/// How long the thread waits where there is nothing to do, before it looks around.
const IDLE: Duration = Duration::from_millis(50);

/// What the intake has for the rest of the processor.
pub enum Intake {
    /// Partitions are owned; nothing comes from them until [`Starts`] say from where.
    Assigned(Arc<Session>),
    /// Records.
    Records(Received),
    /// It cannot go on.
    Failed(anyhow::Error),
}

/// From where a session's partitions are read.
pub struct Starts {
    /// The session.
    pub session: Arc<Session>,
    /// Its partitions.
    pub partitions: BTreeMap<Partition, Start>,
}

/// From where a partition is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// P: the first record that is new.
    pub next_offset: i64,
    /// The last record that is not, if the log still has it, and its digest: should it have become another one, then the
    /// topic is not the one that was read (rule 9).
    pub last: Option<(i64, Vec<u8>)>,
}

/// The consumer, and what the group's callbacks leave for the polling thread.
pub type GroupConsumer = BaseConsumer<Group>;

/// What the group says.
pub struct Group {
    session: Mutex<Option<Arc<Session>>>,
    assigned: Mutex<Option<Vec<Partition>>>,
    /// What the client last reported of itself.
    said: Mutex<String>,
    patience: Duration,
    rebalances: IntCounter,
}

impl Group {
    /// `patience`: how long what is in hand may take when partitions are taken away; `rebalances` counts assignments.
    pub fn new(patience: Duration, rebalances: IntCounter) -> Group {
        let (session, assigned, said) = Default::default();
        Group { session, assigned, said, patience, rebalances }
    }

    fn session(&self) -> std::sync::MutexGuard<'_, Option<Arc<Session>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> String {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn assigned(&self) -> std::sync::MutexGuard<'_, Option<Vec<Partition>>> {
        self.assigned.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Group {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka::token(file)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        kafka::log_line(level, facility, message);
    }

    /// Polling tells the code alone, and not which topic it is about.
    fn error(&self, error: KafkaError, reason: &str) {
        reason.clone_into(&mut self.said.lock().unwrap_or_else(PoisonError::into_inner));
        kafka::log_error(&error, reason);
    }
}

impl ConsumerContext for Group {
    /// Assigned partitions are noted, and nothing is read of them until their offsets are known. The answer is given at once all
    /// the same: the client hears nothing of the group while it waits for one, not even that it is no member any more. Revoked or
    /// lost partitions are given up only when nothing of them is in hand any more (rule 2); what does not finish in time is
    /// dropped, and the broker refuses its stamp.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        event: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            self.rebalances.inc();
            *self.assigned() =
                Some(partitions.elements().iter().filter_map(|e| known(e.topic(), e.partition())).collect());
            if let Err(error) = consumer.assign(&TopicPartitionList::new()) {
                tracing::error!("assign: {error}");
            }
            return;
        }
        *self.assigned() = None;
        if let Some(session) = self.session().take() {
            if consumer.assignment_lost() {
                session.end();
            }
            let finished = session.wait_idle(self.patience);
            session.end();
            tracing::info!(finished, "partitions revoked");
        }
        if let Err(error) = consumer.unassign() {
            tracing::error!("unassign: {error}");
        }
    }
}

fn known(topic: &str, partition: i32) -> Option<Partition> {
    Some((Source::from_topic(topic)?, partition))
}

/// The polling thread's state.
pub struct IntakeThread {
    consumer: Arc<GroupConsumer>,
    rules: Rules,
    limits: BatchLimits,
    out: mpsc::UnboundedSender<Intake>,
    starts: std_mpsc::Receiver<Starts>,
    shutdown: CancellationToken,
    shutdown_deadline: Duration,
    /// The session that records are read in, and where its partitions stand.
    reading: Option<(Arc<Session>, BTreeMap<Partition, Start>)>,
    pending: Records,
    pending_since: Instant,
    /// Since when the batch has been full and there has been no room for it.
    full_since: Option<Instant>,
    paused: bool,
}

/// The rest of the processor's handle of the polling thread.
pub struct IntakeHandle {
    /// For reading positions; polled by the thread only.
    pub consumer: Arc<GroupConsumer>,
    /// What comes in.
    pub incoming: mpsc::UnboundedReceiver<Intake>,
    /// To tell it from where to read.
    pub starts: std_mpsc::Sender<Starts>,
    /// Ends when the consumer has left the group.
    pub thread: std::thread::JoinHandle<()>,
}

/// How long what is in hand may take to finish.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// When partitions are revoked.
    pub revoke: Duration,
    /// When the processor ends.
    pub shutdown: Duration,
}

/// Joins the group and starts the polling thread.
///
/// # Errors
/// When there is no consumer or no thread to be had.
pub fn start(
    client: &ClientConfig,
    group: Group,
    patience: Patience,
    rules: Rules,
    limits: BatchLimits,
    shutdown: CancellationToken,
) -> anyhow::Result<IntakeHandle> {
    let consumer: Arc<GroupConsumer> =
        Arc::new(client.create_with_context(group).context("no Kafka consumer")?);
    consumer.subscribe(&Source::ALL.map(Source::topic)).context("subscribe")?;
    let (out, incoming) = mpsc::unbounded_channel();
    let (starts, inbox) = std_mpsc::channel();
    let state = IntakeThread {
        consumer: Arc::clone(&consumer),
        rules,
        limits,
        out,
        starts: inbox,
        shutdown,
        shutdown_deadline: patience.shutdown,
        reading: None,
        pending: Records::default(),
        pending_since: Instant::now(),
        full_since: None,
        paused: false,
    };
    let thread = std::thread::Builder::new().name("intake".to_owned()).spawn(move || state.run())?;
    Ok(IntakeHandle { consumer, incoming, starts, thread })
}

impl IntakeThread {
    fn run(mut self) {
        while !self.shutdown.is_cancelled() && !self.out.is_closed() {
            if let Err(error) = self.turn() {
                // Nobody may be left to hear it; then the processor is ending anyway.
                let _ = self.out.send(Intake::Failed(error));
                break;
            }
        }
        self.leave();
    }

    /// One turn: look at the group, poll, hand over.
    fn turn(&mut self) -> anyhow::Result<()> {
        self.follow_group();
        self.follow_starts()?;
        let consumer = Arc::clone(&self.consumer);
        match consumer.poll(self.patience()) {
            Some(Ok(message)) => self.take(&message)?,
            Some(Err(error)) => self.check(&error)?,
            None => {}
        }
        self.hand_over();
        Ok(())
    }

    /// Begins a session when partitions were assigned, and again when the present one was ended by a doubt.
    fn follow_group(&mut self) {
        let mut partitions = self.consumer.context().assigned().take();
        let doubted = self.consumer.context().session().clone().filter(|session| !session.is_live());
        if let Some(session) =
            doubted.filter(|session| partitions.is_none() && session.wait_idle(Duration::ZERO))
        {
            partitions = Some(session.partitions.clone());
        }
        if self.reading.as_ref().is_some_and(|(session, _)| !session.is_live()) {
            self.reading = None;
            self.pending = Records::default();
            self.pause(true);
        }
        let Some(partitions) = partitions else { return };
        // The stamp is taken here, on the polling thread, between callbacks (rule 2).
        let stamp = self.consumer.group_metadata().filter(|_| native::is_member(&*self.consumer));
        let Some(stamp) = stamp else {
            tracing::warn!("no member of the group any more: waiting for the next assignment");
            *self.consumer.context().session() = None;
            return;
        };
        let stamp = if broken::is(Broken::NoGeneration) { native::stranger() } else { Some(stamp) };
        let Some(stamp) = stamp else { return };
        let session = Session::begin(partitions, stamp);
        *self.consumer.context().session() = Some(Arc::clone(&session));
        // Nobody may be left to hear it; then the processor is ending anyway.
        let _ = self.out.send(Intake::Assigned(session));
    }

    /// Begins to read where recovery says, unless the session has ended meanwhile.
    fn follow_starts(&mut self) -> anyhow::Result<()> {
        while let Ok(Starts { session, partitions }) = self.starts.try_recv() {
            let current =
                self.consumer.context().session().as_ref().is_some_and(|s| Arc::ptr_eq(s, &session));
            if !session.is_live() || !current {
                continue;
            }
            let mut offsets = TopicPartitionList::new();
            for ((source, partition), start) in &partitions {
                let from = start.last.as_ref().map_or(start.next_offset, |(offset, _)| *offset);
                offsets.add_partition_offset(source.topic(), *partition, Offset::Offset(from))?;
            }
            self.consumer.assign(&offsets).context("assign")?;
            // A partition that was paused when it was revoked comes back paused.
            self.consumer.resume(&offsets).context("resume")?;
            self.paused = false;
            self.pending = Records::default();
            self.reading = Some((session, partitions));
        }
        Ok(())
    }

    /// How long to wait for a record: until the linger is over, and while it only waits for room, hardly.
    fn patience(&self) -> Duration {
        if self.pending.is_empty() || self.paused {
            return IDLE;
        }
        let left = self.limits.linger.saturating_sub(self.pending_since.elapsed());
        left.max(Duration::from_millis(1))
    }

    fn take(&mut self, message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
        let Some((_, partitions)) = &mut self.reading else { return Ok(()) };
        let Some(partition) = known(message.topic(), message.partition()) else { return Ok(()) };
        let Some(start) = partitions.get_mut(&partition) else { return Ok(()) };
        if message.offset() < start.next_offset {
            return same_topic(start, message);
        }
        if self.pending.is_empty() {
            self.pending_since = Instant::now();
            self.rules.now = stocktide_runtime::clock::now();
        }
        self.pending.push(partition.0, message, &self.rules);
        Ok(())
    }

    /// Hands the batch over when it has waited long enough and there is room for it.
    fn hand_over(&mut self) {
        let full = self.pending.is_full(self.limits);
        self.full_since = self.full_since.filter(|_| full);
        let due = full || (!self.pending.is_empty() && self.pending_since.elapsed() >= self.limits.linger);
        let Some((session, partitions)) = self.reading.as_mut().filter(|_| due) else { return };
        // A full batch can only wait; between two waits the group is served, by taking one record more or, with the partitions
        // paused, none.
        let longest = if full && !self.paused { Duration::from_millis(500) } else { Duration::ZERO };
        if !session.wait_below(IN_HAND, longest) {
            let waited = full.then(|| self.full_since.get_or_insert_with(Instant::now).elapsed());
            self.pause(waited.is_some_and(|waited| waited >= PAUSE_AFTER));
            return;
        }
        self.full_since = None;
        let records = std::mem::take(&mut self.pending);
        let mut starts = BTreeMap::new();
        // What P is compared with is carried over from the batch before (rule 4).
        for (partition, next) in records.ends() {
            if let Some(start) = partitions.get_mut(&partition) {
                starts.insert(partition, std::mem::replace(&mut start.next_offset, next));
            }
        }
        let received = Received { in_hand: session.take(), starts, records };
        // Nobody may be left to hear it; then the processor is ending anyway.
        let _ = self.out.send(Intake::Records(received));
        self.pause(false);
    }

    fn pause(&mut self, pause: bool) {
        if self.paused == pause {
            return;
        }
        let done = self.consumer.assignment().and_then(|partitions| {
            if pause { self.consumer.pause(&partitions) } else { self.consumer.resume(&partitions) }
        });
        match done {
            Ok(()) => self.paused = pause,
            Err(error) => tracing::warn!("pausing the partitions: {error}"),
        }
    }

    /// What polling says is either passing (brokers come and go) or ends the processor.
    fn check(&self, error: &KafkaError) -> anyhow::Result<()> {
        let said = self.consumer.context().said();
        if let Some(right) = error.rdkafka_error_code().and_then(kafka::missing_right) {
            anyhow::bail!("the brokers do not let us read: we lack {right}: {said}");
        }
        match error {
            KafkaError::MessageConsumptionFatal(_) => {
                anyhow::bail!("the Kafka client cannot go on: {error}: {said}")
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange,
            ) => anyhow::bail!(self.what_is_gone().unwrap_or_else(|| format!(
                "an input topic was recreated or cut, and no longer has the records that come next: {error}"
            ))),
            // The client logs brokers that come and go itself, and far too often to repeat.
            _ => tracing::debug!("Kafka: {error}"),
        }
        Ok(())
    }

    /// Polling does not tell which partition lacks what comes next, so the brokers are asked.
    fn what_is_gone(&self) -> Option<String> {
        let (_, partitions) = self.reading.as_ref()?;
        let read = self.pending.ends();
        partitions.iter().find_map(|(partition, start)| {
            let next = read.get(partition).copied().unwrap_or(start.next_offset);
            let (topic, number) = (partition.0.topic(), partition.1);
            let (low, high) = self.consumer.fetch_watermarks(topic, number, recovery::PATIENCE).ok()?;
            if low > next {
                return Some(format!("{}, while it was read", recovery::never_read(*partition, low, next)));
            }
            (high < next).then(|| recovery::short(*partition, high, next))
        })
    }

    /// Finishes what is in hand, within the deadline, and leaves the group, so that others need not wait for it.
    fn leave(self) {
        let session = self.consumer.context().session().take();
        if let Some(session) = session {
            if !session.wait_idle(self.shutdown_deadline) {
                tracing::warn!(
                    "what is in hand is not finished in time, and is left to whoever gets the partitions"
                );
            }
            session.end();
        }
        drop(self.out);
        self.consumer.unsubscribe();
    }
}

/// Rule 9: the last record that met its fate must still be the one that was read.
fn same_topic(start: &mut Start, message: &BorrowedMessage<'_>) -> anyhow::Result<()> {
    match start.last.take_if(|(offset, _)| *offset == message.offset()) {
        Some((_, expected)) if expected != digest(message.payload()) => anyhow::bail!(
            "{}/{} at offset {} holds another record than the one that was read: the topic was recreated",
            message.topic(),
            message.partition(),
            message.offset()
        ),
        _ => Ok(()),
    }
}
