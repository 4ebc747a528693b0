//! The way back from the dead-letter queue, on a real Kafka and a real PostgreSQL, by the built program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod forget;
mod odd_ends;

#[path = "../command/mod.rs"]
mod command;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Child, Stdio};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use command::{Outcome, run, stocktide};
use serde_json::{Value, json};
use support::World;
use support::records::{Record, of, order, restock, sale, with};
use uuid::Uuid;

const ORDERS: &str = "online_orders";
const CARD: &str = "4111 1111 1111 1111";

fn long() -> bool {
    std::env::var_os("STOCKTIDE_TEST_LONG").is_some()
}

/// Records that the tests look at, as `topic/partition@offset`.
fn name(at: &support::records::Coordinates) -> String {
    format!("{}/{}@{}", at.0, at.1, at.2)
}

impl World {
    /// The built program, pointed at this installation.
    fn command(&self, args: &[&str]) -> std::process::Command {
        let mut command = stocktide(args);
        command
            .env("STOCKTIDE_DATABASE_URL", self.stack.database_url())
            .env("STOCKTIDE_KAFKA_BROKERS", self.stack.kafka_brokers())
            .env("USER", "ann");
        command
    }

    fn dlq(&self, args: &[&str]) -> Outcome {
        run(&mut self.command(&[&["dlq"], args].concat()))
    }

    /// Records of the input topics that a replay sent: the header's id, and its count.
    fn replayed(&self) -> Vec<(String, String)> {
        let topics = [ORDERS, "store_sales", "supplier_restocks", "payments"];
        let records = topics.iter().flat_map(|topic| self.read(topic));
        records
            .filter_map(|r| Some((r.header("stocktide.replay.id")?, r.header("stocktide.replay.count")?)))
            .collect()
    }

    async fn load_ghosts(&self) {
        for ghost in GHOSTS {
            let sql = "INSERT INTO products (product_id, name, price, currency, kind) VALUES ($1, $1, 2, 'GBP', 'stock')";
            sqlx::query(sql).bind(ghost).execute(&self.database).await.unwrap();
        }
        self.execute("UPDATE installation SET catalogue_version = catalogue_version + 1").await;
    }

    /// Units on hand of every stock row that an event has moved.
    async fn moved(&self) -> BTreeMap<String, i64> {
        let moved = self.stock().await.into_iter().filter(|(_, (_, version))| *version > 0);
        moved.map(|(row, (quantity, _))| (row, quantity)).collect()
    }

    async fn rollups(&self) -> Vec<String> {
        let sql = "SELECT to_jsonb(u)::text FROM (SELECT user_id, orders, units, gross FROM user_stats) u
            UNION ALL SELECT to_jsonb(m)::text FROM (SELECT month, topic, sum(orders) o, sum(units) u, sum(gross) g
                FROM sales_by_month GROUP BY 1, 2) m ORDER BY 1";
        sqlx::query_scalar(sql).fetch_all(&self.database).await.unwrap()
    }
}

// Products that come late ------------------------------------------------------------------------------------------------

const GHOSTS: [&str; 4] = ["ghost-1", "ghost-2", "ghost-3", "ghost-4"];

/// 1,000 events of products that the catalogue does not know yet: of three topics, some with a known product beside.
fn ghost_events(n: usize) -> Vec<(&'static str, Value)> {
    let lines = |i: usize| {
        let ghost = json!({"product_id": GHOSTS[i % 4], "quantity": 1 + i % 3});
        if i.is_multiple_of(5) {
            json!([ghost, {"product_id": "apple", "quantity": 1}])
        } else {
            json!([ghost])
        }
    };
    (0..n)
        .map(|i| match i % 10 {
            0 => ("supplier_restocks", with(restock(), "items", lines(i))),
            1..=3 => ("store_sales", with(sale(), "items", lines(i))),
            _ => (ORDERS, with(with(order(), "items", lines(i)), "user_id", format!("u{}", i % 7))),
        })
        .collect()
}

