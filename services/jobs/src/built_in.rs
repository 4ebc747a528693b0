//! The jobs that are built in.

mod daily_report;
mod narrative;
mod reconcile;
mod retention;

pub use daily_report::DailyReport;
pub use reconcile::Reconcile;
pub use retention::Retention;

use crate::rails::Registry;

/// All built-in jobs.
///
/// # Errors
/// When one of their graphs has a flaw, which would be a mistake in the program.
pub fn registry() -> anyhow::Result<Registry> {
    Registry::default()
        .with("daily_report", DailyReport)?
        .with("reconcile", Reconcile)?
        .with("retention", Retention)
}
