//! What must hold when the faults are over.
//!
//! Lag reaches zero within a bound; `stocktide_verify` recomputes every promise from the input topics; and what it does not look
//! at is looked at here: that the brokers' own offsets add up to the fates, that nobody stopped by himself, that only rows which
//! the database refused were rejected for it, and that each day has one report whose files are whole.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde::{Deserialize, Serialize};
use stocktide_runtime::kafka::{INPUT_TOPICS, PAYMENTS};
use stocktide_verify::VerifyOptions;

use crate::nemesis::look_after;
use crate::world::World;
use crate::{reports, stopped};

/// How long it may take, when the faults are over, until everything that was sent has met its fate and is published.
pub const LAG_BOUND: Duration = Duration::from_mins(3);

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    /// What is not as it should be; nothing, where all is well.
    pub problems: Vec<String>,
    /// Records in the input topics.
    pub records: i64,
    /// What became of them; rejects by reason.
    pub fates: BTreeMap<String, i64>,
    /// Daily reports, all revisions.
    pub reports: i64,
    /// How long lag took to reach zero, in seconds.
    pub drained_after: f64,
    /// How many checks there were, and on how many things.
    pub checks: usize,
    /// See `checks`.
    pub checked: u64,
}

/// Waits for lag to reach zero, and checks everything.
///
/// # Errors
/// The harness itself cannot read what it has to look at.
pub async fn check(world: &World, bound: Duration) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let begun = Instant::now();
    if let Err(lag) = drain(world, bound).await {
        findings.problems.push(format!("lag: after {} s {lag}", bound.as_secs()));
    }
    findings.drained_after = (begun.elapsed().as_secs_f64() * 10.0).round() / 10.0;
    findings.problems.extend(stopped::unasked(world).await);
    // Where lag stays there is no use in waiting again.
    let wait = if findings.problems.is_empty() { Duration::from_mins(1) } else { Duration::from_secs(12) };
    // The catalogue is loaded before the first event.
    let options = VerifyOptions { wait, catalogue_is_unchanged: true, ..VerifyOptions::of(&world.config)? };
    let report = verify(&options, begun + bound + bound).await?;
    for check in report.checks.iter().filter(|check| check.differing > 0) {
        let first = check.examples.first().map_or("", String::as_str);
        findings
            .problems
            .push(format!("{}: {} of {} differ: {first}", check.name, check.differing, check.checked));
    }
    findings.checks = report.checks.len();
    findings.checked = report.checks.iter().map(|check| check.checked).sum();
    count(world, &mut findings).await?;
    findings.problems.extend(refused_in_vain(world).await?);
    let reports = reports::check(world, bound).await?;
    findings.reports = reports.revisions;
    findings.problems.extend(reports.problems);
    Ok(findings)
}

/// A broker that does not answer yet is no finding: it is asked again.
async fn verify(options: &VerifyOptions, deadline: Instant) -> anyhow::Result<stocktide_verify::Report> {
    loop {
        match stocktide_verify::run(options).await {
            Err(_) if Instant::now() < deadline => tokio::time::sleep(Duration::from_secs(1)).await,
            done => return done.context("verify"),
        }
    }
}

