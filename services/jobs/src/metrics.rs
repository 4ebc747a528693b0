//! The metrics of jobs, declared once. Names follow the Prometheus conventions.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use stocktide_store::jobs::{Counted, Run, RunState};
use stocktide_verify::ReconcileMetrics;

use crate::schedule::Schedule;

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $kind:ident = $name:literal $labels:tt,)*) => {
        /// One field per metric; the doc comment is its help text.
        pub struct Metrics {
            $($(#[doc = $help])+ pub $field: $kind,)*
            /// What the nightly verification said.
            pub reconcile: ReconcileMetrics,
        }

        impl Metrics {
            /// Declares every metric in a registry.
            ///
            /// # Errors
            /// When a name is taken.
            pub fn register(registry: &Registry) -> prometheus::Result<Metrics> {
                $(let $field = metrics!(@make $kind, $name, concat!($($help),+).trim(), $labels)?;
                  registry.register(Box::new($field.clone()))?;)*
                Ok(Metrics { $($field,)* reconcile: ReconcileMetrics::register(registry)? })
            }
        }
    };
    (@make IntCounterVec, $name:literal, $help:expr, $labels:tt) => { IntCounterVec::new(Opts::new($name, $help), &$labels) };
    (@make IntGaugeVec, $name:literal, $help:expr, $labels:tt) => { IntGaugeVec::new(Opts::new($name, $help), &$labels) };
    (@make HistogramVec, $name:literal, $help:expr, $labels:tt) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()), &$labels)
    };
}

const SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0];

metrics! {
    /// Runs that ended in this process, by how: succeeded or failed.
    finished: IntCounterVec = "stocktide_jobs_runs_finished_total" ["job", "state"],
    /// Time from the beginning of a run's execution to its end.
    run_seconds: HistogramVec = "stocktide_jobs_run_seconds" ["job"],
    /// Rows that the runs that succeeded in this process made.
    rows: IntCounterVec = "stocktide_jobs_rows_total" ["job"],
    /// Attempts of tasks that failed.
    task_failures: IntCounterVec = "stocktide_jobs_task_failures_total" ["job", "task"],
    /// Runs taken over from a worker that was heard of no more.
    takeovers: IntCounterVec = "stocktide_jobs_takeovers_total" [],
    /// Runs in the table, whoever executed them, by state.
    runs: IntGaugeVec = "stocktide_jobs_runs" ["job", "state"],
    /// When a run last succeeded, whoever executed it, in seconds since 1970; 0: never.
    last_success: IntGaugeVec = "stocktide_jobs_last_success_timestamp_seconds" ["job"],
}

impl Metrics {
    /// Counts a run that ended.
    pub fn count(&self, run: &Run) {
        self.finished.with_label_values(&[run.job.as_str(), run.state.name()]).inc();
        if let Some(duration) = run.duration() {
            self.run_seconds.with_label_values(&[run.job.as_str()]).observe(duration.as_secs_f64());
        }
        if run.state == RunState::Succeeded {
            let rows = run.rows.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0);
            self.rows.with_label_values(&[run.job.as_str()]).inc_by(rows);
        }
    }

    /// Shows what the table of runs holds: of each scheduled job all states, so that a state without runs reads 0.
    pub fn show(&self, schedule: &Schedule, counts: &[Counted]) {
        for entry in schedule.entries() {
            for state in RunState::ALL {
                let counted = counts.iter().find(|c| c.job == entry.name && c.state == state);
                let runs = counted.map_or(0, |counted| counted.runs);
                self.runs.with_label_values(&[entry.name.as_str(), state.name()]).set(runs);
                if state == RunState::Succeeded {
                    let last = counted.and_then(|counted| counted.finished_at).map_or(0, |at| at.timestamp());
                    self.last_success.with_label_values(&[entry.name.as_str()]).set(last);
                }
            }
        }
    }
}
