//! What scheduler, worker and foreground commands share.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, Executor as _, PgConnection, PgPool};
use stocktide_runtime::Config;
use stocktide_runtime::admin::Health;
use stocktide_runtime::secret::mask_url;
use stocktide_store::jobs;
use uuid::Uuid;

use crate::graph;
use crate::job::Job;
use crate::metrics::Metrics;
use crate::schedule::Schedule;

/// The built-in jobs by name.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn Job>>);

impl Registry {
    /// With one job more.
    ///
    /// # Errors
    /// When its graph has a flaw.
    pub fn with(mut self, name: &'static str, job: impl Job + 'static) -> anyhow::Result<Registry> {
        if let Some(flaw) = graph::flaw(job.tasks()) {
            anyhow::bail!("job {name}: {flaw}");
        }
        self.0.insert(name, Arc::new(job));
        Ok(self)
    }

    /// The job of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<dyn Job>> {
        self.0.get(name)
    }

    /// All names.
    pub fn names(&self) -> Vec<&'static str> {
        self.0.keys().copied().collect()
    }
}

/// The configured timezone of business days is not the one that the installation was set up with.
#[derive(Debug, thiserror::Error)]
#[error(
    "business.timezone is {configured}, but this installation was set up with {fixed}: it cannot be changed"
)]
pub struct OtherTimezone {
    configured: &'static str,
    fixed: String,
}

/// What scheduler, worker and foreground commands share.
pub struct Rails {
    /// The database.
    pub pool: PgPool,
    /// The configuration.
    pub config: Arc<Config>,
    /// What is due when.
    pub schedule: Schedule,
    /// How it is done.
    pub registry: Registry,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where readiness is told.
    pub health: Health,
    /// This process's own name: unique per start, since a name that a killed process had keeps its work locked.
    pub process: String,
}

impl Rails {
    /// Loads the schedule and connects.
    ///
    /// # Errors
    /// When the schedule is refused, or the database is away or has not been migrated.
    pub async fn open(
        config: &Config,
        registry: Registry,
        metrics: &prometheus::Registry,
        health: Health,
    ) -> anyhow::Result<Rails> {
        let (business, file) = (config.business.timezone, config.jobs.file.as_deref());
        let schedule = Schedule::load(file, business, &registry.names())?;
        let url = config.database_url()?;
        let at = || format!("PostgreSQL at {}", mask_url(&url));
        // A pool goes on trying for its whole time-out when nobody listens; whoever waits wants to know at once.
        PgConnection::connect(&url).await.with_context(at)?.close().await.with_context(at)?;
        let pool = pool(&url, 10).await.with_context(at)?;
        ensure!(jobs::is_prepared(&pool).await.with_context(at)?, "{}: run `stocktide migrate` first", at());
        // Days of another wall would be other runs, and other reports under the same dates.
        let fixed = jobs::timezone(&pool).await.with_context(at)?;
        if let Some(fixed) = fixed.filter(|fixed| fixed != business.name()) {
            return Err(OtherTimezone { configured: business.name(), fixed }.into());
        }
        Ok(Rails {
            pool,
            config: Arc::new(config.clone()),
            schedule,
            registry,
            metrics: Arc::new(Metrics::register(metrics)?),
            health,
            process: format!("{}-{}", std::process::id(), Uuid::now_v7().simple()),
        })
    }
}

/// A pool whose connections are clean when they come back. A task that is aborted may drop a transaction that the pool does
/// not know to be open yet (sqlx 4385), and the next one to get the connection would work inside it.
pub(crate) async fn pool(url: &str, connections: u32) -> Result<PgPool, sqlx::Error> {
    // That there is no transaction to roll back is no news.
    let options = PgConnectOptions::from_str(url)?.options([
        ("client_min_messages", "error"),
        // What a killed worker was waiting for ends with it, and does not lock its run or read on for nobody.
        ("client_connection_check_interval", "1s"),
    ]);
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(Duration::from_secs(15))
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.execute("ROLLBACK").await?;
                Ok(true)
            })
        })
        .connect_with(options)
        .await
}
