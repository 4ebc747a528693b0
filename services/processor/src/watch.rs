//! Looks at the lag now and then: for the metrics, and to tell a processor that is stuck from one that has nothing to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use stocktide_domain::Source;
use stocktide_runtime::admin::Health;
use stocktide_store::Partition;
use tokio_util::sync::CancellationToken;

use crate::intake::GroupConsumer;
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::recovery::committed;

const EVERY: Duration = Duration::from_secs(5);
/// Records wait and nothing has moved for so long: not ready.
const STUCK_AFTER_SECONDS: f64 = 60.0;

/// Watches until `shutdown`.
pub async fn watch(
    observer: Observer,
    consumer: Arc<GroupConsumer>,
    metrics: Arc<Metrics>,
    health: Health,
    shutdown: CancellationToken,
) {
    let mut lags = Lags { observer, consumer, metrics: Arc::clone(&metrics), seen: BTreeMap::new() };
    while !shutdown.is_cancelled() {
        let looked = tokio::task::spawn_blocking(move || {
            let lag = lags.look();
            (lags, lag)
        });
        let lag = match looked.await {
            Ok((back, lag)) => {
                lags = back;
                lag
            }
            Err(error) => return tracing::error!("the watch over the lag: {error}"),
        };
        match lag {
            Ok(lag) => {
                health.set("kafka", Ok(()));
                if lag == 0 {
                    metrics.progressed();
                }
                let stuck = metrics.seconds_since_progress();
                let moving = stuck < STUCK_AFTER_SECONDS;
                health.set(
                    "progress",
                    if moving {
                        Ok(())
                    } else {
                        Err("records wait, and none has moved for a minute".to_owned())
                    },
                );
            }
            Err(error) => health.set("kafka", Err(format!("{error:#}"))),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

struct Lags {
    observer: Observer,
    consumer: Arc<GroupConsumer>,
    metrics: Arc<Metrics>,
    /// Where the group was at the last look.
    seen: BTreeMap<Partition, i64>,
}

impl Lags {
    /// Sets the gauges of the partitions that this processor owns; the sum of their lags.
    fn look(&mut self) -> anyhow::Result<i64> {
        for source in Source::ALL {
            // A group of no topics has nothing to do, and would look like one that is done.
            self.observer.partitions(source.topic())?;
        }
        let assigned = self.consumer.assignment()?;
        let of = |(topic, partition)| Some((Source::from_topic(topic)?, partition));
        let owned: Vec<Partition> =
            assigned.elements().iter().filter_map(|e| of((e.topic(), e.partition()))).collect();
        self.metrics.lag.reset();
        self.metrics.partitions.set(owned.len() as i64);
        if owned.is_empty() {
            return Ok(0);
        }
        let mut sum = 0;
        for (partition, at) in owned.iter().zip(committed(&*self.consumer, &owned)?) {
            let (topic, number) = (partition.0.topic(), partition.1);
            let (low, high) = self.observer.extent(topic, number)?;
            let at = at.unwrap_or(low);
            let stands_still = self.seen.insert(*partition, at) == Some(at);
            let idle =
                at >= high || (stands_still && self.observer.nothing_readable(topic, number, at, high)?);
            let lag = if idle { 0 } else { high - at };
            self.metrics.lag.with_label_values(&[topic, &number.to_string()]).set(lag);
            sum += lag;
        }
        Ok(sum)
    }
}
