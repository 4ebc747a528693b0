//! Logs, to stderr: stdout belongs to a command's answer.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use tracing_subscriber::EnvFilter;

use crate::Config;
use crate::config::LogFormat;

/// Starts logging as `log.filter` and `log.format` say. Lines of librdkafka and of crates that use `log` come along.
///
/// # Errors
/// When the filter does not parse, or logging has been started before.
pub fn init(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(&config.log.filter).context("log.filter")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    };
    started.map_err(|e| anyhow!("logging: {e}"))
}
