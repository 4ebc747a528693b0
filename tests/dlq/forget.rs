//! `stocktide forget`: nothing of the user is left in the database, and every sum is as it was.

use serde_json::{Value, json};
use uuid::Uuid;

use super::command::{Outcome, run};
use super::support::World;
use super::support::records::{Record, of, order, payment, with};

const ANN: &str = "ann-17850";

fn order_of(user: &str, order_id: &str) -> Value {
    let order = with(with(order(), "user_id", user), "order_id", order_id);
    with(
        with(order, "shipping_address", json!({"street": "1 High St"})),
        "email",
        format!("{user}@example.com"),
    )
}

fn about(order_id: &str, kind: &str) -> Value {
    json!({"event_id": Uuid::now_v7(), "type": kind, "order_id": order_id, "order_timestamp": "2025-03-01T11:00:00Z",
        "email": format!("{ANN}@example.com")})
}

fn forget(world: &World, args: &[&str]) -> Outcome {
    run(&mut world.command(&[&["forget"], args].concat()))
}

/// Rows of any table that have some bytes in them, as text or in a column of bytes.
async fn rows_with(world: &World, text: &str) -> Vec<String> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p')",
    )
    .fetch_all(&world.database)
    .await
    .unwrap();
    let hex: Vec<String> = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let hex = hex.concat();
    let mut found = Vec::new();
    for table in tables {
        let sql = format!(
            "SELECT t::text FROM {table} t WHERE t::text LIKE '%' || $1 || '%' OR t::text LIKE '%' || $2 || '%'"
        );
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(sql))
            .bind(text)
            .bind(&hex)
            .fetch_all(&world.database)
            .await
            .unwrap();
        found.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
    }
    found
}

