//! Requests without a pause, on many connections.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::looks::get;

/// What is asked for: cheap and dear, with and without an answer.
const PATHS: [&str; 8] = [
    "/stats/global",
    "/stats/top/10",
    "/stats/top/1000?by=orders",
    "/stock?status=low&limit=500",
    "/products?limit=500",
    "/users/u17/stats",
    "/dlq?limit=100",
    "/stats/monthly?start=2024-06&end=2025-12",
];

/// What came of the requests.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    /// 2xx, and 404.
    pub answered: u64,
    /// Told to come later, or that something is away: 429, 503.
    pub refused: u64,
    /// Anything else: no answer within a minute, a connection that was cut, a 500.
    pub broken: u64,
    /// The longest that anybody waited, from the beginning on.
    pub slowest: Duration,
}

impl Tally {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.answered + self.refused + self.broken
    }

    /// What has been added since.
    pub fn since(&self, before: &Tally) -> Tally {
        Tally {
            answered: self.answered - before.answered,
            refused: self.refused - before.refused,
            broken: self.broken - before.broken,
            slowest: self.slowest,
        }
    }
}

/// A storm; dropped, it is over.
pub struct Storm {
    tally: Arc<Mutex<Tally>>,
    _asking: JoinSet<()>,
}

impl Storm {
    /// Begins to ask on so many connections.
    pub fn begin(address: &str, connections: u32) -> Storm {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let mut asking = JoinSet::new();
        for first in 0..connections as usize {
            let (address, tally) = (address.to_owned(), Arc::clone(&tally));
            asking.spawn(async move {
                for path in PATHS.iter().cycle().skip(first % PATHS.len()) {
                    let begun = Instant::now();
                    let answer = get(&address, path).await;
                    let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
                    match answer {
                        Ok((200..=299 | 404, _)) => tally.answered += 1,
                        Ok((429 | 503, _)) => tally.refused += 1,
                        _ => tally.broken += 1,
                    }
                    tally.slowest = tally.slowest.max(begun.elapsed());
                }
            });
        }
        Storm { tally, _asking: asking }
    }

    /// What has come of it so far.
    pub fn tally(&self) -> Tally {
        *self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
