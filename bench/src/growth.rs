//! The same backlog after ever more history: cost and memory per event must not rise.

use serde_json::{Value, json};
use stocktide_producers::sim::Ids;

use crate::backlog::{WARM_UP, work_off};
use crate::world::World;

/// What is measured.
#[derive(Debug, Clone)]
pub struct Wish {
    /// Events in the measured backlog.
    pub events: u64,
    /// Events of history before each measurement, rising.
    pub history: Vec<u64>,
    /// What kind of event_id the events have.
    pub ids: Ids,
}

/// History is made by the product itself, a million events at a time.
const STEP: u64 = 1_000_000;

/// Measures and prints a row for each length of history.
pub async fn measure(wish: Wish) -> anyhow::Result<Value> {
    let Wish { events, history, ids } = wish;
    let mut world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "10000")]).await?;
    // The broker is a JVM, which compiles itself meanwhile: a first reading that pays for it would flatter those after it.
    world.send_backlog(WARM_UP, 0)?;
    work_off(&world, 1).await?;
    world.renew().await?;
    println!("\na backlog of {events} events after more and more history, ids {ids:?}");
    println!(
        "{:>12} {:>10} {:>12} {:>9} {:>9} {:>8} {:>9}  {:>9}",
        "history", "checkpoint", "events/s", "own µs/ev", "PG µs/ev", "RSS MiB", "WAL B/ev", "× at first"
    );
    let (mut before, mut first, mut rows) = (0, [None; 2], Vec::new());
    for length in history {
        while before < length {
            let step = STEP.min(length - before);
            world.send_backlog_after(before, step, ids)?;
            work_off(&world, 1).await?;
            before += step;
        }
        for just_after_checkpoint in [true, false] {
            world.send_backlog_after(before, events, ids)?;
            // After one, the first change of each page that was there before writes the whole page into the log.
            if just_after_checkpoint {
                world.checkpoint().await?;
            }
            let worked = work_off(&world, 1).await?;
            before += events;
            let row = worked.json();
            let cost = worked.seconds / worked.consumed;
            let times = cost / *first[usize::from(just_after_checkpoint)].get_or_insert(cost);
            let cpu = |part: &str| row["cpu_us_per_event"][part].as_f64().unwrap_or(f64::NAN);
            println!(
                "{length:>12} {:>10} {:>12.0} {:>9.2} {:>9.2} {:>8.0} {:>9.0}  {times:>9.2}",
                if just_after_checkpoint { "just made" } else { "earlier" },
                worked.rate(),
                cpu("processor"),
                cpu("postgres"),
                worked.product.peak_mib,
                worked.wal_bytes / worked.consumed
            );
            rows.push(json!({ "history": length, "just_after_checkpoint": just_after_checkpoint,
                              "cost_over_first": times, "product": row }));
        }
    }
    world.verify()?;
    println!("verify was green at the end");
    world.stop().await?;
    Ok(json!({ "events": events, "ids": format!("{ids:?}"), "rows": rows }))
}
