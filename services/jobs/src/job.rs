//! What a job is: a small graph of tasks, each of which can be executed by itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;
use stocktide_runtime::Config;
use stocktide_store::jobs::Run;

use crate::metrics::Metrics;

/// A node of a job's graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Task {
    /// Its name, unique within the job.
    pub name: &'static str,
    /// The tasks that have to be done before it.
    pub after: &'static [&'static str],
}

/// A job. Its tasks must be idempotent: a task whose worker was killed is executed again.
pub trait Job: Send + Sync {
    /// Its tasks.
    fn tasks(&self) -> &[Task];

    /// Executes one of them.
    fn run_task<'a>(
        &'a self,
        context: &'a TaskContext,
        task: &'a str,
    ) -> BoxFuture<'a, Result<TaskOutput, TaskError>>;
}

/// A job that is a single task.
pub struct OneTask {
    task: [Task; 1],
    work: Work,
}

type Work = for<'a> fn(&'a TaskContext) -> BoxFuture<'a, Result<TaskOutput, TaskError>>;

impl OneTask {
    /// A job that does this, under the task's name.
    pub fn new(task: &'static str, work: Work) -> OneTask {
        OneTask { task: [Task { name: task, after: &[] }], work }
    }
}

impl Job for OneTask {
    fn tasks(&self) -> &[Task] {
        &self.task
    }

    fn run_task<'a>(
        &'a self,
        context: &'a TaskContext,
        _task: &'a str,
    ) -> BoxFuture<'a, Result<TaskOutput, TaskError>> {
        (self.work)(context)
    }
}

/// What a task may use.
#[derive(Clone)]
pub struct TaskContext {
    /// The run that it belongs to.
    pub run: Run,
    /// The business day that the run is about.
    pub day: BusinessDay,
    /// The time at which the task is begun.
    pub now: DateTime<Utc>,
    /// The database.
    pub pool: PgPool,
    /// The configuration.
    pub config: Arc<Config>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// What the tasks that are done handed on.
    pub outputs: BTreeMap<String, Arc<Value>>,
}

impl TaskContext {
    /// What a task before this one handed on.
    ///
    /// # Errors
    /// When it is not done, or handed on something else.
    pub fn output<T: DeserializeOwned>(&self, task: &str) -> Result<T, TaskError> {
        let output = self.outputs.get(task).with_context(|| format!("task {task} is not done"));
        let read = output.and_then(|output| {
            T::deserialize(output.as_ref())
                .with_context(|| format!("what task {task} handed on is not understood"))
        });
        read.map_err(TaskError::for_good)
    }
}

/// What a task made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskOutput {
    /// How many rows; none: it does not make rows.
    pub rows: Option<u64>,
    /// What it hands on to the tasks after it, and shows in the run's history.
    pub output: Value,
}

impl TaskOutput {
    /// So many rows, and this to hand on.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn new(rows: Option<u64>, output: &impl Serialize) -> Result<TaskOutput, TaskError> {
        let output =
            serde_json::to_value(output).context("what the task hands on").map_err(TaskError::for_good)?;
        Ok(TaskOutput { rows, output })
    }
}

/// Why a task failed.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// It may succeed when it is tried again.
    #[error("{0:#}")]
    Again(anyhow::Error),
    /// It will not.
    #[error("{0:#}")]
    ForGood(anyhow::Error),
    /// It was done, and the answer is no: it will be so again until somebody mends what it is about.
    #[error("{says:#}")]
    Verdict {
        /// The answer in one line.
        says: anyhow::Error,
        /// The whole of it, kept with the task.
        output: Value,
    },
}

impl TaskError {
    /// To be tried again.
    pub fn again(error: impl Into<anyhow::Error>) -> TaskError {
        TaskError::Again(error.into())
    }

    /// Not to be tried again by itself.
    pub fn for_good(error: impl Into<anyhow::Error>) -> TaskError {
        TaskError::ForGood(error.into())
    }
}

impl From<anyhow::Error> for TaskError {
    fn from(error: anyhow::Error) -> TaskError {
        TaskError::Again(error)
    }
}

impl From<sqlx::Error> for TaskError {
    fn from(error: sqlx::Error) -> TaskError {
        TaskError::Again(anyhow::Error::new(error).context("the database"))
    }
}
