//! `stocktide api` on a real PostgreSQL and Kafka: what it says against what was sent, and what it makes of bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command;
mod support;

#[path = "api/client.rs"]
mod client;
#[path = "api/document.rs"]
mod document;
#[path = "api/figures.rs"]
mod figures;
#[path = "api/intake.rs"]
mod intake;
#[path = "api/outages.rs"]
mod outages;
#[path = "api/refusals.rs"]
mod refusals;
#[path = "api/stream.rs"]
mod stream;
#[path = "api/walk.rs"]
mod walk;
