//! An episode: faults while events flow, then peace, then the check.

use std::time::{Duration, Instant};

use anyhow::bail;

use crate::check::{self, Findings};
use crate::fault::Mix;
use crate::history::{Episode, line};
use crate::inject;
use crate::nemesis::{look_after, torment};
use crate::world::{BROKERS, World};
use crate::{reports, workload};

/// How long it may take until the first events of an episode have met their fate.
const BEGIN_PATIENCE: Duration = Duration::from_mins(2);

/// What an episode is to be.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Of its faults.
    pub seed: u64,
    /// Counts from 0 within a run.
    pub number: u32,
    /// How long faults are injected.
    pub length: Duration,
    /// Which faults.
    pub mix: Mix,
    /// How long lag may take to reach zero.
    pub bound: Duration,
    /// What is written into the history as the code.
    pub code: String,
}

/// Plays an episode.
///
/// # Errors
/// The harness itself fails; that the product does is in the answer.
pub async fn play(world: &World, plan: &Plan) -> anyhow::Result<Episode> {
    workload::schedule(&world.schedule, plan.number, &world.database).await?;
    for service in world.services() {
        service.start().await?;
    }
    wait_for_events(world).await?;
    let left_out: Vec<_> = inject::impossible(world).into_iter().map(|(kind, _)| kind).collect();
    let mix = Mix { left_out: left_out.clone(), ..plan.mix.clone() };
    let faults = tokio::select! {
        faults = Box::pin(torment(world, plan.seed, &mix, plan.length)) => faults?,
        // Ends with the faults.
        () = reports::ask_for_more(world) => Vec::new(),
    };
    inject::heal(world).await?;
    for producer in &world.producers {
        producer.end().await;
    }
    let findings: Findings = check::check(world, plan.bound).await?;
    for worker in &world.workers {
        worker.end().await;
    }
    Ok(Episode {
        seed: plan.seed,
        code: plan.code.clone(),
        seconds: plan.length.as_secs_f64(),
        kafka_nodes: BROKERS,
        processors: world.processors.len(),
        weights: plan.mix.weights.clone(),
        left_out,
        findings,
        faults: faults.iter().map(line).collect(),
    })
}

/// Faults before anything flows would find nothing in hand.
async fn wait_for_events(world: &World) -> anyhow::Result<()> {
    let sql = "SELECT coalesce(sum(applied), 0)::bigint FROM partition_progress";
    let (deadline, mut before) = (Instant::now() + BEGIN_PATIENCE, None);
    loop {
        let applied: i64 = sqlx::query_scalar(sql).fetch_one(&world.database).await?;
        if applied > *before.get_or_insert(applied) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            bail!(
                "no event was applied within {} s; the logs are in {}",
                BEGIN_PATIENCE.as_secs(),
                world.dir.display()
            );
        }
        look_after(world).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
