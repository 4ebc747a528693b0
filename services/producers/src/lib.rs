//! Simulators of the sources and importers of real files.
//!
//! [`online_retail`] turns a real data set into events, `sink` brings events to Kafka and says what became of them.

pub mod online_retail;
pub mod record;
mod wire;

pub use record::Record;
