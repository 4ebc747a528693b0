//! The processor on a real Kafka and PostgreSQL: what becomes of records, through odd times and kills; and `verify` of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bad_input;
mod doubtful_commits;
mod membership;
mod odd_times;
mod path;
mod payments;
mod policy;
mod published;
mod retention;
mod traces;
mod verify_catches;
mod verify_live;

#[path = "../command/mod.rs"]
mod command;
#[path = "../support/mod.rs"]
mod support;
