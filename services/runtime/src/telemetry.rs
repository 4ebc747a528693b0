//! Logs, to stderr: stdout belongs to a command's answer.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;

use crate::Config;
use crate::config::LogFormat;
use crate::terminal::LogLines;

/// The store's client tells each of its retries, and what came of them is told by whoever asked: the answer of a failing
/// command stays one line. Who wants them names the module in `log.filter`.
const QUIET: &str = "object_store::client::retry=off";

/// Starts logging as `log.filter` and `log.format` say. Lines of librdkafka and of crates that use `log` come along.
///
/// # Errors
/// When the filter does not parse, or logging has been started before.
pub fn init(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter(&config.log.filter)).context("log.filter")?;
    let coloured = config.log.format == LogFormat::Text && std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(move || LogLines { coloured });
    let started = match config.log.format {
        LogFormat::Text => builder.with_ansi(coloured).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|e| anyhow!("logging: {e}"))
}

/// The configured directives, which come last and so hold where they name the same module.
fn filter(configured: &str) -> String {
    format!("{QUIET},{configured}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retries_are_logged_only_where_they_are_asked_for() {
        let holds = |configured: &str| EnvFilter::builder().parse(filter(configured)).unwrap().to_string();
        assert!(holds("info").contains(QUIET));
        let asked = holds("info,object_store::client::retry=info");
        assert!(asked.contains("object_store::client::retry=info") && !asked.contains(QUIET), "{asked}");
    }
}
