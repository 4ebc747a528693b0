//! The processor's main loop.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use prometheus::Registry;
use serde::Serialize;
use stocktide_domain::Source;
use stocktide_domain::decode::{Limits, Rules};
use stocktide_runtime::admin::Health;
use stocktide_runtime::clock;
use stocktide_runtime::config::{Config, StockPolicy};
use stocktide_runtime::traces::{self, TARGET};
use stocktide_store::broken::{self, Broken};
use stocktide_store::{Applied, Counts, Partition, StoreError, Ticked, WriterOptions};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{Instrument as _, Span};

use crate::batch::{BatchLimits, Received, Records};
use crate::caught_up::CaughtUp;
use crate::clients;
use crate::corrections::Corrections;
use crate::database::Database;
use crate::intake::{self, Group, Intake, IntakeHandle, Patience, Starts};
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::publisher::{self, Job, Mark, PublishedUpTo, Publisher};
use crate::recovery::{self, Recovered, RecoveryError};
use crate::session::Session;
use crate::timer::Timer;
use crate::watch::watch;

/// How often the positions are held against each other, beside every beginning of a session.
const LOOK_AROUND: Duration = Duration::from_secs(10);

/// For so long a log has to end below what was read of it before that is believed: longer than a broker takes to find out that it
/// leads a partition no more.
const SHORT_LOG_BELIEVED_AFTER: Duration = Duration::from_secs(20);

/// What is left of `processor.shutdown_deadline` for leaving the group, where what is in hand takes all the time that it is given.
const TO_LEAVE: Duration = Duration::from_secs(5);

/// How long a processor that ends waits for the database to note what is published.
const NOTE_WITHIN: Duration = Duration::from_secs(10);

/// How the processor is run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Ends when the group has applied and published up to the end offsets that the input had at the start.
    pub until_caught_up: bool,
    /// Where metrics are declared.
    pub registry: Registry,
    /// Where readiness is told.
    pub health: Health,
}

impl RunOptions {
    /// Says on `health` what [`run`] still has to do: to be called before anybody can ask it.
    pub fn announce(&self) {
        self.health.expect(
            "positions",
            "the group has given out no partitions yet, or their positions are not read",
        );
    }
}

/// What this process did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Summary {
    /// Records that met their fate here, or wait for it.
    pub consumed: u64,
    /// Of them, applied.
    pub applied: u64,
    /// Of them, duplicates.
    pub duplicates: u64,
    /// Of them, rejected, by reason.
    pub rejected: BTreeMap<&'static str, u64>,
    /// Of them, payments that still wait for their order.
    pub parked: u64,
    /// From the first record received to the last one published.
    pub seconds: f64,
    /// Whether it ended because the group had caught up.
    #[serde(skip)]
    pub caught_up: bool,
    /// Whether the deadline of the shutdown was over before it had ended: then nothing of the above is known.
    #[serde(skip)]
    pub cut_short: bool,
}

/// Runs the processor until `shutdown`, or until it has caught up. After `shutdown` it returns within `processor.shutdown_deadline`,
/// whatever hangs: the next owner of the partitions takes up what was in hand.
///
/// # Errors
/// When going on would break a promise, or when there is nothing to connect to by configuration.
pub async fn run(
    config: &Config,
    options: RunOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<Summary> {
    let deadline = config.processor.shutdown_deadline;
    let too_late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(deadline).await;
    };
    // A task of its own, so that the deadline holds while a call blocks, and a consumer that does not close is left to itself.
    let failed = Arc::new(OnceLock::new());
    let work = run_to_the_end(config.clone(), options, shutdown.clone(), Arc::clone(&failed));
    let work = AbortOnDropHandle::new(tokio::spawn(work));
    tokio::select! {
        ended = work => ended.context("the processor")?,
        () = too_late => {
            tracing::warn!("not finished within processor.shutdown_deadline: what is in hand is left to the next processor");
            match failed.get() {
                Some(reason) => bail!("{reason}"),
                None => Ok(Summary { cut_short: true, ..Summary::default() }),
            }
        }
    }
}

