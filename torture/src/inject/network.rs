//! What lies between the processes: cut, slow, half-open, and broken at a COMMIT.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Took;
use crate::fault::{Fault, Kind};
use crate::proxy::{CutAt, Line, Link};
use crate::reports;
use crate::world::World;

pub async fn inject(world: &World, fault: &Fault) -> Took {
    let target = usize::from(fault.target);
    let database = &world.database_links[target % world.database_links.len()];
    let worker = &world.worker_links[target % world.worker_links.len()];
    let all: Vec<&Arc<Link>> = world.broker_links.iter().flatten().collect();
    let broker = all[target % all.len()];
    match fault.kind {
        Kind::LoseQuestion => return lose(database, CutAt::Question, fault.hold).await,
        Kind::LoseAnswer => return lose(database, CutAt::Answer, fault.hold).await,
        Kind::CutDatabase => hold(&[database], Line::Cut, fault).await,
        Kind::SlowDatabase => hold(&[database], slow(fault), fault).await,
        Kind::StopDatabase => hold(&[database], stopped(fault), fault).await,
        Kind::CutBroker => hold(&[broker], Line::Cut, fault).await,
        Kind::SlowBroker => hold(&[broker], slow(fault), fault).await,
        Kind::StopBroker => hold(&[broker], stopped(fault), fault).await,
        Kind::StopBrokers => {
            let links: Vec<_> = world.broker_links[target % world.broker_links.len()].iter().collect();
            hold(&links, stopped(fault), fault).await;
        }
        Kind::CutJobs | Kind::StopJobs => {
            let at_work = reports::at_work(world, &world.workers[target % world.workers.len()]).await;
            let line = if fault.kind == Kind::CutJobs { Line::Cut } else { stopped(fault) };
            hold(&[worker], line, fault).await;
            return Took::in_hand(at_work);
        }
        Kind::CutProducer => {
            hold(&[&world.producer_links[target % world.producer_links.len()]], Line::Cut, fault).await;
        }
        _ => return Took::NoPlace("not a fault of the network".to_owned()),
    }
    Took::Place
}

fn slow(fault: &Fault) -> Line {
    Line::Slow(Duration::from_millis(u64::from(5 + fault.dice % 200)))
}

fn stopped(fault: &Fault) -> Line {
    [Line::Stopped, Line::Deaf, Line::Dumb][fault.dice as usize % 3]
}

async fn hold(links: &[&Arc<Link>], line: Line, fault: &Fault) {
    for link in links {
        link.set(line);
    }
    sleep(fault.hold).await;
    for link in links {
        link.heal(fault.dice & 8 == 0);
    }
}

/// Waits until a COMMIT has gone by, for at most so long.
async fn lose(link: &Arc<Link>, at: CutAt, longest: Duration) -> Took {
    let (before, deadline) = (link.triggered(), Instant::now() + longest);
    link.arm(at);
    while link.triggered() == before && Instant::now() < deadline {
        sleep(Duration::from_millis(5)).await;
    }
    link.heal(false);
    if link.triggered() > before { Took::Place } else { Took::NoPlace("no COMMIT went by".to_owned()) }
}
