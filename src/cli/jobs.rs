//! `stocktide jobs`: what runs by night, and by hand.

use std::process::ExitCode;
use std::sync::Arc;

use chrono::NaiveDate;
use stocktide_jobs::{OtherTimezone, Rails, ScheduleError, built_in, serve};
use stocktide_runtime::admin::{self, Health};
use stocktide_runtime::{Config, shutdown};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Usage;

mod by_hand;
mod show;

/// Scheduled jobs: run them, look at their runs, and run them by hand.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide jobs run                                          scheduler and worker, until Ctrl-C
  stocktide jobs list                                         what there is, and when it runs next
  stocktide jobs trigger daily_report --date 2011-11-17       one day's run, here and now
  stocktide jobs backfill daily_report --from 2010-12-01 --to 2011-12-09 --parallel 2
  stocktide jobs retry 17                                     what failed of a run

A run belongs to a business day, and there is one per job and day however often it is executed.")]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, clap::Subcommand)]
enum JobsCommand {
    /// Schedule what is due and execute it, until Ctrl-C. Several may run at once.
    Run,
    /// The jobs, when they run next, and what became of their last run.
    List(Json),
    /// What ran, what failed and why; the latest first.
    Runs(RunsArgs),
    /// One run and its tasks.
    Show(ShowArgs),
    /// Execute a job for one business day here and now, even if it succeeded before.
    Trigger(TriggerArgs),
    /// Execute a job for each business day of a range, here and now; days that succeeded before are left out.
    Backfill(BackfillArgs),
    /// Execute those tasks of a run that are not done, here and now.
    Retry(ShowArgs),
}

#[derive(Debug, clap::Args)]
struct Json {
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RunsArgs {
    /// Of this job only.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
    /// In this state only.
    #[arg(long, value_name = "STATE", value_parser = ["queued", "running", "succeeded", "failed"])]
    state: Option<String>,
    /// So many at most.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    limit: u32,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The run's number.
    #[arg(value_name = "RUN", value_parser = clap::value_parser!(i64).range(1..))]
    run: i64,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
struct TriggerArgs {
    /// The job's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The business day, as YYYY-MM-DD.
    #[arg(long, value_name = "DATE")]
    date: NaiveDate,
    #[command(flatten)]
    json: Json,
}

#[derive(Debug, clap::Args)]
struct BackfillArgs {
    /// The job's name.
    #[arg(value_name = "NAME")]
    name: String,
    /// The first business day, as YYYY-MM-DD.
    #[arg(long, value_name = "DATE")]
    from: NaiveDate,
    /// The last business day.
    #[arg(long, value_name = "DATE")]
    to: NaiveDate,
    /// So many runs at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=16))]
    parallel: u8,
    /// Execute days again that succeeded before.
    #[arg(long)]
    force: bool,
    /// Say what would be executed, and execute nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    json: Json,
}

/// Runs it.
///
/// # Errors
/// When the database is away, the schedule is refused, or what is asked for is not there.
pub async fn run(args: JobsArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let (registry, health) = (prometheus::Registry::new(), Health::new());
    let rails = rails(config, &registry, health.clone()).await?;
    match args.command {
        JobsCommand::Run => serve(rails, registry, health).await,
        JobsCommand::List(args) => show::list(&args, &rails).await,
        JobsCommand::Runs(args) => show::runs(&args, &rails).await,
        JobsCommand::Show(args) => show::one(&args, &rails).await,
        JobsCommand::Trigger(args) => by_hand::trigger(args, rails).await,
        JobsCommand::Backfill(args) => by_hand::backfill(args, rails).await,
        JobsCommand::Retry(args) => by_hand::retry(args, rails).await,
    }
}

async fn serve(
    rails: Arc<Rails>,
    registry: prometheus::Registry,
    health: Health,
) -> anyhow::Result<ExitCode> {
    let stop = shutdown::on_signal();
    let watching = watch(&rails, &registry, &stop)?;
    admin::serve(&rails.config.admin.listen, registry, health, stop.clone()).await?;
    serve::serve(rails, stop).await?;
    watching.await?;
    Ok(ExitCode::SUCCESS)
}

/// Looks at the installation from outside until `stop`.
///
/// # Errors
/// When the metrics are declared already.
pub fn watch(
    rails: &Rails,
    registry: &prometheus::Registry,
    stop: &CancellationToken,
) -> anyhow::Result<JoinHandle<()>> {
    let metrics = Arc::new(stocktide_watch::Metrics::register(registry)?);
    let config = Config::clone(&rails.config);
    Ok(tokio::spawn(stocktide_watch::watch(config, rails.pool.clone(), metrics, stop.child_token())))
}

/// Rails with the built-in jobs.
///
/// # Errors
/// When the database is away, or the schedule is refused, which is wrong usage.
pub async fn rails(
    config: &Config,
    registry: &prometheus::Registry,
    health: Health,
) -> anyhow::Result<Arc<Rails>> {
    let rails = Rails::open(config, built_in::registry()?, registry, health).await;
    let is_usage = |error: &anyhow::Error| error.is::<ScheduleError>() || error.is::<OtherTimezone>();
    let rails = rails.map_err(|error| match error {
        refused if is_usage(&refused) => anyhow::Error::new(Usage(refused.to_string())),
        other => other,
    })?;
    Ok(Arc::new(rails))
}

/// A complaint unless there is a job of that name.
fn known(rails: &Rails, name: &str) -> anyhow::Result<()> {
    match rails.schedule.get(name) {
        Some(_) => Ok(()),
        None => Err(Usage(format!("there is no job {name:?}; allowed: {}", rails.schedule.names())).into()),
    }
}
