//! The metrics of a producer that runs on, declared once.

stocktide_runtime::metrics! {
    /// One field per metric; the doc comment is its help text.
    pub struct Metrics {
        /// Records that the broker has acknowledged.
        sent: IntCounterVec = "stocktide_producer_records_sent_total" ["topic"],
        /// Bytes of their keys and values.
        bytes: IntCounterVec = "stocktide_producer_sent_bytes_total" ["topic"],
        /// Records that were refused or given up, by librdkafka's reason.
        refused: IntCounterVec = "stocktide_producer_records_refused_total" ["topic", "reason"],
    }
}
