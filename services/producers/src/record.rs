//! What a source sends.

use chrono::{DateTime, Utc};

/// One record on its way to Kafka.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The topic it goes to.
    pub topic: &'static str,
    /// The business id, so that everything about one order keeps its order in one partition.
    pub key: String,
    /// The event as JSON; none is a tombstone, which only broken sources send.
    pub value: Option<Vec<u8>>,
    /// When it happened, by its own account, or when a broken one is sent.
    pub occurred_at: DateTime<Utc>,
}