/// Notes in `failed` why it stops, for whoever does not wait until it has.
async fn run_to_the_end(
    config: Config,
    options: RunOptions,
    shutdown: CancellationToken,
    failed: Arc<OnceLock<String>>,
) -> anyhow::Result<Summary> {
    let mut processor = Processor::start(&config, &options, shutdown.child_token())?;
    let (consumer, shutdown) = (&processor.intake.consumer, processor.shutdown.clone());
    let begun = processor.begun.clone();
    let settle = processor.settle.clone();
    let caught_up = CaughtUp::watch(&config, &options, Arc::clone(consumer), begun, settle, shutdown.clone());
    let (observer, metrics) = (Observer::new(&config)?, Arc::clone(&processor.metrics));
    let watch = watch(observer, Arc::clone(consumer), metrics, options.health.clone(), shutdown.clone());
    let watch = tokio::spawn(watch);
    let done = processor.work().await;
    if let Err(error) = &done {
        // It is the first.
        let _ = failed.set(format!("{error:#}"));
    }
    // Whoever still asks for a look is answered by nobody.
    processor.asked_to_settle.close();
    while processor.asked_to_settle.try_recv().is_ok() {}
    // Whatever came of it, the consumer is to leave the group and what is in hand to be finished.
    shutdown.cancel();
    let caught_up = caught_up.await.context("the watch over the lag")?;
    watch.await.context("the watch over the lag")?;
    let finished = processor.finish().await;
    done?;
    Ok(Summary { caught_up: caught_up?, ..finished? })
}

struct Processor {
    intake: IntakeHandle,
    publisher: Publisher,
    database: Database,
    metrics: Arc<Metrics>,
    health: Health,
    /// Cancelled once the positions of a session have been read.
    begun: CancellationToken,
    shutdown: CancellationToken,
    shutdown_deadline: Duration,
    timer: Timer,
    /// Where somebody asks for the timer to look at once, and is answered when it has.
    settle: mpsc::UnboundedSender<oneshot::Sender<()>>,
    asked_to_settle: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    /// What was last written down as published.
    noted: PublishedUpTo,
    summary: Summary,
    corrections: Corrections,
    first_received: Option<Instant>,
}

impl Processor {
    fn start(
        config: &Config,
        options: &RunOptions,
        shutdown: CancellationToken,
    ) -> anyhow::Result<Processor> {
        config.kafka_brokers()?;
        let writer = WriterOptions {
            url: config.database_url()?,
            timezone: config.business.timezone,
            reject_uncovered: config.processor.stock_policy == StockPolicy::Reject,
            lock_timeout: Duration::from_secs(5),
            payments_wait: config.payments.wait,
        };
        // Before Kafka is asked anything: what cannot ever work is told at once.
        writer.check()?;
        let metrics = Arc::new(Metrics::start(&options.registry)?);
        let limits = publisher::Limits {
            transaction_timeout: config.kafka.transaction_timeout,
            dlq_max_bytes: config.topics.max_message_bytes + stocktide_runtime::kafka::DLQ_HEADROOM_BYTES,
        };
        let settings = config.clone();
        let client = move |transactional_id: &str| clients::producer(&settings, transactional_id);
        let patience = Patience {
            revoke: config.kafka.transaction_timeout,
            shutdown: config
                .processor
                .shutdown_deadline
                .saturating_sub(TO_LEAVE)
                .max(config.processor.shutdown_deadline / 2),
        };
        let batches = BatchLimits {
            records: config.processor.batch_max_records,
            bytes: config.processor.batch_max_bytes,
            linger: config.processor.batch_linger,
        };
        let group = Group::new(patience.revoke, metrics.rebalances.clone());
        let reader = clients::consumer(config);
        let intake = intake::start(&reader, group, patience, rules(config), batches, shutdown.clone())?;
        let publisher = Publisher::start(client, limits, Arc::clone(&metrics))?;
        let (settle, asked_to_settle) = mpsc::unbounded_channel();
        Ok(Processor {
            intake,
            publisher,
            database: Database::new(writer, options.health.clone()),
            metrics,
            health: options.health.clone(),
            begun: CancellationToken::new(),
            shutdown,
            shutdown_deadline: config.processor.shutdown_deadline,
            timer: Timer::default(),
            settle,
            asked_to_settle,
            noted: PublishedUpTo::new(),
            summary: Summary::default(),
            corrections: Corrections::default(),
            first_received: None,
        })
    }