/// What the events make of the stock, by plain arithmetic.
fn expected(events: &[(&str, Value)]) -> BTreeMap<String, i64> {
    let mut stock = BTreeMap::new();
    for (topic, event) in events {
        let (place, sign) = match *topic {
            "store_sales" => ("shop", -1),
            "supplier_restocks" => ("online", 1),
            _ => ("online", -1),
        };
        for item in event["items"].as_array().unwrap() {
            let row = format!("{}@{place}", item["product_id"].as_str().unwrap());
            let opening = if row == "apple@online" { 100 } else { 0 };
            *stock.entry(row).or_insert(opening) += sign * item["quantity"].as_i64().unwrap();
        }
    }
    stock
}

async fn send_all(world: &World, events: &[(&'static str, Value)]) {
    for topic in [ORDERS, "store_sales", "supplier_restocks"] {
        let of_topic: Vec<&Value> = events.iter().filter(|(t, _)| *t == topic).map(|(_, e)| e).collect();
        let texts: Vec<(String, String)> =
            of_topic.iter().map(|e| (e["event_id"].to_string(), e.to_string())).collect();
        for part in texts.chunks(500) {
            let records: Vec<support::KeyAndValue<'_>> =
                part.iter().map(|(key, value)| (Some(key.as_bytes()), Some(value.as_bytes()))).collect();
            send_quickly(world, topic, &records).await;
        }
    }
}

/// As [`World::send`], without waiting for each.
async fn send_quickly(world: &World, topic: &str, records: &[support::KeyAndValue<'_>]) {
    let producer = world.producer();
    let sent: Vec<_> = records
        .iter()
        .map(|(key, value)| {
            let mut record: rdkafka::producer::FutureRecord<'_, [u8], [u8]> =
                rdkafka::producer::FutureRecord::to(topic);
            (record.key, record.payload) = (*key, *value);
            producer.send_result(record).map_err(|(error, _)| error).unwrap()
        })
        .collect();
    for delivery in sent {
        delivery.await.unwrap().map_err(|(error, _)| error).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_products_that_are_loaded_and_replayed_leave_the_stock_as_if_they_had_never_been_missing() {
    let events = ghost_events(1_000);
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    send_all(&world, &events).await;
    let rejected = world.process().await.rejected;
    assert_eq!(rejected.into_iter().collect::<Vec<_>>(), [("unknown_product", 1_000)]);
    world.load_ghosts().await;

    let dry = world.dlq(&["replay", "--reason", "unknown_product", "--dry-run"]).done();
    assert!(dry.stdout.ends_with("1000 of 1000 would be sent again\n"), "{dry:?}");
    let outcome =
        world.dlq(&["replay", "--reason", "unknown_product", "--json"]).done().documents().remove(0);
    assert_eq!((&outcome["sent"], &outcome["without_event_id"]), (&json!(1_000), &json!(0)));
    let summary = world.process().await;
    assert_eq!((summary.applied, summary.duplicates, summary.rejected.len()), (1_000, 0, 0));
    assert_eq!(world.moved().await, expected(&events));
    world.verify().await;
    let group = world.dlq(&["list", "--json", "--topic", ORDERS]).done().documents().remove(0);
    assert_eq!(
        (&group["records"], &group["applied"], &group["handled_by"]),
        (&json!(600), &json!(600), &json!("ann"))
    );

    // A second time nothing changes.
    let again = world.dlq(&["replay", "--reason", "unknown_product"]);
    assert_eq!((again.code, again.complaint()), (1, "nothing is sent: 1000 applied since"));
    assert_eq!(world.process().await.consumed, 0);
    assert_eq!(world.replayed().len(), 1_000);
    let (stock, rollups) = (world.moved().await, world.rollups().await);
    drop(world);

    // With the products from the start.
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    world.load_ghosts().await;
    send_all(&world, &events).await;
    assert_eq!(world.process().await.applied, 1_000);
    assert_eq!(world.moved().await, stock);
    assert_eq!(world.rollups().await, rollups);
}

/// Short sessions and small batches, so that a kill finds something in hand and the next processor soon has its place.
const RESTLESS: [(&str, &str); 4] = [
    ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "2s"),
    ("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "250ms"),
    ("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s"),
    ("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "5"),
];

fn start(world: &World, args: &[&str]) -> Child {
    let mut command = world.command(args);
    command.envs(RESTLESS).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_processor_that_is_killed_while_records_are_replayed_applies_each_of_them_once() {
    let kills = if long() { 10 } else { 3 };
    let events = ghost_events(1_000);
    let world = World::start(&RESTLESS).await;
    world.stock_shelves().await;
    send_all(&world, &events).await;
    world.process().await;
    world.load_ghosts().await;
    let settled = "SELECT sum(applied + duplicates)::bigint FROM partition_progress";
    let mut replay = start(&world, &["dlq", "replay", "--reason", "unknown_product"]);
    for done in 0..kills {
        let before = world.number(settled).await;
        assert!(before < 1_000, "the replay was over after {done} kills");
        let processor = start(&world, &["processor"]);
        let deadline = Instant::now() + Duration::from_mins(2);
        while world.number(settled).await <= before {
            assert!(Instant::now() < deadline, "nothing moves");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        kill(processor);
    }
    assert!(replay.wait().unwrap().success());
    world.process().await;
    assert_eq!(world.moved().await, expected(&events));
    assert_eq!(world.number(settled).await, 1_000);
    assert_eq!(world.number("SELECT sum(duplicates)::bigint FROM partition_progress").await, 0);
    world.verify().await;
    println!("{kills} kills of the processor while 1000 records were replayed: each applied once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_killed_or_loses_its_broker_is_gone_on_with_and_sends_nothing_twice() {
    let events = ghost_events(6_000);
    let mut world = World::start(&RESTLESS).await;
    world.stock_shelves().await;
    send_all(&world, &events).await;
    let settings = [("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "2000")];
    assert!(run(world.command(&["processor", "--until-caught-up"]).envs(settings)).code == 0);
    world.load_ghosts().await;
    let args = ["dlq", "replay", "--reason", "unknown_product", "--yes"];
    let noted = "SELECT count(*) FROM dlq_actions WHERE done_at IS NOT NULL";
    for _ in 0..3 {
        let before = world.number(noted).await;
        let replay = start(&world, &args);
        until_more(&world, noted, before).await;
        kill(replay);
    }
    let before = world.number(noted).await;
    let replay = world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until_more(&world, noted, before).await;
    world.stack.kill_broker(1).await.unwrap();
    let output = replay.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with("stocktide: ")).collect();
    assert_eq!((output.status.code(), lines.len()), (Some(1), 1), "{told}");
    assert!(lines[0].contains("broken off after") && lines[0].contains("call it again"), "{told}");
    assert!(world.number(noted).await < 6_000, "the broker was killed too late");

    world.stack.start_broker(1).await.unwrap();
    let last = run(&mut world.command(&args)).done();
    println!("after 3 kills of the replay and one of the broker: {}", last.stdout.trim());
    let replayed = world.replayed();
    let ids: BTreeSet<&String> = replayed.iter().map(|(id, _)| id).collect();
    assert_eq!((replayed.len(), ids.len()), (6_000, 6_000), "each was sent once");
    assert_eq!(world.number("SELECT count(*) FROM dlq_actions WHERE sent_offset IS NULL").await, 0);
    assert!(run(world.command(&["processor", "--until-caught-up"]).envs(settings)).code == 0);
    assert_eq!(world.moved().await, expected(&events));
    assert_eq!(world.number("SELECT sum(duplicates)::bigint FROM partition_progress").await, 0);
    world.verify().await;
}

async fn until_more(world: &World, sql: &'static str, before: i64) {
    let deadline = Instant::now() + Duration::from_mins(2);
    while world.number(sql).await <= before {
        assert!(Instant::now() < deadline, "nothing is sent");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

// One installation for the small cases -----------------------------------------------------------------------------------

struct Shop {
    world: World,
    runtime: tokio::runtime::Runtime,
}

static SHOP: LazyLock<Mutex<Shop>> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let world = runtime.block_on(async {
        let world = World::start(&[]).await;
        world.stock_shelves().await;
        world
    });
    Mutex::new(Shop { world, runtime })
});

/// One case at a time: only one replay may run.
fn shop() -> MutexGuard<'static, Shop> {
    SHOP.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shop {
    /// Sends records and has them settled; answers their names.
    fn settle(&self, records: Vec<Record>) -> Vec<String> {
        self.runtime.block_on(async {
            let sent = self.world.sender().send("key", records).await;
            self.world.process().await;
            sent.iter().map(|(_, at)| name(at)).collect()
        })
    }

    fn settle_one(&self, record: Record) -> String {
        self.settle(vec![record]).remove(0)
    }

    fn process(&self) -> stocktide_processor::Summary {
        self.runtime.block_on(self.world.process())
    }

    fn execute(&self, sql: &'static str) {
        self.runtime.block_on(self.world.execute(sql));
    }

    fn verify(&self) {
        self.runtime.block_on(self.world.verify());
    }

    fn dlq(&self, args: &[&str]) -> Outcome {
        self.world.dlq(args)
    }

    fn shown(&self, record: &str) -> Value {
        self.dlq(&["show", record, "--json"]).done().documents().remove(0)
    }

    fn complaint(&self, code: i32, args: &[&str]) -> String {
        let outcome = self.dlq(args);
        assert_eq!(outcome.code, code, "{outcome:?}");
        outcome.complaint().to_owned()
    }
}

fn unknown(product: &str) -> Record {
    Record::event(ORDERS, &of(order(), product, 1))
}

#[test]
fn what_was_replayed_before_is_not_sent_again_unless_somebody_asks_for_it() {
    let shop = shop();
    let record = shop.settle_one(unknown("unicorn"));
    let first = shop.dlq(&["replay", &record, "--note", "try"]).done();
    assert_eq!(first.stdout, "sent again: 1\n");
    let shown = shop.shown(&record);
    let handling = &shown["handling"];
    assert_eq!(
        (&handling["state"], &handling["by"], &handling["note"]),
        (&json!("replayed"), &json!("ann"), &json!("try"))
    );
    let told = shop.complaint(1, &["replay", &record]);
    assert_eq!(told, "nothing is sent: 1 replayed before (--again sends them once more)");
    shop.dlq(&["replay", &record, "--again"]).done();
    assert_eq!(shop.shown(&record)["actions"].as_array().unwrap().len(), 2);
    shop.process();
    shop.verify();
}

#[test]
fn what_was_applied_meanwhile_is_not_sent() {
    let shop = shop();
    let event = of(order(), "late", 1);
    let record = shop.settle_one(Record::event(ORDERS, &event));
    shop.execute(
        "INSERT INTO products (product_id, name, price, currency, kind) VALUES ('late', 'Late', 2, 'GBP', 'stock');
         UPDATE installation SET catalogue_version = catalogue_version + 1",
    );
    shop.settle_one(Record::event(ORDERS, &event));
    assert_eq!(shop.complaint(1, &["replay", &record]), "nothing is sent: 1 applied since");
    assert_eq!(shop.complaint(1, &["replay", &record, "--again"]), "nothing is sent: 1 applied since");
    assert_eq!(shop.shown(&record)["handling"]["state"], "applied");
}

#[test]
fn a_topic_that_no_longer_exists_is_named_and_nothing_is_sent() {
    let shop = shop();
    shop.execute(
        "INSERT INTO events_log (processed_at, status, reason, topic, partition, \"offset\") VALUES
         (now(), 'rejected', 'malformed_json', 'old_orders', 0, 7), (now(), 'rejected', 'malformed_json', 'online_orders', 99, 7)",
    );
    let told =
        [["replay", "old_orders/0@7"], ["replay", "online_orders/99@7"]].map(|args| shop.complaint(1, &args));
    shop.execute("DELETE FROM events_log WHERE topic = 'old_orders' OR partition = 99");
    assert!(told[0].starts_with("topic old_orders no longer exists at "), "{told:?}");
    assert!(told[1].starts_with("partition 99 of topic online_orders no longer exists at "), "{told:?}");
    assert!(told.iter().all(|told| told.ends_with(": nothing was sent")), "{told:?}");
}

#[test]
fn an_edit_that_does_not_parse_or_makes_another_event_of_it_is_refused() {
    let shop = shop();
    let records = shop.settle(vec![unknown("unicorn"), unknown("unicorn"), Record::new(ORDERS, "{\"broken")]);
    let told = shop.complaint(2, &["replay", &records[0], "--jq", ".items["]);
    assert!(told.starts_with("--jq \".items[\" does not parse: "), "{told}");
    let other = format!(".event_id = \"{}\"", Uuid::now_v7());
    let told = shop.complaint(1, &["replay", &records[0], &records[1], "--jq", &other]);
    let expected = format!("nothing was sent: {}: the edit makes another event_id of it, ", records[0]);
    assert!(told.starts_with(&expected), "{told}");
    // A mistake in the last one sends none of them.
    let told = shop.complaint(1, &["replay", &records[0], &records[2], "--jq", "."]);
    assert!(told.starts_with(&format!("nothing was sent: {}: its value is no JSON", records[2])), "{told}");
    assert_eq!(shop.shown(&records[0])["handling"]["state"], "open");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "{\"record\": \"online_orders/0@4\"}").unwrap();
    let told = shop.complaint(2, &["replay", "--replace", file.path().to_str().unwrap()]);
    assert!(told.contains("line 1: exactly one of value and bytes is needed"), "{told}");
    std::fs::write(&file, "{\"record\": \"online_orders/0@400000\", \"value\": {}}").unwrap();
    let told = shop.complaint(1, &["replay", "--replace", file.path().to_str().unwrap()]);
    assert_eq!(told, "online_orders/0@400000 is no rejected record of the log: nothing was sent");
}

#[test]
fn a_filter_that_matches_nothing_or_is_none_is_told_so() {
    let shop = shop();
    for args in [
        &["replay", "--reason", "insufficient_stock"][..],
        &["discard", "--reason", "insufficient_stock"],
        &["list", "--reason", "insufficient_stock"],
        &["list", "--records", "--until", "2001-01-01"],
    ] {
        assert_eq!(shop.complaint(1, args), "no rejected record of the log matches");
    }
    let told = shop.complaint(1, &["show", "online_orders/0@99999999"]);
    assert_eq!(told, "online_orders/0@99999999: no rejected record of the log is one of these");
    for (args, told) in [
        (&["replay"][..], "say which records: RECORD, --reason, --topic, --since, --until, or --all"),
        (&["discard", "--yes"], "say which records: "),
        (&["replay", "--reason", "unknown_produkt"], "allowed: malformed_json, schema_violation, "),
        (&["list", "--topic", "dlq"], "allowed: online_orders, store_sales, supplier_restocks, payments"),
        (&["list", "--state", "new"], "allowed: open, pending, replayed, applied, discarded"),
        (&["replay", "41"], "\"41\" names no record; allowed: topic/partition@offset"),
        (&["list", "--since", "yesterday"], "--since \"yesterday\" is no moment; allowed: "),
        (&["list", "--since", "2026-02-01", "--until", "2026-01-01"], "has to lie before --until"),
        (&["replay", "--all", "--reason", "unknown_product"], "cannot be used with"),
        (&["replay", "--all", "--limit", "0"], "0 is not in 1.."),
    ] {
        let complaint = shop.complaint(2, args);
        assert!(complaint.contains(told), "{args:?}: {complaint}");
    }
}

#[test]
fn many_records_are_dealt_with_only_after_a_yes_and_a_million_are_counted() {
    let shop = shop();
    let (rows, sql) = if long() {
        (1_000_000, "INSERT INTO events_log (event_id, raw_event, processed_at, status, reason, topic, partition, \"offset\")
            SELECT gen_random_uuid(), '{}', '2011-01-01T00:00:00Z', 'rejected', 'over_return', 'online_orders', 0, 1000000000 + i
            FROM generate_series(1, 1000000) i")
    } else {
        (1_001, "INSERT INTO events_log (event_id, raw_event, processed_at, status, reason, topic, partition, \"offset\")
            SELECT gen_random_uuid(), '{}', '2011-01-01T00:00:00Z', 'rejected', 'over_return', 'online_orders', 0, 1000000000 + i
            FROM generate_series(1, 1001) i")
    };
    shop.execute(sql);
    for (command, done) in [("replay", "sent again"), ("discard", "discarded")] {
        let told = shop.complaint(2, &[command, "--reason", "over_return"]);
        assert_eq!(
            told,
            format!("{rows} records are to be {done}; more than 1000 only with --yes, or with --limit 1000")
        );
    }
    let begun = Instant::now();
    let dry = shop.dlq(&["replay", "--reason", "over_return", "--dry-run"]).done();
    assert!(dry.stdout.ends_with(&format!("{rows} of {rows} would be sent again\n")), "{dry:?}");
    println!("a dry run over {rows} records: {:.1} s", begun.elapsed().as_secs_f64());
    let done = shop.dlq(&["discard", "--reason", "over_return", "--yes"]).done();
    assert_eq!(done.stdout, format!("discarded: {rows}\n"));
    let told = shop.complaint(1, &["discard", "--reason", "over_return", "--yes"]);
    assert_eq!(told, format!("nothing is discarded: {rows} discarded before"));
    shop.execute(
        "DELETE FROM events_log WHERE \"offset\" > 1000000000; DELETE FROM dlq_actions WHERE \"offset\" > 1000000000",
    );
}

#[test]
fn a_record_that_is_rejected_again_comes_back_with_its_history_and_not_for_ever() {
    let shop = shop();
    let event = of(order(), "unicorn", 1);
    let id = event["event_id"].as_str().unwrap().to_owned();
    let mut records = vec![shop.settle_one(Record::event(ORDERS, &event).header("trace", Some(b"x")))];
    for round in 1..=3 {
        // By its event all of its rejects are meant: only the latest is sent.
        let outcome = shop.dlq(&["replay", &id, "--json"]).done().documents().remove(0);
        assert_eq!((&outcome["sent"], &outcome["skipped"]["replayed"]), (&json!(1), &json!(round - 1)));
        assert_eq!(shop.process().rejected.into_values().sum::<u64>(), 1);
        let listed = shop.dlq(&["list", "--records", "--state", "open", "--json"]).done().documents();
        let back = listed.iter().find(|line| line["event_id"] == json!(id)).unwrap();
        assert_eq!(back["handling"]["replays"], round);
        records.push(back["record"].as_str().unwrap().to_owned());
    }
    let told = shop.complaint(1, &["replay", &id]);
    assert!(told.contains("1 came back too often (--max-replays, or --again)"), "{told}");
    let last = records.last().unwrap();
    let shown = shop.shown(last);
    let history: Vec<&str> =
        shown["history"].as_array().unwrap().iter().map(|e| e["reason"].as_str().unwrap()).collect();
    assert_eq!(history, ["unknown_product"; 3]);
    let offset = |record: &str| record.rsplit('@').next().unwrap().parse::<i64>().unwrap();
    let offsets: Vec<i64> =
        shown["history"].as_array().unwrap().iter().map(|e| e["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, records.iter().rev().skip(1).map(|r| offset(r)).collect::<Vec<_>>());
    // Whoever reads the topic dlq sees the same.
    let dead = shop.world.read("dlq");
    let dead = dead
        .iter()
        .rfind(|r| {
            r.header("__connect.errors.offset") == Some(offset(last).to_string())
                && r.header("trace").is_some()
        })
        .unwrap();
    assert_eq!(dead.header("stocktide.replay.count").as_deref(), Some("3"));
    let told: Value = serde_json::from_str(&dead.header("stocktide.replay.history").unwrap()).unwrap();
    assert_eq!(told.as_array().unwrap().len(), 3);
    assert_eq!((&told[0]["reason"], told[0].get("by_whom")), (&json!("unknown_product"), None));
    assert_eq!(dead.headers.iter().filter(|(name, _)| name == "stocktide.replay.id").count(), 1);
    shop.verify();
}

#[test]
fn broken_bytes_are_sent_as_they_are_once_and_mended_by_a_file() {
    let shop = shop();
    let records = shop.settle(vec![
        Record::new(ORDERS, "{\"broken"),
        Record::tombstone(ORDERS),
        Record::new(ORDERS, "no"),
    ]);
    let args = ["replay", &records[0], &records[1]];
    let sent = shop.dlq(&args).done();
    let note =
        "sent again: 2; 2 have no event_id: each is a new record, and nothing but this list knows it again\n";
    assert_eq!(sent.stdout, note);
    assert!(shop.complaint(1, &args).starts_with("nothing is sent: 2 replayed before"));
    assert_eq!(shop.process().rejected.into_iter().collect::<Vec<_>>(), [("malformed_json", 2)]);
    let mended = order();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, format!("{}\n", json!({"record": records[2], "value": mended}))).unwrap();
    let file = file.path().to_str().unwrap();
    assert!(shop.dlq(&["replay", "--replace", file, "--dry-run"]).done().stdout.contains("price_per_unit"));
    assert!(
        shop.dlq(&["replay", "--replace", file]).done().stdout.starts_with("sent again: 1, 1 of them mended")
    );
    assert_eq!(shop.process().applied, 1);
    assert_eq!(shop.shown(&records[2])["handling"]["edited"], true);
    shop.verify();
}

#[test]
fn an_expression_mends_what_was_rejected_and_it_is_applied() {
    let shop = shop();
    let records = shop.settle(vec![
        Record::event(ORDERS, &with(order(), "items/0/quantity", "1")),
        Record::event(ORDERS, &with(order(), "items/0/quantity", "2")),
    ]);
    let args = ["replay", &records[0], &records[1], "--jq", ".items[].quantity |= tonumber"];
    let dry = shop.dlq(&[&args[..], &["--dry-run"]].concat()).done();
    assert!(dry.stdout.contains("\"quantity\":2"), "{dry:?}");
    shop.dlq(&args).done();
    assert_eq!(shop.process().applied, 2);
    // The reject had an event_id only if it could be read; it is known as mended either way.
    assert_eq!(shop.shown(&records[0])["actions"][0]["edited"], true);
    shop.verify();
}

#[test]
fn a_record_that_kafka_refuses_stays_open_and_the_others_are_sent() {
    let shop = shop();
    // As large as the topic takes: with the headers of a replay it is too large.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .flatten()
    .take(4_194_304 - 80)
    .collect();
    let records = shop.settle(vec![
        unknown("unicorn"),
        Record::new(ORDERS, noise).key("limit").bare(),
        unknown("unicorn"),
    ]);
    let outcome = shop.dlq(&["replay", &records[0], &records[1], &records[2], "--json"]);
    assert_eq!(outcome.code, 1, "{outcome:?}");
    let document = outcome.documents().remove(0);
    assert_eq!((&document["sent"], &document["refused"].as_array().unwrap().len()), (&json!(2), &1));
    let states = [0, 1, 2].map(|at| shop.shown(&records[at])["handling"]["state"].clone());
    assert_eq!(states, [json!("replayed"), json!("open"), json!("replayed")]);
    shop.process();
    shop.verify();
}

#[test]
fn what_is_discarded_is_dealt_with_and_says_who_did_it() {
    let shop = shop();
    let (first, second) = (shop.settle_one(unknown("unicorn")), shop.settle_one(unknown("unicorn")));
    let open = || {
        shop.runtime.block_on(async {
            let mut connection = shop.world.database.acquire().await.unwrap();
            let now = stocktide_runtime::clock::now();
            let open = stocktide_store::figures::open_rejects(&mut connection, now).await.unwrap();
            open.iter().find(|of| of.topic == ORDERS).map_or(0, |of| of.records)
        })
    };
    let before = open();
    let dry = shop.dlq(&["discard", &first, "--dry-run"]).done();
    assert_eq!(dry.stdout, "would be discarded: 1\n");
    assert_eq!(open(), before);
    shop.dlq(&["discard", &first, "--note", "a test order", "--by", "bob"]).done();
    shop.dlq(&["replay", &second]).done();
    assert_eq!(open(), before - 2, "what was dealt with is not counted as open");
    let shown = shop.dlq(&["show", &first]).done().stdout;
    assert!(shown.contains("state      discarded\n") && shown.contains("by bob: a test order\n"), "{shown}");
    let told = shop.complaint(1, &["replay", &first]);
    assert_eq!(told, "nothing is sent: 1 discarded (--again sends them all the same)");
    shop.process();
    // It came back, and is open again.
    assert_eq!(open(), before - 1);
}

#[test]
fn two_runs_at_once_do_not_get_into_each_other_s_way() {
    let shop = shop();
    let record = shop.settle_one(unknown("unicorn"));
    let desk = shop
        .runtime
        .block_on(stocktide_store::dlq::actions::Desk::take(&shop.world.database))
        .unwrap_or_else(|e| panic!("{e}"));
    for command in ["replay", "discard"] {
        let told = shop.complaint(1, &[command, &record]);
        assert_eq!(told, "another replay or discard is running; wait for its end, and try again");
    }
    shop.runtime.block_on(desk.leave()).unwrap();
    shop.dlq(&["discard", &record]).done();
}

#[test]
fn what_producers_wrote_does_not_command_a_terminal() {
    let shop = shop();
    let evil = "e\u{1b}[31m\u{1b}]0;owned\u{7}\r\nstocktide: forged\u{202e}\u{9b}2J";
    let refused = with(of(order(), "unicorn", 1), "user_id", evil);
    let taken = with(with(order(), "order_id", evil), "shipping_address", evil);
    let raw = Record::new(ORDERS, format!("not json {evil}")).key(evil).header(evil, Some(evil.as_bytes()));
    let records = shop.settle(vec![
        Record::event(ORDERS, &refused),
        Record::event(ORDERS, &taken),
        raw,
        Record::event(ORDERS, &with(order(), "location_id", evil)),
    ]);
    let mut outputs = vec![
        shop.dlq(&["show", &records[0]]),
        shop.dlq(&["show", &records[2]]),
        shop.dlq(&["show", &records[3]]),
        shop.dlq(&["show", &records[3], "--json"]),
        shop.dlq(&["list", "--records"]),
        shop.dlq(&["list", "--records", "--json"]),
        shop.dlq(&["show", evil]),
        shop.dlq(&["discard", &records[3], "--note", evil]),
        shop.dlq(&["show", &records[3]]),
    ];
    for args in
        [&["topics", "tail", ORDERS][..], &["topics", "tail", "dlq"], &["topics", "tail", "dlq", "--json"]]
    {
        outputs.push(run(&mut shop.world.command(args)));
    }
    for args in
        [&["facts", evil][..], &["facts", evil, "--json"], &["facts", "nobody\u{1b}[31m"], &["verify"]]
    {
        outputs.push(run(&mut shop.world.command(args)));
    }
    for outcome in &outputs {
        for text in [&outcome.stdout, &outcome.stderr] {
            let bad = text.chars().find(|c| *c != '\n' && stocktide_runtime::terminal::is_unsafe(*c));
            assert_eq!(bad, None, "{text:?}");
            assert!(!text.lines().any(|line| line.starts_with("stocktide: forged")), "{text:?}");
        }
    }
    assert!(outputs[1].stdout.contains("e\\u{1b}[31m"), "it is shown all the same: {:?}", outputs[1]);
    assert!(outputs[12].stdout.contains("shipping_address  e\\u{1b}[31m"), "{:?}", outputs[12]);
}

#[test]
fn card_numbers_are_masked_where_a_record_is_shown_and_when_it_is_sent_again() {
    let shop = shop();
    let event = with(with(order(), "payment_method", CARD), "note", CARD);
    let record = shop.settle_one(
        Record::event(ORDERS, &event).key(CARD).header("card", Some(CARD.as_bytes())).header(CARD, None),
    );
    for args in [
        &["show", &record][..],
        &["show", &record, "--json"],
        &["replay", &record, "--jq", ".x = 1", "--dry-run"],
    ] {
        let shown = shop.dlq(args).done().stdout;
        assert!(!shown.contains("4111") && shown.contains("**** **** **** 1111"), "{shown}");
    }
    assert!(shop.dlq(&["show", &record]).done().stdout.contains("(card numbers are masked)"));
    shop.dlq(&["replay", &record]).done();
    shop.process();
    assert_eq!(shop.shown(&record)["handling"]["state"], "applied");
    shop.verify();
}

#[test]
fn the_counts_are_those_of_the_records() {
    let shop = shop();
    shop.settle_one(Record::event("store_sales", &of(sale(), "unicorn", 1)));
    let listed = shop.dlq(&["list", "--records", "--json", "--limit", "100000"]).done().documents();
    let stats = shop.dlq(&["stats", "--json"]).done().documents();
    let sum = |name: &str| stats.iter().map(|of| of[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!(sum("records"), listed.len() as i64);
    for state in ["open", "replayed", "applied", "discarded"] {
        let in_state = listed.iter().filter(|line| line["handling"]["state"] == state).count();
        assert_eq!(sum(state), in_state as i64, "{state}");
    }
    let words = shop.dlq(&["stats"]).done().stdout;
    assert!(words.ends_with(&format!("{} rejected, {} open\n", sum("records"), sum("open"))), "{words}");
    let words = shop.dlq(&["list"]).done().stdout;
    assert!(words.starts_with("day         topic"), "{words}");
}
