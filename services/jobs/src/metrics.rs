//! The metrics of jobs, declared once. Names follow the Prometheus conventions.

use stocktide_store::jobs::{Counted, Run, RunState};
use stocktide_verify::ReconcileMetrics;

use crate::schedule::Schedule;

/// Buckets for times of fractions of a second to hours.
const SECONDS: &[f64] = &[0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3_600.0, 10_800.0];

stocktide_runtime::metrics! {
    /// One field per metric; the doc comment is its help text.
    pub struct Metrics {
        /// Runs that ended in this process, by how: succeeded or failed.
        finished: IntCounterVec = "stocktide_jobs_runs_finished_total" ["job", "state"],
        /// Time from the beginning of a run's execution to its end.
        run_seconds: HistogramVec = "stocktide_jobs_run_seconds" ["job"] in SECONDS,
        /// Rows that the runs that succeeded in this process made.
        rows: IntCounterVec = "stocktide_jobs_rows_total" ["job"],
        /// Attempts of tasks that failed.
        task_failures: IntCounterVec = "stocktide_jobs_task_failures_total" ["job", "task"],
        /// Runs taken over from a worker that was heard of no more.
        takeovers: IntCounter = "stocktide_jobs_takeovers_total" [],
        /// Runs in the table, whoever executed them, by state.
        runs: IntGaugeVec = "stocktide_jobs_runs" ["job", "state"],
        /// When a run last succeeded, whoever executed it, in seconds since 1970; 0: never.
        last_success: IntGaugeVec = "stocktide_jobs_last_success_timestamp_seconds" ["job"],
        /// The end of the latest business day for which a run succeeded, in seconds since 1970; 0: none did.
        done_until: IntGaugeVec = "stocktide_jobs_done_until_timestamp_seconds" ["job"],
    }
    with {
        /// What the nightly verification said.
        pub reconcile: ReconcileMetrics = ReconcileMetrics::register,
    }
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
                if matches!(state, RunState::Succeeded | RunState::Failed) {
                    // So that the first one is seen as one more than none.
                    self.finished.with_label_values(&[entry.name.as_str(), state.name()]).inc_by(0);
                }
                if state == RunState::Succeeded {
                    let last = counted.and_then(|counted| counted.finished_at).map_or(0, |at| at.timestamp());
                    self.last_success.with_label_values(&[entry.name.as_str()]).set(last);
                    let until = counted.and_then(|counted| counted.done_until).map_or(0, |at| at.timestamp());
                    self.done_until.with_label_values(&[entry.name.as_str()]).set(until);
                }
            }
        }
    }
}
