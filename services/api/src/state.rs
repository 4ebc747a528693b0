//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use stocktide_runtime::Config;
use stocktide_store::api::PgPool;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::access::Access;
use crate::intake::Intake;
use crate::metrics::Metrics;
use crate::pulse::Pulse;
use crate::stream::Hub;

/// What all requests share.
pub struct Shared {
    /// The settings.
    pub config: Arc<Config>,
    /// Connections that can only read.
    pub pool: PgPool,
    /// Taken by whoever walks the ledger: slow questions leave connections to quick ones.
    pub walks: Semaphore,
    /// Who may do what.
    pub access: Access,
    /// After this long a request is given up.
    pub request_timeout: Duration,
    /// The process's metrics.
    pub registry: prometheus::Registry,
    /// The API's own.
    pub metrics: Arc<Metrics>,
    /// The stream of stock changes.
    pub hub: Arc<Hub>,
    /// The way to Kafka.
    pub intake: Intake,
    /// How the installation fares.
    pub pulse: Arc<Pulse>,
    /// The OpenAPI document.
    pub openapi: Bytes,
    /// Cancelled when the process ends.
    pub shutdown: CancellationToken,
}

/// The routes' state.
pub type App = Arc<Shared>;
