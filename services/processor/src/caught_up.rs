//! Ends a processor that is to run until it has caught up: also with what a dead writer's transaction still hides (rule 3).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stocktide_domain::Source;
use stocktide_runtime::config::Config;
use stocktide_runtime::kafka::OUTPUT_TOPICS;
use stocktide_store::Partition;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::intake::GroupConsumer;
use crate::observer::Observer;
use crate::recovery::committed;
use crate::run::RunOptions;

/// How often the group's offsets are looked at.
const EVERY: Duration = Duration::from_millis(200);

/// The ends that the group has to reach.
pub struct CaughtUp {
    consumer: Arc<GroupConsumer>,
    observer: Observer,
    /// Of the inputs; a partition that has reached its end is taken out.
    ends: BTreeMap<Partition, i64>,
    /// Where the group was in them at the last look.
    seen: BTreeMap<Partition, i64>,
}

impl CaughtUp {
    /// Where the options ask for it, cancels the processor when the group has caught up with the ends that the input has
    /// now, and what it published can be read.
    pub fn watch(
        config: &Config,
        options: &RunOptions,
        consumer: Arc<GroupConsumer>,
        begun: CancellationToken,
        settle: mpsc::UnboundedSender<oneshot::Sender<()>>,
        shutdown: CancellationToken,
    ) -> JoinHandle<anyhow::Result<bool>> {
        let (config, wanted) = (config.clone(), options.until_caught_up);
        tokio::task::spawn_blocking(move || {
            if !wanted {
                return Ok(false);
            }
            let watched = CaughtUp::wait(&config, consumer, &begun, &settle, &shutdown);
            shutdown.cancel();
            watched
        })
    }

    /// Returns when the group has caught up, or, with false, when the processor is ending.
    fn wait(
        config: &Config,
        consumer: Arc<GroupConsumer>,
        begun: &CancellationToken,
        settle: &mpsc::UnboundedSender<oneshot::Sender<()>>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<bool> {
        let observer = Observer::new(config)?;
        let Some(ends) = retry(shutdown, || input_ends(&observer).map(Some)) else { return Ok(false) };
        // Not to have been assigned anything yet is not to have caught up: the positions must have been read once.
        retry(shutdown, || Ok(begun.is_cancelled().then_some(())));
        let mut state = CaughtUp { consumer, observer, ends, seen: BTreeMap::new() };
        if retry(shutdown, || state.is_done()).is_none() {
            return Ok(false);
        }
        // Payments are not waited for; but those whose orders are there by now are joined to them.
        let (answer, settled) = oneshot::channel();
        if settle.send(answer).is_ok() {
            // An error is a processor that is ending.
            let _ = settled.blocking_recv();
        }
        // A commit is answered before its markers are everywhere: readers of committed records must see to the ends that
        // the outputs have now.
        let all = Observer::of_uncommitted(config)?;
        let Some(ends) = retry(shutdown, || output_ends(&all).map(Some)) else { return Ok(false) };
        Ok(retry(shutdown, || state.is_readable(&ends)).is_some())
    }

    /// Whether the group has finished every partition.
    fn is_done(&mut self) -> anyhow::Result<Option<()>> {
        let partitions: Vec<Partition> = self.ends.keys().copied().collect();
        for (partition, at) in partitions.iter().copied().zip(committed(&*self.consumer, &partitions)?) {
            let (at, end) = (at.unwrap_or(0), self.ends.get(&partition).copied().unwrap_or(0));
            let (topic, number) = (partition.0.topic(), partition.1);
            let stands_still = self.seen.insert(partition, at) == Some(at);
            if at >= end || (stands_still && self.observer.nothing_readable(topic, number, at, end)?) {
                self.ends.remove(&partition);
            }
        }
        Ok(self.ends.is_empty().then_some(()))
    }

    fn is_readable(&self, ends: &[(&str, i32, i64)]) -> anyhow::Result<Option<()>> {
        for (topic, partition, end) in ends {
            if self.observer.extent(topic, *partition)?.1 < *end {
                return Ok(None);
            }
        }
        Ok(Some(()))
    }
}

/// Asks until there is an answer; none when the processor is ending. Errors pass: topics that are still to be made, which is
/// told, once; a broker that is away, a pending transaction, which others tell.
fn retry<T>(shutdown: &CancellationToken, mut ask: impl FnMut() -> anyhow::Result<Option<T>>) -> Option<T> {
    let mut told = String::new();
    while !shutdown.is_cancelled() {
        match ask() {
            Ok(Some(answer)) => return Some(answer),
            Ok(None) => {}
            Err(error) => {
                let error = format!("{error:#}");
                if error == told || error.contains("oordinator") {
                    tracing::debug!("{error}");
                } else {
                    tracing::warn!("{error}");
                    told = error;
                }
            }
        }
        std::thread::sleep(EVERY);
    }
    None
}

/// The ends of the input's partitions, as far as they hold anything.
fn input_ends(observer: &Observer) -> anyhow::Result<BTreeMap<Partition, i64>> {
    let mut ends = BTreeMap::new();
    for source in Source::ALL {
        for partition in observer.partitions(source.topic())? {
            let (low, high) = observer.extent(source.topic(), partition)?;
            if high > low {
                ends.insert((source, partition), high);
            }
        }
    }
    Ok(ends)
}

fn output_ends(all: &Observer) -> anyhow::Result<Vec<(&'static str, i32, i64)>> {
    let mut ends = Vec::new();
    for topic in OUTPUT_TOPICS {
        for partition in all.partitions(topic)? {
            ends.push((topic, partition, all.extent(topic, partition)?.1));
        }
    }
    Ok(ends)
}
