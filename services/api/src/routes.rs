//! The routes that read.

pub mod dlq;
pub mod jobs;
pub mod orders;
pub mod reports;
pub mod stats;
pub mod stock;
