//! Measures the product on private stacks, everything durable, beside what bare PostgreSQL and bare Kafka need for the same.

mod api;
mod backlog;
mod catch_up;
mod conditions;
mod floor;
mod growth;
mod instructions;
mod kafka_floor;
mod latency;
mod meter;
mod overload;
mod reports;
mod rivals;
mod scrape;
mod start;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use serde_json::Value;
use stocktide_producers::sim;

/// Measures Stocktide; needs `cargo build --release` first.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:
  cargo run --release -p stocktide-bench -- backlog --pairs 5
  cargo run --release -p stocktide-bench -- backlog --processors 2
  cargo run --release -p stocktide-bench -- latency --rate 500,2000,10000 --seconds 60
  cargo run --release -p stocktide-bench -- growth --history 0,5000000,20000000 --ids v4
  cargo run --release -p stocktide-bench -- catch-up
  cargo run --release -p stocktide-bench -- start
  cargo run --release -p stocktide-bench -- instructions
  cargo run --release -p stocktide-bench -- api --lines 20000000 --users 1000000
  cargo run --release -p stocktide-bench -- reports --lines 20000000
  cargo run --release -p stocktide-bench -- overload --events 1000000
  cargo run --release -p stocktide-bench -- rivals --only python-batch --instances 1,2")]
struct CommandLine {
    /// Writes what was measured to this file, too, as JSON.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// How event_ids are made.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ids {
    /// At random.
    V4,
    /// By time.
    V7,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A backlog: events per second of the product and of bare PostgreSQL taking in the very rows that the product wrote (binary
    /// COPY into the same tables with the same indexes, rows prepared beforehand), in turn; and the CPU of bare Kafka clients that
    /// read the same input and write the same outputs.
    Backlog {
        /// Events in the backlog.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// How often both are measured.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        pairs: u32,
        /// Events per transaction of the floor; the product's largest batch.
        #[arg(long, default_value_t = 10_000)]
        batch: usize,
        /// Processors, and connections of the floor.
        #[arg(long, default_value_t = 1)]
        processors: usize,
    },
    /// An open loop: milliseconds from sending to reading `inventory_updates` in read_committed, beside one small commit and one
    /// Kafka transaction.
    Latency {
        /// Events per second; several are measured one after the other.
        #[arg(long, value_delimiter = ',', default_value = "2000")]
        rate: Vec<u64>,
        /// How long.
        #[arg(long, default_value_t = 60)]
        seconds: u64,
    },
    /// The same backlog after more and more history, which the product itself takes in.
    Growth {
        /// Events in the backlog.
        #[arg(long, default_value_t = 1_000_000)]
        events: u64,
        /// Events of history before it; one measurement each.
        #[arg(long, value_delimiter = ',', default_value = "0,5000000,20000000")]
        history: Vec<u64>,
        /// What kind of event_id.
        #[arg(long, value_enum, default_value = "v4")]
        ids: Ids,
    },
    /// A backlog that is worked off while events go on arriving.
    CatchUp {
        /// Events that wait at first.
        #[arg(long, default_value_t = 2_000_000)]
        behind: u64,
        /// Events per second that arrive meanwhile.
        #[arg(long, default_value_t = 2_000)]
        rate: u64,
    },
    /// How soon a processor is ready, and what it costs while nothing happens.
    Start {
        /// How often it is started.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        times: u32,
    },
    /// Instructions that decoding, folding and encoding an event take, by callgrind, held against bench/instructions.json.
    Instructions {
        /// Writes them down as what holds from now on.
        #[arg(long)]
        record: bool,
        /// Does this stage, for callgrind to count.
        #[arg(long, hide = true, value_enum)]
        stage: Option<instructions::Stage>,
        /// How often.
        #[arg(long, hide = true, default_value_t = 1)]
        times: u32,
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
    /// What a user would pick instead (bench/rivals/), each doing the whole job and checked for the right result, with the product
    /// before and after. Fails where a result is wrong or does not come.
    Rivals {
        /// Some of them only.
        #[arg(long, value_delimiter = ',', value_name = "NAME")]
        only: Vec<String>,
        /// Events in the backlog; who is too slow for so many says so himself and gets fewer.
        #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..))]
        events: u64,
        /// How many of each work together; several are measured one after the other.
        #[arg(long, value_delimiter = ',', default_value = "1,2", value_parser = clap::value_parser!(u8).range(1..=4))]
        instances: Vec<u8>,
        /// Leaves the product out.
        #[arg(long)]
        no_product: bool,
        /// Seconds for which nothing at all may happen.
        #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..))]
        patience: u64,
        /// Where the rivals are.
        #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/rivals"))]
        folder: PathBuf,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let CommandLine { json, command } = CommandLine::parse();
    match measure(command).await.and_then(|measured| keep(&measured, json)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stocktide-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(command: Command) -> anyhow::Result<Value> {
    match command {
        Command::Backlog { events, pairs, batch, processors } => {
            backlog::measure(backlog::Wish { events, pairs, batch, processors }).await
        }
        Command::Latency { rate, seconds } => latency::measure(&rate, seconds).await,
        Command::Growth { events, history, ids } => {
            let ids = match ids {
                Ids::V4 => sim::Ids::V4,
                Ids::V7 => sim::Ids::V7,
            };
            growth::measure(growth::Wish { events, history, ids }).await
        }
        Command::CatchUp { behind, rate } => catch_up::measure(catch_up::Wish { behind, rate }).await,
        Command::Start { times } => start::measure(times).await,
        Command::Instructions { stage: Some(stage), times, .. } => {
            instructions::work(stage, times).map(|()| Value::Null)
        }
        Command::Instructions { record, .. } => instructions::measure(instructions::Wish { record }),
        Command::Api { lines, users, events, connections, seconds } => {
            api::measure(api::Wish { lines, users, events, connections, seconds }).await.map(|()| Value::Null)
        }
        Command::Overload { events, rate, seconds, connections, memory_mib } => {
            overload::measure(overload::Wish { events, rate, seconds, connections, memory_mib })
                .await
                .map(|()| Value::Null)
        }
        Command::Rivals { only, events, instances, no_product, patience, folder } => {
            let instances = instances.into_iter().map(usize::from).collect();
            let (product, patience) = (!no_product, Duration::from_secs(patience));
            rivals::measure(rivals::Wish { folder, only, events, instances, product, patience }).await
        }
        Command::Reports { lines, products, repeats } => {
            reports::measure(lines, products, repeats).await.map(|()| Value::Null)
        }
    }
}

fn keep(measured: &Value, file: Option<PathBuf>) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    let kept = serde_json::json!({ "conditions": conditions::told(), "measured": measured });
    std::fs::write(&file, format!("{kept:#}\n")).with_context(|| file.display().to_string())
}