    /// Receive (and decode, on the polling thread) → apply → publish.
    async fn work(&mut self) -> anyhow::Result<()> {
        let mut look_around = tokio::time::interval(LOOK_AROUND);
        loop {
            let incoming = tokio::select! {
                incoming = self.intake.incoming.recv() => incoming,
                () = until(self.timer.next()) => {
                    self.tick().await?;
                    continue;
                }
                Some(answer) = self.asked_to_settle.recv() => {
                    while self.tick().await? {}
                    // Who asked may have gone; then nobody waits for it.
                    let _ = answer.send(());
                    continue;
                }
                _ = look_around.tick() => {
                    self.look_around().await?;
                    continue;
                }
            };
            let Some(incoming) = incoming else { return Ok(()) };
            match incoming {
                Intake::Assigned(session) => self.begin(&session).await?,
                Intake::Records(received) => {
                    self.first_received.get_or_insert_with(Instant::now);
                    if broken::is(Broken::OffsetsFirst) {
                        self.publish_offsets_first(&received).await?;
                    }
                    // On the heap: the two commits in it make it large.
                    if let Some(job) = Box::pin(self.apply(received)).await? {
                        self.publisher.publish(job);
                    }
                }
                Intake::Failed(error) => return Err(error),
            }
        }
    }

    /// Rule 5: what is published must still be applied. What is published is written down, too, where nothing else does it.
    async fn look_around(&mut self) -> anyhow::Result<()> {
        if let Some(reason) = self.publisher.refused() {
            bail!(reason.to_owned());
        }
        let published = self.publisher.published();
        let Some(writer) = self.database.connected().filter(|_| !published.is_empty()) else { return Ok(()) };
        if let Err(RecoveryError::Stop(reason)) = recovery::still_sound(writer, &published).await {
            bail!(reason);
        }
        // Whatever else went wrong, the next batch finds out, and waits for the database.
        if published != self.noted && writer.note_published(&published).await.is_ok() {
            self.noted = published;
        }
        Ok(())
    }

    /// Settles what is due of the payments that wait; whether there is more to do at once. Also where nothing is due it holds the
    /// partitions' places and numbers against the database's (rule 6).
    async fn tick(&mut self) -> anyhow::Result<bool> {
        let Some(session) = self.timer.session().map(Arc::clone) else { return Ok(false) };
        let (in_hand, now) = (session.take(), clock::now());
        let ticked = match self.database.writer().await {
            Ok(writer) => writer.tick(self.timer.tick(now)).await,
            Err(error) => Err(error),
        };
        match ticked {
            Ok(ticked) => {
                self.count_ticked(&ticked, now);
                let offsets = self.timer.ticked(now, &ticked);
                if !offsets.is_empty() {
                    if broken::is(Broken::TimerCursorLost) {
                        // What the timer puts out is on its way for so short a time that hardly a kill hits it.
                        tokio::time::sleep(Duration::from_secs(2)).await;
                    }
                    let (outputs, processed_at) = (ticked.outputs, ticked.processed_at);
                    self.publisher.publish(Job {
                        in_hand,
                        outputs,
                        offsets,
                        processed_at,
                        span: Span::none(),
                    });
                }
                return Ok(ticked.more);
            }
            Err(StoreError::Fenced { .. }) => {
                tracing::info!("the progress of payments moved elsewhere: reading the positions again");
                session.end();
            }
            Err(stop @ (StoreError::Stop(_) | StoreError::Doubtful(_))) => return Err(stop.into()),
            Err(StoreError::Contended(detail) | StoreError::Lost(detail)) => {
                tracing::debug!("looking at the payments that wait again: {detail}");
            }
            Err(
                StoreError::Unavailable(detail) | StoreError::Refused(detail) | StoreError::Encode(detail),
            ) => {
                self.database.drop_connection(detail);
            }
        }
        self.timer.put_off();
        Ok(false)
    }

