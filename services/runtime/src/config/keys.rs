//! The table of all keys.

/// One setting.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name, with a dot between section and key.
    pub name: &'static str,
    /// Its default as text; none: not set.
    pub default: Option<&'static str>,
    /// What it takes.
    pub kind: Kind,
    /// What it does, for people.
    pub doc: &'static str,
}

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// Any text but the empty one.
    Text,
    /// A PostgreSQL URL; its password is masked.
    DatabaseUrl,
    /// Visible ASCII that is never shown.
    Secret,
    /// A URL of one of these schemes; its password is masked.
    Url(&'static [&'static str]),
    /// The path of a file that can be read.
    File,
    /// A whole number within bounds.
    Integer(i64, i64),
    /// A number of bytes within bounds.
    Bytes(i64, i64),
    /// A duration within bounds, in milliseconds.
    Duration(u64, u64),
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// The name of an IANA time zone.
    Timezone,
    /// A name that PostgreSQL takes without quotes.
    Identifier,
    /// Three capital letters.
    Currency,
    /// tracing's filter directives.
    LogFilter,
    /// host:port, several with commas between.
    Addresses,
    /// host:port.
    Listen,
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const YEAR: u64 = 8_766 * HOUR; // humantime's: 365.25 days
const KIB: i64 = 1_024;
const MIB: i64 = 1_024 * KIB;
const GIB: i64 = 1_024 * MIB;

/// The one free-form table: `kafka.properties.NAME`.
pub const PROPERTIES: &str = "kafka.properties";

