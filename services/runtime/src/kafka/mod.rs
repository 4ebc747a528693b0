//! The way to Kafka: clients, their log lines, and the topics.

use std::error::Error;

use rdkafka::ClientConfig;
use rdkafka::admin::AdminClient;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::{Config, tls};

pub mod acls;
mod headers;
mod reach;
pub mod rights;
mod token;
mod topics;

pub use headers::{Header, headers};
pub use reach::{Refused, is_secured, reach, tls_servers};
pub use token::{give_token, token};
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
    let with_tls = client.get("security.protocol").is_some_and(|p| p.to_ascii_lowercase().ends_with("ssl"));
    let trusts = ["ssl.ca.location", "ssl.ca.pem"].iter().any(|name| client.get(name).is_some());
    if let Some(system) = tls::system_ca_file().filter(|_| with_tls && !trusts) {
        // The library's own default is where it was built, and the image has no such place.
        client.set("ssl.ca.location", system.display().to_string());
    }
    client
}

/// A consumer that is ready to be asked.
///
/// # Errors
/// When the settings make none, or it gets no token; one line.
pub fn consumer<C: ConsumerContext>(config: &ClientConfig, context: C) -> anyhow::Result<BaseConsumer<C>> {
    let consumer: BaseConsumer<C> = config.create_with_context(context)?;
    give_token(consumer.client(), config).map_err(anyhow::Error::msg)?;
    Ok(consumer)
}

/// An admin client that is ready to be asked.
///
/// # Errors
/// As [`consumer`].
pub fn admin<C: ClientContext>(config: &ClientConfig, context: C) -> anyhow::Result<AdminClient<C>> {
    let admin: AdminClient<C> = config.create_with_context(context)?;
    give_token(admin.inner(), config).map_err(anyhow::Error::msg)?;
    Ok(admin)
}

/// What a client lacks that the brokers refuse to let work, in words: which ACL. None: it is something else.
pub fn missing_right(code: RDKafkaErrorCode) -> Option<&'static str> {
    match code {
        RDKafkaErrorCode::TopicAuthorizationFailed => Some("a right on the topic"),
        RDKafkaErrorCode::GroupAuthorizationFailed => Some("the right Read on the consumer group"),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed => {
            Some("the right Write on the transactional ids")
        }
        RDKafkaErrorCode::ClusterAuthorizationFailed => Some("a right on the cluster"),
        _ => None,
    }
}

/// A client context that does nothing but log by [`log_line`] and [`log_error`].
#[derive(Debug, Clone, Copy, Default)]
pub struct LogContext;

impl ClientContext for LogContext {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, file: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        token(file)
    }

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
    if code == Some(RDKafkaErrorCode::PartitionEOF) || code.is_some_and(|code| missing_right(code).is_some())
    {
        // Who polls gets the one (if enable.partition.eof asks for it) and the other from there as well.
        tracing::trace!(target: "librdkafka", "{reason}");
    } else if transient {
        tracing::warn!(target: "librdkafka", "{reason}");
    } else {
        tracing::error!(target: "librdkafka", "{error}: {reason}");
    }
}
