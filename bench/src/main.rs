//! Measures the product on a private stack, everything durable, beside what bare PostgreSQL needs for the same rows.
//!
//! `throughput`: a backlog of simulated events, `stocktide processor --until-caught-up`, and in the same run the floor: the
//! very rows that the product wrote, COPYed in binary into the same tables with the same indexes, one connection, one
//! transaction per batch, rows prepared beforehand. `latency`: an open loop, from sending to reading `inventory_updates`
//! in read_committed. `api`: each read endpoint on a large ledger, with a processor at full speed beside it. `reports`: a daily report over a ledger of many lines, and its figures alone, beside the bare queries in psql.
//! `overload`: too much of everything, and whether the product slows down, says so and recovers.

mod api;
mod floor;
mod latency;
mod overload;
mod reports;
mod world;

use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde_json::json;
use world::World;

/// Measures Stocktide; needs `cargo build --release` first.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo run --release -p stocktide-bench -- throughput
  cargo run --release -p stocktide-bench -- latency --rate 2000 --seconds 60
  cargo run --release -p stocktide-bench -- api --lines 20000000 --users 1000000
  cargo run --release -p stocktide-bench -- reports --lines 20000000
  cargo run --release -p stocktide-bench -- overload --events 1000000")]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A backlog: events per second of the product and of bare PostgreSQL, in turn.
    Throughput {
        /// Events in the backlog.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// How often both are measured.
        #[arg(long, default_value_t = 3)]
        pairs: u32,
        /// Events per transaction of the floor; the product's largest batch.
        #[arg(long, default_value_t = 10_000)]
        batch: usize,
    },
    /// An open loop: milliseconds from sending to reading.
    Latency {
        /// Events per second.
        #[arg(long, default_value_t = 2_000)]
        rate: u64,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// The API's read endpoints on a large ledger: requests a second and p99 by wrk, alone and beside a processor that works off
    /// a backlog, and what that costs the processor; and the plans of what must be quick.
    Api {
        /// Lines of orders in the ledger.
        #[arg(long, default_value_t = 20_000_000)]
        lines: u64,
        /// Users who ordered them.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
        users: u64,
        /// Events in the backlog.
        #[arg(long, default_value_t = 4_000_000)]
        events: u64,
        /// Connections at once.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        connections: u32,
        /// Seconds for each endpoint.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
    },
    /// A daily report, and its figures alone: seconds of the product, and of psql with the same queries under the same
    /// settings, in turn; and the memory that a report takes.
    Reports {
        /// Lines of orders in the ledger.
        #[arg(long, default_value_t = 20_000_000)]
        lines: u64,
        /// Products in the catalogue.
        #[arg(long, default_value_t = 4_000, value_parser = clap::value_parser!(u16).range(200..=50_000))]
        products: u16,
        /// How often each is measured.
        #[arg(long, default_value_t = 3)]
        repeats: u32,
    },
    /// A backlog, then also a storm of requests, a burst, a tenth of a database and none, under a cap on memory: what slows down,
    /// what is said, and that it recovers by itself. Fails where something does not hold.
    Overload {
        /// Events that wait at the beginning.
        #[arg(long, default_value_t = 5_000_000)]
        events: u64,
        /// Events a second of a usual day; the burst has ten times as many.
        #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u64).range(1..))]
        rate: u64,
        /// Seconds of each phase.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(10..=3_600))]
        seconds: u64,
        /// Connections of the storm.
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        connections: u32,
        /// MiB that the processor, and the API, may have.
        #[arg(long, default_value_t = 768)]
        memory_mib: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let done = match CommandLine::parse().command {
        Command::Throughput { events, pairs, batch } => throughput(events, pairs, batch).await,
        Command::Latency { rate, seconds } => latency::measure(rate, seconds).await,
        Command::Api { lines, users, events, connections, seconds } => {
            api::measure(api::Wish { lines, users, events, connections, seconds }).await
        }
        Command::Overload { events, rate, seconds, connections, memory_mib } => {
            overload::measure(overload::Wish { events, rate, seconds, connections, memory_mib }).await
        }
        Command::Reports { lines, products, repeats } => reports::measure(lines, products, repeats).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stocktide-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Each pair on a stack of its own: the product takes the backlog in, then the floor takes in the rows it wrote.
async fn throughput(events: u64, pairs: u32, batch: usize) -> anyhow::Result<()> {
    let mut ratios = Vec::new();
    println!("{:>4} {:>14} {:>14} {:>7}", "pair", "product ev/s", "floor ev/s", "ratio");
    for pair in 1..=pairs {
        let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", &batch.to_string())]).await?;
        world.send_backlog(events, u64::from(pair))?;
        let summary = world.run_until_caught_up()?;
        let consumed = summary["consumed"].as_f64().context("no `consumed` in the summary")?;
        let product = consumed / summary["seconds"].as_f64().context("no `seconds` in the summary")?;
        let floor = consumed / floor::measure(&world, batch).await?.as_secs_f64();
        println!("{pair:>4} {product:>14.0} {floor:>14.0} {:>7.3}", product / floor);
        eprintln!("{}", json!({"pair": pair, "product": product, "floor": floor, "summary": summary}));
        ratios.push(product / floor);
        world.stop().await?;
    }
    ratios.sort_by(f64::total_cmp);
    println!(
        "median ratio {:.3} (from {:.3} to {:.3})",
        ratios[ratios.len() / 2],
        ratios[0],
        ratios[ratios.len() - 1]
    );
    Ok(())
}
