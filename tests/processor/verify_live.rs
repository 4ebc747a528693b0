//! `verify` beside a running processor, and where something is under way, stuck, lost or turned back.

use std::time::Duration;

use crate::support::World;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;
use stocktide_processor::RunOptions;
use stocktide_verify::{Report, VerifyOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SETTINGS: [(&str, &str); 2] =
    [("STOCKTIDE_TOPICS_PARTITIONS", "1"), ("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "50")];

async fn verify(world: &World, wait: Duration) -> Report {
    let options = VerifyOptions { wait, ..VerifyOptions::of(&world.config).unwrap() };
    stocktide_verify::run(&options).await.unwrap()
}

fn order(n: usize) -> String {
    json!({"event_id": Uuid::now_v7(), "order_id": format!("o{n}"), "user_id": "u", "order_timestamp": "2025-03-01T10:00:00Z",
        "items": [{"product_id": "apple", "quantity": 1}]})
    .to_string()
}

async fn send_orders(world: &World, numbers: std::ops::Range<usize>) {
    let producer = world.producer();
    let orders: Vec<(String, String)> = numbers.map(|n| (format!("o{n}"), order(n))).collect();
    for (key, value) in &orders {
        let record = FutureRecord::to("online_orders").key(key).payload(value);
        producer.send(record, Duration::from_secs(30)).await.unwrap();
    }
}

/// The checks that fail, with their examples.
fn differing(report: &Report) -> Vec<(&'static str, String)> {
    report.checks.iter().filter(|c| c.differing > 0).map(|c| (c.name, c.examples.join(" | "))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_processor_does_not_disturb_it() {
    let world = World::start(&SETTINGS).await;
    world.stock_shelves().await;
    assert_eq!(differing(&verify(&world, Duration::from_secs(30)).await), [], "nothing has ever run");
    let stop = CancellationToken::new();
    let (config, token) = (world.config.clone(), stop.clone());
    let processor =
        tokio::spawn(async move { stocktide_processor::run(&config, RunOptions::default(), token).await });

    let mut seen = Vec::new();
    let all = 1_500;
    let (sent, mut verified) = tokio::join!(send_orders(&world, 0..all), async {
        let mut reports = Vec::new();
        for _ in 0..4 {
            reports.push(verify(&world, Duration::from_secs(30)).await);
        }
        reports
    });
    let () = sent;
    stop.cancel();
    processor.await.unwrap().unwrap();
    world.process().await;
    verified.push(verify(&world, Duration::from_secs(30)).await);
    for report in &verified {
        assert_eq!(differing(report), []);
        seen.push(report.checks.iter().find(|check| check.name == "inventory_updates").unwrap().checked);
    }
    assert!(seen.is_sorted() && seen.last() == Some(&(all as u64)), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_stuck_lost_or_turned_back_is_told() {
    let world = World::start(&SETTINGS).await;
    world.stock_shelves().await;
    send_orders(&world, 0..10).await;
    world.process().await;

    // Somebody's open transaction hides what comes behind it.
    let producer: BaseProducer = client(&world).set("transactional.id", "stuck").create().unwrap();
    producer.init_transactions(Duration::from_secs(30)).unwrap();
    producer.begin_transaction().unwrap();
    producer.send(BaseRecord::<str, str>::to("dlq").payload("stuck")).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let report = verify(&world, Duration::from_millis(500)).await;
    let hidden = "dlq-0: an open transaction hides what lies from 0 to 1".to_owned();
    assert_eq!(differing(&report), [("offsets", hidden)]);
    producer.abort_transaction(Duration::from_secs(30)).unwrap();
    assert_eq!(differing(&verify(&world, Duration::from_secs(30)).await), [], "what was aborted is nothing");

    // An input topic without its beginning.
    let admin: AdminClient<DefaultClientContext> = client(&world).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("online_orders", 0, Offset::Offset(4)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    let report = verify(&world, Duration::from_secs(30)).await;
    assert_eq!(differing(&report), []);
    let checked = |name: &str| report.checks.iter().find(|check| check.name == name).unwrap().checked;
    assert_eq!((checked("one_fate_per_record"), checked("events_match_lines")), (6, 10));
    let truncated =
        "online_orders-0 begins at 4, the database at 0: what is gone was checked from the log alone";
    assert_eq!(report.notes, [truncated]);

    // Kafka's offsets before and behind what the database says.
    let offset =
        world.number("SELECT next_offset FROM partition_progress WHERE topic = 'online_orders'").await;
    commit(&world, offset - 2);
    let told = format!("online_orders-0: {} to {offset} are applied, but not yet published", offset - 2);
    let report = verify(&world, Duration::from_millis(500)).await;
    assert_eq!(names(&report), ["offsets"]);
    // A processor that ended in good order has noted what it published.
    let noted = format!("online_orders-0: the database takes {offset} for published");
    let words = &differing(&report)[0].1;
    assert!(words.starts_with(&told) || words.starts_with(&noted), "{words}");
    commit(&world, offset + 1);
    let report = verify(&world, Duration::from_millis(500)).await;
    let words = &differing(&report)[0].1;
    let ahead = format!(
        "online_orders-0: Kafka's committed offset {} is ahead of the database's {offset}",
        offset + 1
    );
    assert_eq!((names(&report), words), (vec!["offsets"], &ahead));
}

fn names(report: &Report) -> Vec<&'static str> {
    differing(report).into_iter().map(|(name, _)| name).collect()
}

fn client(world: &World) -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers());
    client
}

/// Sets the group's offset of the first partition of `online_orders`.
fn commit(world: &World, offset: i64) {
    let consumer: BaseConsumer = client(world).set("group.id", &world.config.kafka.group).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("online_orders", 0, Offset::Offset(offset)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}
