//! Odd situations: what comes in another order than it should, and a Kafka or a database that is not what it was.
//!
//! Most tests share one stack and take it in turn; each leaves it as it found it.

use std::sync::LazyLock;
use std::time::Duration;

use crate::support::World;
use crate::support::fates::Fate::{Applied, Rejected};
use crate::support::fates::{Fate, Fates};
use crate::support::records::{Coordinates, Record, of, order, with, without};
use crate::support::running::Running;
use rdkafka::admin::{AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use stocktide_domain::{Money, ProductKind};
use stocktide_runtime::config::{Config, Sources};
use stocktide_runtime::kafka::ensure_topics;
use stocktide_store::catalogue::{self, CatalogueFiles, ProductRow};
use stocktide_store::migrate;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, OnceCell};
use uuid::Uuid;

const ORDERS: &str = "online_orders";
const TIMEOUT: Duration = Duration::from_secs(10);
/// So that a transaction that cannot go through does not take long to say so.
const SHORT: [(&str, &str); 2] =
    [("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s"), ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "3s")];

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().unwrap());
static SHOP: OnceCell<Mutex<World>> = OnceCell::const_new();

/// Runs a test on the shared stack, alone.
fn in_the_shop(test: impl AsyncFnOnce(&World)) {
    RUNTIME.block_on(async {
        let world = SHOP.get_or_init(async || Mutex::new(shop().await)).await.lock().await;
        test(&world).await;
    });
}

async fn shop() -> World {
    let world = World::start(&SHORT).await;
    world.stock_shelves().await;
    world
        .execute(
            "INSERT INTO products (product_id, name, price, currency) SELECT p, p, 1, 'GBP'
                FROM unnest('{fig,kiwi,pear,plum}'::text[]) p;
             UPDATE installation SET catalogue_version = catalogue_version + 1",
        )
        .await;
    world
}

async fn send(world: &World, key: &str, events: &[Value]) -> Vec<(Record, Coordinates)> {
    world.send_events(ORDERS, key, events).await
}

/// Settles events in one batch, or each in its own.
async fn settle(world: &World, key: &str, events: &[Value], each_alone: bool) -> Vec<(Record, Coordinates)> {
    if !each_alone {
        let sent = send(world, key, events).await;
        world.process().await;
        return sent;
    }
    let (processor, mut sent) = (world.start_processor(), Vec::new());
    for event in events {
        sent.extend(send(world, key, std::slice::from_ref(event)).await);
        settled(world, &sent).await;
    }
    processor.end().await;
    sent
}

async fn check(world: &World, sent: &[(Record, Coordinates)], expected: &[Fate]) {
    let fates = Fates::read(world).await;
    assert_eq!(sent.len(), expected.len());
    for (record, fate) in sent.iter().zip(expected) {
        fates.check(record, *fate);
    }
}

fn about(order_id: &str, kind: &str) -> Value {
    with(with(without(order(), "items"), "order_id", order_id), "type", kind)
}

fn placed(order_id: &str, product: &str, quantity: i64) -> Value {
    with(of(order(), product, quantity), "order_id", order_id)
}

fn returned(order_id: &str, product: &str, quantity: i64) -> Value {
    with(with(of(order(), product, quantity), "type", "returned"), "original_id", order_id)
}

/// Orders, returns and cancellations of one product in one order, settled in one batch or each in its own.
async fn returns_and_cancellations(world: &World, product: &str, each_alone: bool) {
    let id = format!("{product}-order");
    let line = |quantity: i64| json!({"product_id": product, "quantity": quantity});
    let events = [
        with(
            placed(&id, product, 1),
            "items",
            json!([line(3), line(2), {"product_id": "postage", "quantity": 1}]),
        ),
        returned(&id, product, 4),
        returned(&id, product, 2),
        about(&id, "cancelled"),
        about(&id, "cancelled"),
        returned(&id, product, 1),
    ];
    let sent = settle(world, &id, &events, each_alone).await;
    let refused = [Rejected("over_return"), Rejected("already_cancelled"), Rejected("over_return")];
    check(world, &sent, &[Applied, Applied, refused[0], Applied, refused[1], refused[2]]).await;
    let fates = Fates::read(world).await;
    let lines =
        fates.lines_of(&sent[3].1).iter().map(|line| (line.product_id.as_str(), line.quantity, line.delta));
    // 4 of 3 + 2 had come back: the first line's 3, and 1 of the second. Postage is given back, and moves no stock.
    assert_eq!(lines.collect::<Vec<_>>(), [(product, -1, Some(1)), ("postage", -1, None)]);
    assert_eq!(world.stock().await[&format!("{product}@online")], (0, 3));
    world.verify().await;
}

