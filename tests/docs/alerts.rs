//! Each alert is made to fire by a real fault, and to resolve by what its runbook says. `make test-alerts` runs this.
//!
//! Times are shortened: what has to last for minutes lasts for a second, and a record is old after some seconds.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::command::run;
use crate::watched::services::{Service, World};
use crate::watched::{PATIENCE, Prometheus};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};

/// The repository's rules with shorter times.
fn shortened(rules: String) -> String {
    let shorter = |line: &str| match line.trim_start() {
        text if text.starts_with("for: ") => "        for: 1s".to_owned(),
        _ => line
            .replace("seconds > 60", "seconds > 12")
            .replace("waiting_seconds) > 60", "waiting_seconds) > 5")
            .replace("> 120", "> 8")
            .replace("> 4 * 3600", "> 3")
            .replace("[10m]", "[15s]")
            .replace("[2m]", "[15s]"),
    };
    rules.lines().map(shorter).collect::<Vec<_>>().join("\n")
}

/// Nobody asks it anything here.
const API: &[&str] = &["api", "--listen", "127.0.0.1:0"];

/// A night at the console: the services, who watches them, and what has happened.
struct Night {
    world: World,
    prometheus: Prometheus,
    processor_at: String,
    processor: Option<Service>,
    api_at: String,
    api: Option<Service>,
    _jobs: Service,
    table: Vec<(String, String, Duration, Duration)>,
}

impl Night {
    fn begin() -> Night {
        let world = World::start();
        let (processor_at, jobs_at, api_at) = (free_address(), free_address(), free_address());
        let processor = Some(world.service_at(&processor_at, &["processor"]));
        let jobs = world.service_at(&jobs_at, &["jobs", "run"]);
        let api = Some(world.service_at(&api_at, API));
        let scraped = [("processor", &*processor_at), ("jobs", &jobs_at), ("api", &api_at)];
        let prometheus = Prometheus::start(&scraped, shortened);
        let night =
            Night { world, prometheus, processor_at, processor, api_at, api, _jobs: jobs, table: Vec::new() };
        night.wait("all is well", <[String]>::is_empty);
        let seen = || {
            night.prometheus.query(
                "count(stocktide_reconcile_differing) and count(stocktide_stock_rows) and count(stocktide_api_streams)",
            )
        };
        crate::watched::until("the installation is seen", || seen().is_ok_and(|seen| !seen.is_empty()));
        night
    }