    /// Begins a session: recovers, and tells the intake where to read. Tries for as long as the session lives.
    async fn begin(&mut self, session: &Arc<Session>) -> anyhow::Result<()> {
        self.metrics.sessions.inc();
        self.metrics.partitions.set(session.partitions.len() as i64);
        let (mut backoff, mut short) = (Backoff::default(), None);
        while session.is_live() && !self.shutdown.is_cancelled() {
            let recovered = match self.database.writer().await {
                Ok(writer) => {
                    recovery::recover(session, &self.intake.consumer, writer, &self.publisher).await
                }
                Err(error) => Err(error.into()),
            };
            match recovered {
                Ok(Recovered { starts: partitions, stands }) => {
                    tracing::info!(partitions = partitions.len(), "positions are known: reading");
                    self.metrics.parked.reset();
                    self.metrics.oldest_parked.set(0);
                    self.timer.begin(session, stands);
                    self.health.set("positions", Ok(()));
                    self.begun.cancel();
                    // An intake that is gone is ending, and this loop with it.
                    let _ = self.intake.starts.send(Starts { session: Arc::clone(session), partitions });
                    return Ok(());
                }
                Err(RecoveryError::Stop(reason)) => bail!(reason),
                Err(RecoveryError::Short(reason))
                    if short.get_or_insert_with(Instant::now).elapsed() > SHORT_LOG_BELIEVED_AFTER =>
                {
                    bail!(reason)
                }
                Err(error) => {
                    // Between two answers that could not be had nobody has gone on saying it.
                    if matches!(error, RecoveryError::Passing(_)) {
                        short = None;
                    }
                    self.health.set("positions", Err(error.to_string()));
                    backoff.wait().await;
                }
            }
        }
        Ok(())
    }

    async fn publish_offsets_first(&self, received: &Received) -> anyhow::Result<()> {
        let mark = |(partition, offset)| (partition, Mark { offset, timer_seq: 0 });
        self.publisher.publish(Job {
            in_hand: received.in_hand.session().take(),
            outputs: Vec::new(),
            offsets: received.records.ends().into_iter().map(mark).collect(),
            processed_at: None,
            span: Span::none(),
        });
        self.publisher.prepare().await
    }

