//! A backlog is worked off while events go on arriving.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use rdkafka::producer::Producer as _;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::world::{World, send};

/// What is measured.
#[derive(Debug, Clone, Copy)]
pub struct Wish {
    /// Events that wait at first.
    pub behind: u64,
    /// Events per second that arrive meanwhile.
    pub rate: u64,
}

/// Caught up is who has less than so many milliseconds of arrivals before him.
const LEFT_MS: i64 = 500;

/// Measures and prints how long it takes.
pub async fn measure(wish: Wish) -> anyhow::Result<Value> {
    let Wish { behind, rate } = wish;
    let world = World::start(&[]).await?;
    world.send_backlog(behind, 1)?;
    let (sent, stop) = (Arc::new(AtomicI64::new(i64::try_from(behind)?)), Arc::new(AtomicBool::new(false)));
    let arriving = {
        let (sent, stop, producer) = (Arc::clone(&sent), Arc::clone(&stop), world.producer(1)?);
        std::thread::spawn(move || -> anyhow::Result<()> {
            let begun = Instant::now();
            for (at, record) in World::simulate(None, 2)?.enumerate() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                let due = begun + Duration::from_secs_f64(at as f64 / rate as f64);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                send(&producer, &record)?;
                sent.fetch_add(1, Ordering::Relaxed);
            }
            Ok(producer.flush(Duration::from_secs(30))?)
        })
    };
    let begun = Instant::now();
    let mut processor = world.product(&["processor"])?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let caught_up = caught_up(&world, &sent, rate).await;
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let arrived = arriving.join();
    processor.kill()?;
    processor.wait()?;
    caught_up?;
    arrived.map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    let taken_in = sent.load(Ordering::Relaxed);
    println!(
        "\n{behind} events behind, {rate}/s arriving: caught up after {seconds:.1} s, {:.0} events/s taken in",
        taken_in as f64 / seconds
    );
    crate::backlog::work_off(&world, 1).await?;
    world.verify()?;
    world.stop().await?;
    Ok(
        json!({ "behind": behind, "arriving_per_s": rate, "seconds": seconds, "events_per_s": taken_in as f64 / seconds }),
    )
}

async fn caught_up(world: &World, sent: &AtomicI64, rate: u64) -> anyhow::Result<()> {
    let pool = PgPool::connect(&world.stack.database_url()).await?;
    let sql =
        "SELECT coalesce(sum(applied + duplicates + rejected + parked), 0)::bigint FROM partition_progress";
    let (begun, near) = (Instant::now(), i64::try_from(rate)? * LEFT_MS / 1_000);
    loop {
        let settled: i64 = sqlx::query_scalar(sql).fetch_one(&pool).await?;
        if sent.load(Ordering::Relaxed) - settled <= near {
            return Ok(());
        }
        ensure!(begun.elapsed() < Duration::from_mins(30), "it does not catch up");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
