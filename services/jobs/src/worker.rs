//! The worker: apalis hands it announcements of runs.

use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::{
    BackendExt as _, BoxDynError, Data, Monitor, ParallelizeExt as _, Strategy, WorkerBuilder,
    WorkerBuilderExt as _,
};
use apalis_postgres::{Config as QueueConfig, PostgresStorage};
use sqlx::PgPool;
use stocktide_store::jobs::{self, Announcement, QUEUE};
use tokio_util::sync::CancellationToken;

use crate::execute::{Ended, execute};
use crate::rails::Rails;

/// How many runs a worker executes at once.
const CONCURRENCY: usize = 2;

/// How often the queue is asked.
const POLL: Duration = Duration::from_millis(500);

/// How often apalis's worker says that it lives, and after how many omissions what it had is announced again.
const HEARTBEAT: Duration = Duration::from_secs(2);
const MISSED_HEARTBEATS: usize = 10;

/// What a handler needs.
struct Hands {
    rails: Arc<Rails>,
    stop: CancellationToken,
}

/// Executes runs until `stop`, and then finishes what is in hand or gives it back.
///
/// # Errors
/// When apalis's workers cannot be ended in order.
pub async fn work(rails: Arc<Rails>, queue: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    let deadline = rails.config.processor.shutdown_deadline + Duration::from_secs(5);
    let (process, signal) = (rails.process.clone(), stop.clone());
    let hands = Arc::new(Hands { rails, stop });
    let monitor = Monitor::new()
        .register(move |restarts| {
            let config = QueueConfig::default()
                .queue(QUEUE)
                .batch_size(1)
                .heartbeat_interval(HEARTBEAT)
                .missed_heartbeats(MISSED_HEARTBEATS);
            let storage = PostgresStorage::<Announcement>::new(&queue).with_config(config);
            // A name that was used before would be refused while the former worker's row is there.
            WorkerBuilder::new(format!("{process}-{restarts}"))
                .backend(storage.poll_with_strategy(Strategy::new().interval(POLL)))
                .concurrency(CONCURRENCY)
                .data(Arc::clone(&hands))
                .parallelize(tokio::spawn)
                .build(handle)
        })
        // It ends with an error when the database was away for long.
        .should_restart(|worker, error| {
            tracing::warn!(worker = worker.name(), "the worker starts again: {error}");
            true
        })
        .with_terminator(tokio::time::sleep(deadline));
    monitor
        .run_with_signal(async {
            signal.cancelled().await;
            Ok(())
        })
        .await?;
    Ok(())
}

/// Executes a run if it still waits. Whatever becomes of it stands in the table of runs: an error here only means that the
/// announcement is to be handed out again.
async fn handle(announcement: Announcement, hands: Data<Arc<Hands>>) -> Result<(), BoxDynError> {
    let Hands { rails, stop } = hands.as_ref();
    let run_id = announcement.run_id;
    if stop.is_cancelled() {
        return Err("the worker is being ended".into());
    }
    let knows = rails.schedule.known();
    let claimed =
        jobs::claim(&rails.pool, run_id, &rails.process, &knows, rails.config.jobs.takeover).await?;
    let Some(run) = claimed else {
        // The last is announced again by whoever knows the job.
        tracing::debug!(run_id, "the run is done, in other hands, or of a job that is not known here");
        return Ok(());
    };
    tracing::info!(run_id, job = run.job, date = %run.data_date, claim = run.claim, "run begins");
    match execute(rails, &run, stop).await? {
        Ended::Finished(_) => {}
        Ended::Lost => tracing::warn!(run_id, "the run was taken over by another worker"),
        Ended::Stopped => {
            jobs::release(&rails.pool, run_id, run.claim).await?;
            tracing::info!(run_id, "the run is given back");
        }
    }
    Ok(())
}
