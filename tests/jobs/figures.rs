//! The figures of the daily report: each equals an independent sum over the file's rows, and follows from the ledger alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::retail_sums::stock::{Delivered, Given};
use crate::retail_sums::{Catalogue, Line};
use crate::support::World;
use chrono::{DateTime, NaiveDate, Utc};
use chrono_tz::Europe::London;
use serde_json::{Value, json};
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{Fates, Figures, RejectCount};
use stocktide_producers::feed::{Pace, feed};
use stocktide_producers::online_retail::OnlineRetail;
use stocktide_producers::sink::Sink;
use stocktide_store::catalogue;
use stocktide_store::report::{ReportOptions, collect};
use stocktide_store::retention::{self, RetentionOptions};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const LONDON: [(&str, &str); 1] = [("STOCKTIDE_BUSINESS_TIMEZONE", "Europe/London")];
const INPUTS: [&str; 3] = ["online_orders", "store_sales", "supplier_restocks"];

/// The slice in this repository, or the whole file where the environment names it.
fn file() -> PathBuf {
    let slice = || Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/online-retail-2010-12.csv.xz");
    std::env::var_os("ONLINE_RETAIL_FILE").map_or_else(slice, PathBuf::from)
}

async fn figures(world: &World, date: NaiveDate) -> Figures {
    collect(&world.database, BusinessDay::of(date, London), &ReportOptions::default()).await.unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// The file through Kafka and a processor into the database.
async fn import(world: &World, path: &Path) {
    let file = OnlineRetail::open(path, None, None).unwrap();
    catalogue::load(&world.database, &file.catalogue()).await.unwrap();
    // The importer knows two categories; for the sums' sake there are more.
    world.execute("UPDATE products SET category = left(product_id, 2)").await;
    let config = world.config.clone();
    let send = move || {
        let sink = Sink::connect(&config, &INPUTS).unwrap();
        feed(file.events(false), Pace::Max, &sink, &CancellationToken::new(), |_| ()).unwrap();
        assert!(sink.finish(Duration::from_secs(60)).is_complete());
    };
    tokio::task::spawn_blocking(send).await.unwrap();
    world.process().await;
}

/// Names and categories of the products, names of the locations, and what is not in the file: opening stock, reorder points
/// and the simulated deliveries, these as they stand in the topic.
async fn given(world: &World) -> (Catalogue, HashMap<String, String>, Given) {
    let products = "SELECT product_id, name, category, reorder_point FROM products";
    let products: Vec<(String, String, String, Option<i64>)> =
        sqlx::query_as(products).fetch_all(&world.database).await.unwrap();
    let locations: Vec<(String, String)> =
        sqlx::query_as("SELECT location_id, name FROM locations").fetch_all(&world.database).await.unwrap();
    let opening = "SELECT product_id, location_id, opening_quantity FROM inventory WHERE loaded OR opening_quantity <> 0";
    let opening: Vec<(String, String, i64)> =
        sqlx::query_as(opening).fetch_all(&world.database).await.unwrap();
    let received: Vec<Value> =
        world.read("supplier_restocks").iter().map(crate::support::Read::json).collect();
    let deliveries = received.iter().filter(|event| event["type"] == "received").flat_map(|event| {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let at: DateTime<Utc> = text(&event["received_at"]).parse().unwrap();
        event["items"].as_array().unwrap().iter().map(move |item| Delivered {
            restock_id: text(&event["restock_id"]),
            key: (text(&item["product_id"]), text(&event["location_id"])),
            quantity: item["quantity"].as_i64().unwrap(),
            date: at.with_timezone(&London).date_naive(),
        })
    });
    let given = Given {
        deliveries: deliveries.collect(),
        reorder_points: products.iter().filter_map(|p| Some((p.0.clone(), p.3?))).collect(),
        opening: opening.into_iter().map(|(product, location, n)| ((product, location), n)).collect(),
    };
    let catalogue = products.into_iter().map(|(id, name, category, _)| (id, (name, category)));
    (catalogue.collect(), locations.into_iter().collect(), given)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_figure_of_every_day_equals_a_sum_over_the_rows_of_the_file() {
    let began = stocktide_runtime::clock::now();
    let world = World::start(&LONDON).await;
    import(&world, &file()).await;
    let lines = crate::retail_sums::lines(&file());
    let (catalogue, locations, given) = given(&world).await;
    let first = lines.iter().map(|line| line.at.date()).min().unwrap();
    let last = lines.iter().map(|line| line.at.date()).max().unwrap();
    let mut seen = BTreeSet::new();
    for date in first.iter_days().take_while(|date| *date <= last) {
        let found = figures(&world, date).await;
        assert_eq!(found.sales, crate::retail_sums::sales(&lines, date, &catalogue, &locations), "{date}");
        assert_eq!(
            found.top_sellers,
            crate::retail_sums::top_sellers(&lines, date, &catalogue, 10),
            "{date}"
        );
        let low = crate::retail_sums::stock::low(&lines, date, found.day.end, &given, &catalogue);
        assert_eq!(found.low_stock, low, "{date}");
        let quality = &found.data_quality;
        assert_eq!(quality.outliers, crate::retail_sums::unusual::lines(&lines, date, &catalogue), "{date}");
        assert_eq!((quality.value_mismatches.orders, quality.rejects.records), (0, 0), "{date}");
        check_oversold(&found, &lines, &given);
        check_late(&found, &lines, &given, began);
        seen.extend(notable(&found));
    }
    // What was compared was there to be compared.
    let all = [
        "sales",
        "returns",
        "top sellers",
        "low stock",
        "out of stock",
        "outliers",
        "oversold",
        "late events",
    ];
    assert_eq!(seen, BTreeSet::from(all));
}

fn notable(figures: &Figures) -> Vec<&'static str> {
    let quality = &figures.data_quality;
    [
        ("sales", figures.sales.total.orders > 0),
        ("returns", figures.sales.total.returns > 0),
        ("top sellers", figures.top_sellers.by_units.len() == 10),
        ("low stock", figures.low_stock.rows.iter().any(|row| row.status == "low")),
        ("out of stock", figures.low_stock.rows.iter().any(|row| row.status == "out")),
        ("outliers", quality.outliers.found > 0),
        ("oversold", quality.oversold.at_end > 0),
        ("late events", quality.late_events.events > 0),
    ]
    .into_iter()
    .filter_map(|(what, is)| is.then_some(what))
    .collect()
}

fn check_oversold(found: &Figures, lines: &[Line], given: &Given) {
    let stock = crate::retail_sums::stock::at_end(lines, found.day.date, given);
    let below = stock.iter().filter(|(_, quantity)| **quantity < 0);
    let mut expected: Vec<(i64, &str, &str)> =
        below.map(|((product, location), &quantity)| (quantity, &**product, &**location)).collect();
    expected.sort_unstable();
    let oversold = &found.data_quality.oversold;
    assert_eq!(oversold.at_end, expected.len() as i64, "{}", found.day.date);
    expected.truncate(100);
    let rows = oversold.rows.iter().filter(|row| row.quantity_at_end < 0);
    let rows: Vec<_> = rows.map(|row| (row.quantity_at_end, &*row.product_id, &*row.location_id)).collect();
    assert_eq!(rows, expected, "{}", found.day.date);
}

/// All of it happened long before it was processed.
fn check_late(found: &Figures, lines: &[Line], given: &Given, began: DateTime<Utc>) {
    let mut expected: BTreeMap<&str, (BTreeSet<String>, i64)> = BTreeMap::new();
    let mut add = |topic, event: String| {
        let (events, lines) = expected.entry(topic).or_default();
        events.insert(event);
        *lines += 1;
    };
    for line in lines.iter().filter(|line| line.at.date() == found.day.date) {
        add(line.topic, format!("{:?}", line.event()));
    }
    for delivered in given.deliveries.iter().filter(|delivered| delivered.date == found.day.date) {
        add("supplier_restocks", delivered.restock_id.clone());
    }
    let late = &found.data_quality.late_events;
    let rows = late.by_source.iter().map(|row| (&*row.source, row.events, row.lines));
    let expected = expected.iter().map(|(topic, (events, lines))| (*topic, events.len() as i64, *lines));
    assert_eq!(rows.collect::<Vec<_>>(), expected.collect::<Vec<_>>(), "{}", found.day.date);
    assert!(late.by_source.iter().all(|row| row.last_processed_at >= began), "{late:?}");
    assert_eq!(late.events, late.by_source.iter().map(|row| row.events).sum::<i64>());
}

/// An order or a store sale of one line.
fn sale(topic: &'static str, id: &str, at: &str, line: (&str, i64, &str)) -> Value {
    let items = json!([{"product_id": line.0, "quantity": line.1, "price_per_unit": line.2}]);
    match topic {
        "store_sales" => {
            json!({"event_id": Uuid::now_v7(), "sale_id": id, "store_id": "shop", "sold_at": at, "items": items})
        }
        _ => {
            json!({"event_id": Uuid::now_v7(), "order_id": id, "user_id": "u1", "order_timestamp": at, "items": items})
        }
    }
}

fn delivery(id: &str, location: &str, at: &str, line: (&str, i64)) -> Value {
    json!({"event_id": Uuid::now_v7(), "restock_id": id, "supplier_id": "acme", "location_id": location,
        "received_at": at, "items": [{"product_id": line.0, "quantity": line.1}]})
}

/// The day on which London's clocks are put forward: from midnight UTC to 23:00 UTC.
const SPRING: &str = "2025-03-30";

#[tokio::test(flavor = "multi_thread")]
async fn a_day_has_what_happened_between_its_midnights_on_the_wall() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    for (id, at) in [
        ("a", "2025-03-29T23:59:59.999999Z"),
        ("b", "2025-03-30T00:00:00Z"),
        ("c", "2025-03-30T23:59:59.999999+01:00"),
        ("d", "2025-03-31T00:00:00+01:00"),
        ("e", "2025-03-23T12:00:00Z"),
    ] {
        world.send_json("online_orders", id, sale("online_orders", id, at, ("apple", 10, "1.25"))).await;
    }
    world.process().await;
    let sales = figures(&world, date(SPRING)).await.sales;
    let of =
        |totals: &stocktide_domain::report::Totals| (totals.orders, totals.units, totals.gross.to_string());
    assert_eq!(of(&sales.total), (2, 20, "25.00".to_owned()));
    assert_eq!(of(&sales.compared.day_before.totals), (1, 10, "12.50".to_owned()));
    assert_eq!(of(&sales.compared.week_before.totals), (1, 10, "12.50".to_owned()));
    assert_eq!(sales.compared.day_before.change.gross_percent.unwrap().to_string(), "100.0");
    let nothing = figures(&world, date("2025-06-01")).await;
    assert_eq!(of(&nothing.sales.total), (0, 0, "0.00".to_owned()));
    assert!(nothing.sales.by_source.is_empty() && nothing.top_sellers.by_units.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_of_a_past_day_follows_from_the_ledger_alone() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    let noon = "2025-03-30T12:00:00Z";
    world.send_json("online_orders", "a", sale("online_orders", "a", noon, ("apple", 96, "1"))).await;
    world.send_json("store_sales", "s", sale("store_sales", "s", noon, ("bread", 3, "2.55"))).await;
    world.process().await;
    let restock = delivery("r", "shop", "2025-03-30T18:00:00Z", ("bread", 10));
    world.send_json("supplier_restocks", "r", restock).await;
    world.process().await;

    let that_night = figures(&world, date(SPRING)).await;
    let [low] = &that_night.low_stock.rows[..] else { panic!("{:?}", that_night.low_stock) };
    assert_eq!((&*low.product_id, &*low.location_id, &*low.status), ("apple", "online", "low"));
    assert_eq!((low.quantity, low.demand_units, low.suggested_order), (4, 96, 97));
    // 4 apples, 96 in the one day that the ledger has.
    assert_eq!(that_night.low_stock.demand_days, 1);
    assert_eq!(low.days_of_cover.unwrap().to_string(), "0.0");
    let oversold = &that_night.data_quality.oversold;
    assert_eq!((oversold.at_end, oversold.during_day), (0, 1));
    let [bread] = &oversold.rows[..] else { panic!("{oversold:?}") };
    assert_eq!((&*bread.location_id, bread.quantity_at_end, bread.lowest_in_day), ("shop", 7, Some(-3)));

    // Neither what happens later nor the current stock, which nobody should touch, changes the report of that night.
    let next = "2025-03-31T12:00:00Z";
    world.send_json("store_sales", "t", sale("store_sales", "t", next, ("apple", 1, "1"))).await;
    world.send_json("supplier_restocks", "q", delivery("q", "online", next, ("apple", 500))).await;
    world.process().await;
    world.execute("UPDATE inventory SET quantity_on_hand = 12345").await;
    assert_eq!(figures(&world, date(SPRING)).await, that_night);

    // A late event does.
    world.send_json("online_orders", "l", sale("online_orders", "l", noon, ("apple", 5, "1"))).await;
    world.process().await;
    let again = figures(&world, date(SPRING)).await;
    assert_eq!((again.low_stock.rows[0].quantity, &*again.low_stock.rows[0].status), (-1, "oversold"));
    assert_eq!(again.data_quality.late_events.events, that_night.data_quality.late_events.events + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn stock_that_was_loaded_with_nothing_is_out_and_stock_that_a_later_event_made_was_not_there() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    world
        .execute(
            "INSERT INTO products (product_id, name, price, currency, reorder_point)
                 VALUES ('pear', 'Pear', 1, 'GBP', 5), ('plum', 'Plum', 1, 'GBP', 0), ('fig', 'Fig', 1, 'GBP', NULL);
             INSERT INTO inventory (product_id, location_id, quantity_on_hand, loaded, last_updated)
                 VALUES ('apple', 'shop', 0, true, now()), ('pear', 'online', 0, true, now());
             UPDATE installation SET catalogue_version = catalogue_version + 1",
        )
        .await;
    let low = |figures: &Figures| -> Vec<(String, String, i64)> {
        let rows = figures.low_stock.rows.iter();
        rows.map(|row| (row.product_id.clone(), row.location_id.clone(), row.quantity)).collect()
    };
    let that_night = figures(&world, date(SPRING)).await;
    let row = |product: &str, location: &str| (product.to_owned(), location.to_owned(), 0);
    let expected = [row("apple", "shop"), row("pear", "online"), row("plum", "")];
    assert_eq!((low(&that_night), that_night.low_stock.found), (expected.to_vec(), 3));

    // Of each something moves later, on shelves that were loaded, and on some that are new.
    let next = "2025-03-31T12:00:00Z";
    for (id, product, place) in [("a", "apple", "shop"), ("b", "pear", "shop"), ("c", "plum", "online")] {
        world.send_json("supplier_restocks", id, delivery(id, place, next, (product, 1))).await;
    }
    world.process().await;
    assert_eq!(figures(&world, date(SPRING)).await.low_stock.rows, that_night.low_stock.rows);

    // The most urgent rows alone, and how many there are.
    let options = ReportOptions { low_stock_rows: 2, ..ReportOptions::default() };
    let day = BusinessDay::of(date(SPRING), London);
    let bounded = collect(&world.database, day, &options).await.unwrap();
    assert_eq!((low(&bounded), bounded.low_stock.found), (expected[..2].to_vec(), 3));
    assert_eq!(bounded.data_quality.oversold, that_night.data_quality.oversold);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_processed_after_a_grace_that_ends_before_the_report_is_late() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    for id in ["a", "b"] {
        let noon = "2025-03-30T12:00:00Z";
        world.send_json("online_orders", id, sale("online_orders", id, noon, ("apple", 1, "1"))).await;
    }
    world.process().await;
    // The day ends at 23:00 UTC, and its report is made at a quarter past.
    world.execute("UPDATE orders SET processed_at = '2025-03-30T23:10:00Z' WHERE order_id = 'a'").await;
    world.execute("UPDATE orders SET processed_at = '2025-03-30T23:15:00Z' WHERE order_id = 'b'").await;
    let late = figures(&world, date(SPRING)).await.data_quality.late_events;
    assert_eq!((late.grace_seconds, late.events), (600, 1));
}

/// Sound, repeated, wrong and broken records of this moment, and a cancellation; returns their day.
async fn oddities(world: &World) -> NaiveDate {
    let began = stocktide_runtime::clock::now();
    let now = began.to_rfc3339();
    let today = BusinessDay::containing(began, London).date;
    let order = sale("online_orders", "a", &now, ("apple", 2, "1.00"));
    let till = sale("store_sales", "s", &now, ("bread", 1, "2.55"));
    let mut wrong = sale("online_orders", "w", &now, ("bread", 2, "2.55"));
    wrong["order_value"] = json!("5.00");
    for event in [&order, &order, &order, &wrong] {
        world.send_json("online_orders", "a", event.clone()).await;
    }
    for event in [&till, &till] {
        world.send_json("store_sales", "s", event.clone()).await;
    }
    world.send("online_orders", &[(None, Some(b"{")), (None, Some(b"?"))]).await;
    world.send_json("store_sales", "x", sale("store_sales", "x", &now, ("pear", 1, "1"))).await;
    world.send_json("online_orders", "a", cancellation("a", &now)).await;
    world.process().await;
    // All of it on one day, unless midnight came between.
    assert_eq!(
        BusinessDay::containing(stocktide_runtime::clock::now(), London).date,
        today,
        "run it again: midnight came between"
    );
    today
}

fn cancellation(order_id: &str, at: &str) -> Value {
    json!({"event_id": Uuid::now_v7(), "type": "cancelled", "order_id": order_id, "order_timestamp": at})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_odd_is_counted_by_source_and_reason() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    let today = oddities(&world).await;
    let found = figures(&world, today).await;
    let fates = |topic: &str, consumed, applied, duplicates, rejected| Fates {
        topic: topic.to_owned(),
        consumed,
        applied,
        duplicates,
        rejected,
        parked: 0,
    };
    let quality = &found.data_quality;
    assert_eq!(quality.fates, [fates("online_orders", 7, 3, 2, 2), fates("store_sales", 3, 1, 1, 1)]);
    let count = |topic: &str, reason: &str, records| RejectCount {
        topic: topic.to_owned(),
        reason: reason.to_owned(),
        records,
    };
    let by_reason = [count("online_orders", "malformed_json", 2), count("store_sales", "unknown_product", 1)];
    assert_eq!((quality.rejects.records, quality.rejects.reason_aged_out), (3, 0));
    assert_eq!(quality.rejects.by_reason, by_reason);
    let mismatches = &quality.value_mismatches;
    assert_eq!((mismatches.orders, mismatches.difference.to_string()), (1, "-0.10".to_owned()));
    assert_eq!(
        (mismatches.rows[0].order_id.as_str(), mismatches.rows[0].order_value.to_string()),
        ("w", "5.10".to_owned())
    );
    assert_eq!(quality.late_events.events, 0);
    let total = &found.sales.total;
    assert_eq!((total.orders, total.cancellations, total.cancelled_units, total.returns), (3, 1, 2, 0));
    let money = [total.gross, total.cancelled_value, total.net].map(|amount| amount.to_string());
    assert_eq!(money, ["9.65", "2.00", "7.65"]);

    // Over all days the fates are those of the progress, and reasons stay when the log ages out.
    world.execute("UPDATE partition_progress SET published_offset = next_offset").await;
    let a_year_on = stocktide_runtime::clock::now() + chrono::TimeDelta::days(400);
    let options = RetentionOptions::new(Duration::from_hours(30 * 24), a_year_on, false);
    assert!(retention::run(&world.database, options).await.unwrap().rows() > 0);
    assert_eq!(figures(&world, today).await.data_quality, *quality);

    // Those of a log that lost them otherwise are missed, and said to be.
    world.execute("DELETE FROM rejects_by_day WHERE reason = 'malformed_json'").await;
    let rejects = figures(&world, today).await.data_quality.rejects;
    assert_eq!((rejects.records, rejects.reason_aged_out), (3, 2));
    let differing = "SELECT count(*) FROM (
            SELECT topic, partition, applied, duplicates, rejected, parked FROM partition_progress WHERE last_offset IS NOT NULL
            EXCEPT SELECT topic, partition, sum(applied), sum(duplicates), sum(rejected), sum(parked)
            FROM fates_by_day GROUP BY topic, partition) d";
    assert_eq!(world.number(differing).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancellation_of_what_had_come_back_counts_in_the_report_the_ledger_and_the_rollups() {
    let world = World::start(&LONDON).await;
    world.stock_shelves().await;
    let at = |hour: u32| format!("2025-03-30T{hour:02}:00:00Z");
    world.send_json("online_orders", "a", sale("online_orders", "a", &at(9), ("apple", 2, "1.25"))).await;
    let back = json!({"event_id": Uuid::now_v7(), "type": "returned", "order_id": "ra", "original_id": "a", "user_id": "u1",
        "order_timestamp": at(10), "items": [{"product_id": "apple", "quantity": 2}]});
    world.send_json("online_orders", "a", back).await;
    // What was ordered in the same batch, and what the database has to be asked for.
    world.send_json("online_orders", "a", cancellation("a", &at(11))).await;
    world.send_json("online_orders", "b", sale("online_orders", "b", &at(9), ("bread", 1, "2.55"))).await;
    world.process().await;
    world.send_json("online_orders", "b", cancellation("b", &at(12))).await;
    world.process().await;

    let sales = figures(&world, date(SPRING)).await.sales;
    for totals in [&sales.total, &sales.by_source[0].totals, &sales.by_location[0].totals] {
        assert_eq!(
            (totals.orders, totals.cancellations, totals.cancelled_units, totals.returns),
            (2, 2, 1, 1)
        );
        let money = [totals.gross, totals.cancelled_value, totals.returned_value, totals.net];
        assert_eq!(money.map(|amount| amount.to_string()), ["5.05", "2.55", "2.50", "0.00"]);
    }
    // Nothing moved by the one of no units, so there is nothing to tell of it.
    assert_eq!(world.read("inventory_updates").len(), 4);
    let rollup = "SELECT sum(cancelled_orders)::bigint FROM sales_by_month";
    let headers = "SELECT count(*) FROM order_headers WHERE status = 'cancelled'";
    let lines = "SELECT count(DISTINCT event_id) FROM orders WHERE kind = 'cancellation'";
    for count in [rollup, headers, lines] {
        assert_eq!(world.number(count).await, 2, "{count}");
    }
}
