//! Events that come in by HTTP.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::client::Served;
use crate::support::World;

fn order(id: &str, quantity: i64) -> Value {
    json!({"order_id": id, "user_id": "ann", "order_timestamp": "2025-03-01T10:00:00Z",
        "items": [{"product_id": "apple", "quantity": quantity, "price_per_unit": "1.00"}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_accepted_once_kafka_has_them() {
    let world =
        World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0"), ("STOCKTIDE_API_BODY_MAX_BYTES", "1MiB")])
            .await;
    world.stock_shelves().await;
    let api = Served::ready(&world.config).await;
    one_event_an_array_and_lines(&world, &api).await;
    the_same_key_is_applied_once(&world, &api).await;
    bodies_are_bounded(&api).await;
    let metrics = api.get("/metrics").await.text();
    assert!(
        metrics.contains("stocktide_api_intake_events_total{outcome=\"accepted\",topic=\"online_orders\"} 9"),
        "{metrics}"
    );
    world.verify().await;
    api.end().await;
}

async fn one_event_an_array_and_lines(world: &World, api: &Served) {
    let answer = api.send("online_orders", &[], order("i1", 1).to_string()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let event = &answer.json()["events"][0];
    let sent = world.read("online_orders");
    assert_eq!(sent.len(), 1);
    assert_eq!(
        (sent[0].key.as_deref(), json!(sent[0].partition), json!(sent[0].offset)),
        (Some(&b"i1"[..]), event["partition"].clone(), event["offset"].clone())
    );
    assert_eq!(sent[0].json()["event_id"], event["event_id"]);

    let own = Uuid::now_v7();
    let mut third = order("i3", 2);
    third["event_id"] = json!(own);
    let bad = json!({"order_id": "x", "order_timestamp": "2025-03-01T10:00:00Z", "items": [{"product_id": "apple", "quantity": 0}]});
    let mut card = order("i4", 1);
    card["shipping_address"] = json!("4111 1111 1111 1111");
    let mixed =
        api.send("online_orders", &[], json!([order("i2", 1), bad, third, 7, card]).to_string()).await;
    assert_eq!(mixed.status, 207);
    let told = mixed.json();
    let fates: Vec<(&str, Option<&str>)> = (told["events"].as_array().unwrap().iter())
        .map(|e| (e["status"].as_str().unwrap(), e["reason"].as_str()))
        .collect();
    let rejected = |reason| ("rejected", Some(reason));
    assert_eq!(
        fates,
        [
            ("accepted", None),
            rejected("invalid_quantity"),
            ("accepted", None),
            rejected("schema_violation"),
            rejected("card_number")
        ]
    );
    assert_eq!(
        (&told["events"][2]["event_id"], &told["accepted"], &told["rejected"]),
        (&json!(own), &json!(2), &json!(3))
    );
    assert!(!mixed.text().contains("4111"));

    let lines = format!("{}\r\n\n{}\nnot json\n", order("i5", 1), order("i6", 1));
    let answer =
        api.send("online_orders", &[("content-type", "application/x-ndjson; charset=utf-8")], lines).await;
    assert_eq!((answer.status, &answer.json()["events"][2]["reason"]), (207, &json!("malformed_json")));
    let none = api.send("online_orders", &[], "not json").await;
    assert_eq!(none.problem(422)["events"][0]["reason"], "malformed_json");
    for body in ["", "[]", "[{}", " \n"] {
        api.send("online_orders", &[], body).await.problem(400);
    }
    api.send("inventory_updates", &[], "{}").await.problem(404);

    let summary = world.process().await;
    assert_eq!((summary.applied, summary.rejected.len()), (5, 0));
    // 1 + 1 + 2 + 1 + 1 apples of 100.
    assert_eq!(world.stock().await["apple@online"].0, 94);
    assert_eq!(api.json("/users/ann/stats").await["order_count"], 5);
}

async fn the_same_key_is_applied_once(world: &World, api: &Served) {
    let body = json!([order("k1", 3), order("k2", 4)]).to_string();
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = api.send("online_orders", &[("idempotency-key", "order form 17")], body.clone()).await;
        assert_eq!(answer.status, 202);
        answers.push(answer.json());
    }
    let ids =
        |answer: &Value| (answer["events"][0]["event_id"].clone(), answer["events"][1]["event_id"].clone());
    assert_eq!(ids(&answers[0]), ids(&answers[1]));
    assert_ne!(ids(&answers[0]).0, ids(&answers[0]).1);
    let summary = world.process().await;
    assert_eq!((summary.applied, summary.duplicates), (2, 2));
    assert_eq!(world.stock().await["apple@online"].0, 87);
    for key in ["", "é", &"x".repeat(257)] {
        let problem = api.send("online_orders", &[("idempotency-key", key)], "{}").await.problem(400);
        assert_eq!(problem["parameter"], "Idempotency-Key");
    }
}

async fn bodies_are_bounded(api: &Served) {
    // Up to eight times as much is read, so that whoever sends it hears the answer.
    for size in [1_048_577, 8_000_000] {
        let answer = api.send("online_orders", &[], vec![b' '; size]).await;
        assert!(answer.problem(413)["detail"].as_str().unwrap().contains("1048576"));
    }
    // Far too much is not read to its end.
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let endless = futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b'x'; 65_536]));
    let sent = client.post(api.url("/events/online_orders")).header("content-type", "application/json");
    if let Ok(answer) = sent.body(reqwest::Body::wrap_stream(endless)).send().await {
        assert_eq!(answer.status(), 413);
    }
    let many = "{}\n".repeat(10_001);
    api.send("online_orders", &[("content-type", "application/x-ndjson")], many).await.problem(413);
    let deep = "[".repeat(100_000);
    api.send("online_orders", &[], deep).await.problem(400);
    let deep = format!("{}{}", "{\"a\":".repeat(50_000), "1".to_owned() + &"}".repeat(50_000));
    assert_eq!(api.send("online_orders", &[], deep).await.problem(422)["events"][0]["reason"], "too_large");
}