/// All keys, in the order in which they are shown.
pub const KEYS: &[Key] = &[
    Key {
        name: "database.url",
        default: None,
        kind: Kind::DatabaseUrl,
        doc: "PostgreSQL, as postgres://user:password@host:port/database; with TLS: ?sslmode=verify-full&sslrootcert=FILE \
              (below).",
    },
    Key {
        name: "database.url_file",
        default: None,
        kind: Kind::File,
        doc: "A file that holds database.url, so that the password stands in no environment.",
    },
    Key {
        name: "database.role_prefix",
        default: Some("stocktide"),
        kind: Kind::Identifier,
        doc: "What the names of the services' group roles begin with (stocktide_processor, …); roles are the whole server's, so \
              two installations on one server want two prefixes.",
    },
    Key {
        name: "kafka.brokers",
        default: None,
        kind: Kind::Addresses,
        doc: "The Kafka brokers to ask first.",
    },
    Key {
        name: "kafka.group",
        default: Some("stocktide-processor"),
        kind: Kind::Text,
        doc: "The consumer group of the processors; do not change it under a running installation.",
    },
    Key {
        name: "kafka.session_timeout",
        default: Some("10s"),
        kind: Kind::Duration(SECOND, 30 * MINUTE),
        doc: "A processor that is silent for so long loses its partitions to the others.",
    },
    Key {
        name: "kafka.heartbeat_interval",
        default: Some("1s"),
        kind: Kind::Duration(100, 10 * MINUTE),
        doc: "How often a processor says that it lives; never more than a third of kafka.session_timeout.",
    },
    Key {
        name: "kafka.transaction_timeout",
        default: Some("10s"),
        kind: Kind::Duration(SECOND, 15 * MINUTE),
        doc: "After so long the broker ends the transaction that a dead processor left open; until then readers wait.",
    },
    Key {
        name: "kafka.security_protocol",
        default: None,
        kind: Kind::OneOf(&["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"]),
        doc: "How the brokers are spoken to, in Kafka's own words. Not set: plaintext.",
    },
    Key {
        name: "kafka.ca_file",
        default: None,
        kind: Kind::File,
        doc: "A PEM file of the authorities whose word for a broker counts. Not set: the system's.",
    },
    Key {
        name: "kafka.certificate_file",
        default: None,
        kind: Kind::File,
        doc: "A PEM file of our own certificate and what it is signed with, where the brokers ask for one (mutual TLS).",
    },
    Key {
        name: "kafka.key_file",
        default: None,
        kind: Kind::File,
        doc: "A PEM file of that certificate's private key.",
    },
    Key {
        name: "kafka.sasl_mechanism",
        default: None,
        kind: Kind::OneOf(&["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN", "OAUTHBEARER"]),
        doc: "How we say who we are, where the protocol is sasl_….",
    },
    Key { name: "kafka.sasl_username", default: None, kind: Kind::Text, doc: "Our name (SCRAM, PLAIN)." },
    Key {
        name: "kafka.sasl_password_file",
        default: None,
        kind: Kind::File,
        doc: "A file that holds our password (SCRAM, PLAIN); in the environment itself it is \
              STOCKTIDE_KAFKA_PROPERTIES_SASL_PASSWORD.",
    },
    Key {
        name: "kafka.oauth_token_file",
        default: None,
        kind: Kind::File,
        doc: "A file that holds a JWT (OAUTHBEARER), which somebody else keeps fresh; it is read again when four fifths of the \
              token's time are over.",
    },
    Key {
        name: "business.currency",
        default: Some("GBP"),
        kind: Kind::Currency,
        doc: "The one currency of the installation (ISO 4217); fixed by the first stocktide migrate.",
    },
    Key {
        name: "business.timezone",
        default: Some("UTC"),
        kind: Kind::Timezone,
        doc: "Business days and months follow it; fixed by the first stocktide migrate.",
    },
    Key {
        name: "processor.batch_max_records",
        default: Some("10000"),
        kind: Kind::Integer(1, 100_000),
        doc: "The most records that are applied in one transaction.",
    },
    Key {
        name: "processor.batch_max_bytes",
        default: Some("32MiB"),
        kind: Kind::Bytes(MIB, GIB),
        doc: "The most bytes of records that are applied in one transaction.",
    },
    Key {
        name: "processor.batch_linger",
        default: Some("3ms"),
        kind: Kind::Duration(0, 10 * SECOND),
        doc: "How long a batch that is not full waits for more records.",
    },
    Key {
        name: "processor.stock_policy",
        default: Some("record"),
        kind: Kind::OneOf(&["record", "reject"]),
        doc: "An online order that stock cannot cover: record lets stock go below zero, reject sends it to dlq.",
    },
    Key {
        name: "processor.shutdown_deadline",
        default: Some("30s"),
        kind: Kind::Duration(SECOND, HOUR),
        doc: "How long a shutdown may take: finishing the batch in hand, and leaving the group.",
    },
    Key {
        name: "processor.event_max_bytes",
        default: Some("1MiB"),
        kind: Kind::Bytes(KIB, 64 * MIB),
        doc: "A record with a longer value is rejected as too_large.",
    },
    Key {
        name: "topics.partitions",
        default: Some("4"),
        kind: Kind::Integer(1, 10_000),
        doc: "Partitions of each topic that stocktide migrate creates.",
    },
    Key {
        name: "topics.replication",
        default: Some("1"),
        kind: Kind::Integer(1, 100),
        doc: "Replicas of each topic that stocktide migrate creates; 3 in production.",
    },
    Key {
        name: "topics.retention_ms",
        default: Some("-1"),
        kind: Kind::Integer(-1, i64::MAX),
        doc: "retention.ms of topics that have none of their own; -1 keeps everything.",
    },
    Key {
        name: "topics.max_message_bytes",
        default: Some("4MiB"),
        kind: Kind::Bytes(MIB, 512 * MIB),
        doc: "max.message.bytes of the input topics; dlq gets 64 KiB more, so that no rejected record is too large for it.",
    },
    Key {
        name: "admin.listen",
        default: Some("127.0.0.1:0"),
        kind: Kind::Listen,
        doc: "Where /live, /ready and /metrics are served; port 0 takes a free one and logs it.",
    },
    Key {
        name: "api.listen",
        default: Some("127.0.0.1:8080"),
        kind: Kind::Listen,
        doc: "Where the HTTP API is served; port 0 takes a free one and logs it. Beyond loopback it needs api.token.",
    },
    Key {
        name: "api.token",
        default: None,
        kind: Kind::Secret,
        doc: "Who sends it as a bearer token may read and send events.",
    },
    Key { name: "api.token_file", default: None, kind: Kind::File, doc: "A file that holds api.token." },
    Key {
        name: "api.open_reads",
        default: Some("loopback"),
        kind: Kind::OneOf(&["loopback", "always", "never"]),
        doc: "When reading needs no token: where api.listen is a loopback address, always, or never. Sending events needs \
              it wherever one is set.",
    },
    Key {
        name: "api.request_timeout",
        default: Some("10s"),
        kind: Kind::Duration(100, 10 * MINUTE),
        doc: "After so long a request is given up; the database gives its statement up a little sooner.",
    },
    Key {
        name: "api.connections",
        default: Some("8"),
        kind: Kind::Integer(1, 1_000),
        doc: "The most connections to PostgreSQL that the API uses.",
    },
    Key {
        name: "api.streams",
        default: Some("500"),
        kind: Kind::Integer(0, 100_000),
        doc: "The most clients that follow stock at once; each takes a file descriptor.",
    },
    Key {
        name: "api.body_max_bytes",
        default: Some("4MiB"),
        kind: Kind::Bytes(KIB, 256 * MIB),
        doc: "A longer request body is refused.",
    },
    Key {
        name: "payments.wait",
        default: Some("10m"),
        kind: Kind::Duration(0, 30 * 24 * HOUR),
        doc: "How long a payment waits for its order before it is rejected; 0: not at all.",
    },
    Key {
        name: "reports.url",
        default: Some("file://./reports"),
        kind: Kind::Url(&["file", "s3", "gs"]),
        doc: "Where the report files go: file:///a/directory, or file://./one for a directory within the working directory; \
              s3://bucket/prefix; gs://bucket/prefix. The stores' credentials: below.",
    },
    Key {
        name: "reports.top_n",
        default: Some("10"),
        kind: Kind::Integer(1, 1_000),
        doc: "How many products the top sellers name, by units and by revenue each.",
    },
    Key {
        name: "reports.cover_days",
        default: Some("28"),
        kind: Kind::Integer(1, 366),
        doc: "Days before the interval's end whose sales say how long stock lasts and how much to order.",
    },
    Key {
        name: "reports.low_stock_rows",
        default: Some("10000"),
        kind: Kind::Integer(1, 1_000_000),
        doc: "How many rows of low stock a report lists, the most urgent ones; how many there are in all it says too.",
    },
    Key {
        name: "reports.revise_days",
        default: Some("35"),
        kind: Kind::Integer(1, 366),
        doc: "How many business days back the job revise looks for reports that late events have put out of date.",
    },
    Key {
        name: "jobs.file",
        default: None,
        kind: Kind::File,
        doc: "A schedule to follow instead of the built-in one, which is jobs/schedule.toml of the sources.",
    },
    Key {
        name: "jobs.poll",
        default: Some("5s"),
        kind: Kind::Duration(100, HOUR),
        doc: "How often it is looked for what is due, and for what a worker left behind.",
    },
    Key {
        name: "jobs.takeover",
        default: Some("1m"),
        kind: Kind::Duration(SECOND, HOUR),
        doc: "A run whose worker gave no sign of life for so long is taken over by another.",
    },
    Key {
        name: "narrative.url",
        default: None,
        kind: Kind::Url(&["http", "https"]),
        doc: "An endpoint that speaks OpenAI's chat completions, up to and with /v1; a language model's remarks on the data's \
              quality are then put beside the report. Not set: no model is asked.",
    },
    Key {
        name: "narrative.model",
        default: None,
        kind: Kind::Text,
        doc: "The model to ask; needed where narrative.url is set.",
    },
    Key {
        name: "narrative.key",
        default: None,
        kind: Kind::Secret,
        doc: "The endpoint's key, sent as a bearer token; not needed by every endpoint.",
    },
    Key {
        name: "narrative.key_file",
        default: None,
        kind: Kind::File,
        doc: "A file that holds narrative.key.",
    },
    Key {
        name: "narrative.timeout",
        default: Some("20s"),
        kind: Kind::Duration(100, 10 * MINUTE),
        doc: "After so long a report is done without the model's remarks.",
    },
    Key {
        name: "retention.log_age",
        default: None,
        kind: Kind::Duration(24 * HOUR, 100 * YEAR),
        doc: "Months of events_log that ended longer ago are dropped by the job retention, except what may still have to be \
              published. stocktide verify needs the whole log of what the topics still hold. Not set: everything is kept.",
    },
    Key {
        name: "log.filter",
        default: Some("info"),
        kind: Kind::LogFilter,
        doc: "What is logged, to stderr: a level, or directives like info,stocktide_processor=debug.",
    },
    Key {
        name: "log.format",
        default: Some("text"),
        kind: Kind::OneOf(&["text", "json"]),
        doc: "Log lines for people, or one JSON object a line.",
    },
    Key {
        name: "traces.endpoint",
        default: None,
        kind: Kind::Url(&["http", "https"]),
        doc: "Where OpenTelemetry traces are sent, by OTLP over HTTP, such as http://127.0.0.1:4318. Not set: there are none. The \
              standard's OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER_ARG, OTEL_EXPORTER_OTLP_HEADERS and OTEL_RESOURCE_ATTRIBUTES count, too.",
    },
];

