//! Configuration: built-in defaults < a TOML file < the environment (`STOCKTIDE_…`) < flags.
//!
//! Every key stands once in the table [`keys::KEYS`]; the values, their origins, the errors and
//! `docs/configuration.md` all come from it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::Tz;
use serde::Deserialize;

use crate::Secret;

mod database_url;
pub mod docs;
pub mod keys;
mod layers;
mod security;
mod settle;
mod values;

pub use layers::{Flag, Sources};
pub use settle::Entry;

/// Everything that can be set.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL.
    pub database: Database,
    /// The way to Kafka.
    pub kafka: Kafka,
    /// What must not change under a running installation.
    pub business: Business,
    /// The processor.
    pub processor: Processor,
    /// What `stocktide migrate` creates topics with.
    pub topics: Topics,
    /// The admin endpoint.
    pub admin: Admin,
    /// The HTTP API.
    pub api: Api,
    /// Payments.
    pub payments: Payments,
    /// Reports.
    pub reports: Reports,
    /// Scheduled jobs.
    pub jobs: Jobs,
    /// A language model's remarks in reports.
    pub narrative: Narrative,
    /// What ages out.
    #[serde(default)]
    pub retention: Retention,
    /// Logs.
    pub log: Log,
    /// Traces.
    #[serde(default)]
    pub traces: Traces,
    /// What holds and where it came from, secrets masked.
    #[serde(skip)]
    pub entries: Vec<Entry>,
}

/// PostgreSQL.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// Where it is; [`Config::database_url`] says so when it is missing. What `url_file` holds is here already. Its `sslmode`
    /// is `disable` or `verify-full`.
    pub url: Option<Secret>,
    /// The file that the URL was read from.
    pub url_file: Option<String>,
    /// What the names of the services' group roles begin with.
    pub role_prefix: String,
}

/// The way to Kafka.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// Bootstrap addresses; [`Config::kafka_brokers`] says so when they are missing.
    pub brokers: Option<String>,
    /// The processor's consumer group.
    pub group: String,
    /// After this long without a heartbeat a member is out of its group.
    #[serde(with = "values::duration")]
    pub session_timeout: Duration,
    /// Never more than a third of the session timeout.
    #[serde(with = "values::duration")]
    pub heartbeat_interval: Duration,
    /// After this long the broker aborts an open transaction.
    #[serde(with = "values::duration")]
    pub transaction_timeout: Duration,
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub security_protocol: Option<String>,
    /// Whose word for a broker counts.
    pub ca_file: Option<String>,
    /// Our own certificate.
    pub certificate_file: Option<String>,
    /// Its key.
    pub key_file: Option<String>,
    /// How we say who we are.
    pub sasl_mechanism: Option<String>,
    /// Our name.
    pub sasl_username: Option<String>,
    /// The file that `sasl.password` was read from.
    pub sasl_password_file: Option<String>,
    /// The file of our token.
    pub oauth_token_file: Option<String>,
    /// librdkafka's properties; what the keys above say is here already.
    #[serde(default)]
    pub properties: Properties,
}

/// librdkafka properties, by name.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Properties(pub BTreeMap<String, String>);

impl std::fmt::Debug for Properties {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The values may be passwords and keys.
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl std::ops::Deref for Properties {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// What must not change under a running installation.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Business {
    /// ISO 4217 code of the one currency.
    pub currency: String,
    /// Business days and months follow it.
    pub timezone: Tz,
}

/// The processor.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Processor {
    /// The most records in a batch.
    pub batch_max_records: usize,
    /// The most bytes of keys and values in a batch.
    pub batch_max_bytes: usize,
    /// How long a batch waits for more.
    #[serde(with = "values::duration")]
    pub batch_linger: Duration,
    /// What becomes of an online order that stock cannot cover.
    pub stock_policy: StockPolicy,
    /// How long the batch in hand may take at shutdown.
    #[serde(with = "values::duration")]
    pub shutdown_deadline: Duration,
    /// A longer record value is rejected as too_large, in bytes.
    pub event_max_bytes: usize,
}

/// What becomes of an online order that stock cannot cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StockPolicy {
    /// It is recorded, and stock goes below zero.
    Record,
    /// It is rejected with insufficient_stock.
    Reject,
}

/// What topics are created with.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Topics {
    /// Partitions of each topic.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
    /// `retention.ms`; -1 keeps everything.
    pub retention_ms: i64,
    /// `max.message.bytes` of the inputs; `dlq` gets [`DLQ_HEADROOM_BYTES`](crate::kafka::DLQ_HEADROOM_BYTES) more.
    pub max_message_bytes: usize,
}

/// The admin endpoint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// host:port; port 0 takes a free one.
    pub listen: String,
}

/// The HTTP API.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Api {
    /// host:port; port 0 takes a free one.
    pub listen: String,
    /// The bearer token. What `token_file` holds is here already.
    pub token: Option<Secret>,
    /// The file that the token was read from.
    pub token_file: Option<String>,
    /// When reading needs no token.
    pub open_reads: OpenReads,
    /// After this long a request is given up.
    #[serde(with = "values::duration")]
    pub request_timeout: Duration,
    /// The most connections to PostgreSQL.
    pub connections: u32,
    /// The most clients that follow stock at once.
    pub streams: usize,
    /// The longest request body, in bytes.
    pub body_max_bytes: usize,
}

