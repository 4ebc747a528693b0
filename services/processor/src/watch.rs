//! Looks at the lag now and then: for the metrics, and to tell a processor that is stuck from one that has nothing to do.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;
use stocktide_domain::Source;
use stocktide_runtime::admin::Health;
use stocktide_store::Partition;
use tokio_util::sync::CancellationToken;

use crate::intake::GroupConsumer;
use crate::metrics::Metrics;
use crate::recovery::committed;

const EVERY: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(2);
/// Records wait and nothing has moved for so long: not ready.
const STUCK_AFTER_SECONDS: f64 = 60.0;

/// Watches until `shutdown`.
pub async fn watch(consumer: Arc<GroupConsumer>, metrics: Arc<Metrics>, health: Health, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
        let (consumer, gauges) = (Arc::clone(&consumer), Arc::clone(&metrics));
        let lag = tokio::task::spawn_blocking(move || lag(&consumer, &gauges)).await;
        match lag {
            Ok(Ok(lag)) => {
                health.set("kafka", Ok(()));
                if lag == 0 {
                    metrics.progressed();
                }
                let stuck = metrics.seconds_since_progress();
                let moving = stuck < STUCK_AFTER_SECONDS;
                health.set("progress", if moving { Ok(()) } else { Err("records wait, and none has moved for a minute".to_owned()) });
            }
            Ok(Err(error)) => health.set("kafka", Err(format!("{error:#}"))),
            Err(error) => tracing::error!("the watch over the lag: {error}"),
        }
    }
}

/// Sets the gauges of the partitions that this processor owns; the sum of their lags.
fn lag(consumer: &GroupConsumer, metrics: &Metrics) -> anyhow::Result<i64> {
    let assigned = consumer.assignment()?;
    let of = |(topic, partition)| Some((Source::from_topic(topic)?, partition));
    let owned: Vec<Partition> = assigned.elements().iter().filter_map(|e| of((e.topic(), e.partition()))).collect();
    metrics.lag.reset();
    metrics.partitions.set(owned.len() as i64);
    let mut sum = 0;
    for (partition, at) in owned.iter().zip(committed(consumer, &owned)?) {
        let (topic, number) = (partition.0.topic(), partition.1);
        let (low, high) = consumer.fetch_watermarks(topic, number, PATIENCE)?;
        let lag = (high - at.unwrap_or(low)).max(0);
        metrics.lag.with_label_values(&[topic, &number.to_string()]).set(lag);
        sum += lag;
    }
    Ok(sum)
}
