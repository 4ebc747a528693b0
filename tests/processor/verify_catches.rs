//! `verify` holds on what the processor leaves behind, and names the culprit when one thing is spoilt.

use std::time::Duration;

use crate::support::{Read, World};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use stocktide_verify::{Report, VerifyOptions};

const TOPICS: [&str; 3] = ["online_orders", "store_sales", "supplier_restocks"];
const SETTINGS: [(&str, &str); 2] =
    [("STOCKTIDE_TOPICS_PARTITIONS", "2"), ("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London")];

async fn send(world: &World, records: &[(&str, String, Option<Vec<u8>>)]) {
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", world.stack.kafka_brokers())
        .set("compression.type", "zstd")
        .set("message.max.bytes", "100000000")
        .create()
        .unwrap();
    let mut sent = Vec::new();
    for (topic, key, value) in records {
        let headers = OwnedHeaders::new()
            .insert(Header { key: "trace", value: Some("abc") })
            .insert(Header { key: "empty", value: None::<&str> });
        let mut record = FutureRecord::<str, [u8]>::to(topic).key(key).headers(headers);
        record.payload = value.as_deref();
        sent.push(producer.send(record, Duration::from_secs(30)));
    }
    for delivery in sent {
        delivery.await.unwrap();
    }
}

async fn verify(world: &World, database: Option<&str>) -> Report {
    let mut options = VerifyOptions::of(&world.config).unwrap();
    options.wait = Duration::from_secs(20);
    if let Some(database) = database {
        let (server, _) = options.database_url.rsplit_once('/').unwrap();
        options.database_url = format!("{server}/{database}");
    }
    stocktide_verify::run(&options).await.unwrap()
}

/// Verifies a copy of the database in which a statement has changed one row.
async fn spoilt(world: &World, name: &str, statement: &'static str) -> Report {
    let url = world.stack.database_url();
    let (server, database) = url.rsplit_once('/').unwrap();
    let mut postgres = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
    let copy = format!("CREATE DATABASE {name} TEMPLATE {database}");
    postgres.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(copy))).await.unwrap();
    let mut connection = PgConnection::connect(&format!("{server}/{name}")).await.unwrap();
    let done = connection.execute(statement).await.unwrap();
    assert_eq!(done.rows_affected(), 1, "{statement}");
    connection.close().await.unwrap();
    verify(world, Some(name)).await
}

fn event(id: u32, mut fields: Value) -> Vec<u8> {
    fields["event_id"] = format!("01890a5d-ac96-774b-bcce-{id:012}").into();
    fields.to_string().into_bytes()
}

fn order(
    id: u32,
    kind: &str,
    order_id: &str,
    day: u32,
    more: &Value,
) -> (&'static str, String, Option<Vec<u8>>) {
    let mut fields = more.clone();
    fields["type"] = kind.into();
    fields["order_id"] = order_id.into();
    fields["order_timestamp"] = format!("2011-03-{day:02}T23:30:00Z").into();
    (TOPICS[0], order_id.to_owned(), Some(event(id, fields)))
}

