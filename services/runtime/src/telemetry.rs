//! Logs, to stderr: stdout belongs to a command's answer. And traces, to whoever is told to take them.

use std::io::IsTerminal;

use anyhow::{Context, anyhow};
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::Config;
use crate::config::LogFormat;
use crate::terminal::LogLines;
use crate::traces::{TARGET, Traces};

/// The store's client tells each of its retries, and what came of them is told by whoever asked: the answer of a failing
/// command stays one line. The database's clients tell the parameters of their statements at debug, which are what is in the
/// events; one of them warns of parameters of a URL that it does not know, with their values, which may be secrets. Who wants them
/// names the module in `log.filter`.
const QUIET: &str =
    "object_store::client::retry=off,tokio_postgres=info,sqlx=info,sqlx_postgres::options=error";

/// Spans of traces are no lines.
const SPANS: &str = "stocktide::traces=off";

/// Starts logging as `log.filter` and `log.format` say, and tracing to `traces.endpoint`. Lines of librdkafka and of crates that
/// use `log` come along. What it returns lives as long as the command, whose name is `service`.
///
/// # Errors
/// When the filter does not parse, or logging has been started before.
pub fn init(config: &Config, service: &str) -> anyhow::Result<Option<Traces>> {
    let filter = EnvFilter::builder().parse(filter(&config.log.filter)).context("log.filter")?;
    let coloured = config.log.format == LogFormat::Text && std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt::layer().with_writer(move || LogLines { coloured });
    let lines = match config.log.format {
        LogFormat::Text => lines.with_ansi(coloured).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
    };
    let traces = Traces::open(config, service)?;
    let spans = traces.as_ref().map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_filter(filter_fn(|metadata| metadata.target() == TARGET))
    });
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .with(spans)
        .try_init()
        .map_err(|e| anyhow!("logging: {e}"))?;
    Ok(traces)
}

/// The configured directives, which come last and so hold where they name the same module.
fn filter(configured: &str) -> String {
    format!("{QUIET},{SPANS},{configured}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn retries_are_logged_only_where_they_are_asked_for() {
        let holds = |configured: &str| EnvFilter::builder().parse(filter(configured)).unwrap().to_string();
        assert!(QUIET.split(',').all(|directive| holds("info").contains(directive)));
        let asked = holds("info,object_store::client::retry=info");
        assert!(
            asked.contains("object_store::client::retry=info") && !asked.contains("retry=off"),
            "{asked}"
        );
        assert!(holds("debug").contains("tokio_postgres=info") && holds("debug").ends_with("debug"));
    }
}