#[test]
fn a_partly_returned_order_that_is_cancelled_gives_back_only_the_rest() {
    in_the_shop(async |world| returns_and_cancellations(world, "pear", true).await);
}

#[test]
fn a_partly_returned_order_that_is_cancelled_in_the_same_batch_gives_back_only_the_rest() {
    in_the_shop(async |world| returns_and_cancellations(world, "plum", false).await);
}

#[test]
fn shipped_after_delivered_does_not_undo_it() {
    in_the_shop(async |world| {
        for (id, each_alone) in [("late-1", true), ("late-2", false)] {
            let events = [placed(id, "apple", 1), about(id, "delivered"), about(id, "shipped")];
            let sent = settle(world, id, &events, each_alone).await;
            check(world, &sent, &[Applied, Applied, Applied]).await;
        }
        let sql = "SELECT count(*) FROM order_headers WHERE order_id LIKE 'late-_' AND status = 'delivered'";
        assert_eq!(world.number(sql).await, 2);
    });
}

#[test]
fn an_order_that_two_processors_place_at_once_is_applied_once_and_the_other_an_order_conflict() {
    in_the_shop(async |world| {
        let processors = [world.start_processor(), world.start_processor()];
        for processor in &processors {
            processor.owns(8).await;
        }
        // Neighbouring partitions have different owners.
        let both = |i: usize| {
            let event = placed(&format!("both-{i}"), "kiwi", 1);
            [0, 1].map(|p| {
                let event = with(event.clone(), "event_id", Uuid::now_v7().to_string());
                Record::event(ORDERS, &event).at_partition(p)
            })
        };
        let sent = world.sender().send("both", (0..50).flat_map(both).collect()).await;
        for processor in processors {
            settled(world, &sent).await;
            assert!(processor.end().await.consumed > 0);
        }
        let fates = Fates::read(world).await;
        for pair in sent.chunks(2) {
            let second = usize::from(fates.logged[&pair[0].1][0].status == "applied");
            fates.check(&pair[1 - second], Applied);
            fates.check(&pair[second], Rejected("order_conflict"));
        }
        assert_eq!(world.stock().await["kiwi@online"], (-50, 50));
        world.verify().await;
    });
}

/// Waits until the database has what was sent, and Kafka what it put out.
async fn settled(world: &World, sent: &[(Record, Coordinates)]) {
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    let sql = "SELECT count(*) FILTER (WHERE next_offset > o) FROM partition_progress
        JOIN unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, o) USING (topic, partition)";
    let topics: Vec<&str> = sent.iter().map(|(_, at)| at.0.as_str()).collect();
    let partitions: Vec<i32> = sent.iter().map(|(_, at)| at.1).collect();
    let offsets: Vec<i64> = sent.iter().map(|(_, at)| at.2).collect();
    loop {
        let query = sqlx::query_scalar::<_, i64>(sql).bind(&topics).bind(&partitions).bind(&offsets);
        if query.fetch_one(&world.database).await.unwrap() == sent.len() as i64 {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "not settled in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_product_becomes_known_while_the_processor_runs() {
    in_the_shop(async |world| {
        let processor = world.start_processor();
        let wanted = of(order(), "quince", 1);
        let before = send(world, "quince", std::slice::from_ref(&wanted)).await;
        settled(world, &before).await;
        let quince = ProductRow {
            line: 0,
            product_id: "quince".to_owned(),
            name: "Quince".to_owned(),
            category: String::new(),
            price: Money::parse("0.80").unwrap(),
            currency: "GBP".to_owned(),
            reorder_point: None,
            kind: ProductKind::Stock,
        };
        catalogue::load(
            &world.database,
            &CatalogueFiles { products: vec![quince], ..CatalogueFiles::default() },
        )
        .await
        .unwrap();
        // The very same event: as it was rejected, it is no duplicate.
        let after = send(world, "quince", &[wanted]).await;
        settled(world, &after).await;
        processor.end().await;
        check(world, &[before, after].concat(), &[Rejected("unknown_product"), Applied]).await;
    });
}

fn transactional(world: &World) -> BaseProducer {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers());
    let producer: BaseProducer = client.set("transactional.id", Uuid::now_v7().to_string()).create().unwrap();
    producer.init_transactions(TIMEOUT).unwrap();
    producer
}

