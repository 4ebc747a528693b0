//! Recomputes every promise from raw data, sharing no code with the processor.
//!
//! The raw data are the input topics, `inventory_updates` and `dlq` as a read_committed reader sees them, and the tables of
//! the database, all from one snapshot. [`database`] and [`topics`] read them; [`facts`] and [`record`] are what they
//! become; [`checks`] compare, and know neither Kafka nor PostgreSQL. A running processor does not disturb: what it does
//! after the snapshot carries offsets beyond those of the snapshot, and is left out.

mod amount;
mod checks;
mod database;
mod defects;
mod digest;
mod event;
mod facts;
mod movements;
mod names;
#[doc(hidden)]
pub mod outside;
pub mod reconcile;
mod record;
mod report;
mod settle;
mod topics;
mod verification;

#[cfg(test)]
mod negative_controls;
#[cfg(test)]
mod world;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use rdkafka::ClientConfig;
use stocktide_runtime::Config;

pub use reconcile::{ReconcileMetrics, reconcile};
pub use report::{Check, EXAMPLES, Report};

/// How long [`run`] waits for what is under way, unless told otherwise.
pub const WAIT: Duration = Duration::from_mins(1);

/// Told at the start of each step what is being done.
pub type OnStep = Arc<dyn Fn(&str) + Send + Sync>;

/// What to verify, and how.
#[derive(Clone)]
pub struct VerifyOptions {
    /// Where the database is: a libpq URI.
    pub database_url: String,
    /// The way to Kafka.
    pub kafka: ClientConfig,
    /// The processor's consumer group.
    pub group: String,
    /// How long to wait until what is applied is published and readable.
    pub wait: Duration,
    /// Whether the catalogue is known to be what it was at the first event: then a reject for a name that it has was wrong.
    pub catalogue_is_unchanged: bool,
    /// Told at the start of each step.
    pub on_step: OnStep,
}

impl fmt::Debug for VerifyOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL and the client's properties may hold passwords.
        f.debug_struct("VerifyOptions")
            .field("group", &self.group)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

impl VerifyOptions {
    /// Of a configured installation, with [`WAIT`] and nobody to tell the steps.
    ///
    /// # Errors
    /// The configuration does not say where the database or Kafka is.
    pub fn of(config: &Config) -> anyhow::Result<VerifyOptions> {
        config.kafka_brokers()?;
        Ok(VerifyOptions {
            database_url: config.database_url()?,
            kafka: stocktide_runtime::kafka::client_config(config),
            group: config.kafka.group.clone(),
            wait: WAIT,
            catalogue_is_unchanged: false,
            on_step: Arc::new(|_| {}),
        })
    }
}

/// Verifies an installation.
///
/// # Errors
/// PostgreSQL or Kafka cannot be read. That a promise does not hold is no error: the report says so.
pub async fn run(options: &VerifyOptions) -> anyhow::Result<Report> {
    let (options, runtime) = (options.clone(), tokio::runtime::Handle::current());
    // Reading Kafka blocks, and the comparison is work for a processor core: a thread of its own for both.
    let verification = move || verification::verify(&options, &runtime);
    tokio::task::spawn_blocking(verification).await.context("the verification broke off")?
}
