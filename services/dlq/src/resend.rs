//! Sends records to their topics, some hundred in a Kafka transaction: all of them, or none.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};
use stocktide_runtime::Config;
use stocktide_runtime::kafka::{self, LogContext};
use stocktide_store::dlq::Headers;
use stocktide_store::dlq::actions::Pending;
use uuid::Uuid;

use crate::REPLAY_ID;

/// How long the broker may take to answer a question.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a transaction may take that is not committed.
const TRANSACTION: Duration = Duration::from_secs(30);
/// How long to wait until what others have left open is decided: a broker's longest transaction, by default, and its next look.
const PATIENCE: Duration = Duration::from_mins(16);

/// The topics, and how many partitions each has.
pub type Partitions = HashMap<String, i32>;

/// A record that is to be sent, to the partition that it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub replay_id: Uuid,
    pub topic: String,
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// What became of some records that were sent together.
#[derive(Debug)]
pub enum Sent {
    /// They lie at these offsets, in their order.
    All(Vec<i64>),
    /// At least one of them is refused for what it is, so none was sent.
    Refused(String),
}

/// A connection that may send.
pub struct Resender {
    client: ClientConfig,
    producer: ThreadedProducer<Deliveries>,
    brokers: String,
    ends: BTreeMap<(String, i32), i64>,
}

impl Resender {
    /// Connects, and ends what an earlier run has left open. It blocks.
    ///
    /// # Errors
    /// Kafka is away, or does not let us.
    pub fn connect(config: &Config) -> anyhow::Result<Resender> {
        let brokers = config.kafka_brokers()?;
        let client = kafka::client_config(config);
        let mut producer = client.clone();
        producer
            // One for all runs of an installation: who comes later ends what who came before has left.
            .set("transactional.id", format!("stocktide-dlq-{}", config.kafka.group))
            .set("transaction.timeout.ms", TRANSACTION.as_millis().to_string())
            .set("acks", "all")
            .set("compression.type", "lz4")
            .set("linger.ms", "5")
            .set("retry.backoff.ms", "20")
            .set("message.max.bytes", "1000000000")
            .set("reconnect.backoff.max.ms", "1000");
        let producer: ThreadedProducer<Deliveries> =
            producer.create_with_context(Deliveries::default()).context("the Kafka producer's settings")?;
        producer.init_transactions(TRANSACTION).with_context(|| format!("Kafka at {brokers}"))?;
        Ok(Resender { client, producer, brokers, ends: BTreeMap::new() })
    }

    /// The topics and how many partitions they have.
    ///
    /// # Errors
    /// Kafka is away.
    pub fn partitions(&self) -> anyhow::Result<Partitions> {
        // All are asked for: asking for one by its name might create it.
        let metadata = self.producer.client().fetch_metadata(None, ANSWER);
        let metadata = metadata.with_context(|| format!("Kafka at {}", self.brokers))?;
        Ok(metadata.topics().iter().map(|t| (t.name().to_owned(), t.partitions().len() as i32)).collect())
    }

    /// A place that lies at or before the next record of a partition.
    ///
    /// # Errors
    /// Kafka is away.
    pub fn end(&mut self, topic: &str, partition: i32) -> anyhow::Result<i64> {
        let key = (topic.to_owned(), partition);
        if let Some(end) = self.ends.get(&key) {
            return Ok(*end);
        }
        let (_, end) = self.producer.client().fetch_watermarks(topic, partition, ANSWER)?;
        self.ends.insert(key, end);
        Ok(end)
    }

    /// Sends records in one transaction. It blocks.
    ///
    /// # Errors
    /// It is not known whether they were sent; nothing more can be sent by this connection.
    pub fn send(&self, records: &[Outgoing]) -> anyhow::Result<Sent> {
        let producer = &self.producer;
        producer.context().begin(records.len());
        producer.begin_transaction().context("begin_transaction")?;
        let mut refused = None;
        for (at, outgoing) in records.iter().enumerate() {
            if let Err(error) = self.queue(at, outgoing) {
                refused = Some(error);
                break;
            }
        }
        let done = match refused {
            Some(error) => Err(error),
            None => self.commit(),
        };
        match done {
            Ok(()) => {
                let offsets = producer.context().offsets().context("a delivery was not reported")?;
                Ok(Sent::All(offsets))
            }
            Err(error) => {
                let why = producer.context().refusal().or_else(|| size_of(&error));
                let Some(why) = why else {
                    return Err(anyhow!(error)).with_context(|| format!("Kafka at {}", self.brokers));
                };
                producer.abort_transaction(TRANSACTION).context("abort_transaction")?;
                Ok(Sent::Refused(why))
            }
        }
    }

