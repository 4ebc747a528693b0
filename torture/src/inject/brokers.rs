//! Brokers, killed, frozen, rolled, and cut off from each other.

use tokio::time::sleep;

use super::{Took, freeze_tree};
use crate::fault::{Fault, Kind};
use crate::proxy::Line;
use crate::world::{BROKERS, World};

pub async fn inject(world: &World, fault: &Fault) -> anyhow::Result<Took> {
    let node = 1 + u16::from(fault.target);
    match fault.kind {
        Kind::KillBroker => {
            world.kafka.lock().await.kill_broker(node).await?;
            sleep(fault.hold).await;
            world.kafka.lock().await.start_broker(node).await?;
        }
        Kind::KillBrokers => {
            let mut kafka = world.kafka.lock().await;
            for node in 1..=BROKERS {
                kafka.kill_broker(node as u16).await?;
            }
            sleep(fault.hold).await;
            kafka.start_brokers().await?;
        }
        Kind::FreezeBroker => {
            let Some(process) = world.kafka.lock().await.broker_process(node) else {
                return Ok(Took::NoPlace("the broker does not run".to_owned()));
            };
            freeze_tree(process.pid, true);
            sleep(fault.hold).await;
            freeze_tree(process.pid, false);
        }
        Kind::RollBrokers => {
            for node in 1..=BROKERS as u16 {
                world.kafka.lock().await.stop_broker(node).await?;
                sleep(fault.hold).await;
                world.kafka.lock().await.start_broker(node).await?;
            }
        }
        Kind::CutReplica => {
            let link = &world.replica_links[usize::from(fault.target) % BROKERS];
            link.set(if fault.dice.is_multiple_of(2) { Line::Cut } else { Line::Stopped });
            sleep(fault.hold).await;
            link.heal(fault.dice & 2 == 0);
        }
        _ => return Ok(Took::NoPlace("not a fault of brokers".to_owned())),
    }
    Ok(Took::Place)
}
