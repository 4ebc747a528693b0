//! The metrics of jobs, declared once. Names follow the Prometheus conventions.
//!
//! Gauges show what the tables hold, and so are right whoever executed a run, a person's `jobs trigger` included; counters and
//! the histogram are of this process.

use serde_json::Value;
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
        /// Time from the beginning of a run's execution to its end, of runs that ended in this process.
        run_seconds: HistogramVec = "stocktide_jobs_run_seconds" ["job"] in SECONDS,
        /// Attempts of tasks that failed in this process.
        task_failures: IntCounterVec = "stocktide_jobs_task_failures_total" ["job", "task"],
        /// Runs that this process found in the hands of a worker that was heard of no more.
        takeovers: IntCounter = "stocktide_jobs_takeovers_total" [],
        /// Runs in the table, whoever executed them, by state.
        runs: IntGaugeVec = "stocktide_jobs_runs" ["job", "state"],
        /// When a run last succeeded, whoever executed it, in seconds since 1970; 0: never.
        last_success: IntGaugeVec = "stocktide_jobs_last_success_timestamp_seconds" ["job"],
        /// How long the run took that succeeded last, and the one that failed last, whoever executed it.
        last_seconds: GaugeVec = "stocktide_jobs_last_run_seconds" ["job", "state"],
        /// Business days whose report this process found to be older than some lines of the day, when it last looked.
        stale_days: IntGauge = "stocktide_reports_stale_days" [],
        /// Rows of the run that succeeded last, whoever executed it.
        last_rows: IntGaugeVec = "stocktide_jobs_last_success_rows" ["job"],
        /// The end of the latest business day for which a run succeeded, in seconds since 1970; 0: none did.
        done_until: IntGaugeVec = "stocktide_jobs_done_until_timestamp_seconds" ["job"],
    }
    with {
        /// What the nightly verification said.
        pub reconcile: ReconcileMetrics = ReconcileMetrics::register,
    }
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

    /// Shows what the tables hold: of each scheduled job all states, so that a state without runs reads 0, and of every other
    /// what still waits.
    pub fn show(&self, schedule: &Schedule, standing: &Standing) {
        for entry in schedule.entries() {
            let job = entry.name.as_str();
            for state in RunState::ALL {
                if matches!(state, RunState::Succeeded | RunState::Failed) {
                    // So that the first one is seen as one more than none.
                    self.finished.with_label_values(&[job, state.name()]).inc_by(0);
                }
                let counted = standing.counts.iter().find(|c| c.job == job && c.state == state);
                self.runs
                    .with_label_values(&[job, state.name()])
                    .set(counted.map_or(0, |counted| counted.runs));
                if state == RunState::Succeeded {
                    let last = counted.and_then(|counted| counted.finished_at).map_or(0, |at| at.timestamp());
                    self.last_success.with_label_values(&[job]).set(last);
                    let until = counted.and_then(|counted| counted.done_until).map_or(0, |at| at.timestamp());
                    self.done_until.with_label_values(&[job]).set(until);
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
        for counted in standing.counts.iter().filter(|counted| schedule.get(&counted.job).is_none()) {
            let queued = |other: &&Counted| other.job == counted.job && other.state == RunState::Queued;
            let waiting = standing.counts.iter().find(queued).map_or(0, |counted| counted.runs);
            self.runs.with_label_values(&[counted.job.as_str(), RunState::Queued.name()]).set(waiting);
        }
        if let Some(report) = &standing.reconciled {
            self.reconcile.show_kept(report);
        }
    }
}
