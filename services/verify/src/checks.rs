//! The checks, one file per family. Each compares what it is given and knows neither Kafka nor PostgreSQL, so that the
//! tests can feed it from memory.

pub mod dlq;
pub mod fates;
pub mod forgotten;
pub mod lines;
pub mod offsets;
pub mod orders;
pub mod payments;
pub mod rejects;
pub mod replays;
pub mod rollups;
pub mod stock;
pub mod updates;