async fn stats(world: &World, user: &str) -> Option<String> {
    let sql = "SELECT (to_jsonb(u) - 'user_id')::text FROM user_stats u WHERE user_id = $1";
    sqlx::query_scalar(sql).bind(user).fetch_optional(&world.database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_is_forgotten_leaves_every_sum_as_it_was_and_nothing_of_themselves() {
    let world = World::start(&[("STOCKTIDE_PAYMENTS_WAIT", "0s")]).await;
    world.stock_shelves().await;
    let returned = with(with(of(order(), "apple", 1), "type", "returned"), "original_id", "a3");
    let ghost = of(order_of(ANN, "a4"), "late", 1);
    let broken = format!("{{\"user_id\": \"{ANN}\", \"order_id");
    let records = vec![
        Record::event("online_orders", &order_of(ANN, "a1")),
        Record::event("online_orders", &order_of(ANN, "a2")),
        Record::event("online_orders", &order_of(ANN, "a3")),
        Record::event("online_orders", &order_of("bob", "b1")),
        Record::event("online_orders", &about("a1", "shipped")),
        Record::event("online_orders", &about("a2", "cancelled")),
        Record::event("online_orders", &with(returned, "user_id", ANN)),
        Record::event("online_orders", &ghost).key(ANN).header("user", Some(ANN.as_bytes())),
        Record::new("online_orders", broken),
        // Of an order that was itself rejected, without a user; known by its key alone; in UTF-16.
        Record::event("online_orders", &with(about("a4", "cancelled"), "shipping_address", "12 Ann Street")),
        Record::new("online_orders", "hello".to_owned()).key(ANN),
        Record::new("online_orders", ANN.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>()),
    ];
    let sent = world.sender().send("key", records).await;
    let ghost_at = super::name(&sent[7].1);
    world.process().await;
    let paid = with(payment("a1"), "billing", json!({"customer": ANN}));
    world.send_events("payments", "p", &[paid]).await;
    world.process().await;
    world.verify().await;
    let (before, bob, stock) = (stats(&world, ANN).await, stats(&world, "bob").await, world.stock().await);
    let rollups = world.rollups().await.len();

    let dry = forget(&world, &[ANN, "--dry-run"]).done();
    assert!(dry.stdout.starts_with("would be erased from 3 orders, "), "{dry:?}");
    assert_eq!(stats(&world, ANN).await, before, "a dry run changes nothing");
    let told = forget(&world, &[ANN, "--json", "--by", "case 12"]).done().documents().remove(0);
    let token = told["token"].as_str().unwrap().to_owned();
    assert_eq!(
        (&told["orders"], &told["rejects"], &told["waiting"]),
        (&json!(3), &json!(5), &json!(0)),
        "{told}"
    );
    assert_eq!(told["log_rows"], 12, "{told}");
    assert_eq!(rows_with(&world, ANN).await, Vec::<String>::new());
    assert_eq!(rows_with(&world, "12 Ann Street").await, Vec::<String>::new());
    assert_eq!(stats(&world, &token).await, before);
    assert_eq!(
        (stats(&world, ANN).await, stats(&world, "bob").await, world.stock().await),
        (None, bob, stock)
    );
    assert_eq!(world.rollups().await.len(), rollups);
    assert!(!rows_with(&world, "1 High St").await.is_empty(), "bob's address stays");
    verify_says(&world, "12 records of the log had a user erased (1 forgotten)");
    let again = forget(&world, &[ANN]);
    assert_eq!(again.code, 1);
    assert!(
        again.complaint().starts_with("there is nothing of user \"ann-17850\" in the database (forgotten 20")
    );
    assert_eq!(
        forget(&world, &["nobody"]).complaint(),
        "there is nothing of user \"nobody\" in the database"
    );
    assert_eq!(forget(&world, &[&token]).code, 2);

    // Events that come afterwards are new; the token stays.
    world.send_events("online_orders", "key", &[order_of(ANN, "a5"), about("a3", "cancelled")]).await;
    world.process().await;
    world.verify().await;
    let told = forget(&world, &[ANN, "--json"]).done().documents().remove(0);
    assert_eq!((&told["token"], &told["orders"]), (&json!(token), &json!(1)), "{told}");
    world.verify().await;

    // A rejected record that was erased may be replayed: as the token's.
    world
        .execute(
            "INSERT INTO products (product_id, name, price, currency, kind) VALUES ('late', 'Late', 2, 'GBP', 'stock');
             UPDATE installation SET catalogue_version = catalogue_version + 1",
        )
        .await;
    world.dlq(&["replay", &ghost_at]).done();
    assert_eq!(world.process().await.applied, 1);
    assert_eq!(rows_with(&world, ANN).await, Vec::<String>::new());
    world.verify().await;

    // Where the topic has forgotten, too, the log stands in for it.
    let ends: Vec<(i32, i64)> =
        sqlx::query_as("SELECT partition, next_offset FROM partition_progress WHERE topic = 'online_orders'")
            .fetch_all(&world.database)
            .await
            .unwrap();
    for (partition, end) in ends {
        world.delete_records("online_orders", partition, end).await;
    }
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_may_be_forgotten_while_their_orders_come_in() {
    let world = World::start(&[("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "20")]).await;
    world.stock_shelves().await;
    let processor = world.start_processor();
    let events = |round: usize| -> Vec<Value> {
        let orders = (0..100).map(|n| order_of(ANN, &format!("o-{round}-{n}")));
        orders.chain((0..20).map(|n| about(&format!("o-{round}-{n}"), "cancelled"))).collect()
    };
    for round in 0..3 {
        let sending = world.send_events("online_orders", "one key", &events(round)).await.len() as i64;
        world.until_settled(sending * round as i64 + 30).await;
        let outcome = forget(&world, &[ANN]);
        assert!(outcome.code == 0, "{outcome:?}");
    }
    world.until_settled(360).await;
    processor.end().await;
    world.verify().await;
    // Whatever came after the last time.
    forget(&world, &[ANN]);
    assert_eq!(rows_with(&world, ANN).await, Vec::<String>::new());
    world.verify().await;
    assert_eq!(world.number("SELECT count(*) FROM forgotten_users").await, 1);
    assert_eq!(world.number("SELECT count(*) FROM order_headers").await, 300);
}

fn verify_says(world: &World, note: &str) {
    let outcome = run(&mut world.command(&["verify", "--json"])).done();
    let report = outcome.documents().remove(0);
    let notes = report["notes"].as_array().unwrap();
    assert!(notes.iter().any(|n| n.as_str().unwrap().starts_with(note)), "{notes:?}");
}
