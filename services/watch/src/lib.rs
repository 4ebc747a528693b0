//! Looks at an installation from outside: what waits in the input topics, and figures of the database.
//!
//! A processor tells of its own partitions, and says nothing any more when it is dead. This runs beside the jobs and asks the
//! broker and the database itself, a few times a minute however many read the metrics.

mod certificates;
mod figures;
mod inputs;
pub mod metrics;

use std::sync::Arc;
use std::time::Duration;

use sqlx::PgPool;
use stocktide_runtime::{Config, clock};
use tokio_util::sync::CancellationToken;

use crate::certificates::Certificates;
use crate::figures::Figures;
use crate::inputs::Inputs;
pub use crate::metrics::Metrics;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(5);

/// Looks every five seconds until `shutdown`. What cannot be seen is not shown: an old figure would look like a new one.
pub async fn watch(config: Config, pool: PgPool, metrics: Arc<Metrics>, shutdown: CancellationToken) {
    let mut figures = Figures::new(pool.clone(), Arc::clone(&metrics));
    let mut inputs = Inputs::new(&config, Arc::clone(&metrics));
    let mut certificates = Certificates::new(&config, Arc::clone(&metrics));
    let mut doing = Doing::default();
    while !shutdown.is_cancelled() {
        let looked = tokio::select! {
            looked = async {
                let applied = figures.applied().await;
                let read = figures.look(applied.is_ok()).await;
                doing.well("the database's figures", applied.as_ref().err().or(read.as_ref().err()));
                let known = applied.is_ok();
                let seen = inputs.look(applied.ok()).await;
                doing.well("the input topics", seen.as_ref().err());
                let certified = certificates.look().await;
                doing.well("the certificates", certified.as_ref().err());
                known && read.is_ok() && seen.is_ok()
            } => looked,
            () = shutdown.cancelled() => return,
        };
        if looked {
            metrics.last_look.set(clock::now().timestamp_millis() as f64 / 1_000.0);
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Tells of a trouble once, and not at each look.
#[derive(Default)]
struct Doing(std::collections::BTreeSet<&'static str>);

impl Doing {
    fn well(&mut self, what: &'static str, error: Option<&anyhow::Error>) {
        match error {
            Some(error) if self.0.insert(what) => tracing::warn!("{what} cannot be watched: {error:#}"),
            None if self.0.remove(what) => tracing::info!("{what} can be watched again"),
            _ => {}
        }
    }
}
