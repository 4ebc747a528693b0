//! `verify` holds on what the processor leaves behind, and names the culprit when one thing is spoilt.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_processor::RunOptions;
use stocktide_runtime::config::{Flag, Sources};
use stocktide_runtime::{Config, kafka};
use stocktide_store::{catalogue, migrate};
use stocktide_verify::{Report, VerifyOptions};
use tokio_util::sync::CancellationToken;

const TOPICS: [&str; 3] = ["online_orders", "store_sales", "supplier_restocks"];

/// A private stack with an installation in it.
struct Installation {
    stack: Stack,
    config: Config,
}

impl Installation {
    async fn new() -> Installation {
        let stack = Stack::start(StackOptions::default()).await.unwrap();
        let flag = |key, value: &str| Flag { key, value: value.to_owned(), flag: "test" };
        let flags = vec![
            flag("database.url", &stack.database_url()),
            flag("kafka.brokers", &stack.kafka_brokers()),
            flag("business.timezone", "Europe/London"),
            flag("topics.partitions", "2"),
        ];
        let config = Config::load(&Sources { flags, ..Sources::default() }).unwrap();
        migrate::run(&stack.database_url(), "GBP", "Europe/London").await.unwrap();
        kafka::ensure_topics(&config).await.unwrap();
        let installation = Installation { stack, config };
        installation.load_catalogue().await;
        installation
    }

    async fn load_catalogue(&self) {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        file(
            "products.csv",
            "product_id,name,category,price,currency,reorder_point,kind\nMUG,Mug,,2.55,GBP,5,stock\n\
             TIN,Tin,,1.69,GBP,,stock\nPOST,Postage,,18,GBP,,service\n",
        );
        file("suppliers.csv", "supplier_id,name,contact\nS1,Supplier,\n");
        file(
            "locations.csv",
            "location_id,name,kind,timezone\nonline,Online,online,UTC\nshop,Shop,store,UTC\n",
        );
        file("stock.csv", "product_id,location_id,quantity\nMUG,online,50\nTIN,online,10\n");
        let pool = sqlx::PgPool::connect(&self.stack.database_url()).await.unwrap();
        let files = catalogue::read_dir(dir.path()).unwrap();
        catalogue::load(&pool, &files).await.unwrap();
        pool.close().await;
    }

    fn client(&self) -> ClientConfig {
        kafka::client_config(&self.config)
    }

    /// Sends records: topic, key, value, headers.
    fn send(&self, records: &[(&str, &str, Option<Vec<u8>>)]) {
        let producer: BaseProducer = self
            .client()
            .set("message.max.bytes", "4194304")
            .set("compression.type", "zstd")
            .create()
            .unwrap();
        for (topic, key, value) in records {
            let headers = OwnedHeaders::new()
                .insert(Header { key: "trace", value: Some("abc") })
                .insert(Header { key: "empty", value: None::<&str> });
            let mut record = BaseRecord::<str, [u8]>::to(topic).key(key).headers(headers);
            record.payload = value.as_deref();
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(30)).unwrap();
    }

    async fn process(&self) {
        let options = RunOptions { until_caught_up: true, ..RunOptions::default() };
        stocktide_processor::run(&self.config, options, CancellationToken::new()).await.unwrap();
    }

    async fn verify(&self, database: Option<&str>) -> Report {
        let mut options = VerifyOptions::of(&self.config).unwrap();
        options.wait = Duration::from_secs(20);
        if let Some(database) = database {
            let (server, _) = options.database_url.rsplit_once('/').unwrap();
            options.database_url = format!("{server}/{database}");
        }
        stocktide_verify::run(&options).await.unwrap()
    }

    /// A copy of the database with a statement run on it that changes one row.
    async fn spoilt(&self, name: &str, statement: &'static str) -> Report {
        let url = self.stack.database_url();
        let (server, database) = url.rsplit_once('/').unwrap();
        let mut postgres = PgConnection::connect(&format!("{server}/postgres")).await.unwrap();
        let copy = format!("CREATE DATABASE {name} TEMPLATE {database}");
        postgres.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(copy))).await.unwrap();
        let mut connection = PgConnection::connect(&format!("{server}/{name}")).await.unwrap();
        let done = connection.execute(statement).await.unwrap();
        assert_eq!(done.rows_affected(), 1, "{statement}");
        connection.close().await.unwrap();
        self.verify(Some(name)).await
    }

    /// The first record of a topic, from whichever partition has one.
    fn first(&self, topic: &str) -> OwnedMessage {
        let consumer: BaseConsumer =
            self.client().set("group.id", "test").set("isolation.level", "read_committed").create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..2 {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        consumer.poll(Duration::from_secs(30)).expect("a record").unwrap().detach()
    }
}

fn event(id: u32, mut fields: Value) -> Option<Vec<u8>> {
    fields["event_id"] = format!("01890a5d-ac96-774b-bcce-{id:012}").into();
    Some(fields.to_string().into_bytes())
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
    (TOPICS[0], order_id.to_owned(), event(id, fields))
}

