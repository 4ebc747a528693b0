//! Tells the log of stated values that were corrected: not of each, for a producer that is always wrong would fill it.

use std::time::{Duration, Instant};

use stocktide_store::Corrected;

/// Of how long at least a line tells.
const EVERY: Duration = Duration::from_secs(1);

/// What has not been told yet.
#[derive(Debug, Default)]
pub struct Corrections {
    told: Option<Instant>,
    untold: u64,
}

impl Corrections {
    /// Notes a batch's, of which there were so many; at most once a second one of them is told with the number of the others.
    pub fn note(&mut self, corrected: &Corrected, count: u64) {
        self.untold += count;
        if self.told.is_some_and(|told| told.elapsed() < EVERY) {
            return;
        }
        let Corrected { source, order_id, stated, value } = corrected;
        let topic = source.topic();
        match std::mem::take(&mut self.untold) {
            0 | 1 => tracing::info!(
                "{topic} {order_id:?}: its value is {value}, not {stated} as stated: corrected"
            ),
            all => tracing::info!(
                "{topic} {order_id:?}: its value is {value}, not {stated} as stated: corrected, and {} others",
                all - 1
            ),
        }
        self.told = Some(Instant::now());
    }
}
