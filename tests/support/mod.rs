//! A private stack with an installation on it, for tests that go the whole way.
#![allow(dead_code)] // each test binary uses a part of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod fates;
pub mod records;
pub mod running;

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{Offset, TopicPartitionList};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_processor::{RunOptions, Summary};
use stocktide_runtime::config::{Config, Sources};
use stocktide_runtime::kafka::ensure_topics;
use stocktide_store::migrate;
use tokio_util::sync::CancellationToken;

/// A stack of its own with the schema, the topics and a small catalogue.
pub struct World {
    pub stack: Stack,
    pub config: Config,
    pub database: sqlx::PgPool,
    producer: OnceLock<FutureProducer>,
}

/// A record as it is read from a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Read {
    pub fn header(&self, name: &str) -> Option<String> {
        // The last one of a name holds, as it does for Kafka's own tools.
        let found = self.headers.iter().rfind(|(n, _)| n == name)?;
        Some(String::from_utf8_lossy(found.1.as_deref().unwrap_or_default()).into_owned())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap()).unwrap()
    }
}

/// A record's key and value.
pub type KeyAndValue<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

impl World {
    /// `settings` are configuration in the environment's form, such as `STOCKTIDE_TOPICS_PARTITIONS`.
    pub async fn start(settings: &[(&str, &str)]) -> World {
        World::with(StackOptions::default(), settings).await
    }

    pub async fn with(options: StackOptions, settings: &[(&str, &str)]) -> World {
        let filter = tracing_subscriber::EnvFilter::try_from_default_env()
            .unwrap_or_else(|_| "warn,rdkafka=off".into());
        // The first of a test binary sets it up for all.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let stack = Stack::start(options).await.unwrap();
        let mut environment = vec![
            ("STOCKTIDE_DATABASE_URL".to_owned(), stack.database_url().into()),
            ("STOCKTIDE_KAFKA_BROKERS".to_owned(), stack.kafka_brokers().into()),
        ];
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
        let config = Config::load(&Sources { file: None, environment, flags: Vec::new() }).unwrap();
        migrate::run(&stack.database_url(), &config.business.currency, config.business.timezone.name())
            .await
            .unwrap();
        ensure_topics(&config).await.unwrap();
        let database = sqlx::PgPool::connect(&stack.database_url()).await.unwrap();
        World { stack, config, database, producer: OnceLock::new() }
    }

    /// Products `apple` (1.00, reorder at 5), `bread` (2.55) and `postage` (a service, 3.95), 100 apples and 50 loaves
    /// online; locations `online` and `shop`; supplier `acme`.
    pub async fn stock_shelves(&self) {
        let sql = "INSERT INTO products (product_id, name, price, currency, reorder_point, kind) VALUES
                ('apple', 'Apple', 1, 'GBP', 5, 'stock'), ('bread', 'Bread', 2.55, 'GBP', NULL, 'stock'),
                ('postage', 'Postage', 3.95, 'GBP', NULL, 'service');
            INSERT INTO locations VALUES ('online', 'Online', 'online', 'UTC'), ('shop', 'Shop', 'store', 'UTC');
            INSERT INTO suppliers VALUES ('acme', 'Acme', '');
            INSERT INTO inventory (product_id, location_id, quantity_on_hand, opening_quantity, last_updated)
                VALUES ('apple', 'online', 100, 100, now()), ('bread', 'online', 50, 50, now());
            UPDATE installation SET catalogue_version = catalogue_version + 1";
        sqlx::raw_sql(sql).execute(&self.database).await.unwrap();
    }

    /// The one producer for all that a test sends.
    pub fn producer(&self) -> FutureProducer {
        let make = || {
            let mut client = ClientConfig::new();
            client.set("bootstrap.servers", self.stack.kafka_brokers()).set("linger.ms", "0");
            client.set("enable.idempotence", "true").set("message.max.bytes", "100000000").create().unwrap()
        };
        self.producer.get_or_init(make).clone()
    }

    /// Sends records in order and returns their coordinates.
    pub async fn send(&self, topic: &str, records: &[KeyAndValue<'_>]) -> Vec<(i32, i64)> {
        let producer = self.producer();
        let mut sent = Vec::new();
        for (key, value) in records {
            let mut record: FutureRecord<'_, [u8], [u8]> = FutureRecord::to(topic);
            record.key = *key;
            record.payload = *value;
            sent.push(producer.send(record, Duration::from_secs(10)).await.unwrap());
        }
        sent.into_iter().map(|delivery| (delivery.partition, delivery.offset)).collect()
    }

    /// Sends one JSON event under a key.
    pub async fn send_json(&self, topic: &str, key: &str, event: serde_json::Value) -> (i32, i64) {
        self.send(topic, &[(Some(key.as_bytes()), Some(event.to_string().as_bytes()))]).await[0]
    }

    /// Runs a processor in this process until it has caught up.
    pub async fn process(&self) -> Summary {
        let options = RunOptions { until_caught_up: true, ..RunOptions::default() };
        let run = stocktide_processor::run(&self.config, options, CancellationToken::new());
        tokio::time::timeout(Duration::from_mins(2), run).await.expect("caught up in time").unwrap()
    }

    /// Everything in a topic that a read_committed reader sees.
    pub fn read(&self, topic: &str) -> Vec<Read> {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", self.stack.kafka_brokers()).set("group.id", "reader");
        client
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "10");
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        let mut partitions = TopicPartitionList::new();
        for partition in metadata.topics()[0].partitions() {
            partitions.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
        }
        consumer.assign(&partitions).unwrap();
        let (mut records, mut open) = (Vec::new(), partitions.count());
        while open > 0 {
            match consumer.poll(Duration::from_secs(30)).expect("a record or the end") {
                Ok(message) => records.push(read(&message)),
                Err(KafkaError::PartitionEOF(_)) => open -= 1,
                Err(error) => panic!("{error}"),
            }
        }
        records
    }

    /// One integer.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(&self.database).await.unwrap()
    }

    /// Units on hand and version of every stock row, as `product@location`.
    pub async fn stock(&self) -> BTreeMap<String, (i64, i64)> {
        let sql = "SELECT product_id || '@' || location_id, quantity_on_hand, version FROM inventory";
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(&self.database).await.unwrap();
        rows.into_iter().map(|(row, quantity, version)| (row, (quantity, version))).collect()
    }
}

fn read(message: &rdkafka::message::BorrowedMessage<'_>) -> Read {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect()
    });
    Read {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
    }
}