    fn queue(&self, at: usize, outgoing: &Outgoing) -> Result<(), KafkaError> {
        let mut headers = OwnedHeaders::new_with_capacity(outgoing.headers.len());
        for (name, value) in &outgoing.headers {
            headers = headers.insert(Header { key: name, value: value.as_deref() });
        }
        let mut record: BaseRecord<'_, [u8], [u8], Box<usize>> =
            BaseRecord::with_opaque_to(&outgoing.topic, Box::new(at))
                .partition(outgoing.partition)
                .headers(headers);
        (record.key, record.payload) = (outgoing.key.as_deref(), outgoing.value.as_deref());
        let deadline = Instant::now() + TRANSACTION;
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if Instant::now() < deadline =>
                {
                    record = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// A commit that is asked for again gives the answer to the first one.
    fn commit(&self) -> Result<(), KafkaError> {
        let deadline = Instant::now() + TRANSACTION;
        loop {
            match self.producer.commit_transaction(deadline.saturating_duration_since(Instant::now())) {
                Err(KafkaError::Transaction(error)) if error.is_retriable() && Instant::now() < deadline => {}
                answer => return answer,
            }
        }
    }

    /// Which of some intentions were carried out, with their offsets; none: their place has aged out of the topic, and nobody can tell. What an earlier
    /// run left open was ended by connecting, so what is not there now never comes. It blocks.
    ///
    /// # Errors
    /// Kafka is away, or somebody else's transaction hides the end of a partition for too long.
    pub fn find(&self, pending: &[Pending]) -> anyhow::Result<HashMap<Uuid, Option<i64>>> {
        let mut found = HashMap::new();
        let of_partition = |a: &Pending, b: &Pending| (&a.topic, a.partition) == (&b.topic, b.partition);
        for pending in pending.chunk_by(of_partition) {
            self.find_in(pending, &mut found)?;
        }
        Ok(found)
    }

    fn find_in(&self, pending: &[Pending], found: &mut HashMap<Uuid, Option<i64>>) -> anyhow::Result<()> {
        let Some(Pending { topic, partition, .. }) = pending.first() else { return Ok(()) };
        let consumer = self.consumer("read_committed")?;
        let (low, end) = self.consumer("read_uncommitted")?.fetch_watermarks(topic, *partition, ANSWER)?;
        for pending in pending.iter().filter(|pending| pending.search_from < low) {
            found.insert(pending.replay_id, None);
        }
        let from = pending.iter().map(|pending| pending.search_from).min().unwrap_or(low).max(low);
        let deadline = Instant::now() + PATIENCE;
        while consumer.fetch_watermarks(topic, *partition, ANSWER)?.1 < end {
            ensure!(
                Instant::now() < deadline,
                "an open transaction hides the end of {topic}-{partition}, so it cannot be told what an earlier run has sent"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        if from >= end {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, *partition, Offset::Offset(from))?;
        consumer.assign(&list)?;
        let wanted: HashMap<String, Uuid> =
            pending.iter().map(|p| (p.replay_id.to_string(), p.replay_id)).collect();
        loop {
            match consumer.poll(ANSWER) {
                None => bail!("{topic}-{partition}: nothing came for {} s", ANSWER.as_secs()),
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(()),
                Some(Err(error)) => return Err(error).with_context(|| format!("{topic}-{partition}")),
                Some(Ok(message)) => {
                    let headers = kafka::headers(&message);
                    let id = headers.iter().rev().find(|(name, _)| name == REPLAY_ID);
                    let id = id.and_then(|(_, value)| std::str::from_utf8((*value)?).ok());
                    if let Some(id) = id.and_then(|id| wanted.get(id)) {
                        found.insert(*id, Some(message.offset()));
                    }
                    if message.offset() + 1 >= end {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn consumer(&self, isolation: &str) -> anyhow::Result<BaseConsumer<LogContext>> {
        let mut client = self.client.clone();
        client
            .set("group.id", "stocktide-dlq")
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("check.crcs", "true");
        client.create_with_context(LogContext).context("the Kafka client")
    }
}

/// A record that the client itself finds too large.
fn size_of(error: &KafkaError) -> Option<String> {
    let code = error.rdkafka_error_code()?;
    is_refusal(code).then(|| code.to_string())
}

/// What a broker refuses for what it is; everything else passes, or concerns all records.
fn is_refusal(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{InvalidMessage, InvalidMessageSize, InvalidRecord, MessageSizeTooLarge};
    matches!(code, MessageSizeTooLarge | InvalidMessage | InvalidMessageSize | InvalidRecord)
}

/// Where the records of a transaction ended up.
#[derive(Default)]
struct Deliveries(Mutex<State>);

#[derive(Default)]
struct State {
    offsets: Vec<Option<i64>>,
    refusal: Option<String>,
}

impl Deliveries {
    fn begin(&self, records: usize) {
        *self.lock() = State { offsets: vec![None; records], refusal: None };
    }

    fn offsets(&self) -> Option<Vec<i64>> {
        self.lock().offsets.iter().copied().collect()
    }

    fn refusal(&self) -> Option<String> {
        self.lock().refusal.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "librdkafka", ?level, facility, "{message}");
    }

    // What matters of them comes again as the error of the request.
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "librdkafka", "{error}: {reason}");
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, at: Box<usize>) {
        let mut state = self.lock();
        match result {
            Ok(message) => {
                if let Some(offset) = state.offsets.get_mut(*at) {
                    *offset = Some(message.offset());
                }
            }
            Err((error, _)) => {
                let code = error.rdkafka_error_code().filter(|code| is_refusal(*code));
                if let Some(code) = code {
                    state.refusal.get_or_insert_with(|| code.to_string());
                }
            }
        }
    }
}
