//! The dashboards and rules against a real Prometheus that watches a real run of all services.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::watched::queries::{self, Query};
use crate::watched::services::{Api, World};
use crate::watched::{Prometheus, program, until};
use serde_json::json;

/// Queries that may have no data in a run where all is well, and why.
const MAY_BE_EMPTY: [(&str, &str); 3] = [
    ("Pipeline / Published and produced C", "only while Kafka refuses what a simulated source sends"),
    ("Night shift / Failures and takeovers A", "a task's failures are counted from the first one on"),
    ("Night shift / Time per run, all workers A", "a run that ended before the first look is no increase"),
];

/// Metrics that are seen only when what they count has happened.
const SEEN_LATER: [&str; 2] =
    ["stocktide_jobs_task_failures_total", "stocktide_producer_records_refused_total"];

/// An order whose stated value is not the sum of its lines.
fn misstated(product: &str, at: &str) -> serde_json::Value {
    json!({
        "type": "placed", "event_id": "01941f29-7c00-7aaa-8aaa-0000000000f1", "order_id": "misstated-1",
        "order_timestamp": at, "user_id": "u-1", "location_id": "online", "shipping_address": "1 High Street",
        "payment_method": "card", "order_value": "5.00", "items": [{ "product_id": product, "quantity": 100_000, "price_per_unit": "4.00" }],
    })
}

#[test]
fn every_query_of_every_dashboard_and_rule_finds_data() {
    let world = World::start();
    let product =
        &world.texts("SELECT product_id FROM products WHERE kind = 'stock' ORDER BY product_id LIMIT 1")[0];
    let yesterday = "SELECT to_char(now() - interval '1 day', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
    world.send("online_orders", &misstated(product, &world.texts(yesterday)[0]));
    let processor = world.service(&["processor"]);
    let jobs = world.service(&["jobs", "run"]);
    let producers =
        world.service(&["produce", "all", "--rate", "40", "--duplicates", "10", "--malformed", "10"]);
    let api = world.api();
    use_the_api(&api);
    let watched = [
        ("processor", processor.address.as_str()),
        ("jobs", jobs.address.as_str()),
        ("api", api.service.address.as_str()),
        ("producers", producers.address.as_str()),
    ];
    let prometheus = Prometheus::start(&watched, |rules| rules);

    check_promql(&prometheus);
    check_rules(&prometheus);
    check_sql(&world, product);
    check_declared(&prometheus);
}

/// One of each: what is answered, what is not, and an event that comes in.
fn use_the_api(api: &Api) {
    until("the API is ready", || api.ask("GET", "/health", "").starts_with("HTTP/1.1 200"));
    assert!(api.ask("GET", "/stock", "").starts_with("HTTP/1.1 200"));
    assert!(api.ask("GET", "/orders/nobody-s", "").starts_with("HTTP/1.1 404"));
    let at = stocktide_runtime::clock::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let payment = json!({
        "event_id": "01941f29-7c00-7aaa-8aaa-0000000000f2", "payment_id": "p-1", "order_id": "misstated-1",
        "payment_datetime": at, "payment_method": "card", "card_last_four": "4242", "amount": "5.00", "payment_status": "captured",
    });
    let answer = api.ask("POST", "/events/payments", &payment.to_string());
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
}

fn may_be_empty(query: &Query) -> bool {
    MAY_BE_EMPTY.iter().any(|(name, _)| *name == query.name)
}

fn check_promql(prometheus: &Prometheus) {
    let wanted: Vec<Query> = queries::of_panels().into_iter().filter(|query| query.is_promql).collect();
    for (name, _) in MAY_BE_EMPTY {
        assert!(wanted.iter().any(|query| query.name == name), "there is no query {name} any more");
    }
    let found: RefCell<BTreeMap<String, usize>> = RefCell::default();
    let empty = RefCell::new(Vec::new());
    until_all(&empty, || {
        let mut missing = Vec::new();
        for query in &wanted {
            let answer = prometheus.query(&queries::promql(&query.text));
            let series =
                answer.unwrap_or_else(|error| panic!("{}: {error}: {}", query.name, query.text)).len();
            found.borrow_mut().insert(query.name.clone(), series);
            if series == 0 && !may_be_empty(query) {
                missing.push(query.name.clone());
            }
        }
        missing
    });
    for (name, series) in found.borrow().iter() {
        println!("{series:>5} series  {name}");
    }
}

