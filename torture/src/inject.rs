//! How each fault is done and undone.

mod brokers;
mod network;
mod postgres;
mod processes;

use std::path::Path;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::fault::{Fault, Kind, Lane};
use crate::proxy::Line;
use crate::world::World;

/// Whether a fault took place.
#[derive(Debug, PartialEq, Eq)]
pub enum Took {
    /// It did.
    Place,
    /// It did not, and why.
    NoPlace(String),
}

impl Took {
    /// Of a fault of a job worker, which hits something only where it has a run in hand.
    fn in_hand(at_work: bool) -> Took {
        if at_work { Took::Place } else { Took::NoPlace("the worker had no run in hand".to_owned()) }
    }
}

/// Does a fault, holds it, and undoes it.
///
/// # Errors
/// What the harness has to be able to do failed, such as starting a server again.
pub async fn inject(world: &World, fault: &Fault) -> anyhow::Result<Took> {
    let done = match fault.kind.lane() {
        Lane::Processors | Lane::Sources => processes::inject(world, fault).await,
        Lane::Kafka => brokers::inject(world, fault).await,
        Lane::Postgres => postgres::inject(world, fault).await,
        Lane::WaysToPostgres | Lane::WaysToKafka => Ok(network::inject(world, fault).await),
    };
    done.with_context(|| format!("the fault {}", fault.kind))
}

/// The kinds of faults that this machine cannot do, and why.
pub fn impossible(world: &World) -> Vec<(Kind, &'static str)> {
    let mut left_out = Vec::new();
    if world.disk.is_none() {
        left_out.push((Kind::DiskFull, "mounting a tmpfs is not allowed"));
    }
    if world.clock.is_none() {
        left_out.push((Kind::ClockJump, "libfaketime is not installed"));
    }
    if world.processors.len() <= crate::world::CLOCKED {
        left_out.retain(|(kind, _)| *kind != Kind::ClockJump);
        left_out.push((Kind::ClockJump, "there is no third processor"));
    }
    left_out
}

/// Undoes whatever there is: every server and every process runs, every line is whole.
///
/// # Errors
/// A server or a process cannot be started.
pub async fn heal(world: &World) -> anyhow::Result<()> {
    for link in world.links() {
        link.set(Line::Open);
        link.heal(true);
    }
    processes::set_clock(world, 0)?;
    for service in world.services() {
        service.freeze(false).await;
    }
    world.kafka.lock().await.start_brokers().await?;
    postgres::heal(world).await?;
    for service in world.services() {
        service.start().await?;
    }
    Ok(())
}

/// SIGSTOP or SIGCONT to a process and its children.
fn freeze_tree(pid: i32, freeze: bool) {
    let signal = if freeze { Signal::STOP } else { Signal::CONT };
    let children = std::fs::read_to_string(Path::new("/proc").join(format!("{pid}/task/{pid}/children")));
    let children = children.unwrap_or_default();
    for pid in [pid].into_iter().chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())) {
        // One that has ended meanwhile needs no signal.
        let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
    }
}
