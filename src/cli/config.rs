//! `stocktide config`: what holds, and where it came from.

use std::process::ExitCode;

use stocktide_runtime::Config;

use super::say;
use super::table::table;

/// Print what is configured, and where each value came from. Secrets are masked.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  stocktide config
  STOCKTIDE_TOPICS_PARTITIONS=12 stocktide config --json

docs/configuration.md lists all keys.")]
pub struct ConfigArgs {
    /// One JSON object on one line: each key with its value and where it is from.
    #[arg(long)]
    json: bool,
}

/// Runs it.
///
/// # Errors
/// When the answer cannot be written.
#[expect(clippy::unused_async, reason = "all commands are run alike")]
pub async fn run(args: ConfigArgs, config: &Config) -> anyhow::Result<ExitCode> {
    if args.json {
        let value =
            |e: &stocktide_runtime::config::Entry| serde_json::json!({ "value": e.value, "from": e.origin });
        let all: serde_json::Map<_, _> = config.entries.iter().map(|e| (e.key.clone(), value(e))).collect();
        say(serde_json::Value::Object(all))?;
    } else {
        let row = |e: &stocktide_runtime::config::Entry| {
            vec![e.key.clone(), e.value.clone().unwrap_or_else(|| "(not set)".to_owned()), e.origin.clone()]
        };
        let rows: Vec<Vec<String>> = config.entries.iter().map(row).collect();
        say(table(&["key", "value", "from"], &rows))?;
    }
    Ok(ExitCode::SUCCESS)
}
