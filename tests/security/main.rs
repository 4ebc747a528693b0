//! A Kafka and a PostgreSQL that ask who is there, and what the services may do with no more rights than theirs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acls;
mod certificates;
mod refusals;
mod roles;
mod services;
mod world;

#[path = "../command/mod.rs"]
mod command;
#[path = "../jobs_world/service.rs"]
mod service;
