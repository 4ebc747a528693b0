//! `stocktide up`: the services of a small installation in one process.

use std::process::ExitCode;

use anyhow::Context as _;
use stocktide_jobs::serve;
use stocktide_processor::RunOptions;
use stocktide_runtime::{Config, admin, shutdown};

use super::jobs;

/// Run the services in one process, for small installations: the processor, and the scheduled jobs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide migrate && stocktide up --admin-listen 127.0.0.1:9100

Ctrl-C finishes the batch in hand, and what a job is at; a second one ends at once.")]
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
    let rails = jobs::rails(config, &options.registry, options.health.clone()).await?;
    let both = stop.child_token();
    let watching = jobs::watch(&rails, &options.registry, &both)?;
    // Neither goes on alone: whoever started them is to see that one has ended.
    let guard = both.clone().drop_guard();
    let token = both.clone();
    let jobs = tokio::spawn(async move {
        let served = serve::serve(rails, token.clone()).await;
        token.cancel();
        served
    });
    let processed = stocktide_processor::run(config, options, both).await;
    drop(guard);
    let served = jobs.await.context("the jobs")?;
    watching.await.context("the watch")?;
    processed?;
    served?;
    Ok(ExitCode::SUCCESS)
}
