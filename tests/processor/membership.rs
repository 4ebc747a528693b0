//! Membership of the group, lost or given up at an awkward moment; and locks that somebody holds on to.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use sqlx::{AssertSqlSafe, Postgres, Transaction};
use uuid::Uuid;

use crate::command::{freeze, stocktide};
use crate::support::World;

const GROUP: &str = "stocktide-processor";

/// It ends when it is dropped.
struct Process(Child);

impl Process {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Ends it in order.
    async fn end(mut self) {
        self.signal(Signal::TERM);
        let deadline = Instant::now() + Duration::from_mins(1);
        let status = loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "it does not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(status.success(), "{status}");
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

/// Nobody else gets at the table until this is rolled back.
async fn hold(world: &World, table: &str) -> Transaction<'static, Postgres> {
    let mut holding = world.database.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("LOCK TABLE {table}"))).execute(&mut *holding).await.unwrap();
    holding
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

    let positions = hold(&world, "partition_progress").await;
    let process = Process(processor(&world).spawn().unwrap());
    world.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    freeze(Pid::from_child(&process.0));
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

/// It is ready when it knows where to read, and not before; one that is given nothing to read, because there are more processors than
/// partitions, has nothing to wait for.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_is_ready_once_it_knows_what_to_read_though_it_be_nothing() {
    let mut world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    world.stack.kill_broker(1).await.unwrap();
    let first = world.start_processor();
    first.fails_with("given out no partitions yet").await;
    world.stack.start_broker(1).await.unwrap();
    first.is_ready().await;
    let others = [(); 4].map(|()| world.start_processor());
    for processor in &others {
        processor.is_ready().await;
    }
    order(&world, "o1").await;
    world.until_settled(1).await;
    for processor in others.into_iter().chain([first]) {
        processor.end().await;
    }
    world.verify().await;
}

/// A full batch waits for room first with the partitions as they are, and after a while with them paused.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stands_for_longer_than_a_full_batch_waits_unpaused_is_waited_out() {
    let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "2")]).await;
    world.stock_shelves().await;
    let processor = world.start_processor();
    processor.is_ready().await;
    let holding = hold(&world, "inventory").await;
    for n in 0..30 {
        order(&world, &format!("o{n}")).await;
    }
    world.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    world.until("SELECT max(now() - xact_start) > interval '8 s' FROM pg_stat_activity WHERE state = 'idle in transaction'").await;
    holding.rollback().await.unwrap();
    world.until_settled(30).await;
    assert_eq!(processor.end().await.applied, 30);
    world.verify().await;
}

/// Rule 7: what it has sold from nobody could sell from for as long as it is frozen.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_is_frozen_in_its_transaction_loses_its_locks_and_another_does_its_work() {
    let settings = [("STOCKTIDE_TOPICS_PARTITIONS", "1"), ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "6s")];
    let world = World::start(&settings).await;
    world.stock_shelves().await;
    let frozen = Process(processor(&world).spawn().unwrap());
    order(&world, "o1").await;
    world.until_settled(1).await;

    let holding = hold(&world, "inventory").await;
    order(&world, "o2").await;
    world.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    freeze(Pid::from_child(&frozen.0));
    holding.rollback().await.unwrap();
    // Now the lock is the frozen one's.
    world
        .until(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                WHERE application_name = 'stocktide-processor' AND state = 'idle in transaction')",
        )
        .await;
    let since = Instant::now();
    let free = "SELECT count(*) FROM (SELECT FROM inventory WHERE product_id = 'apple' FOR UPDATE SKIP LOCKED) AS free";
    assert_eq!(world.number(free).await, 0, "the stock is locked");
    while world.number(free).await == 0 {
        assert!(since.elapsed() < Duration::from_secs(20), "the stock is still locked");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let other = world.start_processor();
    world.until_settled(2).await;

    frozen.signal(Signal::CONT);
    order(&world, "o3").await;
    world.until_settled(3).await;
    other.end().await;
    frozen.end().await;
    assert_eq!(world.stock().await["apple@online"], (97, 3));
    world.verify().await;
}

