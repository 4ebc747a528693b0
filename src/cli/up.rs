//! `stocktide up`: the services of a small installation in one process.

use std::process::ExitCode;

use stocktide_processor::RunOptions;
use stocktide_runtime::{Config, admin, shutdown};

/// Run the services in one process, for small installations: the processor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide migrate && stocktide up --admin-listen 127.0.0.1:9100

Ctrl-C finishes the batch in hand; a second one ends at once.")]
pub struct UpArgs {}

/// Runs it.
///
/// # Errors
/// When a service has to stop, or cannot start.
pub async fn run(_args: UpArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let options = RunOptions::default();
    let stop = shutdown::on_signal();
    admin::serve(&config.admin.listen, options.registry.clone(), options.health.clone(), stop.clone())
        .await?;
    stocktide_processor::run(config, options, stop).await?;
    Ok(ExitCode::SUCCESS)
}
