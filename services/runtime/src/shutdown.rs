//! Shutdown: a token that the first signal cancels.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code of a process that a second signal ended before its work was finished.
pub const FORCED_EXIT: i32 = 130;

/// A token that SIGINT or SIGTERM cancels; a second one ends the process at once, with exit code [`FORCED_EXIT`].
///
/// Must be called inside a tokio runtime. Should the handlers not be to be had (the error is logged), signals keep their
/// default effect and the token is never cancelled.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    match handlers() {
        Ok((interrupt, terminate)) => {
            tokio::spawn(watch(interrupt, terminate, token.clone()));
        }
        Err(error) => tracing::error!("{error:#}"),
    }
    token
}

fn handlers() -> anyhow::Result<(Signal, Signal)> {
    let interrupt = signal(SignalKind::interrupt()).context("no handler for SIGINT")?;
    let terminate = signal(SignalKind::terminate()).context("no handler for SIGTERM")?;
    Ok((interrupt, terminate))
}

async fn watch(mut interrupt: Signal, mut terminate: Signal, token: CancellationToken) {
    let name = next(&mut interrupt, &mut terminate).await;
    tracing::info!("{name}: finishing the work in hand; a second signal ends it at once");
    token.cancel();
    let name = next(&mut interrupt, &mut terminate).await;
    tracing::warn!("{name} again: ending at once");
    std::process::exit(FORCED_EXIT);
}

async fn next(interrupt: &mut Signal, terminate: &mut Signal) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}