/// Sales, changes of status, returns, cancellations, restocks, duplicates and every sort of reject.
fn story() -> Vec<(&'static str, String, Option<Vec<u8>>)> {
    let items = json!([{"product_id": "apple", "quantity": 6, "price_per_unit": 2.55}, {"product_id": "postage", "quantity": 1},
        {"product_id": "apple", "quantity": 2, "price_per_unit": "2.5"}, {"product_id": "bread", "quantity": 1}]);
    let placed = json!({"user_id": 17, "items": items, "order_value": "40.00", "payment_method": "card",
        "shipping_address": {"street": "1 \"High\" St", "town": "Ely"}});
    let one = json!([{"product_id": "apple", "quantity": 1}]);
    let mut records = Vec::new();
    for n in 0..20 {
        records.push(order(n, "placed", &format!("A{n}"), 1 + n, &placed));
    }
    records.push(order(0, "placed", "A0", 1, &placed));
    records.push(order(
        20,
        "returned",
        "A1",
        5,
        &json!({"original_id": "A1", "user_id": "17", "items": one}),
    ));
    records.push(order(21, "returned", "A2", 5, &json!({"items": one})));
    for (n, order_id) in ["A1", "A2", "A3"].into_iter().enumerate() {
        records.push(order(22 + n as u32, "cancelled", order_id, 31, &json!({})));
    }
    records.push(order(25, "shipped", "A4", 6, &json!({})));
    records.push(order(26, "delivered", "A4", 7, &json!({})));
    records.push(order(27, "shipped", "A4", 8, &json!({})));
    let single = json!({"items": one, "user_id": "18"});
    records.push(order(28, "placed", "B", 1, &single));
    records.push(order(29, "returned", "B", 2, &json!({"original_id": "B", "items": one, "user_id": "18"})));
    records.push(order(30, "cancelled", "B", 31, &json!({})));
    for (n, quantity) in [(40, 30), (41, 2)] {
        let sale = json!({"sale_id": n, "store_id": "shop", "sold_at": "2011-03-01T10:00:00.123456+01:00", "total": 76.5,
            "items": [{"product_id": "apple", "quantity": quantity, "price_per_unit": "2.550"}]});
        records.push((TOPICS[1], n.to_string(), Some(event(n, sale))));
    }
    let back = json!({"type": "returned", "sale_id": "R", "original_id": "40", "store_id": "shop", "items": one,
        "sold_at": "2011-03-02T10:00:00Z"});
    records.push((TOPICS[1], "40".to_owned(), Some(event(42, back))));
    for (n, kind, quantity) in [(50, "received", 100), (51, "adjustment", -3)] {
        let restock = json!({"type": kind, "restock_id": n, "supplier_id": "acme", "location_id": "online", "note": "x",
            "received_at": "2011-03-03T10:00:00Z",
            "items": [{"product_id": "bread", "quantity": quantity, "unit_cost": 0.8}, {"product_id": "apple", "quantity": 1}]});
        records.push((TOPICS[2], n.to_string(), Some(event(n, restock))));
    }
    records.extend(rejects(&placed));
    records
}

fn rejects(placed: &Value) -> Vec<(&'static str, String, Option<Vec<u8>>)> {
    let mut records = vec![
        (TOPICS[0], "tombstone".to_owned(), None),
        (TOPICS[1], "empty".to_owned(), Some(Vec::new())),
        (TOPICS[2], "broken".to_owned(), Some(b"{\"event_id\":\xff".to_vec())),
        (TOPICS[0], "large".to_owned(), Some(vec![b' '; 2_000_000])),
        // Compressed it comes in; as it is, it goes into no topic: dlq has its beginning.
        (TOPICS[0], "huge".to_owned(), Some(vec![b'x'; 6_000_000])),
        order(60, "placed", "A5", 1, placed),
        order(61, "cancelled", "A3", 9, &json!({})),
        order(62, "cancelled", "nowhere", 9, &json!({})),
    ];
    let mut carded = placed.clone();
    carded["note"] = "4111 1111 1111 1111".into();
    records.push(order(63, "placed", "C", 1, &carded));
    let too_much = json!([{"product_id": "apple", "quantity": 9}]);
    records.push(order(64, "returned", "A4", 9, &json!({"original_id": "A4", "items": too_much})));
    records.push(order(65, "placed", "D", 1, &json!({"items": [{"product_id": "NONE", "quantity": 1}]})));
    records
}

/// The checks that fail, with their examples.
fn differing(report: &Report) -> Vec<(&'static str, String)> {
    report.checks.iter().filter(|c| c.differing > 0).map(|c| (c.name, c.examples.join(" | "))).collect()
}

