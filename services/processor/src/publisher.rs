//! Publishes what was applied: one Kafka transaction per batch, with the consumer's offsets in it.
//!
//! It runs on a thread of its own, because transactions block, while the next batch is being applied; transactions follow
//! the database's commits in order. On any doubt (an error, a timeout, being fenced) the producer is thrown away and the
//! session ended: the next session reads what is really published before it goes on (rule 3).
//!
//! A producer that is thrown away may leave a transaction behind. The one that follows it first [retires](Worker::retire)
//! its id, and then works under a new one, so that nothing the old one left can ever be committed with its own outputs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};
use stocktide_runtime::kafka::{DLQ, INVENTORY_UPDATES};
use stocktide_store::{DeadLetter, Output, OutputBody, Partition};
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::session::InHand;

/// A batch that is in the database and has to be published.
pub struct Job {
    /// Keeps the session from being idle until it is published or dropped.
    pub in_hand: InHand,
    /// The records.
    pub outputs: Vec<Output>,
    /// The input offsets that are done with it.
    pub offsets: BTreeMap<Partition, i64>,
    /// When the batch was processed; none for a recovered one.
    pub processed_at: Option<DateTime<Utc>>,
}

/// Up to where each partition is published, and when the batch that ended there was processed.
pub type Published = BTreeMap<Partition, (i64, DateTime<Utc>)>;

enum Request {
    Prepare(oneshot::Sender<anyhow::Result<()>>),
    Publish(Job),
}

/// The applying side's handle of the publisher's thread, which ends when it is dropped.
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    /// Shared with the thread.
    published: Arc<Mutex<Published>>,
}

impl Publisher {
    /// Starts the thread.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(
        client: impl Fn(&str) -> ClientConfig + Send + 'static,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> anyhow::Result<Publisher> {
        let (requests, inbox) = mpsc::channel();
        let published = Arc::default();
        let (client, shared) = (Box::new(client), Arc::clone(&published));
        let worker = Worker { client, producer: None, retiring: None, limits, metrics, published: shared };
        std::thread::Builder::new().name("publisher".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(Publisher { requests, published })
    }

    /// Waits until everything before is published or dropped and a producer is at hand that no older one can follow.
    ///
    /// # Errors
    /// When the broker does not give one out.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        let (answer, ready) = oneshot::channel();
        self.requests.send(Request::Prepare(answer)).ok().context("the publisher has ended")?;
        ready.await.context("the publisher has ended")?
    }

    /// Up to where this process has published.
    pub fn published(&self) -> Published {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Hands a batch over. The session bounds how many are in hand.
    pub fn publish(&self, job: Job) {
        // A thread that is gone drops the job, and with it ends its being in hand.
        let _ = self.requests.send(Request::Publish(job));
    }
}

/// What the publisher has to keep to.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How long a transaction may take.
    pub transaction_timeout: Duration,
    /// The largest record that `dlq` takes, in bytes.
    pub dlq_max_bytes: usize,
}

