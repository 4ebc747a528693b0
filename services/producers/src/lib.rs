//! Simulators of the sources and importers of real files.
//!
//! [`online_retail`] turns a real data set into events, [`sim`] makes them up; [`feed`] brings either to Kafka at a pace,
//! through a [`sink`] that says what became of each record.

pub mod feed;
pub mod metrics;
pub mod online_retail;
pub mod outgoing;
pub mod progress;
pub mod record;
pub mod sim;
pub mod sink;
mod wire;

pub use record::Record;
