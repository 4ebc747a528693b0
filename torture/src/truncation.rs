//! A topic that lost records which were never read: the processor must say so and stop, and skip nothing.
//!
//! An episode of its own, the last one of an installation: the records are gone on purpose.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{Offset, TopicPartitionList};

use crate::check::{Findings, extents};
use crate::episode::Plan;
use crate::fault::Kind;
use crate::history::Episode;
use crate::world::{BROKERS, World};

/// How long the processor has until it must have stopped.
const PATIENCE: Duration = Duration::from_mins(1);
const TOPIC: &str = "online_orders";
/// What a processor says of records that were deleted before they were read.
const GONE: &str = "were never read: they are gone";

/// Takes away the next records of one partition, and looks what becomes of it.
///
/// # Errors
/// The harness itself fails.
pub async fn play(world: &World, plan: &Plan) -> anyhow::Result<Episode> {
    for processor in &world.processors {
        processor.endings().await;
        // Not ended, so that whoever reads the partition finds its records gone while it reads. What had been asked for before
        // still arrives.
        processor.freeze(true).await;
    }
    let partition = i32::try_from(plan.seed % 4)?;
    let next = position(world, partition).await?;
    let high = backlog(world, partition, next).await?;
    let below = high - 2;
    delete_records(world, partition, below).await?;
    for processor in &world.processors {
        processor.freeze(false).await;
    }

    let mut findings = Findings { records: high - next, checks: 3, checked: 3, ..Findings::default() };
    let mut judge = |said: Option<String>| match said {
        Some(said) if said.contains(&format!("{TOPIC}/{partition}")) && said.contains(GONE) => {}
        Some(said) => findings.problems.push(format!("truncation: it stopped for another reason: {said}")),
        None => findings.problems.push("truncation: a processor went on".to_owned()),
    };
    // Each gets the partition when the one before has ended.
    for processor in &world.processors {
        judge(last_words(processor).await);
    }
    // As often as whatever runs it starts it: none may go on.
    for processor in &world.processors {
        processor.start().await?;
        judge(last_words(processor).await);
        processor.kill().await;
    }
    let now = position(world, partition).await?;
    if now >= below {
        findings
            .problems
            .push(format!("truncation: {TOPIC}-{partition} went from {next} to {now}, past what is gone"));
    }
    Ok(Episode {
        seed: plan.seed,
        code: plan.code.clone(),
        seconds: 0.0,
        kafka_nodes: BROKERS,
        processors: world.processors.len(),
        weights: Vec::new(),
        left_out: Vec::new(),
        findings,
        faults: vec![format!("0.0 {} {TOPIC}-{partition} 0.0", Kind::TruncateTopic)],
    })
}

async fn position(world: &World, partition: i32) -> anyhow::Result<i64> {
    let sql = "SELECT next_offset FROM partition_progress WHERE topic = $1 AND partition = $2";
    let row: Option<i64> =
        sqlx::query_scalar(sql).bind(TOPIC).bind(partition).fetch_optional(&world.database).await?;
    Ok(row.unwrap_or(0))
}

/// Lets producers run until at least twenty records wait; the end of the log.
async fn backlog(world: &World, partition: i32, next: i64) -> anyhow::Result<i64> {
    for producer in &world.producers {
        producer.start().await?;
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, high) =
            extents(world).await?.remove(&(TOPIC.to_owned(), partition)).context("no such partition")?;
        if high >= next + 20 {
            for producer in &world.producers {
                producer.end().await;
            }
            return Ok(high);
        }
        ensure!(Instant::now() < deadline, "the producers send nothing");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn delete_records(world: &World, partition: i32, below: i64) -> anyhow::Result<()> {
    let brokers = world.config.kafka_brokers()?;
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(TOPIC, partition, Offset::Offset(below))?;
    let deleted = admin.delete_records(&offsets, &AdminOptions::new()).await?;
    for element in deleted.elements() {
        if let Err(error) = element.error() {
            bail!("deleting records of {TOPIC}-{partition}: {error}");
        }
    }
    Ok(())
}

/// What a processor says that ends by itself; none while it goes on.
async fn last_words(processor: &crate::service::Service) -> Option<String> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(said) = processor.endings().await.pop() {
            return Some(said);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}
