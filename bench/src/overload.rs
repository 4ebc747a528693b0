//! Too much of everything, on purpose: a backlog, a burst of ten times the usual rate, a storm of requests, a database that is slowed
//! tenfold and then stands still, and a processor and an API whose memory is capped. What has to hold: it slows down, stays within its
//! memory, stays alive, says what is wrong, recovers by itself, and the promises hold at the end.

mod burden;
mod looks;
mod storm;

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use self::burden::{Burden, feed};
use self::looks::{Look, Looks};
use self::storm::Storm;
use crate::world::World;

/// How much of it.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Events that wait at the beginning.
    pub events: u64,
    /// Events a second of a usual day; the burst has ten times as many.
    pub rate: u64,
    /// Seconds of each phase.
    pub seconds: u64,
    /// Connections of the storm.
    pub connections: u32,
    /// What the processor, and the API, may have of memory, in MiB.
    pub memory_mib: u64,
}

/// A phase without a record moving has to be longer than the minute after which a processor calls itself stuck.
const STANDSTILL: Duration = Duration::from_secs(80);
/// How long the way back may take, beside what the backlog needs at the rate of the first phase.
const PATIENCE: Duration = Duration::from_mins(10);

/// A child with a bound on its memory, which does not outlive its owner.
struct Capped(Child);

impl Drop for Capped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a phase came to.
struct Phase {
    name: &'static str,
    seconds: f64,
    settled: f64,
    last: Look,
    ready_share: f64,
    said: String,
    apply_ms: f64,
    storm: storm::Tally,
}

/// Runs the phases, prints them, and fails where something did not hold.
pub async fn measure(wish: Wish) -> anyhow::Result<()> {
    let admin = free_port()?;
    let world = World::start(&[]).await?;
    let begun = Instant::now();
    world.send_backlog(wish.events, 1)?;
    println!("{} events wait; written in {:.0} s", wish.events, begun.elapsed().as_secs_f64());
    let (processor, api, address) = start(&world, wish, &admin)?;
    let mut run = Run {
        world: &world,
        wish,
        looks: Looks::new(admin, processor.0.id(), api.0.id()),
        storm: None,
        phases: Vec::new(),
    };
    run.looks.wait_for_the_first().await?;
    heading();
    run.all(&address).await?;
    let told = run.outcome(processor, api)?;
    world.stop().await?;
    println!("{}", serde_json::to_string(&told)?);
    let broken: Vec<&str> = told["holds"]
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, held)| **held != json!(true))
        .map(|(name, _)| name.as_str())
        .collect();
    ensure!(broken.is_empty(), "did not hold: {}", broken.join(", "));
    Ok(())
}

struct Run<'w> {
    world: &'w World,
    wish: Wish,
    looks: Looks,
    storm: Option<Storm>,
    phases: Vec<Phase>,
}