struct Worker {
    /// The configuration of a producer under a transactional id.
    client: Box<dyn Fn(&str) -> ClientConfig + Send>,
    /// The producer, and its id.
    producer: Option<(BaseProducer<Deliveries>, String)>,
    /// The id of a producer that was thrown away.
    retiring: Option<String>,
    limits: Limits,
    metrics: Arc<Metrics>,
    published: Arc<Mutex<Published>>,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Request>) {
        while let Ok(request) = inbox.recv() {
            match request {
                Request::Prepare(answer) => {
                    // Who asked may have gone; then nobody waits for it.
                    let _ = answer.send(self.prepare());
                }
                Request::Publish(job) => self.handle(&job),
            }
        }
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(id) = &self.retiring {
            self.retire(id).with_context(|| format!("retiring {id}"))?;
            self.retiring = None;
        }
        if self.producer.is_none() {
            // Unique (rule 3): two live producers with one id would fence each other for ever.
            let id = format!("stocktide-{}", uuid::Uuid::new_v4());
            self.producer = Some((self.producer_of(&id)?, id));
        }
        Ok(())
    }

    fn producer_of(&self, id: &str) -> anyhow::Result<BaseProducer<Deliveries>> {
        let producer: BaseProducer<Deliveries> =
            (self.client)(id).create_with_context(Deliveries::default()).context("no Kafka producer")?;
        producer.init_transactions(Duration::from_secs(10)).context("init_transactions")?;
        Ok(producer)
    }

    /// Ends what a thrown-away producer left. `init_transactions` makes the coordinator abort its open transaction. A
    /// broker that is killed has been seen to lose the markers of such an abort, and then its partition's readers wait
    /// for ever (docs/adr/0007); so a transaction of the same id that touches every output partition is aborted, too:
    /// its markers end whatever of this id is still open there.
    fn retire(&self, id: &str) -> anyhow::Result<()> {
        let producer = self.producer_of(id)?;
        let patience = self.limits.transaction_timeout;
        producer.begin_transaction()?;
        for topic in [INVENTORY_UPDATES, DLQ] {
            let metadata = producer.client().fetch_metadata(Some(topic), patience)?;
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                let record: BaseRecord<'_, [u8], [u8]> =
                    BaseRecord::to(topic).partition(partition.id()).payload(b"aborted");
                producer.send(record).map_err(|(error, _)| error)?;
            }
        }
        producer.flush(patience)?;
        producer.context().check()?;
        producer.abort_transaction(patience).context("abort_transaction")
    }

    fn handle(&mut self, job: &Job) {
        let session = job.in_hand.session();
        if !session.is_live() {
            return;
        }
        let begun = Instant::now();
        match self.publish(job) {
            Ok(()) => {
                self.metrics
                    .stage_seconds
                    .with_label_values(&["publish"])
                    .observe(begun.elapsed().as_secs_f64());
                self.note_published(job);
            }
            Err(error) => {
                tracing::warn!("publishing failed, so what is published is read again: {error:#}");
                self.metrics.transactions_aborted.inc();
                self.retiring = self.producer.take().map(|(_, id)| id).or(self.retiring.take());
                session.end();
            }
        }
    }

    /// One transaction. No PostgreSQL work happens inside it.
    fn publish(&mut self, job: &Job) -> anyhow::Result<()> {
        self.prepare()?;
        let Some((producer, _)) = &self.producer else { bail!("no producer") };
        let deadline = Instant::now() + self.limits.transaction_timeout;
        producer.begin_transaction().context("begin_transaction")?;
        for output in &job.outputs {
            send(producer, output, self.limits.dlq_max_bytes, deadline)?;
        }
        // The client's commit would wait in steps of 100 ms for the deliveries; this does not.
        while producer.in_flight_count() > 0 {
            // Of a wait the client cuts off what is below a whole millisecond: with one it would not wait at all, but spin.
            producer.poll(Duration::from_millis(2));
            left(deadline)?;
        }
        producer.context().check()?;
        let session = job.in_hand.session();
        if !session.is_live() {
            bail!("the partitions were taken away");
        }
        let offsets = offsets(&job.offsets)?;
        producer
            .send_offsets_to_transaction(&offsets, &session.stamp, left(deadline)?)
            .context("send_offsets")?;
        if !session.is_live() {
            bail!("the partitions were taken away");
        }
        producer.commit_transaction(left(deadline)?).context("commit_transaction")
    }

    fn note_published(&self, job: &Job) {
        self.metrics.progressed();
        self.metrics.published.inc_by(job.outputs.len() as u64);
        let Some(at) = job.processed_at else { return };
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        published.extend(job.offsets.iter().map(|(partition, offset)| (*partition, (*offset, at))));
    }
}

fn left(deadline: Instant) -> anyhow::Result<Duration> {
    deadline.checked_duration_since(Instant::now()).context("the transaction took too long")
}

fn offsets(done: &BTreeMap<Partition, i64>) -> anyhow::Result<TopicPartitionList> {
    let mut offsets = TopicPartitionList::with_capacity(done.len());
    for ((source, partition), offset) in done {
        offsets.add_partition_offset(source.topic(), *partition, Offset::Offset(*offset))?;
    }
    Ok(offsets)
}

