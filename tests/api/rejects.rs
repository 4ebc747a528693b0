//! What was done with rejected records is told with them.

use std::process::Command;

use serde_json::{Value, json};

use crate::client::Served;
use crate::command::{run, stocktide};
use crate::support::World;
use crate::support::records::{Record, of, order};

fn dlq(world: &World, args: &[&str]) -> Command {
    let mut command = stocktide(&[&["dlq"], args].concat());
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_is_told_with_what_was_done_with_it_and_what_it_was_rejected_for_before() {
    let world = World::start(&[("STOCKTIDE_API_LISTEN", "127.0.0.1:0")]).await;
    world.stock_shelves().await;
    let mut sender = world.sender();
    sender.send("unknown", vec![Record::event("online_orders", &of(order(), "unicorn", 1))]).await;
    sender.send("broken", vec![Record::new("store_sales", "{")]).await;
    drop(sender);
    world.process().await;
    run(&mut dlq(&world, &["replay", "--reason", "unknown_product", "--by", "ann", "--note", "loaded?"]))
        .done();
    world.process().await;
    run(&mut dlq(&world, &["discard", "--reason", "malformed_json", "--by", "bob", "--note", "noise"]))
        .done();

    let api = Served::ready(&world.config).await;
    let rejects = api.json("/dlq").await["items"].as_array().unwrap().clone();
    assert_eq!(rejects.len(), 3, "{rejects:#?}");
    let one = |reason: &str, replays: i64| -> Value {
        let is_meant = |reject: &&Value| reject["reason"] == reason && reject["replays"] == replays;
        let found: Vec<&Value> = rejects.iter().filter(is_meant).collect();
        assert_eq!(found.len(), 1, "{reason} {replays}: {rejects:#?}");
        found[0].clone()
    };

    let (first, again) = (one("unknown_product", 0), one("unknown_product", 1));
    assert_eq!((&first["state"], &first["history"]), (&json!("replayed"), &json!([])));
    let handled = &first["handled"];
    assert_eq!(
        (&handled["action"], &handled["by"], &handled["note"], &handled["sent_offset"]),
        (&json!("replayed"), &json!("ann"), &json!("loaded?"), &again["offset"])
    );
    assert!(handled["at"].is_string());
    assert_eq!((&again["state"], &again["handled"]), (&json!("open"), &Value::Null));
    let history = again["history"].as_array().unwrap();
    assert_eq!(history.len(), 1, "{again:#}");
    assert_eq!(
        (&history[0]["offset"], &history[0]["reason"], &history[0]["by_whom"], &history[0]["edited"]),
        (&first["offset"], &json!("unknown_product"), &json!("ann"), &json!(false))
    );
    assert_eq!(history[0]["rejected_at"], first["processed_at"]);

    let discarded = one("malformed_json", 0);
    assert_eq!(discarded["state"], "discarded");
    assert_eq!(
        (&discarded["handled"]["by"], &discarded["handled"]["note"]),
        (&json!("bob"), &json!("noise"))
    );
    assert_eq!(discarded["handled"]["sent_offset"], Value::Null);
    api.end().await;
}
