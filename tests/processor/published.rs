//! What is noted as published, and what is told of a batch.

use std::collections::BTreeMap;
use std::process::Stdio;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::command::stocktide;
use crate::support::World;

/// A batch that is applied in parts has as many times. What lies above the published offset is looked for from the published time
/// on; so that may not be a later part's for a partition that only an earlier one has: where the clock goes back, the partition's
/// next batch has a time in between, and a processor that takes over would not find what it put out.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_in_parts_published_is_noted_with_the_time_of_its_first_part() {
    let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_LINGER", "2s")]).await;
    world.stock_shelves().await;
    world
        .execute("ALTER TABLE order_headers ADD CONSTRAINT no_voodoo CHECK (payment_method <> 'voodoo')")
        .await;
    for n in 0..40 {
        order(&world, n, if n == 20 { "voodoo" } else { "card" }).await;
    }
    assert_eq!(world.process().await.applied, 39);
    let parts = "SELECT count(DISTINCT last_processed_at) FROM partition_progress WHERE published_offset > start_offset";
    assert!(world.number(parts).await > 1, "the batch was not applied in parts");
    let late = "SELECT count(*) FROM partition_progress WHERE published_at > last_processed_at";
    assert_eq!(world.number(late).await, 0);
    world.verify().await;
}

/// Noting it saves a search and no more: a database that goes away, or is locked, at that moment makes no bad end.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_cannot_note_what_is_published_ends_in_order_all_the_same() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    order(&world, 0, "card").await;
    let processor = world.start_processor();
    world.until_settled(1).await;
    let mut holding = world.database.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE partition_progress").execute(&mut *holding).await.unwrap();
    assert_eq!(processor.end().await.applied, 1);
    holding.rollback().await.unwrap();
    assert_eq!(world.process().await.consumed, 0);
    assert_eq!(world.read("inventory_updates").len(), 1);
    world.verify().await;
}

/// A coordinator that answers with an older offset than this is not believed, so it has to be known of these, too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_again_is_noted_as_published() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    for n in 0..3 {
        order(&world, n, "card").await;
    }
    world.process().await;
    // As if the processor had been killed between COMMIT and publishing, and nothing had ever been noted.
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", "stocktide-processor");
    let group: BaseConsumer = client.create().unwrap();
    let mut back = TopicPartitionList::new();
    back.add_partition_offset("online_orders", 0, Offset::Offset(1)).unwrap();
    group.commit(&back, CommitMode::Sync).unwrap();
    world.execute("UPDATE partition_progress SET published_offset = NULL, published_at = NULL").await;

    assert_eq!(world.process().await.consumed, 0);
    // Two changes were published a second time, and three offsets are noted.
    assert_eq!(world.read("inventory_updates").len(), 5);
    let noted = "SELECT published_offset FROM partition_progress WHERE topic = 'online_orders'";
    assert_eq!(world.number(noted).await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_one_line_at_debug_which_tells_its_fates_and_no_payload() {
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    for n in 0..5 {
        order(&world, n, "abracadabra").await;
    }
    world.send("online_orders", &[(None, Some(b"abracadabra"))]).await;
    let mut command =
        stocktide(&["processor", "--until-caught-up", "--log", "debug", "--log-format", "json"]);
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers())
        .env("STOCKTIDE_ADMIN_LISTEN", "127.0.0.1:0")
        .stdout(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!text.contains("abracadabra"), "{text}");
    let mut told: BTreeMap<&str, u64> = BTreeMap::new();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for line in lines.iter().filter(|line| line["message"] == "a batch is applied") {
        assert_eq!(line["level"], "DEBUG");
        for name in ["records", "applied", "duplicates", "rejected", "parked"] {
            *told.entry(name).or_default() += line[name].as_u64().unwrap();
        }
    }
    let expected = [("applied", 5), ("duplicates", 0), ("parked", 0), ("records", 6), ("rejected", 1)];
    assert_eq!(told, BTreeMap::from(expected));
}

async fn order(world: &World, n: u32, payment_method: &str) {
    let id = format!("o{n}");
    let order = json!({"event_id": Uuid::now_v7(), "order_id": id, "user_id": "u1", "payment_method": payment_method,
        "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 1}]});
    world.send_json("online_orders", &id, order).await;
}
