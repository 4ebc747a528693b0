//! How soon a processor is ready, and what it costs while nothing happens.

use std::io::BufReader;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::meter::{self, Watched, spread};
use crate::scrape;
use crate::world::World;

/// How long it is left alone.
const IDLE: Duration = Duration::from_secs(30);

/// Starts it several times on an installation that has seen work.
pub async fn measure(times: u32) -> anyhow::Result<Value> {
    let world = World::start(&[]).await?;
    world.send_backlog(100_000, 1)?;
    crate::backlog::work_off(&world, 1).await?;
    let mut seconds = Vec::new();
    let mut idle = None;
    for time in 1..=times {
        let begun = Instant::now();
        let (child, address) = start(&world)?;
        scrape::ready(&address, Duration::from_mins(1))?;
        seconds.push(begun.elapsed().as_secs_f64());
        if time == times {
            // What it does at the start is no idling.
            std::thread::sleep(Duration::from_secs(5));
            idle = Some(left_alone(&world, child.id())?);
        }
        end(child)?;
    }
    let [least, median, most] = spread(seconds)?;
    let idle = idle.context("not started")?;
    println!("\nready after {median:.2} s (from {least:.2} to {most:.2}, {times} starts)");
    println!(
        "idle for {} s, in thousandths of one CPU: {}; RSS {:.0} MiB",
        IDLE.as_secs(),
        idle.told,
        idle.rss_mib
    );
    world.verify()?;
    world.stop().await?;
    Ok(json!({ "ready_s": { "median": median, "least": least, "most": most },
               "idle_cpu_permille": idle.permille, "idle_rss_mib": idle.rss_mib }))
}

fn start(world: &World) -> anyhow::Result<(Child, String)> {
    let mut command = world.product(&["processor", "--admin-listen", "127.0.0.1:0"])?;
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let mut log = BufReader::new(child.stderr.take().context("no log")?);
    let address = scrape::admin_address(&mut log)?;
    // The pipe must not fill up.
    std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
    Ok((child, address))
}

/// Asks it to end, and waits.
pub fn end(mut child: Child) -> anyhow::Result<()> {
    let pid = Pid::from_raw(i32::try_from(child.id())?).context("no such process")?;
    kill_process(pid, Signal::TERM)?;
    child.wait()?;
    Ok(())
}

struct Idle {
    permille: Value,
    told: String,
    rss_mib: f64,
}

fn left_alone(world: &World, pid: u32) -> anyhow::Result<Idle> {
    let mut programs = vec![Watched { name: "processor", pid }];
    programs.extend(world.servers());
    let before = meter::cpu(&programs)?;
    std::thread::sleep(IDLE);
    let after = meter::cpu(&programs)?;
    let permille = |at: usize| (after[at] - before[at]) / IDLE.as_secs_f64() * 1_000.0;
    let named: Vec<(&str, f64)> =
        programs.iter().enumerate().map(|(at, program)| (program.name, permille(at))).collect();
    let told: Vec<String> = named.iter().map(|(name, share)| format!("{name} {share:.1}")).collect();
    Ok(Idle {
        permille: named.into_iter().map(|(name, share)| (name.to_owned(), json!(share))).collect(),
        told: told.join(", "),
        rss_mib: meter::mebibytes(pid, "VmRSS").context("the processor has ended")?,
    })
}
