//! `stocktide up`: the services of a small installation in one process.

use std::process::ExitCode;

use anyhow::Context as _;
use stocktide_api::Api;
use stocktide_jobs::serve;
use stocktide_processor::RunOptions;
use stocktide_runtime::{Config, admin, shutdown};
use tokio_util::sync::DropGuard;

use super::jobs;

/// Run the services in one process, for small installations: the processor, the scheduled jobs, and the HTTP API.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  stocktide migrate && stocktide up --admin-listen 127.0.0.1:9100      the API and the console: http://127.0.0.1:8080

Ctrl-C finishes the batch in hand, and what a job is at; a second one ends at once.")]
pub struct UpArgs {}

/// Runs it.
///
/// # Errors
/// When a service has to stop, or cannot start.
pub async fn run(_args: UpArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let options = RunOptions::default();
    let stop = shutdown::on_signal();
    options.announce();
    let api = Api::bind(config, options.registry.clone(), options.health.clone()).await?;
    admin::serve(&config.admin.listen, options.registry.clone(), options.health.clone(), stop.clone())
        .await?;
    let rails = jobs::rails(config, &options.registry, options.health.clone()).await?;
    let all = stop.child_token();
    let watching = jobs::watch(&rails, &options.registry, &all)?;
    // None goes on alone: whoever started them is to see that one has ended.
    let guard = all.clone().drop_guard();
    let jobs = tokio::spawn(ending_all(all.clone().drop_guard(), serve::serve(rails, all.clone())));
    let api = tokio::spawn(ending_all(all.clone().drop_guard(), api.serve(all.clone())));
    let processed = stocktide_processor::run(config, options, all).await;
    drop(guard);
    let (scheduled, served) = (jobs.await.context("the jobs")?, api.await.context("the API")?);
    watching.await.context("the watch")?;
    processed?;
    scheduled?;
    served?;
    Ok(ExitCode::SUCCESS)
}

/// The service, and with its end that of the others.
async fn ending_all<T>(others: DropGuard, service: impl Future<Output = T>) -> T {
    let ended = service.await;
    drop(others);
    ended
}
