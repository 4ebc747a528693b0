//! `stocktide produce`, `import` and `send`, against a real Kafka and a real PostgreSQL.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::command::{Outcome, run, stocktide};
use crate::support::{Read, World};
use serde_json::Value;
use stocktide_devstack::{Stack, StackOptions};
use stocktide_producers::Record;
use stocktide_producers::feed::{Pace, feed};
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::{Options, Simulator, SourceMix};
use stocktide_producers::sink::Sink;
use tokio_util::sync::CancellationToken;

/// One stack for all tests of this file; they take turns, for each counts what it has sent.
struct Shared {
    runtime: tokio::runtime::Runtime,
    world: World,
}

fn shared() -> MutexGuard<'static, Shared> {
    static SHARED: OnceLock<Mutex<Shared>> = OnceLock::new();
    SHARED.get_or_init(|| Mutex::new(fresh())).lock().unwrap_or_else(PoisonError::into_inner)
}

/// A stack of one's own.
fn fresh() -> Shared {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::start(&[]));
    Shared { runtime, world }
}

const INPUTS: [&str; 3] = ["online_orders", "store_sales", "supplier_restocks"];

impl Shared {
    fn stocktide(&self, args: &[&str]) -> Command {
        let mut command = stocktide(args);
        command.env("STOCKTIDE_KAFKA_BROKERS", self.world.stack.kafka_brokers());
        command.env("STOCKTIDE_DATABASE_URL", self.world.stack.database_url());
        command
    }

    fn run(&self, args: &[&str]) -> Outcome {
        run(&mut self.stocktide(args))
    }