fn send(
    producer: &BaseProducer<Deliveries>,
    output: &Output,
    dlq_max_bytes: usize,
    deadline: Instant,
) -> anyhow::Result<()> {
    let mut record = match &output.body {
        OutputBody::Update { key, value } => BaseRecord::to(INVENTORY_UPDATES)
            .key(key.as_bytes())
            .payload(value.as_slice())
            .headers(origin_headers(output)),
        OutputBody::DeadLetter(letter) => dead_letter(output, letter, dlq_max_bytes),
    };
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(Duration::from_millis(5));
                left(deadline)?;
            }
            Err((error, _)) => return Err(error).context("send"),
        }
    }
}

fn origin_headers(output: &Output) -> OwnedHeaders {
    let origin = output.origin;
    OwnedHeaders::new_with_capacity(3)
        .insert(Header { key: "stocktide.source.topic", value: Some(origin.topic) })
        .insert(Header { key: "stocktide.source.partition", value: Some(&origin.partition.to_string()) })
        .insert(Header { key: "stocktide.source.offset", value: Some(&origin.offset.to_string()) })
}

/// Room for the headers that tell of the error, and for the record's own framing.
const DLQ_OVERHEAD: usize = 4096;

/// A rejected record for `dlq`. One that is larger than the topic takes (it came in compressed) is cut, and says so.
fn dead_letter<'a>(output: &Output, letter: &'a DeadLetter, max_bytes: usize) -> BaseRecord<'a, [u8], [u8]> {
    let headers: usize =
        letter.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + 16).sum();
    let room = max_bytes.saturating_sub(DLQ_OVERHEAD);
    let key = letter.key.as_deref().filter(|key| key.len() + headers <= room);
    let room = room.saturating_sub(key.map_or(0, <[u8]>::len));
    let keep_headers = headers <= room;
    let room = room.saturating_sub(if keep_headers { headers } else { 0 });
    let value = letter.value.as_deref().map(|value| &value[..value.len().min(room)]);
    let cut = !keep_headers
        || key.is_none() != letter.key.is_none()
        || value.map(<[u8]>::len) != letter.value.as_ref().map(Vec::len);

    let mut list = OwnedHeaders::new_with_capacity(letter.headers.len() + 9);
    for (name, value) in letter.headers.iter().filter(|_| keep_headers) {
        list = list.insert(Header { key: name, value: value.as_deref() });
    }
    for (key, value) in error_headers(output, letter, cut) {
        list = list.insert(Header { key, value: Some(&value) });
    }
    let mut record = BaseRecord::to(DLQ).headers(list);
    record.key = key;
    record.payload = value;
    record
}

/// The headers of Kafka Connect's dead-letter queue, which the usual consoles know, and our own.
fn error_headers(output: &Output, letter: &DeadLetter, cut: bool) -> Vec<(&'static str, String)> {
    let origin = output.origin;
    let mut headers = vec![
        ("__connect.errors.topic", origin.topic.to_owned()),
        ("__connect.errors.partition", origin.partition.to_string()),
        ("__connect.errors.offset", origin.offset.to_string()),
        ("__connect.errors.stage", "TRANSFORMATION".to_owned()),
        ("__connect.errors.exception.class.name", format!("stocktide.{}", letter.reason)),
        ("__connect.errors.exception.message", letter.detail.clone()),
        ("stocktide.reason", letter.reason.clone()),
    ];
    if letter.redacted {
        headers.push(("stocktide.redacted", "true".to_owned()));
    }
    if cut {
        headers.push(("stocktide.truncated", letter.value.as_ref().map_or(0, Vec::len).to_string()));
    }
    headers
}

/// Remembers the first delivery that failed.
#[derive(Default)]
struct Deliveries {
    failed: Mutex<Option<String>>,
}

impl Deliveries {
    fn check(&self) -> anyhow::Result<()> {
        match self.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(error) => bail!("delivery: {error}"),
        }
    }
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(|| error.to_string());
        }
    }
}
