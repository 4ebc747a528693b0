//! Records to Kafka, each once and in order, and what became of them.
//!
//! An idempotent producer with `acks=all`: what a retry sends again, the broker drops. [`Sink::send`] returns as soon as
//! the record is queued, and waits while the queue is full; what was refused, and why, is known after [`Sink::finish`].

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::metadata::MetadataTopic;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use serde::Serialize;
use stocktide_runtime::{Config, kafka};

use crate::metrics::Metrics;
use crate::record::Record;

/// How long the brokers may take to answer before anything was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a record may be under way before it is given up, in milliseconds.
const DELIVERY_TIMEOUT_MS: &str = "60000";
/// How often a full queue is looked at again, should no delivery wake the sender.
const RECHECK: Duration = Duration::from_millis(50);

/// How often an error of the connection is logged.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(5);

/// What became of a topic's records.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Acknowledged by the broker.
    pub sent: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// Refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Neither acknowledged nor refused when the deadline came.
    pub unanswered: u64,
}

/// What became of all records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Delivered {
    /// By topic.
    pub topics: BTreeMap<String, Tally>,
}

impl Delivered {
    /// Acknowledged records.
    pub fn sent(&self) -> u64 {
        self.topics.values().map(|tally| tally.sent).sum()
    }

    /// Refused records.
    pub fn refused(&self) -> u64 {
        self.topics.values().flat_map(|tally| tally.refused.values()).sum()
    }

    /// Records of unknown fate.
    pub fn unanswered(&self) -> u64 {
        self.topics.values().map(|tally| tally.unanswered).sum()
    }

    /// Whether the broker has them all.
    pub fn is_complete(&self) -> bool {
        self.refused() == 0 && self.unanswered() == 0
    }
}

impl fmt::Display for Delivered {
    /// A table, one line a topic, and one a reason.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (topic, tally) in &self.topics {
            writeln!(f, "{topic:<20} {:>12} sent", tally.sent)?;
            for (reason, count) in &tally.refused {
                writeln!(f, "{:<20} {count:>12} refused: {reason}", "")?;
            }
            if tally.unanswered > 0 {
                writeln!(f, "{:<20} {:>12} unanswered in time", "", tally.unanswered)?;
            }
        }
        Ok(())
    }
}

/// The way to Kafka.
pub struct Sink {
    producer: ThreadedProducer<Reports>,
    state: Arc<State>,
    /// Whether the brokers want to know who is there.
    asks_who: bool,
}

impl Sink {
    /// Connects, and makes sure that the topics are there.
    ///
    /// # Errors
    /// When the brokers are not configured or do not answer within 10 s, or a topic is missing. It blocks.
    pub fn connect(config: &Config, topics: &[&str]) -> anyhow::Result<Sink> {
        Sink::connect_counted(config, topics, None)
    }

    /// As [`Sink::connect`], and what becomes of the records is counted in metrics, too.
    ///
    /// # Errors
    /// As [`Sink::connect`].
    pub fn connect_counted(
        config: &Config,
        topics: &[&str],
        metrics: Option<Metrics>,
    ) -> anyhow::Result<Sink> {
        let brokers = config.kafka_brokers()?;
        let state = Arc::new(State { metrics, ..State::default() });
        let mut client = kafka::client_config(config);
        // Taken over from the configuration where it says so; all else is what makes a record arrive once, in order.
        let defaults = [
            ("compression.type", "lz4"),
            ("linger.ms", "2"),
            ("batch.size", "262144"),
            ("queue.buffering.max.messages", "200000"),
            ("queue.buffering.max.kbytes", "262144"),
            ("delivery.timeout.ms", DELIVERY_TIMEOUT_MS),
        ];
        for (name, value) in defaults {
            if client.get(name).is_none() {
                client.set(name, value);
            }
        }
        client.set("enable.idempotence", "true").set("acks", "all");
        client.set("message.max.bytes", config.topics.max_message_bytes.to_string());
        let producer: ThreadedProducer<Reports> = client
            .create_with_context(Reports(Arc::clone(&state)))
            .context("the Kafka producer's settings")?;
        let sink = Sink { producer, state, asks_who: kafka::is_secured(&client) };
        sink.check_topics(&brokers, topics)?;
        Ok(sink)
    }

    /// All topics are asked for: asking for one by its name might create it.
    fn check_topics(&self, brokers: &str, topics: &[&str]) -> anyhow::Result<()> {
        let metadata = (self.producer.client().fetch_metadata(None, CONNECT_TIMEOUT))
            .map_err(|error| anyhow!("Kafka at {brokers} does not answer: {error}"))?;
        let known: Vec<&str> = metadata.topics().iter().map(MetadataTopic::name).collect();
        if let Some(missing) = topics.iter().find(|topic| !known.contains(topic)) {
            // Brokers that ask who is there do not say whether a topic is missing or a right.
            let or = if self.asks_who { ", or we lack a right on it (stocktide topics acls)" } else { "" };
            bail!("topic {missing} does not exist at {brokers}{or}; stocktide migrate creates it");
        }
        self.state.connected();
        Ok(())
    }

