//! Publishes what was applied, with the consumer's offsets: one Kafka transaction for all that waits, normally a batch.
//!
//! It runs on a thread of its own, because transactions block, while the next batch is being applied; transactions follow
//! the database's commits in order. On any doubt (an error, a timeout, being fenced) the producer is thrown away and the
//! session ended: the next session reads what is really published before it goes on (rule 3).
//!
//! Two producers take turns (docs/adr/0008): the broker still writes the markers of one's transaction while the other's
//! begins. A transaction begins only when the one before it is decided, so their order is that of the database's commits.
//!
//! A producer that is thrown away may leave a transaction behind. The ones that follow it first end that, under its id, and
//! then work under ids of their own (docs/adr/0007), so that nothing the old one left is committed with their outputs.

use std::collections::{BTreeMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use rdkafka::client::OAuthToken;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Message as _, Offset, TopicPartitionList};
use stocktide_domain::Source;
use stocktide_runtime::kafka::{self, DLQ, INVENTORY_UPDATES, missing_right};
use stocktide_runtime::traces::TARGET;
use stocktide_store::broken::{self, Broken};
use stocktide_store::{DeadLetter, Headers, Output, OutputBody, Partition, Published};
use tokio::sync::oneshot;

use crate::metrics::Metrics;
use crate::patient::Patient;
use crate::session::{InHand, Session};

/// How many producers take turns.
const PRODUCERS: usize = 2;

/// A batch that is in the database and has to be published.
pub struct Job {
    /// Keeps the session from being idle until it is published or dropped.
    pub in_hand: InHand,
    /// The records.
    pub outputs: Vec<Output>,
    /// How far the input is done with it.
    pub offsets: BTreeMap<Partition, Mark>,
    /// When the batch was processed; none for a recovered one.
    pub processed_at: Option<DateTime<Utc>>,
    /// The batch, for traces.
    pub span: tracing::Span,
}

/// How far a partition is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The offset that is committed.
    pub offset: i64,
    /// Of a partition of `payments`, the number of the last output of the timer that is in this Kafka transaction or an earlier
    /// one. It stands in the offset's metadata, in decimal (rule 6).
    pub timer_seq: i64,
}

/// Up to where each partition is published.
pub type PublishedUpTo = BTreeMap<Partition, Published>;

enum Request {
    Prepare(oneshot::Sender<anyhow::Result<()>>),
    Publish(Job),
}

/// The applying side's handle of the publisher's thread, which ends when it is dropped.
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    /// Shared with the thread.
    published: Arc<Mutex<PublishedUpTo>>,
    /// Shared with the thread.
    refused: Arc<OnceLock<String>>,
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
        let (published, refused) = (Arc::default(), Arc::default());
        let (producers, retiring) = (VecDeque::new(), None);
        let worker = Worker {
            client: Box::new(client),
            producers,
            retiring,
            limits,
            metrics,
            published: Arc::clone(&published),
            refused: Arc::clone(&refused),
        };
        std::thread::Builder::new().name("publisher".to_owned()).spawn(move || worker.run(&inbox))?;
        Ok(Publisher { requests, published, refused })
    }

    /// Waits until everything before is published or dropped and producers are at hand that no older one can follow.
    ///
    /// # Errors
    /// When the broker does not give one out.
    pub async fn prepare(&self) -> anyhow::Result<()> {
        let (answer, ready) = oneshot::channel();
        self.requests.send(Request::Prepare(answer)).ok().context("the publisher has ended")?;
        ready.await.context("the publisher has ended")?
    }

    /// Up to where this process has published.
    pub fn published(&self) -> PublishedUpTo {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Which right the brokers find lacking, where they have refused to let us publish.
    pub fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
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
    /// With their transactional ids. The next one's turn is at the front.
    producers: VecDeque<(Patient, String)>,
    /// The id of a producer that was thrown away, whose transaction may still be open.
    retiring: Option<String>,
    limits: Limits,
    metrics: Arc<Metrics>,
    published: Arc<Mutex<PublishedUpTo>>,
    refused: Arc<OnceLock<String>>,
}

