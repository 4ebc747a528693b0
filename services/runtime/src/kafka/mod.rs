//! The way to Kafka: clients, their log lines, and the topics.

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Config;

mod headers;
mod topics;

pub use headers::{Header, headers};
pub use topics::{Change, DLQ_HEADROOM_BYTES, TopicChange, ensure_topics};

/// Online orders and what becomes of them.
pub const ONLINE_ORDERS: &str = "online_orders";
/// Sales in stores.
pub const STORE_SALES: &str = "store_sales";
/// Deliveries and corrections.
pub const SUPPLIER_RESTOCKS: &str = "supplier_restocks";
/// Payments of online orders.
pub const PAYMENTS: &str = "payments";
/// The changes of stock, for others to follow.
pub const INVENTORY_UPDATES: &str = "inventory_updates";
/// The rejected records.
pub const DLQ: &str = "dlq";

/// The topics whose events move stock.
pub const INPUT_TOPICS: [&str; 3] = [ONLINE_ORDERS, STORE_SALES, SUPPLIER_RESTOCKS];
/// The topics that the processor writes.
pub const OUTPUT_TOPICS: [&str; 2] = [INVENTORY_UPDATES, DLQ];
/// Every topic there is.
pub const TOPICS: [&str; 6] =
    [ONLINE_ORDERS, STORE_SALES, SUPPLIER_RESTOCKS, PAYMENTS, INVENTORY_UPDATES, DLQ];

/// What every Kafka client starts from: the brokers, a client.id, and the properties of the configuration. Without
/// brokers the client connects to nobody: ask [`Config::kafka_brokers`] first.
pub fn client_config(config: &Config) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("client.id", "stocktide");
    // A broker closes idle connections as a matter of course.
    client.set("log.connection.close", "false");
    // It bounds what a batch may unpack to as well, and a consumer cannot get past one that it will not unpack: a record of
    // a few kilobytes could hold up its partition for ever. This is the most that can be set.
    client.set("receive.message.max.bytes", "2147483647");
    if let Some(brokers) = &config.kafka.brokers {
        client.set("bootstrap.servers", brokers);
    }
    for (name, value) in config.kafka.properties.iter() {
        client.set(name, value);
    }
    client
}

/// A client context that does nothing but log by [`log_line`] and [`log_error`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LogContext;

impl ClientContext for LogContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log_line(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        log_error(&error, reason);
    }
}

impl ConsumerContext for LogContext {}

/// A log line of librdkafka, as a tracing event. What it calls an error is mostly a broker that is away for a moment, which
/// it deals with itself, so that is a warning here.
pub fn log_line(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
            tracing::error!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Error | RDKafkaLogLevel::Warning => {
            tracing::warn!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            tracing::debug!(target: "librdkafka", facility, "{message}");
        }
        RDKafkaLogLevel::Debug => tracing::trace!(target: "librdkafka", facility, "{message}"),
    }
}

/// What a client reports of itself while it runs. Connections that come and go are a warning; what it cannot mend is an error.
pub fn log_error(error: &KafkaError, reason: &str) {
    let code = error.rdkafka_error_code();
    let transient = matches!(
        code,
        Some(
            RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::Resolve
        )
    );
    if code == Some(RDKafkaErrorCode::PartitionEOF) {
        // Who asks for it (enable.partition.eof) gets it from poll as well.
        tracing::trace!(target: "librdkafka", "{reason}");
    } else if transient {
        tracing::warn!(target: "librdkafka", "{reason}");
    } else {
        tracing::error!(target: "librdkafka", "{error}: {reason}");
    }
}
