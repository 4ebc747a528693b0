//! The jobs that are built in.

mod daily_report;
mod narrative;
mod reconcile;
mod retention;

use crate::job::OneTask;
use crate::rails::Registry;

pub use daily_report::DailyReport;

/// The name of the job whose answer is shown as metrics, and of its task.
pub(crate) const RECONCILE: &str = "reconcile";
pub(crate) const VERIFY: &str = "verify";

/// All built-in jobs.
///
/// # Errors
/// When one of their graphs has a flaw, which would be a mistake in the program.
pub fn registry() -> anyhow::Result<Registry> {
    Registry::default()
        .with("daily_report", DailyReport)?
        .with(RECONCILE, OneTask::new(VERIFY, |context| Box::pin(reconcile::verify(context))))?
        .with("retention", OneTask::new("event_log", |context| Box::pin(retention::event_log(context))))
}