    fn run_with_input(&self, args: &[&str], input: &[u8]) -> Outcome {
        let mut command = self.stocktide(args);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Outcome {
            code: output.status.code().unwrap(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    fn lengths(&self) -> BTreeMap<&'static str, usize> {
        INPUTS.into_iter().map(|topic| (topic, self.world.read(topic).len())).collect()
    }

    /// What a run has added to a topic, by partition and offset.
    fn added<T>(&self, topic: &str, run: impl FnOnce() -> T) -> (T, Vec<Read>) {
        let before: HashSet<(i32, i64)> =
            self.world.read(topic).iter().map(|record| (record.partition, record.offset)).collect();
        let outcome = run();
        let mut records = self.world.read(topic);
        records.retain(|record| !before.contains(&(record.partition, record.offset)));
        (outcome, records)
    }

    /// The summary of a processor that has caught up.
    fn process(&self) -> Value {
        self.run(&["processor", "--until-caught-up", "--json"]).done().documents().pop().unwrap()
    }

    fn number(&self, sql: &'static str) -> i64 {
        self.runtime.block_on(self.world.number(sql))
    }
}

fn slice() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/online-retail-2010-12.csv.xz")
}

fn per_topic(documents: &[Value], field: &str) -> BTreeMap<String, u64> {
    let topics = documents.iter().filter(|d| d.get("topic").is_some());
    topics.map(|d| (d["topic"].as_str().unwrap().to_owned(), d[field].as_u64().unwrap())).collect()
}

fn counts<const N: usize>(of: [(&str, u64); N]) -> BTreeMap<String, u64> {
    of.into_iter().map(|(topic, count)| (topic.to_owned(), count)).collect()
}

/// Units by an independent count over the file (see services/producers/tests/online_retail.rs): what leaves the shelves,
/// net of what comes back and of corrections.
#[test]
fn the_real_data_set_is_imported_with_its_catalogue_and_a_second_time_changes_nothing() {
    let shared = fresh();
    let file = slice();
    let args = ["import", "online-retail", file.to_str().unwrap(), "--json"];
    let first = shared.run(&args).done();
    let sent = counts([("online_orders", 1_708), ("store_sales", 177), ("supplier_restocks", 183)]);
    assert_eq!(per_topic(&first.documents(), "sent"), sent);
    assert_eq!(first.documents()[0]["catalogue"]["products"]["new"], 2_762);

    let summary = shared.process();
    assert_eq!((summary["applied"].as_u64(), &summary["rejected"]), (Some(2_068), &serde_json::json!({})));
    for (product, units) in
        [("85123A", 3_341), ("22423", 2_028), ("85099B", 2_124), ("84879", 2_371), ("47566", 237)]
    {
        let sql = "SELECT (SELECT sum(opening_quantity - quantity_on_hand) FROM inventory WHERE product_id = $1)::bigint
            + (SELECT coalesce(sum(quantity), 0) FROM restock_lines WHERE product_id = $1 AND kind = 'received')::bigint";
        let query = sqlx::query_scalar::<_, i64>(sql).bind(product).fetch_one(&shared.world.database);
        assert_eq!(shared.runtime.block_on(query).unwrap(), units, "{product}");
    }
    let total = "SELECT (sum(order_value) * 10000)::bigint FROM order_headers WHERE order_id ~ '^[0-9]+$'";
    assert_eq!(shared.number(total), 8_237_461_400);

    let before = shared.number("SELECT sum(version)::bigint FROM inventory");
    let again = shared.run(&args).done();
    assert_eq!(per_topic(&again.documents(), "sent"), sent);
    let summary = shared.process();
    assert_eq!((summary["applied"].as_u64(), summary["duplicates"].as_u64()), (Some(0), Some(2_068)));
    assert_eq!(shared.number("SELECT sum(version)::bigint FROM inventory"), before);
}

#[test]
fn a_range_is_imported_with_its_payments_where_they_are_asked_for() {
    let shared = shared();
    let file = slice();
    let day = ["--from", "2010-12-23", "--to", "2010-12-23", "--payments"];
    let args = ["import", "online-retail", file.to_str().unwrap()];
    let ((outcome, payments), orders) = shared.added("online_orders", || {
        shared.added("payments", || shared.run(&[&args[..], &day].concat()).done())
    });
    // The file's last day, counted by Python's csv module: 17 orders, 9 returns with a customer, 10 sales and 1 return
    // without one.
    assert_eq!(orders.len(), 17 + 9);
    assert!(outcome.stdout.contains("store_sales                    11 sent"), "{outcome:?}");
    let placed = orders.iter().filter(|record| record.json()["type"] == "placed");
    let mut placed: Vec<(Value, Value)> = placed
        .map(|record| (record.json()["order_id"].clone(), record.json()["order_value"].clone()))
        .collect();
    let mut paid: Vec<(Value, Value)> = payments
        .iter()
        .map(|record| (record.json()["order_id"].clone(), record.json()["amount"].clone()))
        .collect();
    placed.sort_by_key(|(order, _)| order.to_string());
    paid.sort_by_key(|(order, _)| order.to_string());
    assert_eq!(placed.len(), 17);
    assert_eq!(placed, paid);
}

#[test]
fn a_replay_keeps_the_distances_in_time() {
    let shared = shared();
    let file = slice();
    // That day goes from 10:29 to 16:23: 2.95 s, 7,200 times as fast.
    let started = Instant::now();
    let day = ["--from", "2010-12-22", "--to", "2010-12-22", "--speed", "7200"];
    shared.run(&[&["import", "online-retail", file.to_str().unwrap()], &day[..]].concat()).done();
    assert!(started.elapsed() > Duration::from_millis(2_950), "{:?}", started.elapsed());
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

const SIMULATION: [&str; 16] = [
    "produce",
    "all",
    "--catalogue",
    "synthetic",
    "--products",
    "200",
    "--locations",
    "3",
    "--count",
    "5000",
    "--start",
    "2026-03-01T00:00:00Z",
    "--duplicates",
    "2",
    "--malformed",
    "1",
];

#[test]
fn a_simulation_is_the_same_again_and_meets_the_fates_it_was_made_for() {
    let shared = shared();
    shared.process();
    let args = [&SIMULATION[..], &["--seed", "11", "--json"]].concat();
    let before = shared.lengths();
    let outcome = shared.run(&args).done();
    assert!(outcome.stderr.contains("seed 11"), "{outcome:?}");
    let sent = per_topic(&outcome.documents(), "sent");
    assert_eq!(sent.values().sum::<u64>(), 5_000);
    for (topic, length) in shared.lengths() {
        assert_eq!((length - before[topic]) as u64, sent[topic], "{topic}");
    }
    let summary = shared.process();
    let rejected: u64 = summary["rejected"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let (applied, duplicates) =
        (summary["applied"].as_u64().unwrap(), summary["duplicates"].as_u64().unwrap());
    assert_eq!(applied + duplicates + rejected, 5_000);
    assert!((60..150).contains(&duplicates) && (30..75).contains(&rejected), "{summary}");

    // The same seed again: what was applied is a duplicate now, what was rejected is rejected again.
    assert_eq!(per_topic(&shared.run(&args).done().documents(), "sent"), sent);
    let summary = shared.process();
    assert_eq!(summary["applied"], 0);
    assert_eq!(summary["duplicates"].as_u64(), Some(applied + duplicates));
}

/// A small catalogue.
const SHOP: [&str; 6] = ["--catalogue", "synthetic", "--products", "50", "--locations", "2"];

/// Five minutes: 150 orders under 80 ids, and payments of the orders 1 to 300.
#[test]
fn orders_and_payments_by_the_clock_meet_where_they_can_and_conflict_where_they_must() {
    let shared = fresh();
    let preset = ["produce", "--preset", "orders-and-payments", "--count", "450", "--seed", "7", "--json"];
    let started = Instant::now();
    let outcome = shared.run(&[&preset[..], &SHOP, &["--speed", "150"]].concat()).done();
    assert!((1_990..20_000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    assert!(outcome.stderr.contains("seed 7, first event at "), "{outcome:?}");
    let sent = counts([("online_orders", 150), ("payments", 300)]);
    let mut told = per_topic(&outcome.documents(), "sent");
    told.retain(|_, records| *records > 0);
    assert_eq!(told, sent);

    let summary = shared.process();
    assert_eq!(summary["rejected"], serde_json::json!({"order_conflict": 70}));
    assert_eq!((summary["applied"].as_u64(), summary["parked"].as_u64()), (Some(80 + 80), Some(220)));
    assert_eq!(shared.number("SELECT count(*) FROM orders_payments_facts"), 80);
    assert_eq!(shared.number("SELECT count(*) FROM orders_payments_facts WHERE payment_id IS NOT NULL"), 80);

    // The same again is the same records, and by now everything that waits has waited for long enough.
    let start = outcome.stderr.split("first event at ").nth(1).unwrap().trim();
    let again = [&preset[..], &SHOP, &["--speed", "max", "--start", start]].concat();
    shared.run(&again).done();
    let summary = shared.process();
    assert_eq!((summary["applied"].as_u64(), summary["duplicates"].as_u64()), (Some(0), Some(380)));
    shared.runtime.block_on(shared.world.execute("UPDATE parked_payments SET expires_at = now()"));
    assert_eq!(shared.process()["rejected"], serde_json::json!({"orphan_payment": 220}));
    let mut letters: Vec<String> = (shared.world.read("dlq").iter())
        .filter(|letter| letter.header("stocktide.reason").as_deref() == Some("orphan_payment"))
        .map(|letter| letter.json()["payment_id"].to_string())
        .collect();
    letters.sort();
    letters.dedup();
    assert_eq!(letters.len(), 220);
    shared.runtime.block_on(shared.world.verify());
}

#[test]
fn payments_are_of_the_orders_that_the_same_seed_makes_and_some_are_not_as_they_should_be() {
    let shared = fresh();
    let of = ["--seed", "5", "--start", "2026-03-01T00:00:00Z", "--json"];
    shared.run(&[&["produce", "online-orders", "--count", "400"][..], &SHOP, &of].concat()).done();
    shared.process();
    let paid = shared.run(&[&["produce", "payments", "--count", "500"][..], &SHOP, &of].concat()).done();
    assert_eq!(per_topic(&paid.documents(), "sent")["payments"], 500);
    let summary = shared.process();
    let (applied, parked) = (summary["applied"].as_u64().unwrap(), summary["parked"].as_u64().unwrap());
    // One in a hundred names an order that there never was.
    assert!(applied + parked == 500 && (1..25).contains(&parked), "{summary}");
    assert!(shared.number("SELECT count(*) FROM payments WHERE amount_mismatch") > 0);
    assert!(
        shared.number("SELECT count(*) FROM payment_events") > shared.number("SELECT count(*) FROM payments")
    );

    // Orders with their payments in one stream: other orders, for the seed is another.
    let preset = ["produce", "--preset", "paid-orders", "--count", "600", "--seed", "6", "--json"];
    let both = shared.run(&[&preset[..], &SHOP, &["--duplicates", "5", "--malformed", "5"]].concat()).done();
    let sent = per_topic(&both.documents(), "sent");
    assert!(sent["online_orders"] > 150 && sent["payments"] > 150, "{sent:?}");
    let summary = shared.process();
    let rejected: u64 = summary["rejected"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let count = |name: &str| summary[name].as_u64().unwrap();
    // What waited before may have been joined; nothing of it was.
    assert_eq!(count("applied") + count("duplicates") + rejected + count("parked"), 600, "{summary}");
    assert!(count("duplicates") > 0 && rejected > 0, "{summary}");
    shared.runtime.block_on(shared.world.verify());
}

#[test]
fn a_simulation_sells_what_the_database_holds() {
    let shared = shared();
    // Whatever is loaded by now has at least this.
    shared.run(&[&SIMULATION[..8], &["--count", "1", "--json"]].concat()).done();
    let (_, sales) =
        shared.added("store_sales", || shared.run(&["produce", "store-sales", "--count", "50"]).done());
    assert_eq!(sales.len(), 50);
    let known: HashSet<String> = {
        let query = sqlx::query_scalar::<_, String>("SELECT product_id FROM products")
            .fetch_all(&shared.world.database);
        shared.runtime.block_on(query).unwrap().into_iter().collect()
    };
    for record in &sales {
        for item in record.json()["items"].as_array().unwrap() {
            assert!(known.contains(item["product_id"].as_str().unwrap()), "{item}");
        }
    }
}

#[test]
fn a_rate_is_kept_and_an_interrupt_ends_it_cleanly() {
    let shared = shared();
    let args = [&SIMULATION[..8], &["--rate", "200", "--count", "300"]].concat();
    let started = Instant::now();
    shared.run(&args).done();
    assert!(started.elapsed() > Duration::from_millis(1_490), "{:?}", started.elapsed());

    let before: usize = shared.lengths().values().sum();
    let mut command = shared.stocktide(&[&SIMULATION[..8], &["--rate", "100", "--json"]].concat());
    let child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_secs(30);
    while shared.lengths().values().sum::<usize>() < before + 20 {
        assert!(Instant::now() < until, "nothing arrived");
        std::thread::sleep(Duration::from_millis(50));
    }
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let documents: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: u64 = per_topic(&documents, "sent").values().sum();
    assert_eq!(told as usize, shared.lengths().values().sum::<usize>() - before);
}

#[test]
fn events_are_sent_under_their_business_id_and_get_an_event_id_where_it_is_missing() {
    let shared = shared();
    let input = b"{\"order_id\":\"X-1\",\"type\":\"cancelled\"}\n\n{\"event_id\":\"kept\",\"order_id\":17}\n{\"user_id\":\"u\"}\n";
    let (outcome, records) = shared
        .added("online_orders", || shared.run_with_input(&["send", "online_orders", "--json"], input).done());
    let told = &outcome.documents()[0];
    assert_eq!((told["sent"].as_u64(), told["added_event_ids"].as_array().unwrap().len()), (Some(3), 2));
    let key = |record: &Read| record.key.clone().map(|key| String::from_utf8(key).unwrap());
    let mut keys: Vec<_> = records.iter().map(key).collect();
    keys.sort();
    assert_eq!(keys, [None, Some("17".to_owned()), Some("X-1".to_owned())]);
    let first = records.iter().find(|record| key(record).as_deref() == Some("X-1")).unwrap();
    assert_eq!(told["added_event_ids"][0]["event_id"], first.json()["event_id"]);

    let outcome = shared.run_with_input(&["send", "store_sales", "-"], b"[{\"sale_id\":\"S\"}]").done();
    assert!(outcome.stdout.contains("line 1: added event_id "), "{outcome:?}");
    assert!(outcome.stdout.contains("store_sales                     1 sent"), "{outcome:?}");
}

#[test]
fn where_one_line_is_no_event_nothing_is_sent() {
    let shared = shared();
    let input = b"{\"sale_id\":\"S-1\"}\n{\"sale_id\":\n[]\n";
    let (outcome, records) =
        shared.added("store_sales", || shared.run_with_input(&["send", "store_sales"], input));
    assert_eq!((outcome.code, records.len()), (1, 0));
    assert!(outcome.stderr.contains("stdin: line 2: not JSON: EOF while parsing"), "{outcome:?}");
    assert!(outcome.stderr.contains("stdin: line 3: [] is no event"), "{outcome:?}");
    assert!(
        outcome.stderr.ends_with("stocktide: 2 in stdin cannot be sent: nothing was sent\n"),
        "{outcome:?}"
    );
    let outcome = shared.run_with_input(&["send", "store_sales", "--json"], input);
    assert_eq!((outcome.code, outcome.documents()[0]["invalid"][1]["line"].as_u64()), (1, Some(3)));
}

#[test]
fn raw_bytes_are_sent_as_they_are() {
    let shared = shared();
    let (_, records) = shared.added("supplier_restocks", || {
        shared.run_with_input(&["send", "supplier_restocks", "--raw", "--key", "k"], b"\xffnot json\n").done()
    });
    assert_eq!(records.len(), 1);
    assert_eq!(
        (records[0].key.as_deref(), records[0].value.as_deref()),
        (Some(&b"k"[..]), Some(&b"\xffnot json\n"[..]))
    );
}

#[test]
fn what_is_refused_is_counted_and_told() {
    let shared = shared();
    let huge = vec![b'x'; 5_000_000];
    let outcome = shared.run_with_input(&["send", "online_orders", "--raw"], &huge);
    assert_eq!(outcome.code, 1);
    assert!(outcome.stdout.contains("1 refused: MessageSizeTooLarge"), "{outcome:?}");
}

#[test]
fn a_broker_that_is_killed_and_comes_back_has_each_record_once() {
    const COUNT: u64 = 20_000;
    let Shared { runtime, mut world } = fresh();
    let catalogue = SimCatalogue::synthetic(Size { products: 50, locations: 2 });
    let options = Options {
        count: Some(COUNT),
        ..Options::new(SourceMix::OnlineOrders, 1, "2026-03-01T00:00:00Z".parse().unwrap())
    };
    let config = world.config.clone();
    let (half, reached) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || {
        let sink = Sink::connect(&config, &["online_orders"]).unwrap();
        let records = Simulator::new(catalogue, options).unwrap();
        let mut sent = 0;
        let progress = |_: &Record| {
            sent += 1;
            if sent == COUNT / 2 {
                half.send(()).unwrap();
            }
        };
        feed(records, Pace::Rate(5_000.0), &sink, &CancellationToken::new(), progress).unwrap();
        sink.finish(Duration::from_mins(1))
    });
    reached.recv_timeout(Duration::from_mins(1)).unwrap();
    runtime.block_on(async {
        world.stack.kill_broker(1).await.unwrap();
        world.stack.start_broker(1).await.unwrap();
    });
    let delivered = sender.join().unwrap();
    assert!(delivered.is_complete() && delivered.sent() == COUNT, "{delivered}");
    let records = world.read("online_orders");
    let distinct: HashSet<Option<&[u8]>> = records.iter().map(|record| record.value.as_deref()).collect();
    assert_eq!((records.len() as u64, distinct.len() as u64), (COUNT, COUNT));
}

#[test]
fn wrong_usage_is_told_in_one_line() {
    for (args, said) in [
        (&["produce", "toys"][..], "allowed: online-orders, store-sales, supplier-restocks, all, payments"),
        (&["produce", "all", "--rate", "0"], "allowed: max, or a number above 0"),
        (&["produce", "all", "--rate", "max"], "--rate max needs --count"),
        (&["produce", "all", "--late", "101"], "allowed: a number from 0 to 100"),
        (&["produce", "all", "--start", "2026-03-01T00:00:00Z"], "--count"),
        (&["produce", "all", "--ids", "v1"], "allowed: v7, v4"),
        (&["produce", "all", "--count", "10", "--start", "2999-01-01T00:00:00Z"], "after now"),
        (&["produce"], "<SOURCE>"),
        (&["produce", "payments", "--preset", "paid-orders"], "--preset"),
        (&["produce", "--preset", "toys"], "orders-and-payments, paid-orders"),
        (&["produce", "--preset", "paid-orders", "--speed", "5", "--count", "3"], "--speed goes with"),
        (&["produce", "all", "--speed", "2", "--count", "3"], "--speed goes with"),
        (&["produce", "--preset", "orders-and-payments", "--speed", "20"], "--speed above 1 needs --count"),
        (
            &["produce", "--preset", "orders-and-payments", "--speed", "0"],
            "allowed: max, or a number above 0",
        ),
        (&["produce", "--preset", "orders-and-payments", "--speed=-1"], "allowed: max, or a number above 0"),
        (&["produce", "--preset", "orders-and-payments", "--speed", "2", "--rate", "3"], "--rate"),
        (
            &[
                "produce",
                "--preset",
                "orders-and-payments",
                "--count",
                "10",
                "--start",
                "2999-01-01T00:00:00Z",
            ],
            "after now",
        ),
        (&["import", "online-retail", "x.csv", "--speed", "0"], "allowed: max, or a number above 0"),
        (&["import", "online-retail", "x.csv", "--from", "2011-13-01"], "--from"),
        (
            &["import", "online-retail", "x.csv", "--from", "2011-01-02", "--to", "2011-01-01"],
            "--from lies after --to",
        ),
        (&["send", "dlq"], "allowed: online_orders, store_sales, supplier_restocks, payments"),
    ] {
        let outcome = run(stocktide(args).stdin(Stdio::null()));
        assert_eq!(outcome.code, 2, "{args:?} {outcome:?}");
        assert!(outcome.complaint().contains(said), "{args:?} {outcome:?}");
    }
}

#[test]
fn brokers_that_are_away_are_told_in_one_line() {
    let mut away = stocktide(&["send", "online_orders", "--raw"]);
    let outcome = run(away.env("STOCKTIDE_KAFKA_BROKERS", "127.0.0.1:1").stdin(Stdio::null()));
    assert_eq!(outcome.code, 1);
    assert!(outcome.complaint().starts_with("Kafka at 127.0.0.1:1 does not answer"), "{outcome:?}");
}

#[test]
fn topics_that_are_missing_are_told_in_one_line() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stack = runtime.block_on(Stack::start(StackOptions::default())).unwrap();
    let mut send = stocktide(&["send", "online_orders", "--raw"]);
    let outcome = run(send.env("STOCKTIDE_KAFKA_BROKERS", stack.kafka_brokers()).stdin(Stdio::null()));
    assert_eq!(outcome.code, 1);
    let said = outcome.complaint();
    assert!(said.starts_with("topic online_orders does not exist at 127.0.0.1:"), "{said}");
    assert!(said.ends_with("; stocktide migrate creates it"), "{said}");
    runtime.block_on(stack.stop()).unwrap();
}

#[test]
fn a_file_that_is_none_is_told_by_name_and_line() {
    let shared = shared();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sales.csv");
    let header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
    std::fs::write(
        &path,
        format!("{header}\n1,A,x,1,12/1/2010 8:26,1,,UK\n2,A,x,many,12/1/2010 8:26,1,,UK\n"),
    )
    .unwrap();
    let outcome = shared.run(&["import", "online-retail", path.to_str().unwrap()]);
    assert_eq!(outcome.code, 1);
    let said = outcome.complaint();
    assert!(said.contains("sales.csv: line 3: Quantity is \"many\"; it must be a whole number"), "{said}");
}