    /// Applies a batch in as many transactions as it takes, normally one; none is left over when its session has ended. A lost race
    /// runs it again from its look-up, and is never bisected (rule 8).
    async fn apply(&mut self, mut received: Received) -> anyhow::Result<Option<Job>> {
        let session = Arc::clone(received.in_hand.session());
        let mut positions = received.starts.clone();
        let mut outputs = Vec::new();
        let (mut processed_at, mut parked) = (None, 0);
        let mut backoff = Backoff::default();
        let whole = 0..received.records.len();
        self.metrics.batch_records.observe(whole.len() as f64);
        let span = span_of(&received.records);
        for (source, n) in received.records.by_source() {
            self.metrics.received.with_label_values(&[source.topic()]).inc_by(n);
        }
        let mut parts = vec![whole];
        let mut unanswered = false;
        while let Some(part) = parts.pop() {
            if !session.is_live() {
                return Ok(None);
            }
            match self.apply_part(&received, &part, &mut positions).instrument(step(&span)).await {
                Ok(applied) => {
                    self.count(&applied.counts);
                    parked += applied.counts.parked;
                    outputs.extend(applied.outputs);
                    // The first part's: what is published is looked for from there on, and a partition that only the first part
                    // has may get its next batch with a time before the last part's, where the clock goes back.
                    processed_at.get_or_insert(applied.processed_at);
                    backoff = Backoff::default();
                }
                Err(StoreError::Fenced { topic, partition, found, .. })
                    if unanswered && broken::is(Broken::LostAnswer) =>
                {
                    positions.extend(Source::from_topic(&topic).map(|source| ((source, partition), found)));
                    parts.push(part);
                }
                Err(StoreError::Fenced { .. }) => {
                    tracing::info!("the progress moved elsewhere: reading the positions again");
                    session.end();
                    return Ok(None);
                }
                Err(StoreError::Refused(detail) | StoreError::Encode(detail))
                    if !received.records.is_refused(&part) =>
                {
                    self.metrics.reruns.with_label_values(&["refused"]).inc();
                    parts.extend(bisect(&mut received, part, &detail));
                }
                Err(StoreError::Contended(detail) | StoreError::Lost(detail)) => {
                    tracing::debug!("running a batch again: {detail}");
                    self.metrics.reruns.with_label_values(&["contended"]).inc();
                    parts.push(part);
                    backoff.wait().await;
                }
                // A database that refuses even to note a rejection is in no state to serve.
                Err(
                    StoreError::Unavailable(detail)
                    | StoreError::Refused(detail)
                    | StoreError::Encode(detail),
                ) => {
                    self.metrics.reruns.with_label_values(&["unavailable"]).inc();
                    unanswered = true;
                    self.database.drop_connection(detail);
                    parts.push(part);
                    backoff.wait().await;
                }
                Err(stop @ (StoreError::Stop(_) | StoreError::Doubtful(_))) => return Err(stop.into()),
            }
        }
        let offsets = self.timer.applied(&positions, parked > 0);
        let Received { in_hand, records, .. } = received;
        // A hundred thousand small pieces of memory, which a large batch consists of: the database need not wait for that.
        tokio::spawn(async move { drop(records) });
        Ok(Some(Job { in_hand, outputs, offsets, processed_at, span }))
    }

    /// One transaction; the positions move with it.
    async fn apply_part(
        &mut self,
        received: &Received,
        part: &Range<usize>,
        positions: &mut BTreeMap<Partition, i64>,
    ) -> Result<Applied, StoreError> {
        let published = self.publisher.published();
        let spans = received.records.spans(part, positions, &self.timer, &published);
        let begun = Instant::now();
        let batch = received.records.part(part, &spans, clock::now());
        let applied = self.database.writer().await?.apply(batch).await?;
        self.metrics.stage_seconds.with_label_values(&["apply"]).observe(begun.elapsed().as_secs_f64());
        self.metrics.time(&applied.timings);
        let (counts, ms) = (&applied.counts, begun.elapsed().as_millis() as u64);
        tracing::debug!(
            partitions = spans.len(),
            records = part.len(),
            applied = counts.applied.values().sum::<u64>(),
            duplicates = counts.duplicates.values().sum::<u64>(),
            rejected = counts.rejected.values().sum::<u64>(),
            parked = counts.parked,
            ms,
            "a batch is applied"
        );
        positions.extend(spans.iter().map(|(partition, span)| (*partition, span.next)));
        Ok(applied)
    }

    fn count(&mut self, counts: &Counts) {
        self.metrics.count(counts);
        if let Some(corrected) = &counts.corrected {
            self.corrections.note(corrected, counts.value_mismatches);
        }
        let (applied, duplicates) =
            (counts.applied.values().sum::<u64>(), counts.duplicates.values().sum::<u64>());
        self.summary.applied += applied;
        self.summary.duplicates += duplicates;
        self.summary.parked += counts.parked;
        self.summary.consumed += applied + duplicates + counts.rejected.values().sum::<u64>() + counts.parked;
        for ((_, reason), n) in &counts.rejected {
            *self.summary.rejected.entry(reason.code()).or_default() += n;
        }
    }

