//! The last task of `daily_report`: a language model's remarks, where one is configured. The report is complete before it
//! begins, and whatever goes wrong here is said in its output and fails nothing.

use serde_json::{Value, json};
use stocktide_domain::report::Figures;
use stocktide_reports::narrative::{Narrative, NarrativeOptions, SAMPLED_REJECTS, narrate};
use stocktide_reports::{Storage, StorageOptions};
use stocktide_store::reject_sample::masked_rejects;

use crate::job::{TaskContext, TaskError, TaskOutput};

/// Asks for remarks and keeps them beside the report.
///
/// # Errors
/// Only where the tasks before it are not done, which is a mistake in the program.
pub async fn task(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let figures: Figures = context.output("collect")?;
    let uploaded: Value = context.output("upload")?;
    let Some(options) = options(context) else {
        return TaskOutput::new(None, &json!({ "state": "off", "reason": "narrative.url is not set" }));
    };
    let is_new = uploaded["written"].as_array().is_none_or(|written| !written.is_empty());
    let output = match remarks(context, &options, &figures, is_new).await {
        Ok(output) => output,
        Err(error) => {
            tracing::warn!(date = %context.day.date, "the report is without a language model's remarks: {error:#}");
            json!({ "state": "missing", "reason": format!("{error:#}") })
        }
    };
    TaskOutput::new(None, &output)
}

fn options(context: &TaskContext) -> Option<NarrativeOptions> {
    let wanted = &context.config.narrative;
    Some(NarrativeOptions {
        url: wanted.url.clone()?,
        model: wanted.model.clone()?,
        key: wanted.key.as_ref().map(|key| key.expose().to_owned()),
        timeout: wanted.timeout,
    })
}

async fn remarks(
    context: &TaskContext,
    options: &NarrativeOptions,
    figures: &Figures,
    is_new: bool,
) -> anyhow::Result<Value> {
    let date = context.day.date;
    let storage = Storage::open(&context.config.reports.url, &StorageOptions::of_process())?;
    if !is_new && storage.narrative(date).await?.is_some() {
        return Ok(json!({ "state": "kept", "reason": "the report is the one that was remarked on" }));
    }
    let rejects = masked_rejects(&context.pool, context.day, SAMPLED_REJECTS).await?;
    let narrative: Narrative = narrate(options, date, &figures.data_quality, &rejects).await;
    storage.put_narrative(date, &narrative).await?;
    Ok(serde_json::to_value(narrative)?)
}
