//! Membership of the group, lost at an awkward moment; and from where the next owner looks for what is not published.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use uuid::Uuid;

use crate::command::stocktide;
use crate::support::World;

const GROUP: &str = "stocktide-processor";

/// It ends when it is dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn processor(world: &World) -> Command {
    let mut command = stocktide(&["processor"]);
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers())
        .env("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "6s")
        .env("STOCKTIDE_ADMIN_LISTEN", "127.0.0.1:0")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

fn consumer(world: &World) -> BaseConsumer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", GROUP);
    client.create().unwrap()
}

async fn order(world: &World, id: &str) {
    let order = json!({"event_id": Uuid::now_v7(), "order_id": id, "user_id": "u1",
        "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 1}]});
    world.send_json("online_orders", id, order).await;
}

/// The Kafka client does not tell of a membership that is gone while it waits for an assignment to be answered. What is published
/// again is refused, so the session ends; a processor that had left the answer until its positions are known would now wait for
/// ever: for the client, which waits for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_lost_it_while_reading_its_positions_joins_again() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    order(&world, "o1").await;
    world.process().await;
    // As if what is applied were not published yet.
    let group = consumer(&world);
    let mut back = TopicPartitionList::new();
    back.add_partition_offset("online_orders", 0, Offset::Offset(0)).unwrap();
    group.commit(&back, CommitMode::Sync).unwrap();

    let mut positions = world.database.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE partition_progress").execute(&mut *positions).await.unwrap();
    let process = Process(processor(&world).spawn().unwrap());
    world.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    process.signal(Signal::STOP);
    let deadline = Instant::now() + Duration::from_mins(1);
    let patience = Duration::from_secs(10);
    while !group.fetch_group_list(Some(GROUP), patience).unwrap().groups()[0].members().is_empty() {
        assert!(Instant::now() < deadline, "the broker keeps the member");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    process.signal(Signal::CONT);
    positions.rollback().await.unwrap();

    order(&world, "o2").await;
    world.until_settled(2).await;
    assert_eq!(world.stock().await["apple@online"], (98, 2));
}

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
        let id = format!("o{n}");
        let payment = if n == 20 { "voodoo" } else { "card" };
        let order = json!({"event_id": Uuid::now_v7(), "order_id": id, "user_id": "u1", "payment_method": payment,
            "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 1}]});
        world.send_json("online_orders", &id, order).await;
    }
    assert_eq!(world.process().await.applied, 39);
    let parts = "SELECT count(DISTINCT last_processed_at) FROM partition_progress WHERE published_offset > start_offset";
    assert!(world.number(parts).await > 1, "the batch was not applied in parts");
    let late = "SELECT count(*) FROM partition_progress WHERE published_at > last_processed_at";
    assert_eq!(world.number(late).await, 0);
    world.verify().await;
}
