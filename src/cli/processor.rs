//! `stocktide processor`: Kafka → PostgreSQL → Kafka.

use std::process::ExitCode;

use stocktide_processor::{RunOptions, Summary};
use stocktide_runtime::config::Config;
use stocktide_runtime::{admin, shutdown};

/// Reads the input topics, keeps stock, orders and statistics in PostgreSQL, and publishes inventory_updates and dlq.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide processor                              until Ctrl-C; finishes the batch in hand
  stocktide processor --until-caught-up --json     for scripts: ends with a summary when the lag is zero

Several processors share the work: start as many as there are partitions.")]
pub struct ProcessorArgs {
    /// End when the group has applied and published up to the end offsets that the topics have now.
    #[arg(long)]
    until_caught_up: bool,
    /// Print the summary as one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When it has to stop, or cannot start.
pub async fn run(args: ProcessorArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let options = RunOptions { until_caught_up: args.until_caught_up, ..RunOptions::default() };
    let stop = shutdown::on_signal();
    options.announce();
    admin::serve(&config.admin.listen, options.registry.clone(), options.health.clone(), stop.clone())
        .await?;
    let summary = stocktide_processor::run(config, options, stop).await?;
    if summary.cut_short {
        // Nobody knows what it did; the log has said so.
    } else if args.json {
        println!("{}", serde_json::to_string(&summary)?);
    } else {
        print(&summary);
    }
    // Interrupted before it had caught up, the answer is no.
    Ok(if args.until_caught_up && !summary.caught_up { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(summary: &Summary) {
    let rejected: u64 = summary.rejected.values().sum();
    println!("consumed    {:>10}", summary.consumed);
    println!("applied     {:>10}", summary.applied);
    println!("duplicates  {:>10}", summary.duplicates);
    println!("rejected    {rejected:>10}");
    for (reason, count) in &summary.rejected {
        println!("  {reason:<24} {count:>8}");
    }
    println!("parked      {:>10}", summary.parked);
    println!("seconds     {:>10.2}", summary.seconds);
}