/// Sales, changes of status, returns, cancellations, restocks, duplicates and every sort of reject.
fn story() -> Vec<(&'static str, String, Option<Vec<u8>>)> {
    let items = json!([{"product_id": "MUG", "quantity": 6, "price_per_unit": 2.55}, {"product_id": "POST", "quantity": 1},
        {"product_id": "MUG", "quantity": 2, "price_per_unit": "2.5"}, {"product_id": "TIN", "quantity": 1}]);
    let placed = json!({"user_id": 17, "items": items, "order_value": "40.00", "payment_method": "card",
        "shipping_address": {"street": "1 \"High\" St", "town": "Ely"}});
    let one = json!([{"product_id": "MUG", "quantity": 1}]);
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
            "items": [{"product_id": "MUG", "quantity": quantity, "price_per_unit": "2.550"}]});
        records.push((TOPICS[1], n.to_string(), event(n, sale)));
    }
    let back = json!({"type": "returned", "sale_id": "R", "original_id": "40", "store_id": "shop", "items": one,
        "sold_at": "2011-03-02T10:00:00Z"});
    records.push((TOPICS[1], "40".to_owned(), event(42, back)));
    for (n, kind, quantity) in [(50, "received", 100), (51, "adjustment", -3)] {
        let restock = json!({"type": kind, "restock_id": n, "supplier_id": "S1", "location_id": "online", "note": "x",
            "received_at": "2011-03-03T10:00:00Z",
            "items": [{"product_id": "TIN", "quantity": quantity, "unit_cost": 0.8}, {"product_id": "MUG", "quantity": 1}]});
        records.push((TOPICS[2], n.to_string(), event(n, restock)));
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
        order(60, "placed", "A5", 1, placed),
        order(61, "cancelled", "A3", 9, &json!({})),
        order(62, "cancelled", "nowhere", 9, &json!({})),
    ];
    let mut carded = placed.clone();
    carded["note"] = "4111 1111 1111 1111".into();
    records.push(order(63, "placed", "C", 1, &carded));
    let too_much = json!([{"product_id": "MUG", "quantity": 9}]);
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
    let installation = Installation::new().await;
    let story = story();
    let records: Vec<_> =
        story.iter().map(|(topic, key, value)| (*topic, key.as_str(), value.clone())).collect();
    installation.send(&records);
    installation.process().await;

    let report = installation.verify(None).await;
    assert_eq!(differing(&report), [], "notes: {:?}", report.notes);
    assert!(report.ok && report.notes.is_empty(), "{:?}", report.notes);
    let checked = |name: &str| report.checks.iter().find(|check| check.name == name).unwrap().checked;
    assert_eq!(checked("one_fate_per_record"), records.len() as u64);
    assert_eq!((checked("dlq"), checked("order_headers"), checked("fates_balance")), (10, 23, 6));

    spoilt_rows(&installation).await;
    spoilt_topics(&installation).await;
    installation.stack.stop().await.unwrap();
}

async fn spoilt_rows(installation: &Installation) {
    let report =
        installation.spoilt("deleted", "DELETE FROM orders WHERE order_id = 'A7' AND line_no = 4").await;
    assert_caught(
        "a movement row is deleted",
        &report,
        &[
            ("events_match_lines", "A7 (online_orders-"),
            ("order_values", "online_orders A7: order_value is"),
            ("stock_balances", "TIN@online: ledger says"),
            ("movements_chain", "TIN@online (online_orders-"),
            ("rollups_by_month", "2011-03 online_orders-"),
            ("user_stats", "user 17: units: ledger says"),
            ("inventory_updates", "TIN@online version"),
        ],
    );
    let changed = "UPDATE restock_lines SET quantity = quantity + 1 WHERE restock_id = '50' AND line_no = 1";
    let report = installation.spoilt("changed", changed).await;
    assert_caught(
        "a line's quantity is changed",
        &report,
        &[
            ("events_match_lines", "line 1 (TIN): quantity is 100, the ledger says 101"),
            ("stock_balances", "TIN@online: ledger says"),
            ("movements_chain", "TIN@online (supplier_restocks-"),
        ],
    );
    let figure =
        "UPDATE inventory SET quantity_on_hand = 7 WHERE product_id = 'MUG' AND location_id = 'shop'";
    let report = installation.spoilt("figure", figure).await;
    assert_caught(
        "a stock figure is changed",
        &report,
        &[("stock_balances", "MUG@shop: ledger says -31, inventory says 7")],
    );
}

/// These stay spoilt, so each finds the ones before, too.
async fn spoilt_topics(installation: &Installation) {
    let record = installation.first("inventory_updates");
    let producer: BaseProducer = installation.client().create().unwrap();
    let mut headers = OwnedHeaders::new();
    for header in record.headers().unwrap().iter() {
        headers = headers.insert(header);
    }
    let again =
        BaseRecord::to("inventory_updates").key(record.key().unwrap()).payload(record.payload().unwrap());
    producer.send(again.headers(headers)).map_err(|(error, _)| error).unwrap();
    producer.flush(Duration::from_secs(30)).unwrap();
    let update: Value = serde_json::from_slice(record.payload().unwrap()).unwrap();
    let repeated = format!(
        "{}@{} version {}: published more than once",
        update["product_id"].as_str().unwrap(),
        update["location_id"].as_str().unwrap(),
        update["version"]
    );
    let report = installation.verify(None).await;
    assert_caught("an update is repeated", &report, &[("inventory_updates", &repeated)]);

    let record = installation.first("dlq");
    let admin: AdminClient<DefaultClientContext> = installation.client().create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset("dlq", record.partition(), Offset::Offset(record.offset() + 1)).unwrap();
    admin.delete_records(&list, &AdminOptions::new()).await.unwrap();
    let header = |name: &str| {
        let found = record.headers().unwrap().iter().find(|header| header.key == name).unwrap();
        String::from_utf8(found.value.unwrap().to_vec()).unwrap()
    };
    let coordinates =
        ["topic", "partition", "offset"].map(|name| header(&format!("__connect.errors.{name}")));
    let removed = format!(
        "{}-{}@{}: rejected ({}), but not in dlq",
        coordinates[0],
        coordinates[1],
        coordinates[2],
        header("stocktide.reason")
    );
    let report = installation.verify(None).await;
    let expected = [("inventory_updates", repeated.as_str()), ("dlq", removed.as_str())];
    assert_caught("a dlq record is removed", &report, &expected);
}
