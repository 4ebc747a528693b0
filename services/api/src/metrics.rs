//! The API's metrics, declared once. Names follow the Prometheus conventions.

/// From a look-up by key to what a request may take.
const SECONDS: &[f64] = &[0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

stocktide_runtime::metrics! {
    /// One field per metric; the doc comment is its help text.
    pub struct Metrics {
        /// Requests answered, by the route's template.
        requests: IntCounterVec = "stocktide_api_requests_total" ["route", "method", "status"],
        /// Time until a request's answer began, by the route's template.
        seconds: HistogramVec = "stocktide_api_request_seconds" ["route"] in SECONDS,
        /// Time that a question of the API itself, asked every two seconds, waits for one of its connections to the database.
        database_wait: Histogram = "stocktide_api_database_wait_seconds" [] in SECONDS,
        /// Connections to the database that are in use.
        connections: IntGauge = "stocktide_api_database_connections_in_use" [],
        /// Clients that follow stock at the moment.
        streams: IntGauge = "stocktide_api_streams" [],
        /// Clients that wanted to follow stock when there were too many.
        streams_refused: IntCounter = "stocktide_api_streams_refused_total" [],
        /// Clients that followed stock and were sent away because they were too slow.
        streams_dropped: IntCounter = "stocktide_api_streams_dropped_total" [],
        /// Records of inventory_updates that were read for those who follow stock.
        stream_records: IntCounter = "stocktide_api_stream_records_total" [],
        /// Events that came in by HTTP; outcome: accepted, rejected or failed.
        intake: IntCounterVec = "stocktide_api_intake_events_total" ["topic", "outcome"],
    }
}