fn begin(producer: &BaseProducer, records: usize) {
    producer.begin_transaction().unwrap();
    for _ in 0..records {
        let event = order().to_string();
        producer
            .send(BaseRecord::to(ORDERS).key("transaction").payload(&event))
            .map_err(|(error, _)| error)
            .unwrap();
    }
    producer.flush(TIMEOUT).unwrap();
}

#[test]
fn aborted_records_are_not_applied_and_do_not_hold_up_catching_up() {
    in_the_shop(async |world| {
        world.process().await;
        let producer = transactional(world);
        begin(&producer, 3);
        producer.commit_transaction(TIMEOUT).unwrap();
        // Only a control record is left.
        assert_eq!(world.process().await.consumed, 3);
        begin(&producer, 100);
        producer.abort_transaction(TIMEOUT).unwrap();
        // A hundred records that nobody receives.
        assert_eq!(world.process().await.consumed, 0);
        begin(&producer, 2);
        producer.commit_transaction(TIMEOUT).unwrap();
        assert_eq!(world.process().await.applied, 2);
        world.verify().await;
    });
}

#[test]
fn records_of_a_pending_transaction_wait_for_its_end() {
    in_the_shop(async |world| {
        let producer = transactional(world);
        begin(&producer, 2);
        assert_eq!(world.process().await.consumed, 0);
        producer.commit_transaction(TIMEOUT).unwrap();
        assert_eq!(world.process().await.applied, 2);
    });
}

/// The group's committed offsets, set by hand while it has no members.
fn commit(world: &World, offsets: &[(String, i32, i64)]) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", &world.config.kafka.group);
    let consumer: BaseConsumer = client.create().unwrap();
    let mut list = TopicPartitionList::new();
    for (topic, partition, offset) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*offset)).unwrap();
    }
    consumer.commit(&list, CommitMode::Sync).unwrap();
}

async fn positions(world: &World) -> Vec<(String, i32, i64)> {
    let sql = "SELECT topic, partition, next_offset FROM partition_progress WHERE next_offset > start_offset";
    sqlx::query_as(sql).fetch_all(&world.database).await.unwrap()
}

#[test]
fn a_database_that_has_lost_commits_stops_the_processor_at_its_start_and_while_it_runs() {
    in_the_shop(async |world| {
        let back = "UPDATE partition_progress SET next_offset = next_offset - 1 WHERE applied > 0";
        let forth = "UPDATE partition_progress SET next_offset = next_offset + 1 WHERE applied > 0";
        send(world, "lost", &[order()]).await;
        world.process().await;
        world.execute(back).await;
        let said = world.refusal().await;
        assert!(said.contains("the database has lost commits"), "{said}");
        world.execute(forth).await;

        let running = world.start_processor();
        let sent = send(world, "lost", &[order()]).await;
        settled(world, &sent).await;
        published(world, &sent).await;
        world.execute(back).await;
        let unseen = send(world, "lost", &[order()]).await;
        let said = running.stopped().await;
        assert!(said.contains("the database has lost commits"), "{said}");
        world.execute(forth).await;
        world.process().await;
        check(world, &[sent, unseen].concat(), &[Applied, Applied]).await;
    });
}