/// Waits until every record in the input topics has met its fate; else says what is left.
async fn drain(world: &World, bound: Duration) -> Result<(), String> {
    let deadline = Instant::now() + bound;
    loop {
        let left = left(world).await;
        match left {
            Ok(left) if left.is_empty() => return Ok(()),
            Ok(left) if Instant::now() >= deadline => return Err(left.join(", ")),
            Err(error) if Instant::now() >= deadline => return Err(format!("{error:#}")),
            _ => {}
        }
        look_after(world).await.map_err(|error| format!("{error:#}"))?;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What has not met its fate yet, partition by partition.
async fn left(world: &World) -> anyhow::Result<Vec<String>> {
    let ends = extents(world).await?;
    let sql = "SELECT topic, partition, next_offset, parked FROM partition_progress";
    let rows: Vec<(String, i32, i64, i64)> = sqlx::query_as(sql).fetch_all(&world.database).await?;
    let progress: BTreeMap<_, _> = rows
        .into_iter()
        .map(|(topic, partition, next, parked)| ((topic, partition), (next, parked)))
        .collect();
    let mut left = Vec::new();
    for ((topic, partition), (_, high)) in ends {
        let (next, parked) = progress.get(&(topic.clone(), partition)).copied().unwrap_or((0, 0));
        if next != high || parked > 0 {
            left.push(format!("{topic}-{partition} is at {next} of {high}, {parked} wait"));
        }
    }
    Ok(left)
}

/// First offset and end of every input partition, as the brokers have them.
pub(crate) async fn extents(world: &World) -> anyhow::Result<BTreeMap<(String, i32), (i64, i64)>> {
    const REQUEST: Duration = Duration::from_secs(10);
    let client = stocktide_runtime::kafka::client_config(&world.config);
    let read = move || {
        let consumer: BaseConsumer = client.create()?;
        let mut extents = BTreeMap::new();
        for topic in INPUT_TOPICS.into_iter().chain([PAYMENTS]) {
            let metadata = consumer.fetch_metadata(Some(topic), REQUEST)?;
            for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
                let extent = consumer.fetch_watermarks(topic, partition.id(), REQUEST)?;
                extents.insert((topic.to_owned(), partition.id()), extent);
            }
        }
        anyhow::Ok(extents)
    };
    tokio::task::spawn_blocking(read).await?
}

/// The sum of fates is the number of records that the brokers have.
async fn count(world: &World, findings: &mut Findings) -> anyhow::Result<()> {
    findings.records = extents(world).await?.values().map(|(low, high)| high - low).sum();
    let sql = "SELECT coalesce(sum(applied), 0)::bigint, coalesce(sum(duplicates), 0)::bigint,
            coalesce(sum(rejected), 0)::bigint, coalesce(sum(parked), 0)::bigint FROM partition_progress";
    let (applied, duplicates, rejected, parked): (i64, i64, i64, i64) =
        sqlx::query_as(sql).fetch_one(&world.database).await?;
    let sum = applied + duplicates + rejected + parked;
    if sum != findings.records {
        findings.problems.push(format!("sums: {sum} fates of {} records", findings.records));
    }
    findings.fates =
        [("applied", applied), ("duplicates", duplicates)].map(|(fate, n)| (fate.to_owned(), n)).into();
    let sql = "SELECT reason, count(*) FROM events_log WHERE status = 'rejected' GROUP BY reason";
    let reasons: Vec<(String, i64)> = sqlx::query_as(sql).fetch_all(&world.database).await?;
    findings.fates.extend(reasons);
    Ok(())
}

/// Records that were rejected as refused by the database, though nothing refuses them: a fault of others became theirs.
async fn refused_in_vain(world: &World) -> anyhow::Result<Vec<String>> {
    let sql = "SELECT to_regproc('torture_refuses') IS NOT NULL";
    let poisoned: bool = sqlx::query_scalar(sql).fetch_one(&world.database).await?;
    // Without the function nothing was ever refused on purpose.
    let sql = if poisoned {
        "SELECT topic || '-' || partition || '/' || \"offset\" || ': ' || coalesce(detail, '') FROM events_log
         WHERE reason = 'refused_by_database' AND (event_id IS NULL OR NOT torture_refuses(event_id)) LIMIT 5"
    } else {
        "SELECT topic || '-' || partition || '/' || \"offset\" || ': ' || coalesce(detail, '') FROM events_log
         WHERE reason = 'refused_by_database' LIMIT 5"
    };
    let found: Vec<String> = sqlx::query_scalar(sql).fetch_all(&world.database).await?;
    Ok(found.into_iter().map(|record| format!("poison: a sound record was refused: {record}")).collect())
}
