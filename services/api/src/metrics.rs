//! The API's metrics, declared once. Names follow the Prometheus conventions.

use prometheus::{HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// From a look-up by key to what a request may take.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The API's metrics.
pub struct Metrics {
    /// Requests answered.
    pub requests: IntCounterVec,
    /// How long they took.
    pub seconds: HistogramVec,
    /// Clients that follow stock.
    pub streams: IntGauge,
    /// Clients that were sent away.
    pub streams_refused: IntCounter,
    /// Clients that were too slow.
    pub streams_dropped: IntCounter,
    /// Records of inventory_updates that were read.
    pub stream_records: IntCounter,
    /// Events that came in.
    pub intake: IntCounterVec,
}

impl Metrics {
    /// Declares every metric in a registry.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
        let counter = |name: &str, help: &str| IntCounter::new(name, help);
        let metrics = Metrics {
            requests: IntCounterVec::new(
                Opts::new("stocktide_api_requests_total", "Requests answered, by the route's template."),
                &["route", "method", "status"],
            )?,
            seconds: HistogramVec::new(
                HistogramOpts::new(
                    "stocktide_api_request_seconds",
                    "Time until a request's answer began, by the route's template.",
                )
                .buckets(SECONDS.to_vec()),
                &["route"],
            )?,
            streams: IntGauge::new("stocktide_api_streams", "Clients that follow stock at the moment.")?,
            streams_refused: counter(
                "stocktide_api_streams_refused_total",
                "Clients that wanted to follow stock when there were too many.",
            )?,
            streams_dropped: counter(
                "stocktide_api_streams_dropped_total",
                "Clients that followed stock and were sent away because they were too slow.",
            )?,
            stream_records: counter(
                "stocktide_api_stream_records_total",
                "Records of inventory_updates that were read for those who follow stock.",
            )?,
            intake: IntCounterVec::new(
                Opts::new(
                    "stocktide_api_intake_events_total",
                    "Events that came in by HTTP; outcome: accepted, rejected or failed.",
                ),
                &["topic", "outcome"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.seconds.clone()))?;
        registry.register(Box::new(metrics.streams.clone()))?;
        registry.register(Box::new(metrics.streams_refused.clone()))?;
        registry.register(Box::new(metrics.streams_dropped.clone()))?;
        registry.register(Box::new(metrics.stream_records.clone()))?;
        registry.register(Box::new(metrics.intake.clone()))?;
        Ok(metrics)
    }
}
