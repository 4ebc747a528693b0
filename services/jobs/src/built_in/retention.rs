//! `retention`: months of the event log that are old enough are dropped.

use stocktide_store::retention::{self, RetentionError, RetentionOptions};

use crate::job::{TaskContext, TaskError, TaskOutput};

/// Its one task.
pub async fn event_log(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let Some(age) = context.config.retention.log_age else {
        let says = "retention.log_age is not set: everything is kept";
        return TaskOutput::new(Some(0), &serde_json::json!({ "note": says }));
    };
    let options = RetentionOptions::new(age, context.now, false);
    let done = retention::run(&context.pool, options).await.map_err(of_retention)?;
    TaskOutput::new(u64::try_from(done.rows()).ok(), &done)
}

fn of_retention(error: RetentionError) -> TaskError {
    match error {
        RetentionError::Database(error) => TaskError::from(error),
        in_use @ RetentionError::InUse { .. } => TaskError::again(in_use),
    }
}
