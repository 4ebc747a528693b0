//! Scheduled jobs and the reports they make, on a real PostgreSQL, as a person would use them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod faults;
mod figures;
mod files;
#[cfg(feature = "gcs-tests")]
mod gcs;
mod narrative;
mod reconcile;
mod revise;
mod runs;
mod storage;

#[path = "../command/mod.rs"]
mod command;
#[cfg(feature = "gcs-tests")]
#[path = "../support/gcs.rs"]
mod gcs_server;
#[path = "../jobs_world/mod.rs"]
mod jobs_world;
#[path = "../retail_sums/mod.rs"]
mod retail_sums;
#[path = "../support/s3.rs"]
mod s3;
#[path = "../../services/reports/tests/sample/mod.rs"]
mod sample;
#[path = "../support/mod.rs"]
mod support;
