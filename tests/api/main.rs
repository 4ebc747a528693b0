//! `stocktide api` on a real PostgreSQL and Kafka: what it says against what was sent, and what it makes of bad input.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod client;
mod console;
mod document;
mod figures;
mod intake;
mod outages;
mod refusals;
mod rejects;
mod stream;
mod walk;

#[path = "../command/mod.rs"]
mod command;
#[path = "../support/mod.rs"]
mod support;
