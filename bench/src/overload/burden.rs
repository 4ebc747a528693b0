//! What is put on the system: a database that runs a part of the time only, and events beyond the usual.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rdkafka::producer::Producer as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::world::{World, send};

/// Of this much time a slowed database gets its share.
const TURN: Duration = Duration::from_millis(100);

/// A database that is stopped most of the time; dropped, it runs again.
pub struct Burden {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Burden {
    /// All processes of PostgreSQL run for `share` of the time, which is what a machine that is that much too slow gives them.
    pub fn slow(world: &World, share: f64) -> anyhow::Result<Burden> {
        let pids = world.stack.processes().into_iter().map(|process| process.pid);
        let postmaster = pids.into_iter().find(|pid| name_of(*pid).as_deref() == Some("postgres"));
        let postmaster = postmaster.context("PostgreSQL is not among the stack's processes")?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::SeqCst) {
                // Backends come and go.
                let all = family(postmaster);
                all.iter().for_each(|pid| signal(*pid, Signal::STOP));
                std::thread::sleep(TURN.mul_f64(1.0 - share));
                if share > 0.0 {
                    all.iter().for_each(|pid| signal(*pid, Signal::CONT));
                    std::thread::sleep(TURN.mul_f64(share));
                }
            }
            family(postmaster).iter().for_each(|pid| signal(*pid, Signal::CONT));
        });
        Ok(Burden { over, thread: Some(thread) })
    }
}

impl Drop for Burden {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // Without it the database would stand still for ever, and every wait for it would say so.
            let _ = thread.join();
        }
    }
}

/// Sends a signal; one that has ended needs none.
pub fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

fn name_of(pid: i32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned())
}

/// A process and its children.
fn family(parent: i32) -> Vec<i32> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).chain([parent]).collect()
}

/// Sends events at a rate, whatever happens; how many.
pub fn feed(
    world: &World,
    rate: u64,
    lasting: Duration,
    seed: u64,
) -> anyhow::Result<JoinHandle<anyhow::Result<u64>>> {
    let producer = world.producer(20)?;
    let events = World::simulate(None, seed)?;
    Ok(std::thread::spawn(move || {
        let (begun, mut sent) = (Instant::now(), 0);
        for event in events {
            let when = Duration::from_secs_f64(sent as f64 / rate as f64);
            if when > lasting {
                break;
            }
            if let Some(left) = when.checked_sub(begun.elapsed()) {
                std::thread::sleep(left);
                producer.poll(Duration::ZERO);
            }
            send(&producer, &event)?;
            sent += 1;
        }
        producer.flush(Duration::from_mins(2))?;
        Ok(sent)
    }))
}