/// Waits until Kafka's committed offset is past what was sent.
async fn published(world: &World, sent: &[(Record, Coordinates)]) {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", world.stack.kafka_brokers()).set("group.id", &world.config.kafka.group);
    let consumer: BaseConsumer = client.set("isolation.level", "read_committed").create().unwrap();
    let mut list = TopicPartitionList::new();
    sent.iter().for_each(|(_, (topic, partition, _))| {
        list.add_partition(topic, *partition);
    });
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let at = consumer.committed_offsets(list.clone(), TIMEOUT).unwrap();
        let past = |(topic, partition, offset): &Coordinates| {
            at.find_partition(topic, *partition)
                .is_some_and(|e| matches!(e.offset(), Offset::Offset(k) if k > *offset))
        };
        if sent.iter().all(|(_, at)| past(at)) {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "not published in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn committed_offsets_that_are_gone_stop_the_processor_where_something_was_published() {
    in_the_shop(async |world| {
        send(world, "gone", &[order()]).await;
        world.process().await;
        // The processor has asked to leave the group, which is not to have left it.
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        loop {
            let group = [world.config.kafka.group.as_str()];
            let groups = world.admin().delete_groups(&group, &AdminOptions::new()).await.unwrap();
            match groups.into_iter().next().unwrap() {
                Err((_, RDKafkaErrorCode::NonEmptyGroup)) if std::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                group => break assert!(group.is_ok(), "{group:?}"),
            }
        }
        let said = world.refusal().await;
        assert!(said.contains("committed offset is gone"), "{said}");
        commit(world, &positions(world).await);
        assert_eq!(world.process().await.consumed, 0);
    });
}

#[test]
fn a_database_that_refuses_even_a_rejection_is_waited_for() {
    in_the_shop(async |world| {
        world
            .execute(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not today'; END $$;
                 CREATE TRIGGER refuse BEFORE INSERT ON events_log FOR EACH ROW EXECUTE FUNCTION refuse()",
            )
            .await;
        let processor = world.start_processor();
        let sent = send(world, "refused", &[order(), of(order(), "unicorn", 1)]).await;
        processor.fails_with("not today (P0001)").await;
        world.execute("DROP TRIGGER refuse ON events_log").await;
        settled(world, &sent).await;
        processor.end().await;
        check(world, &sent, &[Rejected("refused_by_database"), Rejected("unknown_product")]).await;
    });
}

#[test]
fn a_database_that_may_lose_commits_is_refused() {
    in_the_shop(async |world| {
        world.execute("ALTER DATABASE stocktide SET synchronous_commit = off").await;
        let said = world.refusal().await;
        world.execute("ALTER DATABASE stocktide RESET synchronous_commit").await;
        assert!(said.contains("synchronous_commit is off"), "{said}");
    });
}

#[test]
fn a_database_without_the_schema_is_waited_for_and_one_that_is_not_the_published_one_is_refused() {
    in_the_shop(async |world| {
        send(world, "other", &[order()]).await;
        world.process().await;
        let other = world.stack.create_database("other").await.unwrap();
        let environment = vec![
            ("STOCKTIDE_DATABASE_URL".to_owned(), other.clone().into()),
            ("STOCKTIDE_KAFKA_BROKERS".to_owned(), world.stack.kafka_brokers().into()),
        ];
        let config = Config::load(&Sources { file: None, environment, flags: Vec::new() }).unwrap();
        let processor = Running::start(&config);
        processor.fails_with("the schema is not there yet: run `stocktide migrate`").await;
        migrate::run(&other, "GBP", "UTC").await.unwrap();
        let said = processor.stopped().await;
        assert!(said.contains("the database has lost commits"), "{said}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_cut_below_what_was_applied_is_published_from_the_database_and_one_cut_beyond_it_stops_the_processor()
 {
    let world = World::start(&SHORT).await;
    world.stock_shelves().await;
    let (mut sender, orders) =
        (world.sender(), |n: usize| (0..n).map(|_| Record::event(ORDERS, &order())).collect::<Vec<_>>());
    sender.send("cut", orders(5)).await;
    world.process().await;

    // Nothing can be published.
    largest_update(&world, "10").await;
    let stuck = world.start_processor();
    let unpublished = sender.send("cut", [orders(19), vec![Record::new(ORDERS, "broken")]].concat()).await;
    settled(&world, &unpublished).await;
    stuck.end().await;
    assert_eq!(world.read("inventory_updates").len(), 5);
    let (topic, partition, last) = unpublished[19].1.clone();
    world.delete_records(&topic, partition, last).await;
    largest_update(&world, "1000000").await;
    let new = sender.send("cut", orders(1)).await;
    assert_eq!(world.process().await.consumed, 1);
    let fates = Fates::read(&world).await;
    unpublished[..19].iter().chain(&new).for_each(|sent| {
        fates.check(sent, Applied);
        assert_eq!(fates.updates_of(&sent.1).len(), 1, "each change once");
    });
    fates.check(&unpublished[19], Rejected("malformed_json"));
    assert_eq!(world.read("inventory_updates").len(), 25);

    // Records that were never read.
    let gone = sender.send("cut", orders(10)).await;
    world.delete_records(&topic, partition, gone[3].1.2).await;
    let said = world.refusal().await;
    assert!(said.contains("were never read: they are gone"), "{said}");
    assert_eq!(world.number("SELECT sum(applied + rejected)::bigint FROM partition_progress").await, 26);
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
async fn topics_that_are_missing_are_named_and_topics_that_were_recreated_stop_the_processor() {
    let world = World::start(&SHORT).await;
    world.stock_shelves().await;
    let orders = |n: usize| (0..n).map(|_| order()).collect::<Vec<_>>();
    delete_orders(&world).await;
    let processor = world.start_processor();
    processor.fails_with("topic online_orders does not exist: run `stocktide migrate`").await;
    // It goes on when they come.
    ensure_topics(&world.config).await.unwrap();
    let sent = send(&world, "k", &orders(5)).await;
    settled(&world, &sent).await;
    published(&world, &sent).await;

    delete_orders(&world).await;
    ensure_topics(&world.config).await.unwrap();
    let said = processor.stopped().await;
    let ways =
        ["was recreated or cut", "the log ends at 0, below the 5 that was read", "committed offset is gone"];
    assert!(ways.iter().any(|way| said.contains(way)), "which of them depends on who notices first: {said}");
    // Filled again, so that every offset that was read is there; Kafka forgets a group's offsets with their topic.
    let other = send(&world, "k", &orders(8)).await;
    let said = world.refusal().await;
    assert!(said.contains("committed offset is gone"), "{said}");
    // Even where somebody sets them back to what they were.
    commit(&world, &positions(&world).await);
    let said = world.refusal().await;
    assert!(
        said.contains("holds another record than the one that was read: the topic was recreated"),
        "{said}"
    );
    assert_eq!(other[0].1, sent[0].1, "the same coordinates");
    assert_eq!(
        world.number("SELECT count(*) FROM events_log").await,
        5,
        "nothing of the new topic was taken for the old one"
    );
}

async fn delete_orders(world: &World) {
    for deleted in world.admin().delete_topics(&[ORDERS], &AdminOptions::new()).await.unwrap() {
        deleted.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_seems_to_end_too_early_is_asked_for_again_before_it_is_believed() {
    let world = World::start(&SHORT).await;
    world.stock_shelves().await;
    send(&world, "k", &[order(), order()]).await;
    world.process().await;
    // As if more had been read than an answer knows of that was long on its way.
    world.execute("UPDATE partition_progress SET next_offset = 4 WHERE next_offset = 2").await;
    let processor = world.start_processor();
    processor.fails_with("the log ends at 2, below the 4 that was read").await;
    let sent = send(&world, "k", &[order(), order(), order()]).await;
    settled(&world, &sent).await;
    published(&world, &sent).await;
    assert_eq!(processor.end().await.applied, 1, "what lies below the position was read already");
}
