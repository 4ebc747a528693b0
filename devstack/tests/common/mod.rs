//! What the tests of stacks share.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio_postgres::NoTls;

/// Waits for a condition; the deadline is a failure, not a way to go on.
pub fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while !done() {
        assert!(Instant::now() < deadline, "not within two minutes: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The processes whose command line or title mentions `text`.
pub fn processes_that_mention(text: &str) -> Vec<String> {
    fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok()))
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(text))
        .collect()
}

/// Waits until no process has to do with the stack in `state_dir`: neither a server, nor a child of one, nor the watchdog.
pub fn wait_until_nothing_is_left(state_dir: &Path, id: &str) {
    let dir = state_dir.display().to_string();
    wait_for("every process of the stack is gone", || {
        processes_that_mention(&dir).is_empty()
            && processes_that_mention(&format!("stocktide-{id}")).is_empty()
    });
}

/// The id that a stack gave itself.
pub fn stack_id(state_dir: &Path) -> String {
    let record: serde_json::Value =
        serde_json::from_slice(&fs::read(state_dir.join("stack.json")).unwrap()).unwrap();
    record["id"].as_str().unwrap().to_owned()
}

/// Runs one statement that answers one text.
pub async fn sql(url: &str, statement: &str) -> String {
    let (client, connection) =
        tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL takes the connection");
    tokio::spawn(connection);
    let messages = client.simple_query(statement).await.expect(statement);
    messages
        .iter()
        .find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        })
        .unwrap_or_default()
}

pub fn config(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("socket.connection.setup.timeout.ms", "5000");
    config
}

pub async fn create_topic(brokers: &str, name: &str, replicas: i32) {
    let admin: AdminClient<DefaultClientContext> = config(brokers).create().unwrap();
    let topic = NewTopic::new(name, 1, TopicReplication::Fixed(replicas));
    let results = admin.create_topics([&topic], &AdminOptions::new()).await.unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// Sends one record and waits until all in-sync replicas have it.
pub async fn send(brokers: &str, topic: &str, value: &str) {
    let producer: FutureProducer =
        config(brokers).set("acks", "all").set("message.timeout.ms", "30000").create().unwrap();
    let record = FutureRecord::<(), str>::to(topic).payload(value);
    producer.send(record, Duration::from_secs(30)).await.expect("the broker takes the record");
}

/// The first `count` values of partition 0, from the beginning.
pub fn receive(brokers: &str, topic: &str, count: usize) -> Vec<String> {
    let consumer: BaseConsumer = config(brokers).set("group.id", "test").create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    consumer.assign(&partitions).unwrap();
    let mut values = Vec::new();
    wait_for("the records come", || {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            values.push(String::from_utf8(record.payload().unwrap_or_default().to_vec()).unwrap());
        }
        values.len() >= count
    });
    values
}

/// This test program again, as another process that runs only the test `holder` of `tests/ownership.rs`.
pub fn holder(settings: &[(&str, &str)]) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["holder", "--exact", "--nocapture"]).env("STOCKTIDE_TEST_HOLD", "1");
    command.envs(settings.iter().copied());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}
