//! Processors, producers and job workers, killed, frozen, sent away, and deceived about the time.

use anyhow::Context as _;
use tokio::time::sleep;

use super::Took;
use crate::fault::{Fault, Kind};
use crate::reports;
use crate::service::Service;
use crate::world::World;

/// The farthest that a clock jumps back, and forth, in seconds. A payment that is parked while a clock is ahead waits so much longer,
/// and lag has to reach zero.
const BACK_MAX: u32 = 7_200;
const FORTH_MAX: u32 = 30;

pub async fn inject(world: &World, fault: &Fault) -> anyhow::Result<Took> {
    let one = |of: &[Service]| usize::from(fault.target) % of.len().max(1);
    match fault.kind {
        Kind::KillProcessors => {
            for processor in &world.processors {
                processor.kill().await;
            }
            sleep(fault.hold).await;
            for processor in &world.processors {
                processor.start().await?;
            }
        }
        Kind::KillProcessor => kill(&world.processors[one(&world.processors)], fault).await?,
        Kind::KillProducer => kill(&world.producers[one(&world.producers)], fault).await?,
        Kind::FreezeProcessor => freeze(&world.processors[one(&world.processors)], fault).await,
        Kind::FreezeProducer => freeze(&world.producers[one(&world.producers)], fault).await,
        Kind::KillJobs | Kind::FreezeJobs => {
            let worker = &world.workers[one(&world.workers)];
            let at_work = reports::at_work(world, worker).await;
            match fault.kind {
                Kind::KillJobs => kill(worker, fault).await?,
                _ => freeze(worker, fault).await,
            }
            return Ok(Took::in_hand(at_work));
        }
        Kind::Rebalance => {
            let processor = &world.processors[one(&world.processors)];
            processor.end().await;
            sleep(fault.hold).await;
            processor.start().await?;
        }
        Kind::ClockJump => {
            let by = match fault.dice % 2 {
                0 => i64::from(1 + fault.dice / 2 % FORTH_MAX),
                _ => -i64::from(1 + fault.dice / 2 % BACK_MAX),
            };
            set_clock(world, by)?;
            sleep(fault.hold).await;
            set_clock(world, 0)?;
        }
        _ => return Ok(Took::NoPlace("not a fault of processes".to_owned())),
    }
    Ok(Took::Place)
}

async fn kill(service: &Service, fault: &Fault) -> anyhow::Result<()> {
    service.kill().await;
    sleep(fault.hold).await;
    service.start().await
}

async fn freeze(service: &Service, fault: &Fault) {
    service.freeze(true).await;
    sleep(fault.hold).await;
    service.freeze(false).await;
}

/// Puts the clock of the processor that can be deceived off by so many seconds.
pub fn set_clock(world: &World, by: i64) -> anyhow::Result<()> {
    let Some(file) = &world.clock else { return Ok(()) };
    // Whole or not at all: it is read at any moment.
    let aside = file.with_extension("new");
    std::fs::write(&aside, format!("{by:+}")).context("the clock")?;
    std::fs::rename(aside, file).context("the clock")
}
