//! The way of a record, from the topic to stock and back out, on a real Kafka and a real PostgreSQL.

use crate::support::World;
use serde_json::json;
use uuid::Uuid;

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_a_delivery_and_a_broken_record_each_meet_their_fate() {
    let world = World::start(&[]).await;
    world.stock_shelves().await;
    let order = json!({"event_id": Uuid::now_v7(), "order_id": "o1", "user_id": "u1", "order_timestamp": "2025-03-01T10:00:00Z",
        "items": [{"product_id": "apple", "quantity": 3}, {"product_id": "postage", "quantity": 1}], "order_value": "5.00"});
    world.send_json("online_orders", "o1", order.clone()).await;
    world.send_json("online_orders", "o1", order).await;
    world.send("online_orders", &[(Some(b"o2"), Some(b"{\"order_id\": "))]).await;
    let restock = json!({"event_id": Uuid::now_v7(), "restock_id": "r1", "supplier_id": "acme", "location_id": "shop",
        "received_at": "2025-03-01T11:00:00+01:00", "items": [{"product_id": "bread", "quantity": 20, "unit_cost": 1.1}]});
    world.send_json("supplier_restocks", "r1", restock).await;

    let summary = world.process().await;

    assert_eq!((summary.consumed, summary.applied, summary.duplicates), (4, 2, 1));
    assert_eq!(summary.rejected.into_iter().collect::<Vec<_>>(), [("malformed_json", 1)]);
    assert_eq!(world.stock().await["apple@online"], (97, 1));
    assert_eq!(world.stock().await["bread@shop"], (20, 1));
    let updates = world.read("inventory_updates");
    assert_eq!(updates.len(), 2);
    let apples = updates.iter().map(crate::support::Read::json).find(|u| u["product_id"] == "apple").unwrap();
    assert_eq!((apples["delta"].as_i64(), apples["quantity_on_hand"].as_i64()), (Some(-3), Some(97)));
    let dead = world.read("dlq");
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"{\"order_id\": "[..]));
    assert_eq!(dead[0].header("stocktide.reason").as_deref(), Some("malformed_json"));
    // A second start finds nothing to do, and repeats nothing.
    assert_eq!(world.process().await.consumed, 0);
    assert_eq!(world.read("inventory_updates").len(), 2);
}
