//! Payments on the whole way: before their order, after it, without one; through restarts, rebalances and kills.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::World;
use crate::support::fates::Fate::{Applied, Duplicate, Parked, Rejected};
use crate::support::fates::Fates;
use crate::support::records::{Coordinates, Record, order, payment, with};
use crate::support::running::Running;
use serde_json::{Value, json};
use stocktide_processor::Summary;
use stocktide_producers::sim::catalogue::{SimCatalogue, Size};
use stocktide_producers::sim::faults::Faulty;
use stocktide_producers::sim::payments::ByTheClock;
use stocktide_runtime::config::Config;
use stocktide_store::catalogue;

const ORDERS: &str = "online_orders";
const PAYMENTS: &str = "payments";
const CARD: &str = "4111 1111 1111 1111";

/// An installation in which payments wait for so long; with short sessions, so that a killed processor's place is soon
/// another's.
async fn installation(wait: &str) -> World {
    World::start(&[
        ("STOCKTIDE_PAYMENTS_WAIT", wait),
        ("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "2s"),
        ("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "250ms"),
        ("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s"),
    ])
    .await
}

/// The same, with something to sell.
async fn world(wait: &str) -> World {
    let world = installation(wait).await;
    world.stock_shelves().await;
    world
}

/// The same installation, with another wait.
fn waiting(world: &World, wait: Duration) -> Config {
    let mut config = world.config.clone();
    config.payments.wait = wait;
    config
}

fn placed(order_id: &str) -> Value {
    with(order(), "order_id", order_id)
}

/// Another event of the same payment.
fn again(first: &Value, status: &str, at: &str) -> Value {
    let next = with(first.clone(), "event_id", uuid::Uuid::now_v7().to_string());
    with(with(next, "payment_status", status), "payment_datetime", at)
}

async fn send(world: &World, topic: &'static str, event: &Value) -> (Record, Coordinates) {
    world.send_events(topic, "key", std::slice::from_ref(event)).await.remove(0)
}

/// Counts of a summary: consumed, applied, duplicates, rejected, parked.
fn counts(summary: &Summary) -> [u64; 5] {
    let rejected = summary.rejected.values().sum();
    [summary.consumed, summary.applied, summary.duplicates, rejected, summary.parked]
}

/// How payments stand: payment_id, order, status, whether the amount is wrong.
async fn payments(world: &World) -> Vec<(String, String, String, bool)> {
    let sql =
        "SELECT payment_id, order_id, payment_status, amount_mismatch FROM payments ORDER BY payment_id";
    sqlx::query_as(sql).fetch_all(&world.database).await.unwrap()
}

async fn parked(world: &World) -> i64 {
    let rows = world.number("SELECT count(*) FROM parked_payments").await;
    assert_eq!(rows, world.number("SELECT coalesce(sum(parked), 0)::bigint FROM partition_progress").await);
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_joins_its_order_whether_it_comes_before_or_after_it() {
    let world = world("10m").await;
    let early = send(&world, PAYMENTS, &payment("early")).await;
    assert_eq!(counts(&world.process().await), [1, 0, 0, 0, 1]);
    Fates::read(&world).await.check(&early, Parked);
    world.verify().await;

    let late_order = send(&world, ORDERS, &placed("early")).await;
    let first_order = send(&world, ORDERS, &placed("late")).await;
    // The order is placed in a batch; what waited is joined before the processor ends.
    let summary = world.process().await;
    assert_eq!(counts(&summary), [3, 3, 0, 0, 0]);
    let late = send(&world, PAYMENTS, &with(payment("late"), "amount", "0.99")).await;
    assert_eq!(counts(&world.process().await), [1, 1, 0, 0, 0]);
    let fates = Fates::read(&world).await;
    for record in [&early, &late_order, &first_order, &late] {
        fates.check(record, Applied);
    }
    fates.check_sums([&early, &late_order, &first_order, &late].map(|(_, at)| at).into_iter());
    let sql =
        "SELECT order_id, payment_status, card_last_four, amount_mismatch FROM payments ORDER BY order_id";
    let rows: Vec<(String, String, String, bool)> =
        sqlx::query_as(sql).fetch_all(&world.database).await.unwrap();
    let row = |order: &str, mismatch| (order.to_owned(), "captured".to_owned(), "0042".to_owned(), mismatch);
    assert_eq!(rows, [row("early", false), row("late", true)]);
    assert_eq!(parked(&world).await, 0);

    let fact = stocktide_store::facts::of_order(&world.database, "early").await.unwrap().unwrap();
    assert_eq!(
        (fact.price.as_deref(), fact.quantity, fact.item.as_deref()),
        (Some("1"), Some(1), Some("Apple"))
    );
    assert_eq!(
        (fact.payment_status.as_deref(), fact.card_last_four.as_deref()),
        (Some("captured"), Some("0042"))
    );
    assert!(stocktide_store::facts::of_order(&world.database, "nobody").await.unwrap().is_none());
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_whose_order_never_comes_is_in_dlq_once_with_its_bytes_and_may_come_back_mended() {
    let world = world("1s").await;
    let orphan = payment("ghost");
    let record = Record::event(PAYMENTS, &orphan).key("k").header("trace", Some(b"abc"));
    let sent = world.sender().send("key", vec![record]).await.remove(0);
    let processor = world.start_processor();
    world.until("SELECT count(*) = 1 FROM events_log WHERE reason = 'orphan_payment'").await;
    // The same event again, mended: its order is there now.
    send(&world, ORDERS, &placed("found")).await;
    world.until_settled(2).await;
    let mended = send(&world, PAYMENTS, &with(orphan.clone(), "order_id", "found")).await;
    world.until_settled(3).await;
    let summary = processor.end().await;
    assert_eq!(counts(&summary), [3, 2, 0, 1, 0]);
    let fates = Fates::read(&world).await;
    fates.check(&sent, Rejected("orphan_payment"));
    fates.check(&mended, Applied);
    assert_eq!(
        world
            .number("SELECT timer_seq FROM partition_progress WHERE topic = 'payments' AND timer_seq > 0")
            .await,
        1
    );
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_wait_a_payment_without_its_order_is_rejected_in_its_own_batch() {
    let world = world("0").await;
    let orphan = send(&world, PAYMENTS, &payment("ghost")).await;
    assert_eq!(counts(&world.process().await), [1, 0, 0, 1, 0]);
    Fates::read(&world).await.check(&orphan, Rejected("orphan_payment"));
    assert_eq!(world.number("SELECT count(*) FROM events_log WHERE timer_seq IS NOT NULL").await, 0);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payments_states_are_settled_by_their_time_and_then_by_their_order_however_they_come() {
    let world = world("10m").await;
    send(&world, ORDERS, &placed("A")).await;
    let base = payment("A");
    let captured = again(&base, "Completed", "2025-03-01T12:00:00Z");
    let pending = again(&base, "pending", "2025-03-01T11:00:00Z");
    let refunded = again(&base, "REFUNDED", "2025-03-01T12:00:00Z");
    for event in [&captured, &pending] {
        send(&world, PAYMENTS, event).await;
        world.process().await;
        assert_eq!(payments(&world).await[0].2, "captured");
    }
    // At the same moment as `captured`: the later state holds.
    send(&world, PAYMENTS, &refunded).await;
    let authorised = again(&base, "authorized", "2025-03-01T12:00:00Z");
    send(&world, PAYMENTS, &authorised).await;
    world.process().await;
    assert_eq!(payments(&world).await[0].2, "refunded");
    assert_eq!(world.number("SELECT count(*) FROM payment_events").await, 4);

    // Another order under the same payment_id.
    send(&world, ORDERS, &placed("B")).await;
    let conflict = with(again(&base, "captured", "2025-03-01T13:00:00Z"), "order_id", "B");
    let conflict = send(&world, PAYMENTS, &conflict).await;
    world.process().await;
    Fates::read(&world).await.check(&conflict, Rejected("payment_conflict"));
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_waits_through_restarts_and_a_second_record_of_it_is_a_duplicate_meanwhile() {
    let world = world("10m").await;
    let event = payment("later");
    let first = send(&world, PAYMENTS, &event).await;
    world.process().await;
    let second = send(&world, PAYMENTS, &event).await;
    assert_eq!(counts(&world.process().await), [1, 0, 1, 0, 0]);
    // Two payments that will conflict: the first one of them to be settled holds.
    let rival = with(with(event.clone(), "event_id", uuid::Uuid::now_v7().to_string()), "order_id", "other");
    let rival = send(&world, PAYMENTS, &rival).await;
    world.process().await;
    assert_eq!(parked(&world).await, 2);
    world.verify().await;

    send(&world, ORDERS, &placed("later")).await;
    // Nothing new was parked here: what was parked by another process counts as consumed when it is settled.
    assert_eq!(counts(&world.process().await), [2, 2, 0, 0, 0]);
    send(&world, ORDERS, &placed("other")).await;
    assert_eq!(counts(&world.process().await), [2, 1, 0, 1, 0]);
    let fates = Fates::read(&world).await;
    fates.check(&first, Applied);
    fates.check(&second, Duplicate);
    fates.check(&rival, Rejected("payment_conflict"));
    assert_eq!(parked(&world).await, 0);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_card_number_is_refused_and_masked_wherever_its_bytes_are_kept() {
    let world = world("1s").await;
    let mut records = vec![
        Record::event(PAYMENTS, &with(payment("A"), "card_last_four", CARD)),
        Record::event(PAYMENTS, &with(payment("A"), "pan", json!({"number": "4111111111111111"}))),
    ];
    // In the key or a header it does not spoil the event, but it is masked where it waits, and in dlq.
    records.push(Record::event(PAYMENTS, &payment("ghost")).key(CARD).header("card", Some(CARD.as_bytes())));
    world.sender().send("key", records).await;
    let processor = Running::start(&waiting(&world, Duration::from_secs(3)));
    world.until_settled(3).await;
    assert_eq!(parked(&world).await, 1);
    assert_no_card(&world).await;
    world.until("SELECT count(*) = 3 FROM events_log").await;
    processor.end().await;
    assert_no_card(&world).await;
    let dead = world.read("dlq");
    assert_eq!(dead.len(), 3);
    for record in dead {
        assert_eq!(record.header("stocktide.redacted").as_deref(), Some("true"));
        let kept = format!("{:?}{:?}", String::from_utf8_lossy(&record.key.clone().unwrap()), record.headers);
        let value = String::from_utf8_lossy(record.value.as_deref().unwrap()).into_owned();
        assert!(
            !kept.contains("4111") && !value.contains("4111 1111") && !value.contains("41111111"),
            "{kept} {value}"
        );
    }
    world.verify().await;
}

async fn assert_no_card(world: &World) {
    for sql in [
        "SELECT count(*) FROM events_log e WHERE e::text ~ '4111[ -]?1111' OR
            encode(e.raw_event || coalesce(e.record_key, '') || array_to_string(e.header_values, '')::bytea, 'escape') ~ '4111[ -]?1111'",
        "SELECT count(*) FROM parked_payments p WHERE p::text ~ '4111[ -]?1111' OR
            encode(p.raw_event || coalesce(p.record_key, ''), 'escape') ~ '4111[ -]?1111' OR
            EXISTS (SELECT FROM unnest(p.header_values) v WHERE encode(v, 'escape') ~ '4111[ -]?1111')",
        "SELECT count(*) FROM payment_events p WHERE p::text ~ '4111'",
    ] {
        assert_eq!(world.number(sql).await, 0, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processors_take_over_from_each_other_what_waits() {
    let world = world("10m").await;
    let ids: Vec<String> = (0..60).map(|n| format!("o{n}")).collect();
    for id in &ids {
        // Their own keys, so that they lie in all partitions.
        world.send_json(PAYMENTS, id, payment(id)).await;
    }
    let first = world.start_processor();
    world.until_settled(60).await;
    assert_eq!(parked(&world).await, 60);
    let second = world.start_processor();
    second.owns(i64::from(world.config.topics.partitions) * 2).await;
    for id in &ids[..40] {
        world.send_json(ORDERS, id, placed(id)).await;
    }
    world.until("SELECT count(*) = 40 FROM payments").await;
    first.end().await;
    second.owns(i64::from(world.config.topics.partitions) * 4).await;
    for id in &ids[40..50] {
        world.send_json(ORDERS, id, placed(id)).await;
    }
    world.until("SELECT count(*) = 50 FROM payments").await;
    second.end().await;
    // The others' time is up under a processor that had nothing to do with them.
    sqlx::query("UPDATE parked_payments SET expires_at = now()").execute(&world.database).await.unwrap();
    let summary = world.process().await;
    assert_eq!(counts(&summary), [10, 0, 0, 10, 0]);
    assert_eq!(world.read("dlq").len(), 10);
    world.verify().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_timer_put_out_before_a_kill_is_published_once_by_the_next_processor() {
    let world = world("10m").await;
    let orphans: Vec<Value> = (0..5).map(|n| payment(&format!("ghost{n}"))).collect();
    let sent = world.send_events(PAYMENTS, "one key", &orphans).await;
    world.process().await;
    // A processor that dies between its two commits: the timer's transaction is in, its outputs are not.
    sqlx::query("UPDATE parked_payments SET expires_at = now()").execute(&world.database).await.unwrap();
    tick_and_die(&world).await;
    assert_eq!(world.number("SELECT count(*) FROM events_log WHERE timer_seq IS NOT NULL").await, 5);
    assert_eq!(world.read("dlq").len(), 0);
    // From when on they are looked for is a hint, and may be wrong.
    world.execute("UPDATE partition_progress SET published_at = now() + interval '1 hour'").await;
    world.process().await;
    let fates = Fates::read(&world).await;
    for record in &sent {
        fates.check(record, Rejected("orphan_payment"));
    }
    world.process().await;
    assert_eq!(world.read("dlq").len(), 5);
    world.verify().await;
}

/// What a processor does up to its first commit.
async fn tick_and_die(world: &World) {
    let options = stocktide_store::WriterOptions {
        url: world.stack.database_url(),
        timezone: world.config.business.timezone,
        reject_uncovered: false,
        lock_timeout: Duration::from_secs(5),
        payments_wait: world.config.payments.wait,
    };
    let mut writer = stocktide_store::Writer::connect(options).await.unwrap();
    let sql = "SELECT partition, next_offset, timer_seq FROM partition_progress WHERE topic = 'payments'";
    let rows: Vec<(i32, i64, i64)> = sqlx::query_as(sql).fetch_all(&world.database).await.unwrap();
    let stand =
        |(partition, next_offset, timer_seq)| (partition, stocktide_store::Stand { next_offset, timer_seq });
    let stands: BTreeMap<i32, stocktide_store::Stand> = rows.into_iter().map(stand).collect();
    let now = stocktide_runtime::clock::now();
    let ticked = writer.tick(stocktide_store::Tick { stands: &stands, now, since: None }).await.unwrap();
    assert_eq!(ticked.outputs.len(), 5);
    // It knows of nobody else's numbers any more.
    let late = writer.tick(stocktide_store::Tick { stands: &stands, now, since: None }).await.unwrap_err();
    assert!(matches!(late, stocktide_store::StoreError::Fenced { .. }), "{late}");
    // Nor does it take in more, as if its answer to COMMIT had been lost: what it noted as published then would pass over these.
    let (partition, reached) = ticked.timers.iter().next().unwrap();
    let stand = stands[partition];
    let span = stocktide_store::Span {
        expected: stand.next_offset,
        timer_seq: Some(stand.timer_seq),
        next: stand.next_offset + 1,
        last_offset: stand.next_offset,
        last_digest: vec![0; 32],
        published: None,
    };
    let spans = [((stocktide_domain::Source::Payments, *partition), span)].into();
    let batch = stocktide_store::Batch { raw: &[], decoded: &[], spans: &spans, now };
    let late = writer.apply(batch).await.unwrap_err();
    assert!(matches!(late, stocktide_store::StoreError::Fenced { found, .. } if found == *reached), "{late}");
}

/// Orders and payments by the clock, a minute of it before each kill, and a processor that is killed again and again.
#[tokio::test(flavor = "multi_thread")]
async fn orders_and_payments_by_the_clock_lose_and_repeat_nothing_under_kills() {
    let long = std::env::var_os("STOCKTIDE_TEST_LONG").is_some();
    let kills = if long { 30 } else { 5 };
    let world = installation("2s").await;
    let shelves = SimCatalogue::synthetic(Size { products: 50, locations: 2 });
    catalogue::load(&world.database, &shelves.files("GBP")).await.unwrap();
    // A minute of it before each kill.
    let begin = "2025-06-01T08:00:00Z".parse().unwrap();
    let mut records = Faulty::new(ByTheClock::new(shelves, 7, begin).unwrap(), 7, 20_000, 10_000);
    let (started, mut sent) = (Instant::now(), 0_i64);
    for kill in 0..kills {
        let before = moved(&world).await;
        let mut processor = stocktide(&world, &["processor"]).spawn().unwrap();
        for record in records.by_ref().take(90) {
            world.send(record.topic, &[(Some(record.key.as_bytes()), record.value.as_deref())]).await;
            sent += 1;
        }
        let deadline = Instant::now() + Duration::from_mins(2);
        while moved(&world).await == before {
            assert!(Instant::now() < deadline, "nothing moves after {kill} kills");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        // A moment that differs from kill to kill: within a batch, a tick, a transaction.
        tokio::time::sleep(Duration::from_millis(kill * 137 % 700)).await;
        kill_9(&mut processor);
    }
    let processor = world.start_processor();
    world.until_settled(sent).await;
    world.until("SELECT count(*) = 0 FROM parked_payments").await;
    let summary = processor.end().await;
    world.verify().await;

    let orphans = world.number("SELECT count(*) FROM events_log WHERE reason = 'orphan_payment'").await;
    let conflicts = world.number("SELECT count(*) FROM events_log WHERE reason = 'order_conflict'").await;
    let joined = world.number("SELECT count(*) FROM payment_events").await;
    let orders = world.number("SELECT count(*) FROM orders_payments_facts").await;
    assert!(orders > 0 && orders <= 80);
    let dead = world.read("dlq");
    let of = |reason: &str| {
        dead.iter().filter(|r| r.header("stocktide.reason").as_deref() == Some(reason)).count() as i64
    };
    assert_eq!((of("orphan_payment"), of("order_conflict")), (orphans, conflicts));
    assert!(orphans > 0 && joined > 0 && conflicts > 0);
    println!(
        "{kills} kills in {:?}: {sent} records; {orders} orders, {conflicts} conflicts; {joined} payments joined, {orphans} \
         orphans, each in dlq once; the last processor: {:?}",
        started.elapsed(),
        counts(&summary)
    );
}

fn stocktide(world: &World, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_stocktide"));
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command
        .env("STOCKTIDE_DATABASE_URL", world.stack.database_url())
        .env("STOCKTIDE_KAFKA_BROKERS", world.stack.kafka_brokers())
        .env("STOCKTIDE_PAYMENTS_WAIT", humantime::format_duration(world.config.payments.wait).to_string())
        .env("STOCKTIDE_KAFKA_SESSION_TIMEOUT", "2s")
        .env("STOCKTIDE_KAFKA_HEARTBEAT_INTERVAL", "250ms")
        .env("STOCKTIDE_KAFKA_TRANSACTION_TIMEOUT", "2s");
    command
}

/// A number that changes with everything that a processor does.
async fn moved(world: &World) -> i64 {
    world.number("SELECT coalesce(sum(next_offset + timer_seq + applied - parked), 0)::bigint FROM partition_progress").await
}

fn kill_9(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}
