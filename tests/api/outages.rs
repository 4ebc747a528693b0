//! What is away, and comes back.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustix::process::Pid;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use stocktide_devstack::{Stack, StackOptions};
use stocktide_runtime::kafka::ensure_topics;
use stocktide_store::migrate;

use crate::client::{Served, settings};
use crate::command::freeze;

#[tokio::test(flavor = "multi_thread")]
async fn it_says_which_part_is_away_and_goes_on_once_it_is_back() {
    let mut stack = Stack::start(StackOptions::default()).await.unwrap();
    let timeout = [("STOCKTIDE_API_REQUEST_TIMEOUT", "3s")];
    let config = settings(&stack.database_url(), &stack.kafka_brokers(), &timeout);

    // Before the schema and the topics.
    let api = Served::start(&config).await;
    let problem = api.get("/health").await.problem(503);
    assert_eq!((&problem["part"], &problem["parts"]["database"]["ok"]), (&"schema".into(), &true.into()));
    for path in [
        "/stats/global",
        "/users/a/stats",
        "/stock",
        "/products/a/stock",
        "/orders/a",
        "/reports",
        "/dlq",
        "/jobs/runs",
        "/stats/top/3",
    ] {
        let problem = api.get(path).await.problem(503);
        assert_eq!(problem["part"], "schema", "{path}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains("stocktide migrate"));
    }
    assert_eq!(api.get("/stock/stream").await.problem(503)["part"], "kafka");
    assert_eq!(api.send("online_orders", &[], "{}").await.problem(503)["part"], "kafka");

    migrate::run(&stack.database_url(), "GBP", "UTC").await.unwrap();
    ensure_topics(&config).await.unwrap();
    api.until("/health", |answer| answer.status == 200).await;
    assert_eq!(api.json("/stats/global").await["total_orders"], 0);
    api.until("/status", |answer| answer.json()["lag"] == 0).await;
    assert!(api.health.failing().is_empty(), "{:?}", api.health.failing());
    assert_eq!(api.send("online_orders", &[], "{}").await.status, 422);

    stack.kill_postgres().await.unwrap();
    let answer = api.until("/stats/global", |answer| answer.status == 503).await;
    assert_eq!((&answer.problem(503)["part"], answer.header("retry-after")), (&"database".into(), "2"));
    assert_eq!(api.get("/health").await.problem(503)["part"], "database");
    assert_eq!(api.get("/stats/top/0").await.problem(400)["parameter"], "n");
    stack.start_postgres().await.unwrap();
    api.until("/health", |answer| answer.status == 200).await;
    api.json("/stats/global").await;
    api.until("/status", |answer| answer.json()["parts"]["database"]["ok"] == true).await;

    // It stops in the middle of a request: what came in meanwhile is said not to be there for certain, and can be sent again.
    let order = json!({"order_id": "o1", "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "a", "quantity": 1}]});
    let body = json!([order, {"order_id": "bad"}]).to_string();
    let key = [("idempotency-key", "o1")];
    assert_eq!(api.send("online_orders", &key, body.clone()).await.status, 207);
    let broker = stack.processes().last().and_then(|process| Pid::from_raw(process.pid)).unwrap();
    freeze(broker);
    let problem = api.send("online_orders", &key, body.clone()).await.problem(503);
    assert_eq!(
        (&problem["part"], &problem["type"]),
        (&"kafka".into(), &"urn:stocktide:not-acknowledged".into())
    );
    let fates =
        |at: usize| (problem["events"][at]["status"].clone(), problem["events"][at]["reason"].clone());
    assert_eq!(fates(0), ("failed".into(), "not_acknowledged".into()));
    assert_eq!(fates(1), ("rejected".into(), "schema_violation".into()));
    let failed = problem["events"][0]["event_id"].clone();
    stack.kill_broker(1).await.unwrap();
    api.until("/health", |answer| answer.status == 503 && answer.problem(503)["part"] == "kafka").await;
    assert_eq!(api.send("online_orders", &[], "{}").await.problem(503)["part"], "kafka");
    api.json("/stats/global").await;
    stack.start_broker(1).await.unwrap();
    api.until("/health", |answer| answer.status == 200).await;
    let again = api.until_sent("online_orders", &key, &body).await;
    assert_eq!((again.status, &again.json()["events"][0]["event_id"]), (207, &failed));
    api.end().await;
    stack.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_that_take_long_leave_connections_to_the_others() {
    let options = StackOptions { kafka: false, ..StackOptions::default() };
    let stack = Stack::start(options).await.unwrap();
    let url = stack.database_url();
    migrate::run(&url, "GBP", "UTC").await.unwrap();
    let mut holder = PgConnection::connect(&url).await.unwrap();
    let product = "INSERT INTO products (product_id, name, category, price, currency) VALUES ('a', 'A', 'c', 1, 'GBP');
                   INSERT INTO locations (location_id, name, kind, timezone) VALUES ('online', 'Web', 'online', 'UTC');
                   INSERT INTO inventory (product_id, location_id, quantity_on_hand, version, opening_quantity, last_updated)
                       VALUES ('a', 'online', 1, 1, 2, now())";
    sqlx::raw_sql(product).execute(&mut holder).await.unwrap();
    let limits = [("STOCKTIDE_API_REQUEST_TIMEOUT", "3s"), ("STOCKTIDE_API_CONNECTIONS", "4")];
    let api = Served::start(&settings(&url, "127.0.0.1:1", &limits)).await;
    assert_eq!(api.json("/products/a/stock").await["locations"][0]["quantity_on_hand"], 1);
    // A cursor that is not ours, of the earliest time there is.
    let key = json!(["-262143-01-01T00:00:00Z", 1, "online", "online_orders", 0, 0, 1]).to_string();
    let path = format!("/products/a/stock?cursor={}", URL_SAFE_NO_PAD.encode(key));
    api.get(&path).await.problem(400);

    // Nothing of the ledger can be read: whoever walks it waits, more of them than there are connections.
    sqlx::raw_sql("BEGIN; LOCK TABLE restock_lines IN ACCESS EXCLUSIVE MODE")
        .execute(&mut holder)
        .await
        .unwrap();
    let walks = futures_util::future::join_all((0..12).map(|_| api.get("/products/a/stock")));
    let others = async {
        let held =
            "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = 'restock_lines'::regclass";
        while !sqlx::query_scalar::<_, bool>(held).fetch_one(&mut holder).await.unwrap() {
            tokio::task::yield_now().await;
        }
        for _ in 0..20 {
            api.json("/stock").await;
        }
        let held = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'restock_lines'::regclass";
        assert_eq!(sqlx::query_scalar::<_, i64>(held).fetch_one(&mut holder).await.unwrap(), 1);
    };
    let (walked, ()) = tokio::join!(walks, others);
    let kinds: BTreeSet<String> =
        walked.iter().map(|answer| answer.problem(503)["type"].as_str().unwrap().to_owned()).collect();
    assert!(kinds.contains("urn:stocktide:overloaded"), "{kinds:?}");
    sqlx::raw_sql("ROLLBACK").execute(&mut holder).await.unwrap();
    api.json("/products/a/stock").await;
    api.end().await;
    stack.stop().await.unwrap();
}