    fn wait(&self, what: &str, is: impl Fn(&[String]) -> bool) -> Duration {
        let begun = Instant::now();
        loop {
            let firing = self.prometheus.firing();
            if is(&firing) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "still not: {what}; firing: {firing:?}");
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A fault makes the alerts fire, and what is done about it resolves them.
    fn happens(
        &mut self,
        alerts: &[&str],
        fault: &str,
        make: impl FnOnce(&mut Night),
        mend: impl FnOnce(&mut Night),
    ) {
        for alert in alerts {
            assert!(!self.prometheus.firing().contains(&(*alert).to_owned()), "{alert} fires before {fault}");
        }
        make(self);
        let fired: Vec<Duration> = self.each(alerts, true, fault);
        mend(self);
        let resolved: Vec<Duration> = self.each(alerts, false, fault);
        for ((alert, fired), resolved) in alerts.iter().zip(fired).zip(resolved) {
            println!(
                "{alert:<28} {fault:<52} fired after {:>5.1} s, resolved after {:>5.1} s",
                fired.as_secs_f64(),
                resolved.as_secs_f64()
            );
            self.table.push(((*alert).to_owned(), fault.to_owned(), fired, resolved));
        }
    }

    fn each(&self, alerts: &[&str], fires: bool, fault: &str) -> Vec<Duration> {
        let begun = Instant::now();
        let wait = |alert: &&str| {
            let what = format!("{alert} {} at {fault}", if fires { "fires" } else { "resolves" });
            self.wait(&what, |firing| firing.iter().any(|name| name == alert) == fires);
            begun.elapsed()
        };
        alerts.iter().map(wait).collect()
    }

    fn start_processor(&mut self) {
        self.processor = Some(self.world.service_at(&self.processor_at, &["processor"]));
    }

    fn yesterday(&self) -> String {
        self.world.texts("SELECT max(data_date)::text FROM job_runs")[0].clone()
    }
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// An online order that came in just now.
fn order(id: &str, event_id: &str, product: &str, quantity: u32, at: &str) -> Value {
    json!({
        "type": "placed", "event_id": event_id, "order_id": id, "order_timestamp": at, "user_id": "u-1", "location_id": "online",
        "shipping_address": "1 High Street", "payment_method": "card",
        "items": [{ "product_id": product, "quantity": quantity, "price_per_unit": "1.00" }],
    })
}

#[test]
fn each_alert_fires_at_its_fault_and_resolves_by_its_runbook() {
    let mut night = Night::begin();
    a_lock_is_held(&mut night);
    the_database_is_killed(&mut night);
    the_broker_is_killed(&mut night);
    the_processor_is_ended(&mut night);
    the_api_is_ended(&mut night);
    a_report_cannot_be_kept(&mut night);
    a_product_is_not_in_the_catalogue(&mut night);
    more_is_sold_than_there_is(&mut night);
    a_stock_row_is_changed_by_hand(&mut night);
    a_source_sends_what_nobody_can_read(&mut night);
    records_are_deleted_before_they_are_read(&mut night);
    a_certificate_expires(&mut night);
    night.world.run(&["verify"]);
    let rules = night.prometheus.rules();
    let alerts =
        rules.iter().filter(|rule| rule["type"] == "alerting").map(|rule| rule["name"].as_str().unwrap());
    for alert in alerts {
        assert!(night.table.iter().any(|(fired, ..)| fired == alert), "{alert} was not tried");
    }
}

fn a_lock_is_held(night: &mut Night) {
    let url = night.world.stack.as_ref().unwrap().database_url();
    let mut held = night.world.runtime.block_on(PgConnection::connect(&url)).unwrap();
    night.happens(
        &["StocktideNoProgress", "StocktideLagging"],
        "somebody's transaction holds the progress rows",
        |night| {
            let lock = sqlx::raw_sql("BEGIN; SELECT 1 FROM partition_progress FOR UPDATE").execute(&mut held);
            night.world.runtime.block_on(lock).unwrap();
            night.world.produce("20", &[]);
        },
        |night| {
            let blockers = "SELECT DISTINCT pg_terminate_backend(by.pid)::text FROM pg_stat_activity p
                JOIN LATERAL unnest(pg_blocking_pids(p.pid)) AS by(pid) ON true WHERE p.application_name = 'stocktide-processor'";
            crate::watched::until("who blocks the processor is found and ended", || night.world.texts(blockers) == ["true"]);
        },
    );
}

fn the_database_is_killed(night: &mut Night) {
    night.happens(
        &["StocktideDatabaseAway"],
        "PostgreSQL is killed",
        |night| {
            let (runtime, stack) = night.world.stack();
            runtime.block_on(stack.kill_postgres()).unwrap();
        },
        |night| {
            let (runtime, stack) = night.world.stack();
            runtime.block_on(stack.start_postgres()).unwrap();
        },
    );
}

fn the_broker_is_killed(night: &mut Night) {
    night.happens(
        &["StocktideBrokerAway"],
        "the broker is killed",
        |night| {
            let (runtime, stack) = night.world.stack();
            runtime.block_on(stack.kill_broker(1)).unwrap();
        },
        |night| {
            let (runtime, stack) = night.world.stack();
            runtime.block_on(stack.start_broker(1)).unwrap();
        },
    );
}

fn the_processor_is_ended(night: &mut Night) {
    night.happens(
        &["StocktideServiceAway"],
        "the only processor is ended",
        |night| night.processor.take().unwrap().end(),
        Night::start_processor,
    );
}

fn the_api_is_ended(night: &mut Night) {
    night.happens(
        &["StocktideServiceAway"],
        "the only API is ended",
        |night| night.api.take().unwrap().end(),
        |night| night.api = Some(night.world.service_at(&night.api_at, API)),
    );
}

fn a_report_cannot_be_kept(night: &mut Night) {
    night.happens(
        &["StocktideJobFailed", "StocktideReportLate"],
        "the report's directory is a file",
        |night| {
            let place = night.world.directory.path().join("a-file");
            std::fs::write(&place, "").unwrap();
            let mut trigger =
                night.world.command(&["jobs", "trigger", "daily_report", "--date", &night.yesterday()]);
            trigger.env("STOCKTIDE_REPORTS_URL", format!("file://{}", place.display()));
            assert_eq!(run(&mut trigger).code, 1);
        },
        |night| {
            drop(night.world.run(&[
                "jobs",
                "retry",
                &night.world.texts("SELECT run_id::text FROM job_runs WHERE state = 'failed'")[0],
            ]));
        },
    );
}

fn a_product_is_not_in_the_catalogue(night: &mut Night) {
    let now = now(night);
    let event = order("new-1", "01941f29-7c00-7aaa-8aaa-0000000000f2", "NEW-1", 1, &now);
    night.happens(
        &["StocktideDlqUnhandled"],
        "an order names a product that is not known",
        |night| night.world.send("online_orders", &event),
        |night| {
            let directory = night.world.directory.path().join("catalogue");
            let directory = directory.to_str().unwrap();
            night.world.run(&["catalog", "export", directory]);
            std::fs::remove_file(format!("{directory}/stock.csv")).unwrap();
            let products = format!("{directory}/products.csv");
            let known = std::fs::read_to_string(&products).unwrap();
            std::fs::write(&products, known + "NEW-1,New mug,giftware,1.00,GBP,,stock\n").unwrap();
            night.world.run(&["catalog", "load", directory]);
            // Some have to be there before one is sold.
            night.world.send("supplier_restocks", &counted("count-new-1", "NEW-1", 100, &now));
            let counted =
                "EXISTS (SELECT 1 FROM inventory WHERE product_id = 'NEW-1' AND quantity_on_hand = 100)";
            crate::watched::until("the new product is counted", || night.world.holds(counted));
            night.world.send("online_orders", &event);
        },
    );
}

fn now(night: &Night) -> String {
    night.world.texts("SELECT to_char(now(), 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')")[0].clone()
}

fn counted(id: &str, product: &str, quantity: u32, at: &str) -> Value {
    json!({
        "type": "adjustment", "restock_id": id, "location_id": "online", "received_at": at, "note": "counted",
        "items": [{ "product_id": product, "quantity": quantity }],
    })
}

fn more_is_sold_than_there_is(night: &mut Night) {
    let now = now(night);
    night.happens(
        &["StocktideOversold"],
        "a million is sold",
        |night| {
            night.world.send(
                "online_orders",
                &order("much-1", "01941f29-7c00-7aaa-8aaa-0000000000f3", "NEW-1", 1_000_000, &now),
            );
        },
        |night| night.world.send("supplier_restocks", &counted("count-new-2", "NEW-1", 2_000_000, &now)),
    );
}

fn a_stock_row_is_changed_by_hand(night: &mut Night) {
    night.happens(
        &["StocktideBooksDoNotBalance"],
        "a stock row is changed by hand",
        |night| {
            night.world.execute("UPDATE inventory SET quantity_on_hand = quantity_on_hand + 1 WHERE product_id = 'NEW-1'");
            let mut trigger = night.world.command(&["jobs", "trigger", "reconcile", "--date", &night.yesterday()]);
            assert_eq!(run(&mut trigger).code, 1);
        },
        |night| {
            night.processor.take().unwrap().end();
            night.world.execute(
                "UPDATE inventory i SET quantity_on_hand = opening_quantity + coalesce((SELECT sum(line_delta) FROM stock_movements m
                    WHERE m.product_id = i.product_id AND m.location_id = i.location_id), 0)
                 WHERE product_id = 'NEW-1' AND location_id = 'online'",
            );
            night.start_processor();
            night.world.run(&["jobs", "retry", &night.world.texts("SELECT run_id::text FROM job_runs WHERE state = 'failed'")[0]]);
        },
    );
}

