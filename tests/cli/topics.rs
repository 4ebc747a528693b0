//! `stocktide topics` and the topics of `stocktide migrate`, against a real Kafka.

use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use crate::command::{Outcome, run, stocktide};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use stocktide_devstack::{Stack, StackOptions};

struct Server {
    runtime: tokio::runtime::Runtime,
    stack: Stack,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stack = runtime.block_on(Stack::start(StackOptions::default())).unwrap();
        Server { runtime, stack }
    })
}

const TIMEOUT: Duration = Duration::from_secs(20);

fn client() -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", server().stack.kafka_brokers());
    config
}

fn connected(args: &[&str]) -> std::process::Command {
    let mut command = stocktide(args);
    command.env("STOCKTIDE_KAFKA_BROKERS", server().stack.kafka_brokers());
    command.env("STOCKTIDE_DATABASE_URL", server().stack.database_url());
    command
}

fn topics(args: &[&str]) -> Outcome {
    run(connected(&["topics"]).args(args))
}

fn tail(args: &[&str]) -> Vec<Value> {
    let outcome = run(connected(&["topics", "tail", "--json"]).args(args)).done();
    assert_eq!(outcome.stderr, "", "{args:?}");
    outcome.documents()
}

fn values(records: &[Value]) -> Vec<&str> {
    records.iter().map(|r| r["value"].as_str().unwrap()).collect()
}

fn admin() -> AdminClient<DefaultClientContext> {
    client().create().unwrap()
}

fn create(topic: &str, partitions: i32, settings: &[(&str, &str)]) {
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    let created = server().runtime.block_on(admin().create_topics([&new], &AdminOptions::new())).unwrap();
    assert!(created.iter().all(Result::is_ok), "{created:?}");
}

fn alter(topic: &str, settings: &[(&str, &str)]) {
    let request = AlterConfig::new(ResourceSpecifier::Topic(topic));
    let request = settings.iter().fold(request, |request, (name, value)| request.set(name, value));
    let altered = server().runtime.block_on(admin().alter_configs([&request], &AdminOptions::new())).unwrap();
    assert!(altered.iter().all(Result::is_ok), "{altered:?}");
}

fn setting(topic: &str, name: &str) -> String {
    let specifier = ResourceSpecifier::Topic(topic);
    let described =
        server().runtime.block_on(admin().describe_configs([&specifier], &AdminOptions::new())).unwrap();
    described[0].as_ref().unwrap().get(name).unwrap().value.clone().unwrap()
}

fn send(producer: &BaseProducer, topic: &str, partition: i32, values: &[&str]) {
    for value in values {
        producer
            .send(BaseRecord::<(), str>::to(topic).partition(partition).payload(value))
            .map_err(|(e, _)| e)
            .unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
}

fn transactional(id: &str) -> BaseProducer {
    let producer: BaseProducer = client().set("transactional.id", id).create().unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}

#[test]
fn the_topics_are_created_once_and_what_was_set_for_them_stays() {
    create("payments", 2, &[("cleanup.policy", "compact")]);
    create("dlq", 4, &[]);
    create(
        "store_sales",
        4,
        &[("retention.ms", "5000"), ("max.message.bytes", "8388608"), ("segment.ms", "777777")],
    );
    create("online_orders", 4, &[("segment.ms", "888888")]);

    let refused = run(&mut connected(&["migrate"]));
    let complaint = "topic payments has cleanup.policy=compact; allowed: delete (compaction drops records that must be counted)";
    assert_eq!((refused.code, refused.complaint()), (1, complaint));
    alter("payments", &[("cleanup.policy", "delete")]);

    let runs: Vec<_> =
        (0..3).map(|_| connected(&["migrate", "--json"]).stdout(Stdio::piped()).spawn().unwrap()).collect();
    for run in runs {
        assert!(run.wait_with_output().unwrap().status.success());
    }
    assert_eq!(
        ["online_orders", "store_sales", "payments", "dlq"].map(|t| setting(t, "retention.ms")),
        ["-1", "5000", "-1", "-1"]
    );
    assert_eq!(
        ["online_orders", "store_sales", "supplier_restocks", "dlq"].map(|t| setting(t, "max.message.bytes")),
        ["4194304", "8388608", "4194304", "8454144"],
        "dlq takes the largest record of the largest input"
    );
    assert_eq!(setting("online_orders", "segment.ms"), "888888", "what the topic had of its own stays");

    let again = run(&mut connected(&["migrate"])).done();
    for line in [
        "schema: up to date",
        "topic store_sales: left as it is: its retention.ms is 5000, configured is -1",
        "topic payments: left as it is: it has 2 partitions, configured are 4 (another number moves keys to other partitions)",
        "topics: up to date",
    ] {
        assert!(again.stdout.lines().any(|l| l == line), "{line} is not in\n{}", again.stdout);
    }
}

#[test]
fn tail_shows_what_is_committed_and_ends_at_the_marks_of_transactions() {
    create("tailed", 2, &[]);
    let producer = transactional("tailed");
    producer.begin_transaction().unwrap();
    send(&producer, "tailed", 0, &["a0", "a1", "a2"]);
    producer.commit_transaction(TIMEOUT).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "tailed", 0, &["aborted"]);
    send(&producer, "tailed", 1, &["aborted"]);
    producer.abort_transaction(TIMEOUT).unwrap();
    producer.begin_transaction().unwrap();
    send(&producer, "tailed", 1, &["b0"]);
    producer.commit_transaction(TIMEOUT).unwrap();

    let mut all = tail(&["tailed"]);
    all.sort_by_key(|r| (r["partition"].as_i64(), r["offset"].as_i64()));
    assert_eq!(values(&all), ["a0", "a1", "a2", "b0"]);
    assert_eq!(tail(&["tailed", "--count", "2"]).len(), 2);
    // Partitions are read side by side.
    let mut later = tail(&["tailed", "--from", "2"]);
    later.sort_by_key(|r| r["partition"].as_i64());
    assert_eq!(values(&later), ["a2", "b0"][..].to_vec(), "partition 1 has b0 at offset 2");
    assert!(tail(&["tailed", "--from", "end"]).is_empty());
    assert!(tail(&["tailed", "--from", "1000"]).is_empty());

    producer.begin_transaction().unwrap();
    send(&producer, "tailed", 0, &["open"]);
    assert_eq!(tail(&["tailed"]).len(), 4, "an open transaction neither shows nor blocks");
    producer.abort_transaction(TIMEOUT).unwrap();
}

