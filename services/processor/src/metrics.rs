//! The processor's metrics, declared once. Names follow the Prometheus conventions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};
use stocktide_domain::Reason;
use stocktide_domain::event::Source;
use stocktide_store::{Counts, Ticked};

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $labels:tt,)*) => {
        /// One field per metric; the doc comment is its help text.
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $kind,)*
            started: Instant,
            last_progress_ms: AtomicU64,
        }

        impl Metrics {
            /// Declares every metric in a registry.
            ///
            /// # Errors
            /// When a name is taken.
            pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
                $(let $field = metrics!(@make $kind, $name, concat!($($help),+).trim(), $labels)?;
                  registry.register(Box::new($field.clone()))?;)*
                Ok(Metrics { $($field,)* started: Instant::now(), last_progress_ms: AtomicU64::new(0) })
            }
        }
    };
    (@make IntCounter, $name:literal, $help:expr, []) => { IntCounter::new($name, $help) };
    (@make IntGauge, $name:literal, $help:expr, []) => { IntGauge::new($name, $help) };
    (@make IntCounterVec, $name:literal, $help:expr, $labels:tt) => { IntCounterVec::new(Opts::new($name, $help), &$labels) };
    (@make IntGaugeVec, $name:literal, $help:expr, $labels:tt) => { IntGaugeVec::new(Opts::new($name, $help), &$labels) };
    (@make Histogram, $name:literal, $help:expr, []) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets(SIZES.to_vec()))
    };
    (@make HistogramVec, $name:literal, $help:expr, $labels:tt) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()), &$labels)
    };
}

const SIZES: [f64; 9] = [1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0];

metrics! {
    /// Records whose effect is in the database.
    applied: IntCounterVec = "stocktide_processor_records_applied_total" ["topic"],
    /// Records whose event_id had been applied before.
    duplicates: IntCounterVec = "stocktide_processor_records_duplicate_total" ["topic"],
    /// Records that went to the dead-letter queue.
    rejected: IntCounterVec = "stocktide_processor_records_rejected_total" ["topic", "reason"],
    /// Records published to inventory_updates and dlq.
    published: IntCounter = "stocktide_processor_records_published_total" [],
    /// Records in a batch.
    batch_records: Histogram = "stocktide_processor_batch_records" [],
    /// Time that a batch takes in a stage: apply or publish.
    stage_seconds: HistogramVec = "stocktide_processor_stage_seconds" ["stage"],
    /// Batches run again, by cause: contended, refused or unavailable.
    reruns: IntCounterVec = "stocktide_processor_batch_reruns_total" ["cause"],
    /// Kafka transactions that were given up.
    transactions_aborted: IntCounter = "stocktide_processor_transactions_aborted_total" [],
    /// Sessions begun: one per assignment, and one more after each doubt.
    sessions: IntCounter = "stocktide_processor_sessions_total" [],
    /// Partitions that this processor owns.
    partitions: IntGauge = "stocktide_processor_assigned_partitions" [],
    /// Records that wait in a partition that this processor owns.
    lag: IntGaugeVec = "stocktide_processor_lag_records" ["topic", "partition"],
    /// Orders whose stated value was not the sum of their lines.
    value_mismatches: IntCounter = "stocktide_processor_order_value_mismatches_total" [],
    /// Payments that wait for their order, in the partitions that this processor owns.
    parked: IntGaugeVec = "stocktide_processor_payments_parked" ["partition"],
    /// How long the oldest of them has waited, in seconds.
    oldest_parked: IntGauge = "stocktide_processor_payments_oldest_parked_seconds" [],
    /// Payments whose order came while they waited.
    payments_joined: IntCounter = "stocktide_processor_payments_joined_total" [],
    /// Payments whose order never came.
    payments_orphaned: IntCounter = "stocktide_processor_payments_orphaned_total" [],
    /// Payments whose amount was not their order's value.
    amount_mismatches: IntCounter = "stocktide_processor_payment_amount_mismatches_total" [],
    /// Stock rows that fell below zero.
    oversold: IntCounter = "stocktide_processor_stock_rows_oversold_total" [],
}

impl Metrics {
    /// Counts what became of a batch.
    pub fn count(&self, counts: &Counts) {
        let of = |source: &Source| [source.topic()];
        for (source, n) in &counts.applied {
            self.applied.with_label_values(&of(source)).inc_by(*n);
        }
        for (source, n) in &counts.duplicates {
            self.duplicates.with_label_values(&of(source)).inc_by(*n);
        }
        for ((source, reason), n) in &counts.rejected {
            self.rejected.with_label_values(&[source.topic(), reason.code()]).inc_by(*n);
        }
        self.value_mismatches.inc_by(counts.value_mismatches);
        self.amount_mismatches.inc_by(counts.amount_mismatches);
        let orphans = counts.rejected.get(&(Source::Payments, Reason::OrphanPayment));
        self.payments_orphaned.inc_by(orphans.copied().unwrap_or(0));
        self.oversold.inc_by(counts.oversold);
        self.progressed();
    }

    /// Counts what became of payments that waited, and shows how many still do.
    pub fn count_ticked(&self, ticked: &Ticked, now: DateTime<Utc>) {
        let topic = Source::Payments.topic();
        self.applied.with_label_values(&[topic]).inc_by(ticked.joined);
        self.payments_joined.inc_by(ticked.joined);
        self.amount_mismatches.inc_by(ticked.amount_mismatches);
        for (reason, n) in &ticked.rejected {
            self.rejected.with_label_values(&[topic, reason.code()]).inc_by(*n);
            if *reason == Reason::OrphanPayment {
                self.payments_orphaned.inc_by(*n);
            }
        }
        self.parked.reset();
        for (partition, parked) in &ticked.waiting {
            self.parked.with_label_values(&[&partition.to_string()]).set(*parked);
        }
        let age = ticked.oldest.map_or(0, |oldest| (now - oldest).num_seconds().max(0));
        self.oldest_parked.set(age);
        if ticked.processed_at.is_some() {
            self.progressed();
        }
    }

    /// Something was applied or published, or there is nothing to do.
    pub fn progressed(&self) {
        self.last_progress_ms.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Since when nothing has moved, in seconds.
    pub fn seconds_since_progress(&self) -> f64 {
        let last = self.last_progress_ms.load(Ordering::Relaxed);
        (self.started.elapsed().as_millis() as u64).saturating_sub(last) as f64 / 1_000.0
    }
}
