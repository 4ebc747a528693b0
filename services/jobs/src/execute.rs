//! Executing a run: its tasks in their order, each retried by itself.
//!
//! What a task handed on is in the database before the next one begins, so whoever takes the run over goes on where it was
//! left. The holder gives a sign of life several times within `jobs.takeover`; when he learns that the run is not his any
//! more, he drops what he is doing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use serde_json::Value;
use stocktide_domain::interval::BusinessDay;
use stocktide_runtime::clock;
use stocktide_runtime::traces::TARGET;
use stocktide_store::jobs::{self, Run, RunState, TaskState};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::Instrument as _;

use crate::graph;
use crate::job::{Job, Task, TaskContext, TaskError, TaskOutput};
use crate::rails::Rails;
use crate::schedule::Entry;

/// How an execution ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The run succeeded or failed.
    Finished(Box<Run>),
    /// It was to stop. The run is still the asker's.
    Stopped,
    /// The run is not the asker's any more.
    Lost,
}

/// Executes a run that was claimed, going on where an earlier execution stopped. Once `stop` is cancelled no further task is
/// begun, and those in hand get `processor.shutdown_deadline`.
///
/// # Errors
/// When the database stays away or refuses; the run is then taken over in its time.
pub async fn execute(rails: &Rails, run: &Run, stop: &CancellationToken) -> Result<Ended, sqlx::Error> {
    let lost = CancellationToken::new();
    let beating = AbortOnDropHandle::new(tokio::spawn(beat(
        rails.pool.clone(),
        (run.run_id, run.claim),
        rails.config.jobs.takeover,
        lost.clone(),
    )));
    let outcome = match prepared(rails, run) {
        Ok((entry, job, day)) => {
            let span = tracing::info_span!(target: TARGET, parent: None, "run", otel.name = run.job, run_id = run.run_id,
                date = %run.data_date);
            Execution { rails, run, entry, job, day, stop, lost: &lost }.tasks().instrument(span).await?
        }
        Err(refusal) => Outcome::Failed(refusal),
    };
    let error = match outcome {
        Outcome::Done => None,
        Outcome::Failed(error) => Some(error),
        Outcome::Stopped => return Ok(Ended::Stopped),
        Outcome::Lost => return Ok(Ended::Lost),
    };
    let finished =
        patiently(&lost, || jobs::finish(&rails.pool, run.run_id, run.claim, error.as_deref())).await?;
    drop(beating);
    let finished = match finished {
        Some(run) => run,
        // The answer to the first try may have been lost.
        None => match jobs::run(&rails.pool, run.run_id).await? {
            Some(now) if now.claim == run.claim && now.finished_at.is_some() => now,
            _ => return Ok(Ended::Lost),
        },
    };
    rails.metrics.count(&finished);
    tell(&finished);
    Ok(Ended::Finished(Box::new(finished)))
}

fn tell(run: &Run) {
    let seconds = run.duration().map_or(0.0, |duration| duration.as_secs_f64());
    let (run_id, job, date) = (run.run_id, &run.job, run.data_date);
    if let (RunState::Failed, Some(error)) = (run.state, &run.error) {
        tracing::error!(run_id, job, %date, seconds, "run failed: {error}");
    } else {
        tracing::info!(run_id, job, %date, seconds, rows = run.rows, "run succeeded");
    }
}

/// What a run needs to be executed, or why it cannot be.
fn prepared<'r>(rails: &'r Rails, run: &Run) -> Result<(&'r Entry, Arc<dyn Job>, BusinessDay), String> {
    let scheduled = rails.schedule.get(&run.job);
    let entry = scheduled.ok_or_else(|| format!("the schedule has no job {:?} any more", run.job))?;
    let job = rails.registry.get(&entry.builds);
    let job = job.ok_or_else(|| format!("there is no job to build as {:?}", entry.builds))?;
    let day = run.day().ok_or_else(|| format!("timezone {:?} is not known", run.timezone))?;
    Ok((entry, Arc::clone(job), day))
}

