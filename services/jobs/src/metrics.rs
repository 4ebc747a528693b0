//! The metrics of jobs, declared once. Names follow the Prometheus conventions.
//!
//! Gauges show what the tables hold, and so are right whoever executed a run, a person's `jobs trigger` included; counters and
//! the histogram are of this process.

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use serde_json::Value;
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
    (@make GaugeVec, $name:literal, $help:expr, $labels:tt) => { GaugeVec::new(Opts::new($name, $help), &$labels) };
    (@make HistogramVec, $name:literal, $help:expr, $labels:tt) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets(SECONDS.to_vec()), &$labels)
    };
}

const SECONDS: [f64; 12] = [0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0];

metrics! {
    /// Runs that ended in this process, by how: succeeded or failed.
    finished: IntCounterVec = "stocktide_jobs_runs_finished_total" ["job", "state"],
    /// Time from the beginning of a run's execution to its end, of runs that ended in this process.
    run_seconds: HistogramVec = "stocktide_jobs_run_seconds" ["job"],
    /// Attempts of tasks that failed in this process.
    task_failures: IntCounterVec = "stocktide_jobs_task_failures_total" ["job", "task"],
    /// Runs that this process found in the hands of a worker that was heard of no more.
    takeovers: IntCounterVec = "stocktide_jobs_takeovers_total" [],
    /// Runs in the table, whoever executed them, by state.
    runs: IntGaugeVec = "stocktide_jobs_runs" ["job", "state"],
    /// When a run last succeeded, whoever executed it, in seconds since 1970; 0: never.
    last_success: IntGaugeVec = "stocktide_jobs_last_success_timestamp_seconds" ["job"],
    /// How long the run took that succeeded last, and the one that failed last, whoever executed it.
    last_seconds: GaugeVec = "stocktide_jobs_last_run_seconds" ["job", "state"],
    /// Rows of the run that succeeded last, whoever executed it.
    last_rows: IntGaugeVec = "stocktide_jobs_last_success_rows" ["job"],
}

/// What the tables say of jobs, whoever executed them.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Runs by job and state.
    pub counts: Vec<Counted>,
    /// The runs that ended last.
    pub ended: Vec<Run>,
    /// What the nightly verification said last.
    pub reconciled: Option<Value>,
}

impl Metrics {
    /// Counts a run that ended.
    pub fn count(&self, run: &Run) {
        self.finished.with_label_values(&[run.job.as_str(), run.state.name()]).inc();
        if let Some(duration) = run.duration() {
            self.run_seconds.with_label_values(&[run.job.as_str()]).observe(duration.as_secs_f64());
        }
    }

    /// Shows what the tables hold: of each scheduled job all states, so that a state without runs reads 0.
    pub fn show(&self, schedule: &Schedule, standing: &Standing) {
        for entry in schedule.entries() {
            let job = entry.name.as_str();
            for state in RunState::ALL {
                let counted = standing.counts.iter().find(|c| c.job == job && c.state == state);
                self.runs
                    .with_label_values(&[job, state.name()])
                    .set(counted.map_or(0, |counted| counted.runs));
                if state == RunState::Succeeded {
                    let last = counted.and_then(|counted| counted.finished_at).map_or(0, |at| at.timestamp());
                    self.last_success.with_label_values(&[job]).set(last);
                }
            }
            for run in standing.ended.iter().filter(|run| run.job == job) {
                let seconds = run.duration().unwrap_or_default().as_secs_f64();
                self.last_seconds.with_label_values(&[job, run.state.name()]).set(seconds);
                if run.state == RunState::Succeeded {
                    self.last_rows.with_label_values(&[job]).set(run.rows.unwrap_or(0));
                }
            }
        }
        if let Some(report) = &standing.reconciled {
            self.reconcile.show_kept(report);
        }
    }
}
