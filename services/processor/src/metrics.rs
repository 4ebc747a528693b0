//! The processor's metrics, declared once. Names follow the Prometheus conventions.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Utc};
use prometheus::Registry;
use stocktide_domain::Reason;
use stocktide_domain::event::Source;
use stocktide_runtime::clock;
use stocktide_runtime::kafka::OUTPUT_TOPICS;
use stocktide_store::{Counts, Ticked, Timings};

/// Buckets for the sizes of batches.
const SIZES: &[f64] = &[1.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0];

stocktide_runtime::metrics! {
    /// One field per metric; the doc comment is its help text.
    pub struct Metrics {
        /// Records received from Kafka; one that is read again counts again.
        received: IntCounterVec = "stocktide_processor_records_received_total" ["topic"],
        /// Records whose effect is in the database.
        applied: IntCounterVec = "stocktide_processor_records_applied_total" ["topic"],
        /// Records whose event_id had been applied before.
        duplicates: IntCounterVec = "stocktide_processor_records_duplicate_total" ["topic"],
        /// Records that went to the dead-letter queue.
        rejected: IntCounterVec = "stocktide_processor_records_rejected_total" ["topic", "reason"],
        /// Records published, by output topic: inventory_updates or dlq.
        published: IntCounterVec = "stocktide_processor_records_published_total" ["topic"],
        /// Records in a batch.
        batch_records: Histogram = "stocktide_processor_batch_records" [] in SIZES,
        /// Time that a batch takes in a stage: apply or publish; of apply, look_up (locks and look-ups), settle (what becomes of
        /// each record), write (log, orders and stock) and commit (lines, progress and COMMIT).
        stage_seconds: HistogramVec = "stocktide_processor_stage_seconds" ["stage"],
        /// Times that a batch went to the database and waited for the answer, of batches that were applied.
        round_trips: IntCounter = "stocktide_processor_database_round_trips_total" [],
        /// Batches run again, by cause: contended, refused or unavailable.
        reruns: IntCounterVec = "stocktide_processor_batch_reruns_total" ["cause"],
        /// Kafka transactions that were given up.
        transactions_aborted: IntCounter = "stocktide_processor_transactions_aborted_total" [],
        /// Sessions begun: one per assignment, and one more after each doubt.
        sessions: IntCounter = "stocktide_processor_sessions_total" [],
        /// Rebalances of the group that gave this processor its partitions.
        rebalances: IntCounter = "stocktide_processor_rebalances_total" [],
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
        /// When a record was last applied or published, or none waited, in seconds since 1970.
        last_progress: Gauge = "stocktide_processor_last_progress_timestamp_seconds" [],
    }
    with {
        started: Instant = |_| Ok(Instant::now()),
        last_progress_ms: AtomicU64 = |_| Ok(AtomicU64::new(0)),
    }
}

impl Metrics {
    /// Declares every metric; each reason, topic and stage is there from the start, so that its first count is seen as one.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn start(registry: &Registry) -> prometheus::Result<Metrics> {
        let metrics = Metrics::register(registry)?;
        for topic in Source::ALL.map(Source::topic) {
            for counter in [&metrics.received, &metrics.applied, &metrics.duplicates] {
                counter.with_label_values(&[topic]);
            }
            for reason in Reason::ALL {
                metrics.rejected.with_label_values(&[topic, reason.code()]);
            }
        }
        OUTPUT_TOPICS.iter().for_each(|topic| drop(metrics.published.with_label_values(&[topic])));
        for cause in ["contended", "refused", "unavailable"] {
            metrics.reruns.with_label_values(&[cause]);
        }
        metrics.progressed();
        Ok(metrics)
    }

    /// Notes how long the parts of a batch's transaction took.
    pub fn time(&self, timings: &Timings) {
        let Timings { look_up, settle, write, commit, round_trips } = timings;
        for (stage, took) in [("look_up", look_up), ("settle", settle), ("write", write), ("commit", commit)]
        {
            self.stage_seconds.with_label_values(&[stage]).observe(took.as_secs_f64());
        }
        self.round_trips.inc_by(u64::from(*round_trips));
    }

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
        self.last_progress.set(clock::now().timestamp_millis() as f64 / 1_000.0);
    }

    /// Since when nothing has moved, in seconds.
    pub fn seconds_since_progress(&self) -> f64 {
        let last = self.last_progress_ms.load(Ordering::Relaxed);
        (self.started.elapsed().as_millis() as u64).saturating_sub(last) as f64 / 1_000.0
    }
}