impl Run<'_> {
    async fn all(&mut self, address: &str) -> anyhow::Result<()> {
        let usual = Duration::from_secs(self.wish.seconds);
        self.phase("a backlog", usual).await?;
        self.storm = Some(Storm::begin(address, self.wish.connections));
        self.phase("… and a storm of requests", usual).await?;
        let burst = feed(self.world, self.wish.rate * 10, usual, 2)?;
        self.phase("… and a burst, ten times", usual).await?;
        let slowed = Burden::slow(self.world, 0.1)?;
        self.phase("… and a tenth of a database", usual).await?;
        drop(slowed);
        let stopped = Burden::slow(self.world, 0.0)?;
        self.phase("… and none at all", STANDSTILL).await?;
        drop(stopped);
        let sent = burst.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
        println!("(the burst: {sent} events)");
        self.phase("the database is back", usual).await?;
        self.storm = None;
        self.recover().await
    }

    /// Lets time pass, looking once a second.
    async fn phase(&mut self, name: &'static str, lasting: Duration) -> anyhow::Result<()> {
        self.until(name, lasting, |_| false).await
    }

    async fn recover(&mut self) -> anyhow::Result<()> {
        let rate = self.phases.first().map_or(1.0, |phase| phase.settled / phase.seconds).max(1.0);
        let left = self.phases.last().map_or(0.0, |phase| phase.last.lag);
        // What is left at half the rate of the beginning.
        let longest = PATIENCE + Duration::from_secs_f64(2.0 * left / rate);
        self.until("nothing but the backlog", longest, |look| look.lag < 1.0 && look.settled > 0.0).await
    }

    async fn until(
        &mut self,
        name: &'static str,
        longest: Duration,
        done: impl Fn(&Look) -> bool,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let before = self.looks.last.clone();
        let from = self.storm.as_ref().map(Storm::tally).unwrap_or_default();
        let (mut looks, mut ready, mut said) = (0_u32, 0_u32, String::new());
        let mut idle = 0;
        while begun.elapsed() < longest && idle < 3 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            self.looks.look().await?;
            let look = &self.looks.last;
            looks += 1;
            ready += u32::from(look.ready);
            if !look.ready && !look.said.is_empty() {
                said.clone_from(&look.said);
            }
            // The lag is looked at every five seconds: one look at zero may be an old one.
            idle = if done(look) { idle + 1 } else { 0 };
        }
        let last = self.looks.last.clone();
        let storm = self.storm.as_ref().map(|storm| storm.tally().since(&from)).unwrap_or_default();
        let applies = last.applies - before.applies;
        let phase = Phase {
            name,
            seconds: begun.elapsed().as_secs_f64(),
            settled: last.settled - before.settled,
            ready_share: f64::from(ready) / f64::from(looks.max(1)),
            said,
            apply_ms: if applies > 0.0 {
                1_000.0 * (last.apply_seconds - before.apply_seconds) / applies
            } else {
                f64::NAN
            },
            storm,
            last,
        };
        print(&phase);
        self.phases.push(phase);
        Ok(())
    }

    /// What held and what did not, with the figures.
    fn outcome(&mut self, mut processor: Capped, mut api: Capped) -> anyhow::Result<Value> {
        let alive = processor.0.try_wait()?.is_none() && api.0.try_wait()?.is_none();
        let cap = self.wish.memory_mib * 1_024;
        let (most_processor, most_api) = (self.looks.most(processor.0.id()), self.looks.most(api.0.id()));
        let last = self.looks.last.clone();
        drop(api);
        // An orderly end, so that verify finds nothing under way.
        terminate(&mut processor.0)?;
        let verified = self.world.product(&["verify", "--json"])?.output()?;
        let report: Value = serde_json::from_slice(&verified.stdout).context("verify")?;
        let [first, slow, still] = ["a backlog", "… and a tenth of a database", "… and none at all"]
            .map(|name| self.phases.iter().find(|phase| phase.name == name));
        let rate = |phase: Option<&Phase>| phase.map_or(0.0, |phase| phase.settled / phase.seconds);
        let caught_up = last.lag < 1.0;
        let holds = json!({
            "it slows down and goes on": rate(slow) > 0.0 && rate(slow) < rate(first),
            "the metrics show the slow database": slow.is_some_and(|s| s.apply_ms > 2.0 * first.map_or(0.0, |f| f.apply_ms)),
            "/ready says that nothing moves": still.is_some_and(|phase| phase.ready_share < 1.0 && !phase.said.is_empty()),
            "it stays within its memory": most_processor <= cap && most_api <= cap,
            "it stays alive": alive,
            "the storm is answered": self.phases.iter().all(|phase| phase.storm.broken * 100 <= phase.storm.total().max(100)),
            "it recovers by itself": caught_up && last.ready,
            "verify finds nothing": report["ok"] == json!(true),
        });
        println!();
        for (what, held) in holds.as_object().into_iter().flatten() {
            println!("{} {what}", if *held == json!(true) { "holds " } else { "BROKEN" });
        }
        println!(
            "memory at most: processor {} MiB, API {} MiB, of {} MiB each",
            most_processor / 1_024,
            most_api / 1_024,
            self.wish.memory_mib
        );
        Ok(json!({
            "events": self.wish.events, "rate": self.wish.rate, "connections": self.wish.connections, "memory_mib": self.wish.memory_mib,
            "processor_peak_kib": most_processor, "api_peak_kib": most_api, "holds": holds, "verify": report,
            "phases": self.phases.iter().map(told).collect::<Vec<_>>(),
        }))
    }
}

fn heading() {
    println!(
        "\n{:<30} {:>5} {:>9} {:>10} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>9}  not ready because",
        "",
        "s",
        "events/s",
        "lag",
        "apply ms",
        "ready",
        "mem MiB",
        "API MiB",
        "req/s",
        "503 etc",
        "slowest s"
    );
}

fn print(phase: &Phase) {
    let (last, storm) = (&phase.last, &phase.storm);
    println!(
        "{:<30} {:>5.0} {:>9.0} {:>10} {:>9.1} {:>5.0}% {:>8} {:>8} {:>8.0} {:>8} {:>9.1}  {}",
        phase.name,
        phase.seconds,
        phase.settled / phase.seconds,
        last.lag,
        phase.apply_ms,
        100.0 * phase.ready_share,
        last.processor_kib / 1_024,
        last.api_kib / 1_024,
        storm.total() as f64 / phase.seconds,
        storm.refused + storm.broken,
        storm.slowest.as_secs_f64(),
        phase.said
    );
}

fn told(phase: &Phase) -> Value {
    let (last, storm) = (&phase.last, &phase.storm);
    json!({
        "phase": phase.name, "seconds": phase.seconds, "settled": phase.settled, "lag": last.lag, "ready_share": phase.ready_share,
        "not_ready_because": phase.said, "apply_ms": phase.apply_ms, "processor_kib": last.processor_kib, "api_kib": last.api_kib,
        "requests": storm.total(), "answered": storm.answered, "refused": storm.refused, "broken": storm.broken,
        "slowest_seconds": storm.slowest.as_secs_f64(),
    })
}

/// The processor and the API, each with a bound on what it may allocate (`RLIMIT_DATA`: beyond it there is no memory to be had).
fn start(world: &World, wish: Wish, admin: &str) -> anyhow::Result<(Capped, Capped, String)> {
    let kibibytes = wish.memory_mib * 1_024;
    let capped = |command: Command| {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -d {kibibytes} && exec \"$0\" \"$@\""));
        shell.arg(command.get_program()).args(command.get_args());
        shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell
    };
    let processor = capped(world.product(&["processor"])?).env("STOCKTIDE_ADMIN_LISTEN", admin).spawn()?;
    let listen = free_port()?;
    let api = capped(world.product(&["api"])?).env("STOCKTIDE_API_LISTEN", &listen).spawn()?;
    Ok((Capped(processor), Capped(api), listen))
}

fn terminate(child: &mut Child) -> anyhow::Result<()> {
    burden::signal(i32::try_from(child.id())?, rustix::process::Signal::TERM);
    let deadline = Instant::now() + Duration::from_mins(1);
    while child.try_wait()?.is_none() {
        ensure!(Instant::now() < deadline, "the processor does not end");
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// An address that nobody listens on.
fn free_port() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
