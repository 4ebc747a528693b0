//! What is left when the log has aged out: the dedupe, the ledger, what was not published yet, and a processor that refuses
//! what it can no longer do right. And the nightly verification of it.

use std::time::Duration;

use crate::support::World;
use crate::support::records::{Coordinates, Record, order, with};
use prometheus::Registry;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use stocktide_runtime::clock;
use stocktide_store::retention::{self, Retention, RetentionOptions};
use stocktide_verify::{ReconcileMetrics, VerifyOptions, reconcile};

const ORDERS: &str = "online_orders";
/// One partition, so that offsets are easily told.
const SETTINGS: [(&str, &str); 3] = [
    ("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s"),
    ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "3s"),
    ("STOCKTIDE_TOPICS_PARTITIONS", "1"),
];

async fn shop() -> World {
    let world = World::start(&SETTINGS).await;
    world.stock_shelves().await;
    world
}

/// Retention in a year's time: all that is in the log is old enough.
async fn age(world: &World) -> Retention {
    let (month, year) = (Duration::from_hours(30 * 24), chrono::TimeDelta::days(400));
    let options = RetentionOptions::new(month, clock::now() + year, false);
    retention::run(&world.database, options).await.unwrap()
}

async fn send(world: &World, events: &[Value]) -> Vec<(Record, Coordinates)> {
    world.send_events(ORDERS, "k", events).await
}

async fn log(world: &World) -> i64 {
    world.number("SELECT count(*) FROM events_log").await
}

async fn floor(world: &World) -> i64 {
    world.number("SELECT log_floor FROM partition_progress WHERE topic = 'online_orders'").await
}

/// The group's committed offset, set by hand while it has no members.
fn commit(world: &World, offset: i64) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", &world.config.kafka.group);
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(ORDERS, 0, Offset::Offset(offset)).unwrap();
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_has_aged_out_is_missed_by_nobody_and_a_replay_that_needs_it_stops() {
    let world = shop().await;
    let bought: Vec<Value> = (0..9).map(|_| order()).collect();
    send(&world, &bought).await;
    send(&world, &[with(order(), "items", json!([]))]).await;
    world.process().await;
    assert_eq!((log(&world).await, floor(&world).await), (10, 0));

    assert_eq!(age(&world).await.rows(), 10);
    assert_eq!((log(&world).await, floor(&world).await), (0, 10));
    world.verify().await;

    // The dedupe and the ledger do not need the log: a repeated event is a duplicate, an old order can be cancelled.
    let id = bought[1]["order_id"].clone();
    let cancelled = json!({ "event_id": uuid::Uuid::now_v7(), "type": "cancelled", "order_id": id,
        "order_timestamp": bought[1]["order_timestamp"] });
    send(&world, &[bought[0].clone(), cancelled, order(), order()]).await;
    let summary = world.process().await;
    assert_eq!(summary.consumed, 4);
    assert_eq!(
        world.number("SELECT duplicates FROM partition_progress WHERE topic = 'online_orders'").await,
        1
    );
    assert_eq!(log(&world).await, 3);
    world.verify().await;

    // Kafka goes back to before the floor: what the records there put out is not known any more.
    let published = world.read("inventory_updates").len();
    commit(&world, 9);
    let said = world.refusal().await;
    assert!(
        said.contains(
            "online_orders/0: records from 9 on have to be published again, but the log was cut at 10"
        ),
        "{said}"
    );
    assert_eq!(world.read("inventory_updates").len(), published, "nothing was published on the way");
    // Above it, it is.
    commit(&world, 11);
    world.process().await;
    assert_eq!(world.read("inventory_updates").len(), published + 3);
}

/// The operator's way to have a topic of outputs filled again. What is noted as published is later than the first batches.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_offset_that_is_set_back_lies_below_is_published_again_whichever_batch_it_was_of() {
    let world = shop().await;
    for _ in 0..3 {
        send(&world, &[order(), order()]).await;
        world.process().await;
    }
    assert_eq!(
        world.number("SELECT published_offset FROM partition_progress WHERE topic = 'online_orders'").await,
        6
    );
    assert_eq!(world.number("SELECT count(DISTINCT processed_at) FROM orders").await, 3);
    commit(&world, 1);
    world.process().await;
    assert_eq!(world.read("inventory_updates").len(), 6 + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_applied_and_not_published_stays_in_the_log_until_it_is() {
    let world = shop().await;
    send(&world, &[order()]).await;
    world.process().await;
    // Nothing can be published.
    largest_update(&world, "10").await;
    let stuck = world.start_processor();
    send(&world, &[order(), with(order(), "items", json!([]))]).await;
    world.until_settled(3).await;
    stuck.end().await;
    let done = age(&world).await;
    let kept = "online_orders-0@2 is in it, and only what lies below 1 is known to be published";
    assert_eq!(done.months.last().unwrap().kept_for.as_deref(), Some(kept));
    assert_eq!((done.rows(), log(&world).await, floor(&world).await), (0, 3, 0));

    largest_update(&world, "1000000").await;
    world.process().await;
    assert_eq!((world.read("inventory_updates").len(), world.read("dlq").len()), (2, 1));
    // The database is told by the next batch.
    send(&world, &[order()]).await;
    world.process().await;
    assert_eq!((age(&world).await.rows(), floor(&world).await), (4, 4));
    world.verify().await;
}

/// Of `inventory_updates`, in bytes. The request replaces all settings of the topic.
async fn largest_update(world: &World, bytes: &str) {
    let topic = ResourceSpecifier::Topic("inventory_updates");
    let change = AlterConfig::new(topic).set("max.message.bytes", bytes).set("retention.ms", "-1");
    for changed in world.admin().alter_configs([&change], &AdminOptions::new()).await.unwrap() {
        changed.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nightly_verification_says_as_metrics_what_holds_and_what_does_not() {
    let world = shop().await;
    send(&world, &[order(), order()]).await;
    world.process().await;
    let registry = Registry::new();
    let metrics = ReconcileMetrics::register(&registry).unwrap();
    let options = VerifyOptions::of(&world.config).unwrap();
    let sum = |name: &str| {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric().iter().map(|metric| metric.get_gauge().get_value()).sum::<f64>()
    };
    let report = reconcile(&options, &metrics).await.unwrap();
    assert!(report.ok && sum("stocktide_reconcile_checked") > 10.0);
    assert!(sum("stocktide_reconcile_differing").abs() < 0.5);

    world
        .execute("UPDATE inventory SET quantity_on_hand = quantity_on_hand + 1 WHERE product_id = 'apple'")
        .await;
    let report = reconcile(&options, &metrics).await.unwrap();
    assert!(!report.ok && sum("stocktide_reconcile_differing") > 0.5);

    // What cannot be verified is an error, and no answer.
    let nowhere = VerifyOptions { database_url: "postgres://127.0.0.1:1/none".to_owned(), ..options };
    let error = reconcile(&nowhere, &metrics).await.unwrap_err();
    assert!(format!("{error:#}").starts_with("the installation cannot be verified: "), "{error:#}");
    assert!(sum("stocktide_reconcile_differing") > 0.5, "as before");
}
