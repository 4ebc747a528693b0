//! What the documents, dashboards and rules say, against what the services declare and a real Prometheus sees.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[cfg(feature = "alert-tests")]
mod alerts;
mod image;
mod metrics;
mod observability;
mod schema;

#[path = "../command/mod.rs"]
mod command;
#[path = "../watched/mod.rs"]
mod watched;