/// Gives signs of life until the run is lost.
async fn beat(pool: sqlx::PgPool, (run_id, claim): (i64, i32), takeover: Duration, lost: CancellationToken) {
    let pause = (takeover / 5).clamp(Duration::from_millis(20), Duration::from_secs(10));
    loop {
        tokio::time::sleep(pause).await;
        match jobs::heartbeat(&pool, run_id, claim).await {
            Ok(true) => {}
            Ok(false) => return lost.cancel(),
            Err(error) => tracing::warn!(run_id, "no sign of life could be given: {error}"),
        }
    }
}

/// What became of a task, or of all of them.
enum Outcome {
    Done,
    Failed(String),
    Stopped,
    Lost,
}

/// What became of one attempt.
enum Attempt {
    Made(TaskOutput),
    Failed(TaskError),
    Stopped,
    Lost,
}

type Outputs = BTreeMap<String, Arc<Value>>;

struct Execution<'e> {
    rails: &'e Rails,
    run: &'e Run,
    entry: &'e Entry,
    job: Arc<dyn Job>,
    day: BusinessDay,
    stop: &'e CancellationToken,
    lost: &'e CancellationToken,
}

impl Execution<'_> {
    /// All tasks that are not done yet, each as soon as those before it are.
    async fn tasks(&self) -> Result<Outcome, sqlx::Error> {
        let mut outputs = self.outputs_so_far().await?;
        let tasks = self.job.tasks();
        let mut done: BTreeSet<&'static str> =
            tasks.iter().map(|task| task.name).filter(|name| outputs.contains_key(*name)).collect();
        let mut seen = done.clone();
        let mut in_hand = FuturesUnordered::new();
        let mut end = Outcome::Done;
        loop {
            let goes_on = matches!(end, Outcome::Done) && !self.stop.is_cancelled();
            for task in graph::ready(tasks, &done, &seen).into_iter().filter(|_| goes_on) {
                seen.insert(task.name);
                let span = tracing::info_span!(target: TARGET, "task", otel.name = task.name);
                in_hand.push(self.task(task, outputs.clone()).instrument(span));
            }
            let Some((task, became)) = in_hand.next().await.transpose()? else { break };
            match became {
                (Outcome::Done, output) => {
                    done.insert(task.name);
                    outputs.insert(task.name.to_owned(), Arc::new(output));
                }
                // The first failure is the run's; but a lost run is lost whatever else happened.
                (Outcome::Lost, _) => end = Outcome::Lost,
                (other, _) if matches!(end, Outcome::Done) => end = other,
                _ => {}
            }
        }
        let unfinished = matches!(end, Outcome::Done) && done.len() < tasks.len();
        Ok(if unfinished { Outcome::Stopped } else { end })
    }

    /// What earlier executions of this run got done.
    async fn outputs_so_far(&self) -> Result<Outputs, sqlx::Error> {
        let (pool, run_id) = (&self.rails.pool, self.run.run_id);
        let begun = patiently(self.lost, || jobs::tasks(pool, run_id)).await?;
        let done = begun.into_iter().filter(|task| task.state == TaskState::Succeeded);
        Ok(done.map(|task| (task.task, Arc::new(task.output.unwrap_or_default()))).collect())
    }

    /// One task, tried as often as the schedule says.
    async fn task<'t>(
        &self,
        task: &'t Task,
        outputs: Outputs,
    ) -> Result<(&'t Task, (Outcome, Value)), sqlx::Error> {
        let (pool, run_id, claim, name) = (&self.rails.pool, self.run.run_id, self.run.claim, task.name);
        let is = |outcome| Ok((task, (outcome, Value::Null)));
        let mut failures = 0;
        loop {
            let begun = patiently(self.lost, || jobs::begin_task(pool, run_id, claim, name)).await?;
            if begun.is_none() {
                return is(Outcome::Lost);
            }
            match self.attempt(name, outputs.clone()).await {
                Attempt::Stopped => return is(Outcome::Stopped),
                Attempt::Lost => return is(Outcome::Lost),
                Attempt::Made(TaskOutput { rows, output }) => {
                    let rows = rows.map(|rows| i64::try_from(rows).unwrap_or(i64::MAX));
                    let write = || jobs::succeed_task(pool, run_id, claim, name, rows, &output);
                    let kept = patiently(self.lost, write).await?;
                    return if kept { Ok((task, (Outcome::Done, output))) } else { is(Outcome::Lost) };
                }
                Attempt::Failed(error) => {
                    failures += 1;
                    let text = in_one_line(&error);
                    self.rails.metrics.task_failures.with_label_values(&[self.run.job.as_str(), name]).inc();
                    let answer = match &error {
                        TaskError::Verdict { output, .. } => Some(output),
                        TaskError::Again(_) | TaskError::ForGood(_) => None,
                    };
                    let write = || jobs::fail_task(pool, run_id, claim, name, &text, answer);
                    if !patiently(self.lost, write).await? {
                        return is(Outcome::Lost);
                    }
                    if !matches!(error, TaskError::Again(_)) || failures > self.entry.retries {
                        return is(Outcome::Failed(format!("task {name}: {text}")));
                    }
                    let pause = self.entry.pause(failures);
                    tracing::warn!(
                        run_id,
                        task = name,
                        failures,
                        ?pause,
                        "task failed, and is tried again: {text}"
                    );
                    tokio::select! {
                        () = tokio::time::sleep(pause) => {}
                        () = self.stop.cancelled() => return is(Outcome::Stopped),
                        () = self.lost.cancelled() => return is(Outcome::Lost),
                    }
                }
            }
        }
    }

    /// One attempt, on a task of its own so that a panic is a failure like any other.
    async fn attempt(&self, name: &'static str, outputs: Outputs) -> Attempt {
        let context = TaskContext {
            run: self.run.clone(),
            day: self.day,
            now: clock::now(),
            pool: self.rails.pool.clone(),
            config: Arc::clone(&self.rails.config),
            metrics: Arc::clone(&self.rails.metrics),
            outputs,
        };
        let job = Arc::clone(&self.job);
        let work = async move { job.run_task(&context, name).await };
        let mut work = AbortOnDropHandle::new(tokio::spawn(work));
        let deadline = self.rails.config.processor.shutdown_deadline;
        tokio::select! {
            joined = &mut work => match joined {
                Ok(Ok(output)) => Attempt::Made(output),
                Ok(Err(error)) => Attempt::Failed(error),
                Err(error) => Attempt::Failed(TaskError::Again(anyhow::anyhow!("the task broke off: {error}"))),
            },
            () = tokio::time::sleep(self.entry.timeout) => {
                let allowed = humantime::format_duration(self.entry.timeout);
                Attempt::Failed(TaskError::Again(anyhow::anyhow!("it took longer than {allowed}")))
            }
            () = async { self.stop.cancelled().await; tokio::time::sleep(deadline).await } => Attempt::Stopped,
            () = self.lost.cancelled() => Attempt::Lost,
        }
    }
}

/// Tries for a minute what the database may not be there for; every write here may be repeated.
async fn patiently<T, F>(lost: &CancellationToken, ask: impl Fn() -> F) -> Result<T, sqlx::Error>
where
    F: Future<Output = Result<T, sqlx::Error>>,
{
    let deadline = Instant::now() + Duration::from_mins(1);
    loop {
        match ask().await {
            Err(error) if !lost.is_cancelled() && Instant::now() < deadline => {
                tracing::warn!("the database is asked again: {error}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            answer => return answer,
        }
    }
}

/// An error's text for the table, of a bounded length.
fn in_one_line(error: &TaskError) -> String {
    let text = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(2_000).collect()
}
