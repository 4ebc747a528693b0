//! The command line, as a person would use it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod catalog;
mod demo;
mod producers;
mod topics;
mod up;
mod usage;

#[path = "../command/mod.rs"]
mod command;
#[path = "../support/mod.rs"]
mod support;