/// Asserts that exactly these checks fail, each with an example that names the culprit.
fn assert_caught(what: &str, report: &Report, expected: &[(&str, &str)]) {
    let told = differing(report);
    let names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, expected.iter().map(|(name, _)| *name).collect::<Vec<_>>(), "{what}: {told:#?}");
    for ((name, examples), (_, culprit)) in told.iter().zip(expected) {
        assert!(examples.contains(culprit), "{what}: {name} says {examples:?}, not {culprit:?}");
    }
    assert!(!report.ok, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_processor_leaves_behind_holds_and_each_spoilt_thing_is_named() {
    let world = World::start(&SETTINGS).await;
    world.stock_shelves().await;
    let records = story();
    send(&world, &records).await;
    world.process().await;

    let report = verify(&world, None).await;
    assert_eq!(differing(&report), [], "notes: {:?}", report.notes);
    assert!(report.ok && report.notes.is_empty(), "{:?}", report.notes);
    let checked = |name: &str| report.checks.iter().find(|check| check.name == name).unwrap().checked;
    assert_eq!(checked("one_fate_per_record"), records.len() as u64);
    assert_eq!((checked("dlq"), checked("order_headers"), checked("fates_balance")), (11, 23, 8));

    let cut = world.read("dlq").into_iter().find_map(|record| record.header("stocktide.truncated"));
    assert_eq!(cut.as_deref(), Some("6000000"));
    // A database that is being read cannot be copied.
    world.database.close().await;
    spoilt_rows(&world).await;
    spoilt_topics(&world).await;
}

async fn spoilt_rows(world: &World) {
    let report = spoilt(world, "deleted", "DELETE FROM orders WHERE order_id = 'A7' AND line_no = 4").await;
    assert_caught(
        "a movement row is deleted",
        &report,
        &[
            ("events_match_lines", "A7 (online_orders-"),
            ("order_values", "online_orders A7: order_value is"),
            ("stock_balances", "bread@online: ledger says"),
            ("movements_chain", "bread@online (online_orders-"),
            ("rollups_by_month", "2011-03 online_orders-"),
            ("user_stats", "user 17: units: ledger says"),
            ("inventory_updates", "bread@online version"),
        ],
    );
    let changed = "UPDATE restock_lines SET quantity = quantity + 1 WHERE restock_id = '50' AND line_no = 1";
    let report = spoilt(world, "changed", changed).await;
    assert_caught(
        "a line's quantity is changed",
        &report,
        &[
            ("events_match_lines", "line 1 (bread): quantity is 100, the ledger says 101"),
            ("stock_balances", "bread@online: ledger says"),
            ("movements_chain", "bread@online (supplier_restocks-"),
        ],
    );
    let figure =
        "UPDATE inventory SET quantity_on_hand = 7 WHERE product_id = 'apple' AND location_id = 'shop'";
    let report = spoilt(world, "figure", figure).await;
    assert_caught(
        "a stock figure is changed",
        &report,
        &[("stock_balances", "apple@shop: ledger says -31, inventory says 7")],
    );
    let top = "DELETE FROM top_users WHERE user_id = '17'";
    let report = spoilt(world, "top", top).await;
    assert_caught("a user is not at the top", &report, &[("top_users", "user 17: user_stats says ")]);
    let day = "UPDATE fates_by_day SET rejected = rejected - 1
        WHERE ctid = (SELECT ctid FROM fates_by_day WHERE topic = 'online_orders' AND rejected > 0 LIMIT 1)";
    let report = spoilt(world, "day", day).await;
    assert_caught(
        "a day's count is changed",
        &report,
        &[("fates_by_day", "are said to be rejected, the days add up to")],
    );
}

/// These stay spoilt, so each finds the ones before, too.
async fn spoilt_topics(world: &World) {
    let update = world.read("inventory_updates").remove(0);
    let mut headers = OwnedHeaders::new();
    for (key, value) in &update.headers {
        headers = headers.insert(Header { key, value: value.as_ref() });
    }
    let mut again = FutureRecord::<[u8], [u8]>::to("inventory_updates").headers(headers);
    (again.key, again.payload) = (update.key.as_deref(), update.value.as_deref());
    world.producer().send(again, Duration::from_secs(30)).await.unwrap();
    let update = update.json();
    let text = |name: &str| update[name].as_str().unwrap().to_owned();
    let row = format!("{}@{}", text("product_id"), text("location_id"));
    let repeated = format!("{row} version {}: published more than once", update["version"]);
    let report = verify(world, None).await;
    assert_caught("an update is repeated", &report, &[("inventory_updates", &repeated)]);

    let removed = take_from_dlq(world).await;
    let report = verify(world, None).await;
    let expected = [("inventory_updates", repeated.as_str()), ("dlq", removed.as_str())];
    assert_caught("a dlq record is removed", &report, &expected);
}

/// Takes the first record out of a partition of `dlq`; returns what must be said of it.
async fn take_from_dlq(world: &World) -> String {
    let first: Read = world.read("dlq").remove(0);
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", world.stack.kafka_brokers()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("dlq", first.partition, Offset::Offset(first.offset + 1)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    let [topic, partition, offset] = ["topic", "partition", "offset"]
        .map(|name| first.header(&format!("__connect.errors.{name}")).unwrap());
    let reason = first.header("stocktide.reason").unwrap();
    format!("{topic}-{partition}@{offset}: rejected ({reason}), but not in dlq")
}