#[test]
fn follow_goes_on_with_the_records_to_come() {
    create("followed", 1, &[]);
    let producer: BaseProducer = client().create().unwrap();
    send(&producer, "followed", 0, &["before"]);
    let follower = connected(&["topics", "tail", "followed", "--follow", "--count", "2", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    send(&producer, "followed", 0, &["after"]);
    let output = follower.wait_with_output().unwrap();
    let records: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(values(&records), ["before", "after"]);
}

#[test]
fn a_record_is_shown_whole_and_its_bytes_do_nothing_to_the_terminal() {
    create("hostile", 1, &[]);
    let producer: BaseProducer = client().create().unwrap();
    let headers = OwnedHeaders::new().insert(Header { key: "stocktide.reason", value: Some("too_large") });
    let record = BaseRecord::to("hostile")
        .key("k1")
        .payload("\u{1b}[2J\r\n{}")
        .headers(headers)
        .timestamp(1_290_000_000_123);
    producer.send(record).map_err(|(e, _)| e).unwrap();
    producer
        .send(BaseRecord::<[u8], [u8]>::to("hostile").key(b"\xff").timestamp(1))
        .map_err(|(e, _)| e)
        .unwrap();
    producer.flush(TIMEOUT).unwrap();
    let text = topics(&["tail", "hostile"]).done().stdout;
    assert_eq!(
        text,
        "hostile/0@0 2010-11-17T13:20:00.123Z k1 [stocktide.reason=too_large] \\u{1b}[2J\\r\\n{}\n\
         hostile/0@1 1970-01-01T00:00:00.001Z \\xff null\n"
    );
    assert_eq!(
        tail(&["hostile", "--count", "1"]),
        [json!({
            "topic": "hostile", "partition": 0, "offset": 0, "timestamp": "2010-11-17T13:20:00.123Z", "key": "k1",
            "headers": [{"name": "stocktide.reason", "value": "too_large"}], "value": "\u{1b}[2J\r\n{}"
        })]
    );
}

#[test]
fn an_unknown_topic_is_one_line_that_names_the_known_ones() {
    create("known", 1, &[]);
    let outcome = topics(&["tail", "unknwon"]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.complaint().contains("there is no topic \"unknwon\"; there are: "), "{outcome:?}");
    assert!(outcome.complaint().contains("known") && !outcome.complaint().contains("__consumer_offsets"));
}

#[test]
fn list_shows_offsets_and_the_lag_of_each_group() {
    create("listed", 2, &[]);
    let producer: BaseProducer = client().create().unwrap();
    send(&producer, "listed", 0, &["1", "2", "3"]);
    let consumer: BaseConsumer = client().set("group.id", "readers").create().unwrap();
    let mut committed = TopicPartitionList::new();
    committed.add_partition_offset("listed", 0, Offset::Offset(1)).unwrap();
    consumer.commit(&committed, CommitMode::Sync).unwrap();

    let lines: Vec<Value> = topics(&["list", "--json"])
        .done()
        .documents()
        .into_iter()
        .filter(|l| l["topic"] == "listed")
        .collect();
    assert_eq!(
        lines,
        [
            json!({"topic": "listed", "partition": 0, "start": 0, "end": 3,
                   "groups": [{"group": "readers", "committed": 1, "lag": 2}]}),
            json!({"topic": "listed", "partition": 1, "start": 0, "end": 0, "groups": []}),
        ]
    );
    let table = topics(&["list"]).done().stdout;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(table.lines().any(|l| words(l) == ["listed", "0", "0", "3", "readers", "1", "2"]), "{table}");
    assert!(table.lines().any(|l| words(l) == ["listed", "1", "0", "0", "-", "-", "-"]), "{table}");
}
