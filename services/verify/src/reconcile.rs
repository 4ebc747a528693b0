//! The nightly verification, as a job: its answer as metrics.

use anyhow::Context;
use prometheus::{IntGaugeVec, Opts, Registry};

use crate::{Report, VerifyOptions};

/// What the last verification said. Of one that has not run yet there is nothing to be seen: no false "all is well", and no
/// false alarm.
#[derive(Debug, Clone)]
pub struct ReconcileMetrics {
    checked: IntGaugeVec,
    differing: IntGaugeVec,
}

impl ReconcileMetrics {
    /// Declares the metrics in a registry.
    ///
    /// # Errors
    /// When a name is taken.
    pub fn register(registry: &Registry) -> prometheus::Result<ReconcileMetrics> {
        let gauge = |name, help| -> prometheus::Result<IntGaugeVec> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &["check"])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(ReconcileMetrics {
            checked: gauge(
                "stocktide_reconcile_checked",
                "Things that the last reconcile looked at, by check.",
            )?,
            differing: gauge(
                "stocktide_reconcile_differing",
                "Things that the last reconcile found to be not as promised, by check; anything above 0 is an alarm.",
            )?,
        })
    }

    /// Shows what a verification said, wherever it was made: its report as it was serialised.
    pub fn show_kept(&self, report: &serde_json::Value) {
        for check in report["checks"].as_array().into_iter().flatten() {
            let (Some(name), Some(checked), Some(differing)) =
                (check["name"].as_str(), check["checked"].as_i64(), check["differing"].as_i64())
            else {
                continue;
            };
            self.checked.with_label_values(&[name]).set(checked);
            self.differing.with_label_values(&[name]).set(differing);
        }
    }

    /// Shows what a verification said.
    pub fn show(&self, report: &Report) {
        // A check that is no longer made is not shown for ever.
        self.checked.reset();
        self.differing.reset();
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        for check in &report.checks {
            self.checked.with_label_values(&[check.name]).set(number(check.checked));
            self.differing.with_label_values(&[check.name]).set(number(check.differing));
        }
    }
}

/// Verifies an installation and shows the answer. The report, serialised, is the job's output; where it is not `ok` the job
/// has failed, and doing it again would not help.
///
/// # Errors
/// PostgreSQL or Kafka cannot be read: trying again may help. The metrics then show what they showed before.
pub async fn reconcile(options: &VerifyOptions, metrics: &ReconcileMetrics) -> anyhow::Result<Report> {
    let report = crate::run(options).await.context("the installation cannot be verified")?;
    metrics.show(&report);
    for check in report.checks.iter().filter(|check| check.differing > 0) {
        tracing::error!(
            check = check.name,
            differing = check.differing,
            checked = check.checked,
            example = check.examples.first(),
            "a promise does not hold"
        );
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::Check;

    fn shown(registry: &Registry) -> String {
        let mut text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
        text.retain(|c| c != '"');
        text
    }

    #[test]
    fn nothing_is_shown_before_the_first_verification_and_only_the_last_afterwards() {
        let registry = Registry::new();
        let metrics = ReconcileMetrics::register(&registry).unwrap();
        assert_eq!(shown(&registry), "");
        let mut check = Check::new("stock_balances", "it holds");
        check.expect(true, String::new);
        check.differs(|| "22423@online".to_owned());
        metrics.show(&Report::new(vec![check], Vec::new()));
        for kept in [false, true] {
            if kept {
                // By another process, and read back.
                let mut check = Check::new("stock_balances", "it holds");
                (check.checked, check.differing) = (5, 0);
                metrics.show_kept(&serde_json::to_value(Report::new(vec![check], Vec::new())).unwrap());
            }
            let (text, (checked, differing)) = (shown(&registry), if kept { (5, 0) } else { (2, 1) });
            let says = |name, value| format!("stocktide_reconcile_{name}{{check=stock_balances}} {value}");
            assert!(text.contains(&says("checked", checked)), "{text}");
            assert!(text.contains(&says("differing", differing)), "{text}");
        }
        metrics.show(&Report::new(vec![Check::new("offsets", "it holds")], Vec::new()));
        let text = shown(&registry);
        assert!(text.contains("stocktide_reconcile_differing{check=offsets} 0"), "{text}");
        assert!(!text.contains("stock_balances"), "{text}");
    }
}
