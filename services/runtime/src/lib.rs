//! What every service needs around its work: configuration, logs, shutdown, the admin endpoint, the clock, and the way to
//! Kafka and its topics.

pub mod admin;
pub mod clock;
pub mod config;
pub mod kafka;
pub mod metrics;
pub mod secret;
pub mod shutdown;
pub mod telemetry;
pub mod terminal;
pub mod tls;
pub mod traces;

pub use config::{Config, ConfigError};
pub use secret::Secret;