impl Worker {
    fn run(mut self, inbox: &mpsc::Receiver<Request>) {
        while let Ok(request) = inbox.recv() {
            let mut next = Some(request);
            while let Some(request) = next.take() {
                match request {
                    Request::Prepare(answer) => {
                        let prepared = self.prepare();
                        prepared.as_ref().err().into_iter().for_each(|error| self.note_refusal(error));
                        // Who asked may have gone; then nobody waits for it.
                        let _ = answer.send(prepared);
                    }
                    Request::Publish(job) => {
                        let mut jobs = vec![job];
                        next = gather(&mut jobs, inbox);
                        self.handle(jobs);
                    }
                }
            }
        }
    }

    fn prepare(&mut self) -> anyhow::Result<()> {
        if let Some(id) = &self.retiring {
            // The coordinator ends its transaction: aborts it, or finishes the commit that it had decided on.
            drop(self.producer_of(id).with_context(|| format!("retiring {id}"))?);
            self.retiring = None;
        }
        while self.producers.len() < PRODUCERS {
            // Unique (rule 3): two live producers with one id would fence each other for ever.
            let id = format!("stocktide-{}", uuid::Uuid::new_v4());
            self.producers.push_back((self.producer_of(&id)?, id));
        }
        Ok(())
    }

    fn producer_of(&self, id: &str) -> anyhow::Result<Patient> {
        const LONGEST: Duration = Duration::from_secs(10);
        let producer =
            (self.client)(id).create_with_context(Deliveries::default()).context("no Kafka producer")?;
        let patient = Patient::start(producer)?;
        patient.call(LONGEST, |producer| producer.init_transactions(LONGEST)).context("init_transactions")?;
        Ok(patient)
    }

    /// Publishes what belongs to one session.
    fn handle(&mut self, mut jobs: Vec<Job>) {
        let session = jobs.first().map(|job| Arc::clone(job.in_hand.session()));
        let Some(session) = session.filter(|session| session.may_publish()) else { return };
        let (begun, counts) = (Instant::now(), Counts::of(&jobs));
        #[cfg_attr(not(feature = "broken"), allow(unused_mut))]
        let mut published = self.publish(&mut jobs, &session);
        #[cfg(feature = "broken")]
        if let (Err(_), Some(stamp)) = (&published, crate::session::anew::newest()) {
            crate::session::anew::wait_for_another(&stamp);
            self.retiring = self.producers.pop_front().map(|(_, id)| id);
            published = self.publish(&mut jobs, &session);
        }
        match published {
            Ok(()) => {
                self.metrics
                    .stage_seconds
                    .with_label_values(&["publish"])
                    .observe(begun.elapsed().as_secs_f64());
                self.metrics.progressed();
                counts.show(&self.metrics);
                jobs.iter().for_each(|job| self.note_published(job));
            }
            Err(error) => {
                tracing::warn!("publishing failed, so what is published is read again: {error:#}");
                self.metrics.transactions_aborted.inc();
                self.note_refusal(&error);
                // Where it is the retiring that failed, the other producer has no part in it.
                if self.retiring.is_none() {
                    self.retiring = self.producers.pop_front().map(|(_, id)| id);
                }
                session.end();
            }
        }
    }

    /// A right that is lacking does not come by trying again.
    fn note_refusal(&self, error: &anyhow::Error) {
        let code = error.chain().find_map(|cause| cause.downcast_ref::<KafkaError>()?.rdkafka_error_code());
        if let Some(right) = code.and_then(missing_right) {
            // The first one is as good as any.
            let _ =
                self.refused.set(format!("the brokers do not let us publish: we lack {right}: {error:#}"));
        }
    }

