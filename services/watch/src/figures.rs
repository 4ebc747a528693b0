//! Figures of the database.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use stocktide_runtime::clock;
use stocktide_runtime::kafka::INPUT_TOPICS;
use stocktide_store::figures::{self, Applied, OpenRejects, StockRows};

use crate::metrics::Metrics;

/// The dearer figures are read this often at most.
const EVERY: Duration = Duration::from_secs(15);
/// And so seldom that reading them takes no more than this part of the time.
const SHARE: u32 = 100;
/// After they could not be read they are asked for again after this, and not at once: they may have cost ten seconds.
const AGAIN: Duration = Duration::from_mins(1);
/// Statuses of stock rows.
const STATUSES: [&str; 4] = ["in_stock", "low", "out", "oversold"];

/// Reads the figures of one database.
pub struct Figures {
    pool: PgPool,
    metrics: Arc<Metrics>,
    due: Option<Instant>,
    /// Why they could not be read when they were asked for last.
    failed: Option<String>,
}

impl Figures {
    pub fn new(pool: PgPool, metrics: Arc<Metrics>) -> Figures {
        Figures { pool, metrics, due: None, failed: None }
    }

    /// How far each partition has been applied.
    pub async fn applied(&self) -> anyhow::Result<Vec<Applied>> {
        let asked = Instant::now();
        drop(self.pool.acquire().await?);
        self.metrics.pool_wait.observe(asked.elapsed().as_secs_f64());
        let idle = self.pool.num_idle() as i64;
        self.metrics.pool.with_label_values(&["idle"]).set(idle);
        self.metrics.pool.with_label_values(&["in_use"]).set(i64::from(self.pool.size()) - idle);
        Ok(figures::applied(&self.pool).await?)
    }

    /// Shows what there is, where the database `is_there`; nothing of it where one part cannot be read.
    pub async fn look(&mut self, is_there: bool) -> anyhow::Result<()> {
        if !is_there {
            self.forget();
            self.metrics.pool.reset();
            (self.due, self.failed) = (None, None);
            return Ok(());
        }
        if self.due.is_none_or(|due| Instant::now() >= due) {
            match self.read().await {
                Ok(took) => (self.due, self.failed) = (Some(Instant::now() + EVERY.max(took * SHARE)), None),
                Err(error) => {
                    self.forget();
                    (self.due, self.failed) = (Some(Instant::now() + AGAIN), Some(error.to_string()));
                }
            }
        }
        // Between two attempts nobody has seen anything either.
        self.failed.as_ref().map_or(Ok(()), |reason| Err(anyhow::anyhow!("{reason}")))
    }

    async fn read(&mut self) -> Result<Duration, sqlx::Error> {
        let mut connection = self.pool.acquire().await?;
        let begun = Instant::now();
        let rows = figures::stock_rows(&mut connection).await?;
        let rejects = figures::open_rejects(&mut connection, clock::now()).await?;
        self.show(&rows, &rejects);
        let took = begun.elapsed();
        self.metrics.figures_seconds.set(took.as_secs_f64());
        Ok(took)
    }

    fn show(&self, rows: &[StockRows], rejects: &[OpenRejects]) {
        for status in STATUSES {
            let of = rows.iter().find(|rows| rows.status == status);
            self.metrics.stock_rows.with_label_values(&[status]).set(of.map_or(0, |of| of.rows));
            self.metrics.stock_units.with_label_values(&[status]).set(of.map_or(0, |of| of.units));
        }
        for topic in INPUT_TOPICS {
            let of = rejects.iter().find(|rejects| rejects.topic == topic);
            self.metrics.dlq_open.with_label_values(&[topic]).set(of.map_or(0, |of| of.records));
            let oldest = of.map_or(0.0, |of| of.oldest.timestamp_millis() as f64 / 1_000.0);
            self.metrics.dlq_oldest.with_label_values(&[topic]).set(oldest);
        }
    }

    /// What cannot be read is not shown.
    fn forget(&mut self) {
        self.metrics.stock_rows.reset();
        self.metrics.stock_units.reset();
        self.metrics.dlq_open.reset();
        self.metrics.dlq_oldest.reset();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use prometheus::Registry;
    use prometheus::core::Collector as _;
    use stocktide_devstack::{Stack, StackOptions};
    use stocktide_store::migrate;

    use super::*;

    #[tokio::test]
    async fn figures_that_cannot_be_read_are_not_shown_and_that_is_an_error_until_they_can() {
        let stack = Stack::start(StackOptions { kafka: false, ..StackOptions::default() }).await.unwrap();
        migrate::run(&stack.database_url(), "GBP", "UTC").await.unwrap();
        let pool = PgPool::connect(&stack.database_url()).await.unwrap();
        let metrics = Arc::new(Metrics::register(&Registry::new()).unwrap());
        let mut figures = Figures::new(pool.clone(), Arc::clone(&metrics));
        let is_shown = || metrics.stock_rows.collect().iter().any(|family| !family.get_metric().is_empty());
        figures.look(true).await.unwrap();
        assert!(is_shown());

        let mut holding = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE inventory IN ACCESS EXCLUSIVE MODE").execute(&mut *holding).await.unwrap();
        figures.due = None;
        assert!(figures.look(true).await.unwrap_err().to_string().contains("timeout"));
        assert!(!is_shown());
        // What is cheap is read all the same, and nobody waits for the dear part a second time at once.
        figures.applied().await.unwrap();
        let asked = Instant::now();
        figures.look(true).await.unwrap_err();
        assert!(asked.elapsed() < Duration::from_secs(5));

        holding.rollback().await.unwrap();
        figures.due = Some(Instant::now());
        figures.look(true).await.unwrap();
        assert!(is_shown());
        figures.look(false).await.unwrap();
        assert!(!is_shown());
        pool.close().await;
        stack.stop().await.unwrap();
    }
}