fn a_source_sends_what_nobody_can_read(night: &mut Night) {
    night.happens(
        &["StocktideRejectsAboveNormal"],
        "half of a source's records are broken",
        |night| night.world.produce("300", &["--rate", "60", "--malformed", "50"]),
        |night| night.world.produce("300", &["--rate", "30"]),
    );
}

fn a_certificate_expires(night: &mut Night) {
    night.happens(
        &["StocktideCertificateExpires"],
        "a certificate has three days left",
        |night| night.world.keep_certificate(3),
        |night| night.world.keep_certificate(90),
    );
}

fn records_are_deleted_before_they_are_read(night: &mut Night) {
    let (topic, partition) = ("store_sales", 0);
    let position =
        "SELECT next_offset::text FROM partition_progress WHERE topic = 'store_sales' AND partition = 0";
    night.happens(
        &["StocktideTopicTruncated"],
        "records are deleted before they are read",
        |night| {
            night.processor.take().unwrap().end();
            night.world.produce("200", &[]);
            let next: i64 = night.world.texts(position)[0].parse().unwrap();
            let brokers = night.world.stack.as_ref().unwrap().kafka_brokers();
            let admin: AdminClient<DefaultClientContext> =
                ClientConfig::new().set("bootstrap.servers", brokers).create().unwrap();
            let mut below = TopicPartitionList::new();
            below.add_partition_offset(topic, partition, Offset::Offset(next + 2)).unwrap();
            let deleted = night.world.runtime.block_on(admin.delete_records(&below, &AdminOptions::new())).unwrap();
            deleted.elements()[0].error().unwrap();
        },
        |night| {
            let mut processor = night.world.command(&["processor", "--until-caught-up"]);
            let refused = run(&mut processor);
            assert!(refused.code == 1 && refused.stderr.contains("were never read: they are gone"), "{refused:?}");
            night.world.execute("UPDATE partition_progress SET next_offset = next_offset + 2 WHERE topic = 'store_sales' AND partition = 0");
            night.start_processor();
        },
    );
    night.wait("what waits is applied", |firing| !firing.contains(&"StocktideLagging".to_owned()));
}