    /// One transaction. No PostgreSQL work happens inside it (rule 3); it bears the session's stamp (rule 2).
    fn publish(&mut self, jobs: &mut [Job], session: &Session) -> anyhow::Result<()> {
        let _span = span_of(jobs).entered();
        self.prepare()?;
        let Some((producer, _)) = self.producers.front() else { bail!("no producer") };
        let deadline = Instant::now() + self.limits.transaction_timeout;
        let longest = self.limits.transaction_timeout;
        producer.call(longest, Producer::begin_transaction).context("begin_transaction")?;
        let apart = |output: &Output| {
            broken::is(Broken::DlqApart) && matches!(output.body, OutputBody::DeadLetter(_))
        };
        let outputs = take_outputs(jobs);
        for output in outputs.iter().flatten().filter(|output| apart(output)) {
            send(&producer.client, output, self.limits.dlq_max_bytes, deadline)?;
        }
        if outputs.iter().flatten().any(apart) {
            producer.commit_and_begin_again(deadline)?;
        }
        for output in outputs.into_iter().flatten().filter(|output| !apart(output)) {
            send(&producer.client, &output, self.limits.dlq_max_bytes, deadline)?;
        }
        // The client's commit would wait for the deliveries in steps of 100 ms; this does not. Neither may the offsets go out
        // meanwhile: the coordinator takes one request at a time, and the client tries the other again after 20 ms.
        producer.client.context().wait(deadline)?;
        if broken::is(Broken::NoTransaction) {
            producer.commit_and_begin_again(deadline)?;
        }
        if !session.may_publish() {
            bail!("the partitions were taken away");
        }
        // Of a partition that several of them end in, the last one's offset counts.
        let offsets: BTreeMap<Partition, Mark> = jobs.iter().flat_map(|job| job.offsets.clone()).collect();
        let (list, stamp, longest) = (offset_list(&offsets)?, session.stamp(), left(deadline)?);
        producer
            .call(longest, move |producer| producer.send_offsets_to_transaction(&list, &stamp, longest))
            .context("send_offsets")?;
        if broken::is(Broken::PendingIgnored) {
            // Offsets are pending for so short a time that hardly a freeze hits it.
            std::thread::sleep(Duration::from_millis(300));
        }
        if !session.may_publish() {
            bail!("the partitions were taken away");
        }
        let longest = left(deadline)?;
        producer
            .call(longest, move |producer| producer.commit_transaction(longest))
            .context("commit_transaction")?;
        self.producers.rotate_left(1);
        Ok(())
    }

    fn note_published(&self, job: &Job) {
        let Some(at) = job.processed_at else { return };
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        let up_to =
            |mark: &Mark| Published { offset: mark.offset, processed_at: at, timer_seq: mark.timer_seq };
        published.extend(job.offsets.iter().map(|(partition, mark)| (*partition, up_to(mark))));
    }
}

/// How many outputs there are of each kind.
struct Counts {
    updates: u64,
    dead: u64,
}

impl Counts {
    fn of(jobs: &[Job]) -> Counts {
        let all: usize = jobs.iter().map(|job| job.outputs.len()).sum();
        let dead = |output: &&Output| matches!(output.body, OutputBody::DeadLetter(_));
        let dead = jobs.iter().flat_map(|job| &job.outputs).filter(dead).count();
        Counts { updates: (all - dead) as u64, dead: dead as u64 }
    }

    fn show(&self, metrics: &Metrics) {
        metrics.published.with_label_values(&[DLQ]).inc_by(self.dead);
        metrics.published.with_label_values(&[INVENTORY_UPDATES]).inc_by(self.updates);
    }
}

/// The outputs, each to be freed once the client has its own copy: should they not get through, recovery makes them anew.
fn take_outputs(jobs: &mut [Job]) -> Vec<Vec<Output>> {
    // This negative control publishes them twice.
    let keep = broken::is(Broken::StampedAnew);
    let take = |job: &mut Job| if keep { job.outputs.clone() } else { std::mem::take(&mut job.outputs) };
    jobs.iter_mut().map(take).collect()
}

impl Patient {
    /// For negative controls, whose outputs are not in one transaction with the offsets.
    fn commit_and_begin_again(&self, deadline: Instant) -> anyhow::Result<()> {
        self.client.context().wait(deadline)?;
        let longest = left(deadline)?;
        self.call(longest, move |producer| producer.commit_transaction(longest))
            .context("commit_transaction")?;
        self.call(longest, Producer::begin_transaction).context("begin_transaction")
    }
}