    /// Queues a record; waits while the queue is full. A record that is refused at once (it is too large, say) is
    /// counted like one that the broker refuses.
    ///
    /// # Errors
    /// When the producer can send nothing any more. Its cause is in the error.
    pub fn send(&self, record: &Record) -> anyhow::Result<()> {
        self.send_raw(record.topic, Some(record.key.as_bytes()), record.value.as_deref())
    }

    /// As [`Sink::send`], of bytes; a record without key goes to any partition.
    ///
    /// # Errors
    /// As [`Sink::send`].
    pub fn send_raw(&self, topic: &str, key: Option<&[u8]>, value: Option<&[u8]>) -> anyhow::Result<()> {
        let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
        record.key = key;
        record.payload = value;
        self.state.queued(topic);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.state.wait_for_room();
                }
                Err((error, _)) => {
                    self.state.refused(topic, &error);
                    if let Some((code, reason)) = self.producer.client().fatal_error() {
                        bail!("Kafka refuses to go on ({code}): {reason}");
                    }
                    return Ok(());
                }
            }
        }
    }

    /// What became of the records so far.
    pub fn delivered(&self) -> Delivered {
        self.state.delivered()
    }

    /// Waits until everything is answered, until the deadline at most, and says what became of it. It blocks.
    pub fn finish(self, deadline: Duration) -> Delivered {
        let until = Instant::now() + deadline;
        self.state.wait_until_answered(until);
        self.delivered()
    }
}

/// What the delivery reports have said.
#[derive(Default)]
struct State {
    topics: Mutex<Topics>,
    answered: Condvar,
    /// When the last error was logged; none before the brokers have answered for the first time: if they never do,
    /// that is the command's error.
    complained: Mutex<Option<Instant>>,
    metrics: Option<Metrics>,
}

#[derive(Default)]
struct Topics {
    /// There are few, and most records follow one of the same topic: a list is quicker than a map.
    tallies: Vec<(String, Tally)>,
    open: u64,
}

impl Topics {
    fn of(&mut self, topic: &str) -> &mut Tally {
        let at = self.tallies.iter().position(|(known, _)| known == topic).unwrap_or_else(|| {
            self.tallies.push((topic.to_owned(), Tally::default()));
            self.tallies.len() - 1
        });
        &mut self.tallies[at].1
    }

    fn close(&mut self, topic: &str) -> &mut Tally {
        self.open = self.open.saturating_sub(1);
        let tally = self.of(topic);
        tally.unanswered = tally.unanswered.saturating_sub(1);
        tally
    }
}

impl State {
    fn connected(&self) {
        *self.complained.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn may_complain(&self) -> bool {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = complained.is_some_and(|last| last.elapsed() >= COMPLAINT_INTERVAL);
        if is_due {
            *complained = Some(Instant::now());
        }
        is_due
    }

    fn lock(&self) -> MutexGuard<'_, Topics> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queued(&self, topic: &str) {
        let mut topics = self.lock();
        topics.open += 1;
        topics.of(topic).unanswered += 1;
    }

    fn sent(&self, topic: &str, bytes: usize) {
        let mut topics = self.lock();
        let tally = topics.close(topic);
        tally.sent += 1;
        tally.bytes += bytes as u64;
        drop(topics);
        if let Some(metrics) = &self.metrics {
            metrics.sent.with_label_values(&[topic]).inc();
            metrics.bytes.with_label_values(&[topic]).inc_by(bytes as u64);
        }
        self.answered.notify_one();
    }

    fn refused(&self, topic: &str, error: &KafkaError) {
        let reason = error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string());
        if let Some(metrics) = &self.metrics {
            metrics.refused.with_label_values(&[topic, &reason]).inc();
        }
        *self.lock().close(topic).refused.entry(reason).or_default() += 1;
        self.answered.notify_one();
    }

    fn wait_for_room(&self) {
        // Which answer makes room is the producer's business: this only spares the processor until some came.
        let guard = self.lock();
        drop(self.answered.wait_timeout(guard, RECHECK));
    }

    fn wait_until_answered(&self, until: Instant) {
        let mut guard = self.lock();
        while guard.open > 0 {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                return;
            };
            guard = self.answered.wait_timeout(guard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn delivered(&self) -> Delivered {
        Delivered { topics: self.lock().tallies.iter().cloned().collect() }
    }
}

/// Hears the producer's delivery reports, and what else it has to say.
struct Reports(Arc<State>);

impl ClientContext for Reports {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka::token(file)
    }

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Connections that fail come again as errors, and are retried, as is the request for a producer's id; what is fatal
        // ends the command.
        let is_told_elsewhere = matches!(facility, "FAIL" | "ERROR" | "GETPID" | "FATAL");
        kafka::log_line(if is_told_elsewhere { RDKafkaLogLevel::Info } else { level }, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // While brokers are away the same few errors come many times a second.
        if self.0.may_complain() {
            kafka::log_error(&error, reason);
        }
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        match report {
            Ok(message) => {
                let bytes = message.key().map_or(0, <[u8]>::len) + message.payload().map_or(0, <[u8]>::len);
                self.0.sent(message.topic(), bytes);
            }
            Err((error, message)) => self.0.refused(message.topic(), error),
        }
    }
}
