//! The admin endpoint: `/live`, `/ready` and `/metrics`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus::{Registry, TextEncoder};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Process, set_flag};

/// What the parts of a process say of themselves.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>,
    notes: Arc<Mutex<BTreeMap<&'static str, String>>>,
}

impl Health {
    /// No part has said anything yet, and so the process is ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// A part works, or does not and says why. The change is logged.
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        let before = unpoisoned(&self.parts).insert(part, state.clone());
        if before.as_ref() == Some(&state) {
            return;
        }
        match (state, before) {
            (Ok(()), Some(Err(_))) => tracing::info!(part, "ready"),
            (Err(reason), _) => tracing::warn!(part, reason, "not ready"),
            (Ok(()), _) => {}
        }
    }

    /// A part without which the process is not ready has yet to begin. That is how it starts and no trouble, so it is not logged.
    pub fn expect(&self, part: &'static str, missing: &str) {
        unpoisoned(&self.parts).entry(part).or_insert_with(|| Err(missing.to_owned()));
    }

    /// What a part that works has to say all the same; none: nothing any more.
    pub fn note(&self, part: &'static str, note: Option<String>) {
        let mut notes = unpoisoned(&self.notes);
        match note {
            Some(note) => drop(notes.insert(part, note)),
            None => drop(notes.remove(part)),
        }
    }

    /// What parts that work have to say all the same.
    pub fn notes(&self) -> BTreeMap<&'static str, String> {
        unpoisoned(&self.notes).clone()
    }

    /// The parts that have said something, and whether they work.
    fn parts(&self) -> Vec<(&'static str, bool)> {
        unpoisoned(&self.parts).iter().map(|(part, state)| (*part, state.is_ok())).collect()
    }

    /// The parts that do not work, and why.
    pub fn failing(&self) -> BTreeMap<&'static str, String> {
        let parts = unpoisoned(&self.parts);
        parts.iter().filter_map(|(part, state)| Some((*part, state.as_ref().err()?.clone()))).collect()
    }
}

/// A poisoned map is still a map: a panic elsewhere must not take the health endpoint with it.
fn unpoisoned<T>(map: &Mutex<T>) -> MutexGuard<'_, T> {
    map.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves the endpoint until `shutdown`, and says where (the port may have been 0).
///
/// # Errors
/// When the address cannot be listened on, or the registry has been served before.
pub async fn serve(
    listen: &str,
    registry: Registry,
    health: Health,
    shutdown: CancellationToken,
) -> anyhow::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .with_context(|| format!("admin.listen: cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    let shown = Arc::new(Shown { process: Process::of_build(&registry)?, registry, health: health.clone() });
    let routes = Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready).with_state(health))
        .route("/metrics", get(metrics).with_state(shown));
    tracing::info!("admin endpoint on http://{address}");
    tokio::spawn(async move {
        let served = axum::serve(listener, routes).with_graceful_shutdown(shutdown.cancelled_owned()).await;
        if let Err(error) = served {
            tracing::error!("admin endpoint: {error}");
        }
    });
    Ok(address)
}

async fn ready(State(health): State<Health>) -> Response {
    let failing = health.failing();
    let status = if failing.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = serde_json::json!({ "ready": failing.is_empty(), "failing": failing });
    let notes = health.notes();
    if !notes.is_empty() {
        answer["notes"] = serde_json::json!(notes);
    }
    (status, Json(answer)).into_response()
}

/// What `/metrics` is made of.
struct Shown {
    process: Process,
    registry: Registry,
    health: Health,
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    for (part, works) in shown.health.parts() {
        set_flag(&shown.process.part_ready, part, works);
    }
    match TextEncoder::new().encode_to_string(&shown.registry.gather()) {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
