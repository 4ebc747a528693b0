//! The last task of `daily_report`: a language model's remarks, where one is configured. The report is complete before it
//! begins, and whatever goes wrong here is said in its output and fails nothing.

use serde::Deserialize;
use serde_json::{Value, json};
use stocktide_domain::report::Figures;
use stocktide_reports::narrative::{About, Narrative, NarrativeOptions, SAMPLED_REJECTS, narrate};
use stocktide_reports::{Storage, StorageOptions};
use stocktide_store::reject_sample::masked_rejects;

use crate::job::{TaskContext, TaskError, TaskOutput};

/// Asks for remarks and keeps them beside the report.
///
/// # Errors
/// Only where the tasks before it are not done, which is a mistake in the program.
pub async fn task(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let figures: Figures = context.output("collect")?;
    let planned: Planned = context.output("files")?;
    let about =
        About { date: context.day.date, revision: planned.revision, figures_sha256: planned.figures_sha256 };
    let output = match remarks(context, &figures, &about).await {
        Ok(output) => output,
        Err(error) => {
            tracing::warn!(date = %about.date, "the report is without a language model's remarks: {error:#}");
            json!({ "state": "missing", "reason": format!("{error:#}") })
        }
    };
    TaskOutput::new(None, &output)
}

/// What the remarks are about, of what the task `files` hands on.
#[derive(Deserialize)]
struct Planned {
    revision: u32,
    figures_sha256: String,
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

async fn remarks(context: &TaskContext, figures: &Figures, about: &About) -> anyhow::Result<Value> {
    let storage = Storage::open(&context.config.reports.url, &StorageOptions::of_process())?;
    let kept = storage.narrative(about.date).await?;
    let is_kept = kept.as_ref().is_some_and(|file| about.is_of(file));
    let Some(options) = options(context) else {
        let reason = "narrative.url is not set";
        if kept.is_some() && !is_kept {
            // What was said of other figures.
            storage.put_narrative(about.date, &Narrative::Missing { reason: reason.to_owned() }).await?;
        }
        return Ok(json!({ "state": "off", "reason": reason }));
    };
    if is_kept {
        return Ok(json!({ "state": "kept", "reason": "the report is the one that was remarked on" }));
    }
    let rejects = masked_rejects(&context.pool, context.day, SAMPLED_REJECTS).await?;
    let narrative: Narrative = narrate(&options, about, &figures.data_quality, &rejects).await;
    storage.put_narrative(about.date, &narrative).await?;
    Ok(serde_json::to_value(narrative)?)
}
