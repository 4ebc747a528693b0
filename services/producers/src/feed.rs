//! A stream of records to a [`Sink`], at a pace.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use crate::record::Record;
use crate::sink::Sink;

/// How fast records are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as they are taken.
    Max,
    /// So many a second: record n is due n / rate seconds after the first, however long the ones before took.
    Rate(f64),
    /// As they happened, so many times faster than real time.
    Replay(f64),
}

/// The longest single wait, so that a cancellation is soon heard.
const NAP: Duration = Duration::from_millis(50);

/// Sends records until they end or it is cancelled; how many were sent. `progress` is told after each. It blocks.
///
/// A schedule that was missed is caught up with, never stretched: the load does not depend on how fast the broker is.
///
/// # Errors
/// When the sink can send nothing any more.
pub fn feed(
    records: impl IntoIterator<Item = Record>,
    pace: Pace,
    sink: &Sink,
    cancelled: &CancellationToken,
    mut progress: impl FnMut(&Record),
) -> anyhow::Result<u64> {
    let started = Instant::now();
    let mut first: Option<DateTime<Utc>> = None;
    let mut sent = 0;
    for record in records {
        let due = match pace {
            Pace::Max => Duration::ZERO,
            Pace::Rate(per_second) => Duration::from_secs_f64(sent as f64 / per_second),
            Pace::Replay(speed) => {
                let since = record.occurred_at - *first.get_or_insert(record.occurred_at);
                since.to_std().unwrap_or_default().div_f64(speed)
            }
        };
        wait_until(started + due, cancelled);
        if cancelled.is_cancelled() {
            break;
        }
        sink.send(&record)?;
        sent += 1;
        progress(&record);
    }
    Ok(sent)
}

fn wait_until(due: Instant, cancelled: &CancellationToken) {
    while let Some(left) = due.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        if cancelled.is_cancelled() {
            return;
        }
        std::thread::sleep(left.min(NAP));
    }
}
