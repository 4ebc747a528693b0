//! Draws faults, does them, and undoes them.

use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::fault::{Fault, Kind, Lane, Mix, Sequence};
use crate::inject::{Took, inject};
use crate::world::World;

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Injected {
    /// When it began, from the beginning of the episode's faults.
    pub at: Duration,
    /// What was done.
    pub kind: Kind,
    /// To whom.
    pub whom: String,
    /// How long it took, the way back included.
    pub lasted: Duration,
    /// Why it came to nothing, if it did: then it does not count.
    pub missed: Option<String>,
}

/// Lets the sequences of all lanes loose for so long, side by side; what has begun is finished. What was done, by the time of
/// its beginning.
///
/// # Errors
/// The harness cannot do what it has to, such as starting a server again.
pub async fn torment(world: &World, seed: u64, mix: &Mix, length: Duration) -> anyhow::Result<Vec<Injected>> {
    let begun = Instant::now();
    let done = Mutex::new(Vec::new());
    let lane = |lane| torment_lane(world, Sequence::new(seed, lane, mix), begun, length, &done);
    let [processors, sources, kafka, postgres, to_postgres, to_kafka] = Lane::ALL.map(lane);
    let over = std::sync::atomic::AtomicBool::new(false);
    let faults = async {
        let result = tokio::try_join!(processors, sources, kafka, postgres, to_postgres, to_kafka);
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        result
    };
    let care = async {
        while !over.load(std::sync::atomic::Ordering::SeqCst) {
            look_after(world).await?;
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(faults, care)?;
    let mut done = done.into_inner();
    done.sort_by_key(|injected| injected.at);
    Ok(done)
}

/// Starts again what ended by itself.
///
/// # Errors
/// It cannot be started.
pub async fn look_after(world: &World) -> anyhow::Result<()> {
    for service in world.services() {
        service.look_after().await?;
    }
    Ok(())
}

async fn torment_lane(
    world: &World,
    sequence: Sequence,
    begun: Instant,
    length: Duration,
    done: &Mutex<Vec<Injected>>,
) -> anyhow::Result<()> {
    for fault in sequence {
        let at = begun.elapsed() + fault.pause;
        if at >= length {
            return Ok(());
        }
        tokio::time::sleep(fault.pause).await;
        // On the heap: it is large, and there are several at a time.
        let (took, whom) = (Box::pin(inject(world, &fault)).await?, whom(world, &fault));
        let lasted = begun.elapsed().saturating_sub(at);
        let missed = match took {
            Took::Place => None,
            Took::NoPlace(why) => Some(why),
        };
        done.lock().await.push(Injected { at, kind: fault.kind, whom, lasted, missed });
    }
    Ok(())
}

/// The name of a fault's target.
fn whom(world: &World, fault: &Fault) -> String {
    let of = |name: &str, count: usize| format!("{name}-{}", usize::from(fault.target) % count.max(1) + 1);
    match fault.kind {
        Kind::KillProcessor | Kind::FreezeProcessor | Kind::Rebalance => {
            of("processor", world.processors.len())
        }
        Kind::ClockJump => format!("processor-{}", crate::world::CLOCKED + 1),
        Kind::KillProcessors => "all processors".to_owned(),
        Kind::KillProducer | Kind::FreezeProducer => of("producer", world.producers.len()),
        Kind::KillJobs | Kind::FreezeJobs => of("jobs", world.workers.len()),
        Kind::CutJobs | Kind::StopJobs => format!("{}/postgres", of("jobs", world.workers.len())),
        Kind::KillBroker | Kind::FreezeBroker | Kind::CutReplica => of("broker", crate::world::BROKERS),
        Kind::TruncateTopic => "kafka".to_owned(),
        Kind::KillBrokers | Kind::RollBrokers => "all brokers".to_owned(),
        Kind::CutBroker | Kind::SlowBroker | Kind::StopBroker => {
            let links: Vec<_> = world.broker_links.iter().flatten().collect();
            links
                .get(usize::from(fault.target) % links.len().max(1))
                .map(|link| link.name.clone())
                .unwrap_or_default()
        }
        Kind::StopBrokers => format!("{}/all brokers", of("processor", world.processors.len())),
        Kind::CutProducer => format!("producers/{}", of("broker", crate::world::BROKERS)),
        Kind::LoseQuestion
        | Kind::LoseAnswer
        | Kind::CutDatabase
        | Kind::SlowDatabase
        | Kind::StopDatabase => {
            format!("{}/postgres", of("processor", world.processors.len()))
        }
        _ => "postgres".to_owned(),
    }
}
