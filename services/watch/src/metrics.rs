//! What is seen of an installation from outside, declared once.

stocktide_runtime::metrics! {
    /// One field per metric; the doc comment is its help text.
    pub struct Metrics {
        /// Records of an input topic that are not applied yet, whether a processor runs or not.
        waiting: IntGaugeVec = "stocktide_input_waiting_records" ["topic", "partition"],
        /// For how long the oldest record that is not applied yet has been in its topic, by the record's own timestamp; 0: none
        /// waits.
        waiting_seconds: GaugeVec = "stocktide_input_waiting_seconds" ["topic", "partition"],
        /// Records of an input topic that were deleted before they were applied.
        lost: IntGaugeVec = "stocktide_input_lost_records" ["topic", "partition"],
        /// Stock rows (a product at a location), by how they stand: in_stock, low, out or oversold.
        stock_rows: IntGaugeVec = "stocktide_stock_rows" ["status"],
        /// Units in these rows; below zero where they are oversold.
        stock_units: IntGaugeVec = "stocktide_stock_units" ["status"],
        /// Rejected records of the last 90 days that nobody has dealt with, by input topic: neither replayed nor discarded, and
        /// their event not applied since. No more than 10,000 are counted.
        dlq_open: IntGaugeVec = "stocktide_dlq_open_records" ["topic"],
        /// When the oldest of these was rejected, in seconds since 1970; 0: there is none.
        dlq_oldest: GaugeVec = "stocktide_dlq_oldest_open_timestamp_seconds" ["topic"],
        /// When a certificate expires, in seconds since 1970, of several the first: kafka_server and postgres_server as the servers show
        /// them; kafka_ca, kafka_client, postgres_ca and postgres_client as the configured files hold them. Infinity: none is used.
        certificate_expiry: GaugeVec = "stocktide_certificate_expiry_timestamp_seconds" ["certificate"],
        /// Connections of this process's pool, by state: idle or in_use.
        pool: IntGaugeVec = "stocktide_database_pool_connections" ["state"],
        /// How long the watch waited for a connection of this process's pool.
        pool_wait: Histogram = "stocktide_database_pool_wait_seconds" [],
        /// How long reading the figures of the database took the last time.
        figures_seconds: Gauge = "stocktide_watch_figures_seconds" [],
        /// When the installation was last looked at with success, in seconds since 1970.
        last_look: Gauge = "stocktide_watch_last_look_timestamp_seconds" [],
    }
}
