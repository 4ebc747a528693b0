//! Replays that end in unusual ways.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::support::records::{Record, order, with};
use super::{ORDERS, Shop, shop, unknown};

fn replacement(record: &str, value: &Value) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), json!({"record": record, "value": value}).to_string()).unwrap();
    file
}

fn replay_with(shop: &Shop, file: &tempfile::NamedTempFile, more: &[&str]) -> super::Outcome {
    let file = file.path().to_str().unwrap();
    shop.dlq(&[&["replay", "--replace", file], more].concat())
}

#[test]
fn a_reject_that_is_given_an_event_id_keeps_it_and_is_known_by_it() {
    let shop = shop();
    let record = shop.settle_one(Record::new(ORDERS, "broken"));
    let mended = order();
    let sent = replay_with(&shop, &replacement(&record, &mended), &[]).done();
    assert_eq!(sent.stdout, "sent again: 1, 1 of them mended\n");
    assert_eq!(shop.process().applied, 1);
    let shown = shop.shown(&record);
    assert_eq!((&shown["handling"]["state"], &shown["event_id"]), (&json!("applied"), &mended["event_id"]));
    let refused = replay_with(&shop, &replacement(&record, &mended), &["--again"]);
    assert_eq!((refused.code, refused.complaint()), (1, "nothing is sent: 1 applied since"));
    shop.verify();

    // It was sent, and came back: another event is not to be made of it.
    let record = shop.settle_one(Record::new(ORDERS, "broken, too"));
    let ghost = with(order(), "items", json!([{"product_id": "unicorn", "quantity": 1}]));
    replay_with(&shop, &replacement(&record, &ghost), &[]).done();
    shop.process();
    let refused = replay_with(&shop, &replacement(&record, &order()), &["--again"]);
    assert!(
        refused.code == 1 && refused.complaint().contains("the edit makes another event_id of it"),
        "{refused:?}"
    );
}

#[test]
fn what_was_discarded_in_between_is_no_replay() {
    let shop = shop();
    let record = shop.settle_one(unknown("unicorn"));
    shop.dlq(&["discard", &record]).done();
    shop.dlq(&["replay", &record, "--again"]).done();
    let counts: Vec<String> = shop
        .world
        .replayed()
        .into_iter()
        .filter(|(id, _)| shop.shown(&record).to_string().contains(id))
        .map(|r| r.1)
        .collect();
    assert_eq!(counts, ["1"]);
    shop.process();
}

#[test]
fn a_topic_that_is_gone_hinders_neither_other_records_nor_the_end_of_what_was_begun() {
    let shop = shop();
    let record = shop.settle_one(unknown("unicorn"));
    shop.execute(
        "INSERT INTO events_log (processed_at, status, reason, topic, partition, \"offset\") VALUES
         (now(), 'rejected', 'unknown_product', 'old_orders', 0, 7), (now(), 'rejected', 'unknown_product', 'old_orders', 0, 8);
         INSERT INTO dlq_actions (topic, partition, \"offset\", attempt, action, run_id, replay_id, intended_at, by_whom, rejected_at,
             replays, search_from)
         VALUES ('old_orders', 0, 7, 1, 'replayed', gen_random_uuid(), gen_random_uuid(), now(), 'ann', now(), 1, 0);
         INSERT INTO dlq_actions (topic, partition, \"offset\", attempt, action, run_id, intended_at, done_at, by_whom, rejected_at, replays)
         VALUES ('old_orders', 0, 8, 1, 'discarded', gen_random_uuid(), now(), now(), 'ann', now(), 0)",
    );
    // Of the three that match one is to be sent: one was given up, and of one nobody can tell any more.
    let outcome = shop.dlq(&["replay", "--reason", "unknown_product", "--yes"]);
    shop.execute("DELETE FROM events_log WHERE topic = 'old_orders'; DELETE FROM dlq_actions WHERE topic = 'old_orders'");
    let told = outcome.done().stdout;
    assert!(
        told.starts_with(
            "1 of an earlier run that broke off were for a topic that is gone, or whose begin has aged out: nobody can tell whether they were sent, so they count as \
             replayed\n"
        ),
        "{told}"
    );
    assert!(told.contains(" replayed before") && told.contains(" discarded"), "{told}");
    assert_eq!(shop.shown(&record)["handling"]["state"], "replayed");
    shop.process();
    shop.verify();
}

#[test]
fn a_running_processor_sees_that_nothing_waits_behind_a_replay() {
    let shop = shop();
    let record = shop.settle_one(unknown("unicorn"));
    shop.dlq(&["replay", &record]).done();
    shop.runtime.block_on(async {
        let processor = shop.world.start_processor();
        let gauge = |name: &str| processor.gauge(&format!("stocktide_processor_{name}"));
        let deadline = Instant::now() + Duration::from_mins(1);
        // What ends the replay's transaction is no record, and lies behind the last one. The processor looks every five seconds.
        let mut nothing_since = Instant::now();
        while nothing_since.elapsed() < Duration::from_secs(7) {
            let received = || processor.counter("stocktide_processor_records_received_total");
            if gauge("assigned_partitions") == 0 || received() == 0 || gauge("lag_records") != 0 {
                nothing_since = Instant::now();
            }
            assert!(Instant::now() < deadline, "{} records still wait", gauge("lag_records"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        processor.end().await;
    });
}
