//! `reconcile`: `stocktide verify` by night.

use anyhow::anyhow;
use futures_util::future::BoxFuture;
use stocktide_verify::{Report, VerifyOptions, reconcile};

use crate::job::{Job, Task, TaskContext, TaskError, TaskOutput};

/// The job.
pub struct Reconcile;

impl Job for Reconcile {
    fn tasks(&self) -> &'static [Task] {
        &[Task { name: "verify", after: &[] }]
    }

    fn run_task<'a>(
        &'a self,
        context: &'a TaskContext,
        _task: &'a str,
    ) -> BoxFuture<'a, Result<TaskOutput, TaskError>> {
        Box::pin(async move {
            let options = VerifyOptions::of(&context.config).map_err(TaskError::for_good)?;
            let report = reconcile(&options, &context.metrics.reconcile).await?;
            if report.ok {
                let checked = report.checks.iter().map(|check| check.checked).sum();
                TaskOutput::new(Some(checked), &report)
            } else {
                Err(TaskError::for_good(anyhow!("{}", verdict(&report))))
            }
        })
    }
}

/// The promises that do not hold, with an example of each.
fn verdict(report: &Report) -> String {
    let broken: Vec<String> = report
        .checks
        .iter()
        .filter(|check| check.differing > 0)
        .map(|check| {
            let example = check.examples.first().map(|example| format!(", such as {example}"));
            format!(
                "{}: {} of {} differ{}",
                check.name,
                check.differing,
                check.checked,
                example.unwrap_or_default()
            )
        })
        .collect();
    format!("{} of {} promises do not hold: {}", broken.len(), report.checks.len(), broken.join("; "))
}

#[cfg(test)]
mod tests {
    use stocktide_verify::Check;

    use super::*;

    #[test]
    fn the_verdict_names_what_does_not_hold() {
        let check = |name, differing, examples: &[&str]| Check {
            name,
            promise: "it holds",
            checked: 10,
            differing,
            examples: examples.iter().map(|text| (*text).to_owned()).collect(),
        };
        let checks =
            vec![check("offsets", 0, &[]), check("stock_balances", 2, &["22423@online: 41, not 40"])];
        let report = Report { ok: false, checks, notes: Vec::new() };
        assert_eq!(
            verdict(&report),
            "1 of 2 promises do not hold: stock_balances: 2 of 10 differ, such as 22423@online: 41, not 40"
        );
    }
}
