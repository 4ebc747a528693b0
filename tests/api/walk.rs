//! The messages of another shop, as a person would send them: an order whose stated value is wrong, and the same order id again
//! under another user.

use std::io::Write as _;
use std::process::Stdio;

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::Served;
use crate::command::stocktide;
use crate::support::World;

/// 5 × 200 and 2 × 500 make 2,000, and not 201.
fn order(user: &str) -> Value {
    json!({"order_id": "ORD1237", "user_id": user, "order_timestamp": "2024-12-13T10:00:00Z", "order_value": 201,
        "items": [{"product_id": "P001", "quantity": 5, "price_per_unit": 200}, {"product_id": "P002", "quantity": 2, "price_per_unit": 500}],
        "shipping_address": "123 Main St, Springfield", "payment_method": "CreditCard"})
}

/// What `stocktide send` says.
async fn send(world: &World, event: Value) -> String {
    let mut command = stocktide(&["send", "online_orders"]);
    command.env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers());
    let sent = tokio::task::spawn_blocking(move || {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(event.to_string().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let sent = sent.await.unwrap();
    assert!(sent.status.success(), "{sent:?}");
    String::from_utf8(sent.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misstated_order_is_corrected_and_told_and_its_id_is_nobody_elses() {
    let world = World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0")]).await;
    world
        .execute(
            "INSERT INTO products (product_id, name, price, currency, kind)
                VALUES ('P001', 'Lamp', 200, 'GBP', 'stock'), ('P002', 'Chair', 500, 'GBP', 'stock');
             INSERT INTO locations VALUES ('online', 'Online', 'online', 'UTC');
             INSERT INTO inventory (product_id, location_id, quantity_on_hand, opening_quantity, last_updated)
                VALUES ('P001', 'online', 20, 20, now()), ('P002', 'online', 20, 20, now());
             UPDATE installation SET catalogue_version = catalogue_version + 1",
        )
        .await;
    let processor = world.start_processor();
    let api = Served::ready(&world.config).await;
    let said = send(&world, order("U123")).await;
    assert!(said.contains("line 1: added event_id ") && said.contains("online_orders"), "{said}");
    world.until_settled(1).await;

    let told = api.json("/orders/ORD1237").await;
    assert_eq!(
        (&told["order_value"], &told["stated_value"], &told["value_mismatch"]),
        (&json!("2000.00"), &json!("201.00"), &json!(true))
    );
    assert_eq!(told["lines"].as_array().unwrap().len(), 2);
    let user = api.json("/users/U123/stats").await;
    assert_eq!((&user["order_count"], &user["total_spend"]), (&json!(1), &json!("2000.00")));
    assert_eq!(api.json("/stats/top/3").await["items"][0], user);
    assert_eq!(processor.counter("stocktide_processor_order_value_mismatches_total"), 1);

    // The same id under another user, and under the same one: whose it is does not change.
    for user in ["U999", "U123"] {
        send(&world, order(user)).await;
    }
    world.until_settled(3).await;
    let rejects = api.json("/dlq?reason=order_conflict").await;
    assert_eq!(rejects["items"].as_array().unwrap().len(), 2);
    assert_eq!(api.json("/orders/ORD1237").await, told);
    api.get("/users/U999/stats").await.problem(404);
    assert_eq!(api.json("/products/P001/stock").await["locations"][0]["quantity_on_hand"], 15);
    let totals = api.ask(Method::GET, "/metrics", &[("accept", "application/json")], Vec::new()).await.json();
    let fates =
        ["applied", "duplicates", "rejected", "value_mismatches"].map(|name| totals[name].as_i64().unwrap());
    assert_eq!(fates, [1, 0, 2, 1]);
    processor.end().await;
    world.verify().await;
    api.end().await;
}
