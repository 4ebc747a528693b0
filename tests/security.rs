//! A Kafka and a PostgreSQL that ask who is there, and what the services may do with no more rights than theirs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "security/acls.rs"]
mod acls;
#[path = "security/certificates.rs"]
mod certificates;
mod command;
#[path = "security/refusals.rs"]
mod refusals;
#[path = "security/roles.rs"]
mod roles;
#[path = "jobs_world/service.rs"]
mod service;
#[path = "security/services.rs"]
mod services;
#[path = "security/world.rs"]
mod world;
