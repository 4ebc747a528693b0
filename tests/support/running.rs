//! Processors that run while a test goes on.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use prometheus::Registry;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use stocktide_processor::{RunOptions, Summary};
use stocktide_runtime::admin::Health;
use stocktide_runtime::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::World;

/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_mins(1);

/// A processor in this process.
pub struct Running {
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<Summary>>,
    registry: Registry,
    pub health: Health,
}

impl Running {
    /// Starts one that runs until it is ended.
    pub fn start(config: &Config) -> Running {
        let (config, shutdown, options) = (config.clone(), CancellationToken::new(), RunOptions::default());
        let (token, registry, health) = (shutdown.clone(), options.registry.clone(), options.health.clone());
        options.announce();
        let task = tokio::spawn(async move { stocktide_processor::run(&config, options, token).await });
        Running { shutdown, task, registry, health }
    }

    /// Waits until it has so many partitions.
    pub async fn owns(&self, partitions: i64) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let families = self.registry.gather();
            // Declared when it has begun to run.
            let family =
                families.iter().find(|family| family.name() == "stocktide_processor_assigned_partitions");
            let owned = family.map(|family| family.get_metric()[0].get_gauge().get_value() as i64);
            if owned == Some(partitions) {
                return;
            }
            assert!(Instant::now() < deadline, "it owns {owned:?} partitions, not {partitions}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What one of its counters counts, over all labels.
    pub fn counter(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric().iter().map(|metric| metric.get_counter().get_value() as u64).sum()
    }

    /// What one of its gauges says, over all labels.
    pub fn gauge(&self, name: &str) -> i64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let metrics = family.into_iter().flat_map(prometheus::proto::MetricFamily::get_metric);
        metrics.map(|metric| metric.get_gauge().get_value() as i64).sum()
    }

    /// Waits until it says that it is not ready, and why.
    pub async fn fails_with(&self, why: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.health.failing().values().any(|reason| reason.contains(why)) {
            assert!(Instant::now() < deadline && !self.task.is_finished(), "{:?}", self.health.failing());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until it says that it is ready.
    pub async fn is_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.health.failing().is_empty() {
            assert!(Instant::now() < deadline && !self.task.is_finished(), "{:?}", self.health.failing());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Ends it in order.
    pub async fn end(self) -> Summary {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap().unwrap()
    }

    /// What it says when it stops by itself.
    pub async fn stopped(self) -> String {
        let stopped = tokio::time::timeout(PATIENCE, self.task).await.expect("it stops").unwrap();
        format!("{:#}", stopped.expect_err("it stops with an error"))
    }
}

impl World {
    /// Starts a processor beside the test.
    pub fn start_processor(&self) -> Running {
        Running::start(&self.config)
    }

    /// What a processor says that is started and must stop by itself.
    pub async fn refusal(&self) -> String {
        self.start_processor().stopped().await
    }

    /// Waits until a query answers true.
    pub async fn until(&self, sql: &'static str) {
        let deadline = Instant::now() + PATIENCE;
        while !sqlx::query_scalar::<_, bool>(sql).fetch_one(&self.database).await.unwrap() {
            assert!(Instant::now() < deadline, "still not: {sql}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until so many records have met their fate.
    pub async fn until_settled(&self, records: i64) {
        let deadline = Instant::now() + PATIENCE;
        let sql = "SELECT coalesce(sum(applied + duplicates + rejected + parked), 0)::bigint FROM partition_progress";
        loop {
            let settled = self.number(sql).await;
            if settled >= records {
                return;
            }
            assert!(Instant::now() < deadline, "{settled} of {records} records are settled");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.database).await.unwrap();
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.stack.kafka_brokers()).create().unwrap()
    }

    /// Deletes a partition's records below an offset.
    pub async fn delete_records(&self, topic: &str, partition: i32, below: i64) {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(topic, partition, Offset::Offset(below)).unwrap();
        let deleted = self.admin().delete_records(&offsets, &AdminOptions::new()).await.unwrap();
        for partition in deleted.elements() {
            partition.error().unwrap();
        }
    }

    /// Asserts that `verify` finds nothing.
    pub async fn verify(&self) {
        let options = stocktide_verify::VerifyOptions::of(&self.config).unwrap();
        let report = stocktide_verify::run(&options).await.unwrap();
        assert!(report.ok, "{}", serde_json::to_string_pretty(&report).unwrap());
    }
}