/// When reading from the API needs no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenReads {
    /// Where only this machine can reach it.
    Loopback,
    /// Anybody may read.
    Always,
    /// Reading needs the token.
    Never,
}

/// Payments.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payments {
    /// How long a payment waits for its order; zero: it does not.
    #[serde(with = "values::duration")]
    pub wait: Duration,
}

/// Reports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reports {
    /// Where the report files go: a URL of the scheme `file`, `s3` or `gs`. What follows `file://` is a path, and may be a
    /// relative one.
    pub url: String,
    /// How many products the top sellers name.
    pub top_n: u32,
    /// Days before the interval's end whose sales the days of cover are reckoned from.
    pub cover_days: u32,
    /// How many rows of low stock are listed.
    pub low_stock_rows: u32,
    /// How many business days back it is looked for reports that are out of date.
    pub revise_days: u32,
}

/// Scheduled jobs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Jobs {
    /// The schedule's file; none: the built-in schedule.
    pub file: Option<String>,
    /// How often it is looked for what is due.
    #[serde(with = "values::duration")]
    pub poll: Duration,
    /// After this long without a sign of life a worker's run is taken over.
    #[serde(with = "values::duration")]
    pub takeover: Duration,
}

/// A language model's remarks in reports.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Narrative {
    /// The endpoint, up to and with `/v1`; none: no model is asked.
    pub url: Option<String>,
    /// The model; set where `url` is.
    pub model: Option<String>,
    /// The endpoint's key. What `key_file` holds is here already.
    pub key: Option<Secret>,
    /// The file that the key was read from.
    pub key_file: Option<String>,
    /// How long a report waits for an answer.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
}

/// What ages out.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// The age from which months of `events_log` are dropped; none: they are kept.
    #[serde(default, with = "values::duration::optional")]
    pub log_age: Option<Duration>,
}

/// Logs.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// tracing's filter directives.
    pub filter: String,
    /// How a line looks.
    pub format: LogFormat,
}

/// Traces.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traces {
    /// The collector's address for OTLP over HTTP, without `/v1/traces`; none: there are no traces.
    pub endpoint: Option<String>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Why a configuration does not hold; the one at the keyboard can mend it, so the program ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A name that is no key.
    #[error("{origin}: there is no setting {name:?}; allowed: {allowed}")]
    UnknownKey {
        /// Where it stands.
        origin: String,
        /// The name.
        name: String,
        /// What may stand there.
        allowed: String,
    },
    /// A value that its key does not take.
    #[error("{origin}: {key} is {value}; allowed: {allowed}")]
    WrongValue {
        /// Where it stands.
        origin: String,
        /// The key.
        key: String,
        /// The value, masked if it is a secret.
        value: String,
        /// What the key takes.
        allowed: String,
    },
    /// A file that cannot be read.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Settings that do not go together.
    #[error("{0}")]
    Conflict(String),
    /// A setting without which the command cannot work.
    #[error("no {what}: set {variable} or {flag}, or {key} in a configuration file")]
    Missing {
        /// What is missing, for people.
        what: &'static str,
        /// Its environment variable.
        variable: &'static str,
        /// Its flag.
        flag: &'static str,
        /// Its key.
        key: &'static str,
    },
}

impl Config {
    /// Reads all layers and settles what holds.
    ///
    /// # Errors
    /// [`ConfigError`], one line, when a name or a value is not allowed.
    pub fn load(sources: &Sources) -> Result<Config, ConfigError> {
        settle::settle(layers::collect(sources)?)
    }

    /// The built-in defaults alone.
    ///
    /// # Errors
    /// None but a mistake in the table of keys, which the tests would have found.
    pub fn defaults() -> Result<Config, ConfigError> {
        Config::load(&Sources::default())
    }

    /// PostgreSQL's URL, with `sslmode`, and with `sslrootcert` where that is `verify-full`.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], which says how to set it; [`ConfigError::Conflict`] where there is nobody to trust.
    pub fn database_url(&self) -> anyhow::Result<String> {
        let url = self.database.url.as_ref().ok_or(ConfigError::Missing {
            what: "database",
            variable: "STOCKTIDE_DATABASE_URL",
            flag: "--database-url",
            key: "database.url",
        })?;
        Ok(database_url::explicit(url.expose())?)
    }

    /// Kafka's bootstrap addresses.
    ///
    /// # Errors
    /// [`ConfigError::Missing`], which says how to set them.
    pub fn kafka_brokers(&self) -> anyhow::Result<String> {
        let brokers = self.kafka.brokers.as_ref().ok_or(ConfigError::Missing {
            what: "Kafka brokers",
            variable: "STOCKTIDE_KAFKA_BROKERS",
            flag: "--kafka-brokers",
            key: "kafka.brokers",
        })?;
        Ok(brokers.clone())
    }
}

#[cfg(test)]
mod tests;