/// Waits until nothing is missing any more; what still is tells more than that something is.
fn until_all(missing: &RefCell<Vec<String>>, look: impl Fn() -> Vec<String>) {
    let deadline = std::time::Instant::now() + crate::watched::PATIENCE;
    loop {
        *missing.borrow_mut() = look();
        if missing.borrow().is_empty() {
            return;
        }
        assert!(std::time::Instant::now() < deadline, "no data: {:#?}", missing.borrow());
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

/// What is recorded has data; an alert that is well has none, so the metrics that it asks for must.
fn check_rules(prometheus: &Prometheus) {
    let rules = prometheus.rules();
    assert!(rules.len() >= 20, "{} rules", rules.len());
    for rule in &rules {
        let (name, query) = (rule["name"].as_str().unwrap(), rule["query"].as_str().unwrap());
        until(&format!("{name} is evaluated"), || {
            let now = prometheus.rules();
            now.iter().any(|now| now["name"] == rule["name"] && now["health"] == "ok")
        });
        let mut wanted = queries::metrics_in(query);
        if rule["type"] == "recording" {
            wanted.push(name.to_owned());
        }
        for metric in wanted {
            until(&format!("{metric} has data, for {name}"), || {
                !prometheus.query(&metric).unwrap().is_empty()
            });
        }
        println!("{:>9}  {name}", rule["type"].as_str().unwrap());
    }
}

fn check_sql(world: &World, product: &str) {
    let locations = world.texts("SELECT location_id FROM locations");
    let panels = queries::of_panels().into_iter().filter(|query| !query.is_promql);
    for query in panels.chain(queries::of_variables()) {
        let sql = queries::sql(&query.text, &locations, product);
        let rows = RefCell::new(0);
        let answer = || world.rows(&sql).unwrap_or_else(|error| panic!("{}: {error}\n{sql}", query.name));
        until(&format!("{} finds rows: {sql}", query.name), || {
            *rows.borrow_mut() = answer().len();
            *rows.borrow() > 0
        });
        println!("{:>5} rows    {}", rows.borrow(), query.name);
    }
}

/// Every metric that is declared is exported by somebody.
fn check_declared(prometheus: &Prometheus) {
    for declared in watched_metrics() {
        let name = if declared.kind == "histogram" {
            format!("{}_count", declared.name)
        } else {
            declared.name.to_owned()
        };
        if !SEEN_LATER.contains(&declared.name) {
            until(&format!("{name} is seen"), || !prometheus.query(&name).unwrap().is_empty());
        }
    }
}

fn watched_metrics() -> impl Iterator<Item = &'static stocktide_runtime::metrics::Declared> {
    [
        stocktide_runtime::metrics::Process::DECLARED,
        stocktide_processor::metrics::Metrics::DECLARED,
        stocktide_api::metrics::Metrics::DECLARED,
        stocktide_watch::Metrics::DECLARED,
        stocktide_jobs::metrics::Metrics::DECLARED,
        stocktide_verify::ReconcileMetrics::DECLARED,
        stocktide_producers::metrics::Metrics::DECLARED,
    ]
    .into_iter()
    .flatten()
}

#[test]
fn prometheus_and_alertmanager_take_their_files() {
    let check = |name: &str, args: &[&str]| {
        let output = std::process::Command::new(program(name))
            .current_dir(crate::watched::file("prometheus"))
            .args(args)
            .output()
            .unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name} {args:?}: {said}");
    };
    check("promtool", &["check", "config", "prometheus.yml"]);
    check("promtool", &["check", "rules", "rules/stocktide.yml"]);
    check("promtool", &["test", "rules", "tests/alerts.yml"]);
    check("amtool", &["check-config", "alertmanager.yml"]);
}