    /// A payment that waited here was counted when it came; one that waited elsewhere counts now.
    fn count_ticked(&mut self, ticked: &Ticked, now: DateTime<Utc>) {
        self.metrics.count_ticked(ticked, now);
        let settled = ticked.joined + ticked.rejected.values().sum::<u64>();
        let from_here = settled.min(self.summary.parked);
        self.summary.parked -= from_here;
        self.summary.consumed += settled - from_here;
        self.summary.applied += ticked.joined;
        for (reason, n) in &ticked.rejected {
            *self.summary.rejected.entry(reason.code()).or_default() += n;
        }
    }

    /// Waits for the consumer to have left the group, notes what is published, and sums up.
    async fn finish(mut self) -> anyhow::Result<Summary> {
        let IntakeHandle { consumer, thread, incoming, .. } = self.intake;
        // What an error has left over is in nobody's hand any more.
        drop(incoming);
        // At once, so that others need not wait for the partitions.
        let close = tokio::task::spawn_blocking(move || {
            let ended = thread.join();
            drop(consumer);
            ended
        });
        // It only saves the next session a search, so a database that goes away just now is no reason to end badly, or late.
        if let Some(writer) = self.database.connected() {
            let published = self.publisher.published();
            let why = match tokio::time::timeout(NOTE_WITHIN, writer.note_published(&published)).await {
                Ok(noted) => noted.err().map(|error| error.to_string()),
                Err(late) => Some(late.to_string()),
            };
            if let Some(why) = why {
                tracing::warn!("what was published last is not noted, and will be found in the topic: {why}");
            }
        }
        // Closing a consumer may hang, so it gets a deadline, well within that of the shutdown; the process ends it then.
        if let Ok(ended) = tokio::time::timeout(self.shutdown_deadline / 4, close).await {
            ended?.map_err(|_| anyhow::anyhow!("the polling thread panicked"))?;
        } else {
            tracing::warn!("the consumer did not close in time");
        }
        if let Some(first) = self.first_received {
            let idle = Duration::from_secs_f64(self.metrics.seconds_since_progress());
            self.summary.seconds = first.elapsed().saturating_sub(idle).as_secs_f64();
        }
        Ok(self.summary)
    }
}

/// What is tried next when the database refuses a part for its data: its halves, the first one first; or the single
/// record, rejected.
fn bisect(received: &mut Received, part: Range<usize>, detail: &str) -> Vec<Range<usize>> {
    if part.len() > 1 {
        let middle = part.start + part.len() / 2;
        return vec![middle..part.end, part.start..middle];
    }
    tracing::warn!("the database refuses a record: {detail}");
    received.records.refuse(part.start, detail);
    vec![part]
}

/// A batch as a trace, linked to those of its records.
fn span_of(records: &Records) -> Span {
    let span = tracing::info_span!(target: TARGET, parent: None, "process", otel.kind = "consumer",
        messaging.system = "kafka", messaging.batch.message_count = records.len());
    traces::link(&span, records.traceparents());
    span
}

/// One transaction of it in the database.
fn step(batch: &Span) -> Span {
    tracing::info_span!(target: TARGET, parent: batch, "apply", otel.kind = "client", db.system.name = "postgresql")
}

fn rules(config: &Config) -> Rules {
    Rules {
        currency: config.business.currency.clone(),
        now: clock::now(),
        limits: Limits { value_bytes: config.processor.event_max_bytes, ..Limits::default() },
    }
}

/// Waits until a moment; for ever where there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits longer from time to time: 10 ms at first, 2 s at most.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    async fn wait(&mut self) {
        let wait = Duration::from_millis(10 << self.0.min(8)).min(Duration::from_secs(2));
        self.0 += 1;
        tokio::time::sleep(wait).await;
    }
}
