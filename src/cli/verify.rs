//! `stocktide verify`: recomputes every promise from raw data, and says what differs.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use indicatif::ProgressBar;
use stocktide_runtime::Config;
use stocktide_runtime::secret::mask_url;
use stocktide_runtime::terminal::escape;
use stocktide_verify::{Report, VerifyOptions};

use super::say;
use super::table::table;

/// Recompute every promise from the topics and the tables, apart from the processor's own code, and say what differs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide verify
  stocktide verify --json | jq '.checks[] | select(.differing > 0)'

Exit code 0 only when everything holds. It first waits until what is applied is published too,
and can be read in read_committed. A running processor does not disturb it: what comes in after
the start is left out.")]
pub struct VerifyArgs {
    /// One JSON object on one line: ok, and of each check its name, checked, differing and examples.
    #[arg(long)]
    json: bool,
    /// How long to wait at most until what is applied is published and readable, such as 90s or 5m.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    wait: Duration,
}

/// Runs it.
///
/// # Errors
/// When the database or Kafka cannot be read. That something differs is exit code 1.
pub async fn run(args: VerifyArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let brokers = config.kafka_brokers()?;
    let spinner =
        if std::io::stderr().is_terminal() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.enable_steady_tick(Duration::from_millis(100));
    let shown = spinner.clone();
    let on_step = Arc::new(move |step: &str| shown.set_message(step.to_owned()));
    let options = VerifyOptions { wait: args.wait, on_step, ..VerifyOptions::of(config)? };
    let report = stocktide_verify::run(&options).await;
    spinner.finish_and_clear();
    let report = report.with_context(|| {
        format!("PostgreSQL at {} and Kafka at {brokers} cannot be verified", mask_url(&options.database_url))
    })?;
    if args.json {
        say(serde_json::to_string(&report)?)?;
    } else {
        say(in_words(&report))?;
    }
    Ok(if report.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The table for people: each promise, how much was checked, how much differs; then the culprits, and the verdict.
pub fn in_words(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|c| {
            vec![c.name.to_owned(), c.checked.to_string(), c.differing.to_string(), c.promise.to_owned()]
        })
        .collect();
    let mut parts = vec![table(&["promise", "checked", "differing", "which says"], &rows)];
    let differing: Vec<_> = report.checks.iter().filter(|check| check.differing > 0).collect();
    for check in &differing {
        parts.push(format!("\n{}: {} of {} differ", check.name, check.differing, check.checked));
        parts.extend(check.examples.iter().map(|example| format!("  {}", escape(example.as_bytes()))));
        if check.differing > check.examples.len() as u64 {
            parts.push("  …".to_owned());
        }
    }
    parts.extend(report.notes.iter().map(|note| format!("note: {note}")));
    parts.push(match differing.len() {
        0 => format!("\nAll {} promises hold.", report.checks.len()),
        broken => format!("\n{broken} of {} promises do not hold.", report.checks.len()),
    });
    parts.join("\n")
}

#[cfg(test)]
mod tests {
    use stocktide_verify::Check;

    use super::*;

    #[test]
    fn the_culprits_are_named_under_the_table() {
        let check = |name, differing, examples: &[&str]| Check {
            name,
            promise: "it holds",
            checked: 1_000,
            differing,
            examples: examples.iter().map(|text| (*text).to_owned()).collect(),
        };
        let report = Report {
            ok: false,
            checks: vec![
                check("offsets", 0, &[]),
                check("stock_balances", 2, &["22423@online: ledger says 41"]),
            ],
            notes: vec!["dlq is short".to_owned()],
        };
        let expected = "promise         checked  differing  which says
offsets            1000          0  it holds
stock_balances     1000          2  it holds

stock_balances: 2 of 1000 differ
  22423@online: ledger says 41
  …
note: dlq is short

1 of 2 promises do not hold.";
        assert_eq!(in_words(&report), expected);
    }
}