/// Rule 7: while it waits, others wait for the locks that it has; so it waits for a while only, and begins anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_does_not_get_a_lock_lets_go_of_its_own_and_tries_again() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    let processor = world.start_processor();
    processor.is_ready().await;
    let holding = hold(&world, "inventory").await;
    order(&world, "o1").await;
    world.until("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)").await;
    // Long before a statement has taken too long.
    let deadline = Instant::now() + Duration::from_secs(30);
    while processor.counter("stocktide_processor_batch_reruns_total") == 0 {
        assert!(Instant::now() < deadline, "it waits on and on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    holding.rollback().await.unwrap();
    world.until_settled(1).await;
    assert_eq!(processor.end().await.applied, 1);
    world.verify().await;
}

/// What had been asked for before it was frozen still arrives; what comes behind it is gone when it asks again.
#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_deleted_while_a_processor_reads_are_named_as_it_stops() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    let mut process = Process(processor(&world).stderr(Stdio::piped()).spawn().unwrap());
    let mut log = process.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || std::io::read_to_string(&mut log).unwrap());
    order(&world, "o0").await;
    world.until_settled(1).await;

    freeze(Pid::from_child(&process.0));
    for n in 1..=20 {
        order(&world, &format!("o{n}")).await;
    }
    world.delete_records("online_orders", 0, 20).await;
    process.signal(Signal::CONT);
    let log = tokio::task::spawn_blocking(|| log.join().unwrap()).await.unwrap();
    let said = log.lines().last().unwrap();
    assert!(
        said.starts_with("stocktide: online_orders/0: the log starts at 20, and records from "),
        "{said}"
    );
    assert!(said.ends_with(" on were never read: they are gone, while it was read"), "{said}");
    assert_eq!(process.0.wait().unwrap().code(), Some(1));
    let position = "SELECT next_offset FROM partition_progress WHERE topic = 'online_orders'";
    assert!(world.number(position).await < 20, "nothing is skipped");
}

/// Whatever hangs: here it is a session that begins, and has to publish what the processor before it had left, while the broker stands.
#[tokio::test(flavor = "multi_thread")]
async fn a_processor_ends_within_its_deadline_whatever_hangs() {
    let world = World::start(&[("STOCKTIDE_TOPICS_PARTITIONS", "1")]).await;
    world.stock_shelves().await;
    let broker = world.stack.processes().last().and_then(|process| Pid::from_raw(process.pid)).unwrap();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)";

    let killed = Process(processor(&world).spawn().unwrap());
    order(&world, "o0").await;
    world.until_settled(1).await;
    let holding = hold(&world, "inventory").await;
    order(&world, "o1").await;
    world.until(waits).await;
    freeze(broker);
    holding.rollback().await.unwrap();
    world.until_settled(2).await;
    drop(killed);
    kill_process(broker, Signal::CONT).unwrap();

    let holding = hold(&world, "partition_progress").await;
    let mut command = processor(&world);
    command.env("STOCKTIDE_PROCESSOR_SHUTDOWN_DEADLINE", "4s").stderr(Stdio::piped());
    let mut process = Process(command.spawn().unwrap());
    let mut log = process.0.stderr.take().unwrap();
    let log = std::thread::spawn(move || std::io::read_to_string(&mut log).unwrap());
    world.until(waits).await;
    freeze(broker);
    holding.rollback().await.unwrap();
    let asked = Instant::now();
    process.end().await;
    let took = asked.elapsed();
    kill_process(broker, Signal::CONT).unwrap();
    let log = tokio::task::spawn_blocking(|| log.join().unwrap()).await.unwrap();
    assert!(took < Duration::from_secs(8), "{took:?}\n{log}");
    assert!(log.contains("not finished within processor.shutdown_deadline"), "{log}");

    world.process().await;
    assert_eq!(world.read("inventory_updates").len(), 2);
    world.verify().await;
}