fn left(deadline: Instant) -> anyhow::Result<Duration> {
    deadline.checked_duration_since(Instant::now()).context("the transaction took too long")
}

/// Adds the jobs of the same session that wait already; answers the first request that is none.
fn gather(jobs: &mut Vec<Job>, inbox: &mpsc::Receiver<Request>) -> Option<Request> {
    let session = Arc::clone(jobs.first()?.in_hand.session());
    loop {
        match inbox.try_recv().ok()? {
            Request::Publish(job) if Arc::ptr_eq(job.in_hand.session(), &session) => jobs.push(job),
            other => return Some(other),
        }
    }
}

/// Of the first one's trace, and linked to those of the others.
fn span_of(jobs: &[Job]) -> tracing::Span {
    let Some((first, others)) = jobs.split_first() else { return tracing::Span::none() };
    let span = tracing::info_span!(target: TARGET, parent: &first.span, "publish", otel.kind = "producer");
    for job in others {
        span.follows_from(&job.span);
    }
    span
}

fn offset_list(offsets: &BTreeMap<Partition, Mark>) -> anyhow::Result<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for ((source, partition), mark) in offsets {
        let mut element = list.add_partition(source.topic(), *partition);
        element.set_offset(Offset::Offset(mark.offset))?;
        if *source == Source::Payments {
            element.set_metadata(mark.timer_seq.to_string());
        }
    }
    Ok(list)
}

fn send(
    producer: &ThreadedProducer<Deliveries>,
    output: &Output,
    dlq_max_bytes: usize,
    deadline: Instant,
) -> anyhow::Result<()> {
    let mut record = match &output.body {
        OutputBody::Update { key, value, trace } => BaseRecord::to(INVENTORY_UPDATES)
            .key(key.as_bytes())
            .payload(value.as_slice())
            .headers(update_headers(output, trace)),
        OutputBody::DeadLetter(letter) => dead_letter(output, letter, dlq_max_bytes),
    };
    producer.context().sent();
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                std::thread::sleep(Duration::from_millis(5));
                left(deadline)?;
            }
            Err((error, _)) => return Err(error).context("send"),
        }
    }
}

/// Where the change comes from, and the trace that it belongs to.
fn update_headers(output: &Output, trace: &Headers) -> OwnedHeaders {
    let origin = output.origin;
    let headers = OwnedHeaders::new_with_capacity(3 + trace.len())
        .insert(Header { key: "stocktide.source.topic", value: Some(origin.topic) })
        .insert(Header { key: "stocktide.source.partition", value: Some(&origin.partition.to_string()) })
        .insert(Header { key: "stocktide.source.offset", value: Some(&origin.offset.to_string()) });
    trace
        .iter()
        .fold(headers, |headers, (name, value)| headers.insert(Header { key: name, value: value.as_deref() }))
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

/// Counts what is on its way, and remembers the first delivery that failed.
#[derive(Default)]
pub struct Deliveries {
    state: Mutex<DeliveryState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeliveryState {
    on_the_way: usize,
    /// The topic, and why.
    failed: Option<(String, KafkaError)>,
}

impl Deliveries {
    /// To be called before a record is sent.
    fn sent(&self) {
        self.lock().on_the_way += 1;
    }

    /// Waits until nothing is on its way.
    fn wait(&self, deadline: Instant) -> anyhow::Result<()> {
        let mut state = self.lock();
        while state.on_the_way > 0 {
            state =
                self.changed.wait_timeout(state, left(deadline)?).unwrap_or_else(PoisonError::into_inner).0;
        }
        match state.failed.take() {
            None => Ok(()),
            Some((topic, error)) => Err(anyhow::Error::new(error).context(format!("delivery to {topic}"))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, DeliveryState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        kafka::token(file)
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut state = self.lock();
        if let Err((error, message)) = result {
            state.failed.get_or_insert_with(|| (message.topic().to_owned(), error.clone()));
        }
        state.on_the_way -= 1;
        if state.on_the_way == 0 {
            self.changed.notify_one();
        }
    }
}
