//! The replay: events arrive and are processed at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use chrono::DateTime;
use indicatif::HumanCount;
use prometheus::Registry;
use stocktide_devstack::Stack;
use stocktide_processor::{RunOptions, Summary};
use stocktide_producers::feed::{Pace, feed};
use stocktide_producers::sink::{Delivered, Sink};
use stocktide_runtime::Config;
use stocktide_runtime::kafka::{INPUT_TOPICS, PAYMENTS};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::narrator::Narrator;
use super::source::Source;

/// How often is looked how far it is.
const LOOK: Duration = Duration::from_millis(100);
/// How long the broker's last answers may take.
const DEADLINE: Duration = Duration::from_secs(70);
/// How long nothing may move before it is given up.
const PATIENCE: Duration = Duration::from_mins(1);

/// Sends the events as fast as they are taken, and runs the processor until all have met their fate.
///
/// # Errors
/// When the sending, the processor or the stack fails, or nothing moves for a minute.
pub async fn replay(
    source: &Arc<Source>,
    config: &Config,
    stack: &mut Stack,
    narrator: &mut Narrator,
    stop: &CancellationToken,
) -> anyhow::Result<(Delivered, Summary)> {
    // The feed's thread and the processor end with this future, however it ends.
    let ended = stop.child_token();
    let _end = ended.clone().drop_guard();
    narrator.step("sending the first events");
    let registry = Registry::new();
    let options = RunOptions { registry: registry.clone(), ..RunOptions::default() };
    let processor =
        async { stocktide_processor::run(config, options, ended.clone()).await.context("the processor") };
    let sent = Arc::new(Sent::default());
    let feeding = start_feeding(Arc::clone(source), config.clone(), Arc::clone(&sent), ended.clone());
    let watching = async {
        let delivered = watch(feeding, &sent, &registry, source.waiting(), stack, narrator).await?;
        ended.cancel();
        Ok(delivered)
    };
    let (delivered, summary) = tokio::try_join!(watching, processor)?;
    let processed = Processed::of(&registry);
    narrator.done(format!(
        "{} records sent and processed, in {:.1} s: {}; {} published",
        HumanCount(delivered.sent()),
        summary.seconds,
        processed.in_words(),
        HumanCount(processed.published)
    ));
    Ok((delivered, summary))
}

/// How far the feed is.
#[derive(Debug, Default)]
struct Sent {
    records: AtomicU64,
    /// The latest moment that an event told of, in seconds since 1970.
    latest: AtomicI64,
}

fn start_feeding(
    source: Arc<Source>,
    config: Config,
    sent: Arc<Sent>,
    ended: CancellationToken,
) -> JoinHandle<anyhow::Result<Delivered>> {
    // The producer's calls block.
    tokio::task::spawn_blocking(move || {
        let topics: Vec<&str> = INPUT_TOPICS.into_iter().chain([PAYMENTS]).collect();
        let sink = Sink::connect(&config, &topics)?;
        feed(source.records(), Pace::Max, &sink, &ended, |record| {
            sent.records.fetch_add(1, Ordering::Relaxed);
            sent.latest.fetch_max(record.occurred_at.timestamp(), Ordering::Relaxed);
        })?;
        Ok(sink.finish(DEADLINE))
    })
}

/// Tells how far it is until everything sent has met its fate, and no more than `waiting` payments wait for their order.
async fn watch(
    mut feeding: JoinHandle<anyhow::Result<Delivered>>,
    sent: &Sent,
    registry: &Registry,
    waiting: u64,
    stack: &mut Stack,
    narrator: &mut Narrator,
) -> anyhow::Result<Delivered> {
    let mut delivered: Option<Delivered> = None;
    let mut before = Processed::default();
    let mut moved = Instant::now();
    loop {
        tokio::select! {
            done = &mut feeding, if delivered.is_none() => delivered = Some(done?.context("the replay")?),
            () = tokio::time::sleep(LOOK) => {}
        }
        let processed = Processed::of(registry);
        if processed != before {
            (before, moved) = (processed, Instant::now());
        }
        if sent.records.load(Ordering::Relaxed) > 0 {
            narrator.progress(|| sent.in_words(&processed));
        }
        match &delivered {
            Some(delivered) if processed.fates() >= delivered.sent() && processed.waiting <= waiting => {
                return Ok(delivered.clone());
            }
            _ if moved.elapsed() > PATIENCE => {
                bail!("nothing has moved for a minute: {}", sent.in_words(&processed))
            }
            _ => {}
        }
        if let Some(failure) = stack.failure() {
            bail!(failure);
        }
    }
}

impl Sent {
    fn in_words(&self, processed: &Processed) -> String {
        let day = DateTime::from_timestamp(self.latest.load(Ordering::Relaxed), 0).unwrap_or_default();
        let records = HumanCount(self.records.load(Ordering::Relaxed));
        format!("{}  {records} sent, {}", day.format("%Y-%m-%d"), processed.in_words())
    }
}

/// What the processor's metrics say.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Processed {
    applied: u64,
    duplicates: u64,
    rejected: u64,
    /// Payments, for their order.
    waiting: u64,
    published: u64,
}

impl Processed {
    fn of(registry: &Registry) -> Processed {
        let mut processed = Processed::default();
        for family in registry.gather() {
            let count = match family.name() {
                "stocktide_processor_records_applied_total" => &mut processed.applied,
                "stocktide_processor_records_duplicate_total" => &mut processed.duplicates,
                "stocktide_processor_records_rejected_total" => &mut processed.rejected,
                "stocktide_processor_records_published_total" => &mut processed.published,
                "stocktide_processor_payments_parked" => {
                    let waiting =
                        family.get_metric().iter().map(|metric| metric.get_gauge().get_value() as u64);
                    processed.waiting = waiting.sum();
                    continue;
                }
                _ => continue,
            };
            *count = family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum();
        }
        processed
    }

    fn fates(&self) -> u64 {
        self.applied + self.duplicates + self.rejected + self.waiting
    }

    fn in_words(&self) -> String {
        let counts = [self.applied, self.duplicates, self.rejected, self.waiting];
        let [applied, duplicates, rejected, waiting] = counts.map(HumanCount);
        format!("{applied} applied, {duplicates} duplicates, {rejected} rejected, {waiting} waiting")
    }
}