/// Properties of librdkafka that Stocktide sets itself, because its promises hang on them.
pub const RESERVED_PROPERTIES: &[&str] = &[
    "acks",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.idempotence",
    "enable.partition.eof",
    "enable.sasl.oauthbearer.unsecure.jwt",
    "enable.ssl.certificate.verification",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "heartbeat.interval.ms",
    "isolation.level",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "request.required.acks",
    "sasl.oauthbearer.config",
    "session.timeout.ms",
    "ssl.endpoint.identification.algorithm",
    "transaction.timeout.ms",
    "transactional.id",
];

/// The key of a name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|k| k.name == name)
}

impl Key {
    /// The environment variable that sets it.
    pub fn variable(&self) -> String {
        format!("STOCKTIDE_{}", self.name.replace('.', "_").to_uppercase())
    }

    /// Its value as it may be shown.
    pub fn shown(&self, value: &str) -> String {
        match self.kind {
            Kind::DatabaseUrl | Kind::Url(_) => crate::secret::mask_url(value),
            Kind::Secret => crate::secret::MASK.to_owned(),
            _ => value.to_owned(),
        }
    }
}

/// The keys that a name may have meant: those of its section, or else the sections.
pub fn near(name: &str) -> String {
    let section = name.split(['.', '_']).next().unwrap_or_default().to_ascii_lowercase();
    let same: Vec<&str> =
        KEYS.iter().map(|k| k.name).filter(|k| k.split('.').next() == Some(&section)).collect();
    if same.is_empty() {
        let mut sections: Vec<String> =
            KEYS.iter().filter_map(|k| k.name.split('.').next()).map(|s| format!("{s}.…")).collect();
        sections.dedup();
        return sections.join(", ");
    }
    let more = if section == "kafka" { ", kafka.properties.…" } else { "" };
    same.join(", ") + more
}
