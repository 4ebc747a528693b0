//! `reconcile`: `stocktide verify` by night.

use anyhow::anyhow;
use stocktide_verify::{Report, VerifyOptions, reconcile};

use crate::job::{TaskContext, TaskError, TaskOutput};

/// Its one task. Where a promise does not hold the task has failed, and its output is the report all the same.
pub async fn verify(context: &TaskContext) -> Result<TaskOutput, TaskError> {
    let options = VerifyOptions::of(&context.config).map_err(TaskError::for_good)?;
    let report = reconcile(&options, &context.metrics.reconcile).await?;
    let checked = report.checks.iter().map(|check| check.checked).sum();
    let answer = TaskOutput::new(Some(checked), &report)?;
    if report.ok {
        return Ok(answer);
    }
    Err(TaskError::Verdict { says: anyhow!("{}", verdict(&report)), output: answer.output })
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
