//! What the API answers at size: each read endpoint under many connections, alone and while a processor works off a backlog at
//! full speed beside it; what that costs the processor; and the plans of what must be quick.

mod endpoints;
mod ledger;
mod wrk;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use self::endpoints::{ENDPOINTS, Endpoint};
use self::wrk::Load;
use crate::world::World;

/// What is measured, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Order lines in the ledger.
    pub lines: u64,
    /// Users who ordered them.
    pub users: u64,
    /// Records in the backlog.
    pub events: u64,
    /// Connections at once.
    pub connections: u32,
    /// For each endpoint.
    pub seconds: u64,
}

/// How long the processor is measured alone, before and after.
const ALONE: Duration = Duration::from_secs(15);

/// Makes the ledger and the backlog, then measures.
pub async fn measure(wish: Wish) -> anyhow::Result<()> {
    let world = World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0")]).await?;
    let pool = PgPoolOptions::new().max_connections(2).connect(&world.stack.database_url()).await?;
    let begun = Instant::now();
    ledger::make(&pool, wish.lines, wish.users).await?;
    println!("{}, made in {:.0} s", ledger::size(&pool).await?, begun.elapsed().as_secs_f64());
    world.send_backlog_of(wish.events, 1, wish.users)?;
    for (name, plan) in ledger::plans(&pool).await? {
        println!("\n{name}\n{plan}");
    }
    let (api, address) = serve(&world)?;
    healthy(&address).await?;
    let bench = Bench { pool, address, wish };
    println!("\nalone");
    bench.all(None).await?;
    let progress = Progress(bench.pool.clone());
    let mut processor = Program(world.product(&["processor"])?.stderr(Stdio::null()).spawn()?);
    progress.moves().await?;
    println!("\nbeside a processor at full speed, alone {:.0} events/s before", progress.rate(ALONE).await?);
    bench.all(Some(&progress)).await?;
    let left = progress.left(wish.events).await?;
    println!(
        "alone {:.0} events/s after; {left} events of the backlog are left",
        progress.rate(ALONE).await?
    );
    ensure!(processor.0.try_wait()?.is_none(), "the processor has ended");
    drop(processor);
    drop(api);
    bench.pool.close().await;
    world.stop().await
}

/// A child that does not outlive its owner.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The API, and where it listens.
fn serve(world: &World) -> anyhow::Result<(Program, String)> {
    let mut api = Program(world.product(&["api"])?.stderr(Stdio::piped()).spawn()?);
    let mut log = BufReader::new(api.0.stderr.take().context("no log")?).lines();
    let address = log.find_map(|line| Some(line.ok()?.split_once("API on http://")?.1.trim().to_owned()));
    // The pipe must not fill up.
    std::thread::spawn(move || log.for_each(drop));
    Ok((api, address.context("the API does not listen")?))
}

/// Waits until every part works: at first nobody has looked yet.
async fn healthy(address: &str) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_mins(1);
    let asked = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    loop {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(asked.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        if answer.starts_with(b"HTTP/1.1 200") {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the API says {}", String::from_utf8_lossy(&answer));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

struct Bench {
    pool: PgPool,
    address: String,
    wish: Wish,
}

impl Bench {
    /// Each endpoint in turn; with `progress` the processor's rate meanwhile.
    async fn all(&self, progress: Option<&Progress>) -> anyhow::Result<()> {
        let Wish { connections, .. } = self.wish;
        println!(
            "{:<34} {:>10} {:>9} {:>9} {:>7} {:>9} {:>9}  at {connections} connections; p99 of 1",
            "", "requests/s", "p50 ms", "p99 ms", "failed", "p99 of 1", "events/s"
        );
        for endpoint in ENDPOINTS {
            let before = match progress {
                Some(progress) => Some((progress.settled().await?, Instant::now())),
                None => None,
            };
            let many = self.load(endpoint, connections).await?;
            let rate = match (progress, before) {
                (Some(progress), Some((settled, at))) => {
                    let rate = (progress.settled().await? - settled) as f64 / at.elapsed().as_secs_f64();
                    format!("{rate:.0}")
                }
                _ => "-".to_owned(),
            };
            let one = self.load(endpoint, 1).await?;
            println!(
                "{:<34} {:>10.0} {:>9.2} {:>9.2} {:>7} {:>9.2} {rate:>9}",
                endpoint.name, many.per_second, many.p50_ms, many.p99_ms, many.failed, one.p99_ms
            );
        }
        Ok(())
    }

    async fn load(&self, endpoint: &Endpoint, connections: u32) -> anyhow::Result<wrk::Answered> {
        let paths = endpoint.paths(self.wish.lines / ledger::LINES, self.wish.users);
        let load = Load { address: self.address.clone(), paths, connections, seconds: self.wish.seconds };
        let name = endpoint.name;
        tokio::task::spawn_blocking(move || load.run()).await?.with_context(|| name.to_owned())
    }
}

/// How far the processor is.
struct Progress(PgPool);

impl Progress {
    async fn settled(&self) -> anyhow::Result<i64> {
        let sql = "SELECT coalesce(sum(applied + duplicates + rejected + parked), 0)::bigint FROM partition_progress";
        Ok(sqlx::query_scalar(sql).fetch_one(&self.0).await?)
    }

    async fn moves(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while self.settled().await? == 0 {
            ensure!(Instant::now() < deadline, "the processor does not begin");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    async fn rate(&self, over: Duration) -> anyhow::Result<f64> {
        let (before, at) = (self.settled().await?, Instant::now());
        tokio::time::sleep(over).await;
        Ok((self.settled().await? - before) as f64 / at.elapsed().as_secs_f64())
    }

    async fn left(&self, events: u64) -> anyhow::Result<i64> {
        Ok(i64::try_from(events)? - self.settled().await?)
    }
}
