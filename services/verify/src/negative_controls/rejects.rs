//! Records that are rejected for a reason they do not give, and outputs of records that nobody settled.

use serde_json::{Value, json};

use super::spoilt;
use crate::facts::{PAYMENTS, Source};
use crate::world::{World, event_id};

/// An event with an id of its own.
fn event(n: u128, fields: Value) -> Vec<u8> {
    let mut event = json!({"event_id": event_id(n), "order_timestamp": "2011-07-03T10:00:00Z"});
    event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    event.to_string().into_bytes()
}

fn order(order: &str, location: &str, product: &str, quantity: i64) -> Vec<u8> {
    let items = json!([{"product_id": product, "quantity": quantity}]);
    event(70, json!({"order_id": order, "location_id": location, "items": items}))
}

fn about_order(kind: &str, order: &str) -> Vec<u8> {
    event(71, json!({"type": kind, "order_id": order}))
}

fn back(original: &str, quantity: i64) -> Vec<u8> {
    let items = json!([{"product_id": "84879", "quantity": quantity}]);
    event(72, json!({"type": "returned", "order_id": "back", "original_id": original, "items": items}))
}

fn delivery(supplier: &str) -> Vec<u8> {
    let items = json!([{"product_id": "84879", "quantity": 1}]);
    json!({"event_id": event_id(73), "restock_id": "R9", "supplier_id": supplier, "location_id": "online",
        "received_at": "2011-07-03T10:00:00Z", "items": items})
    .to_string()
    .into_bytes()
}

fn payment(payment: &str, order: &str) -> Vec<u8> {
    json!({"event_id": event_id(74), "payment_id": payment, "order_id": order, "payment_status": "captured",
        "payment_datetime": "2011-07-03T10:00:00Z"})
    .to_string()
    .into_bytes()
}

fn unchanged(world: &mut World) {
    world.facts.catalogue.is_unchanged = true;
}

#[test]
fn what_is_rejected_for_what_holds_is_taken_for_right() {
    let mut world = World::sound();
    unchanged(&mut world);
    for (topic, value, reason) in [
        ("online_orders", order("C", "online", "99", 1), "unknown_product"),
        ("online_orders", order("C", "moon", "22423", 1), "unknown_location"),
        ("supplier_restocks", delivery("X"), "unknown_supplier"),
        ("online_orders", order("A", "online", "22423", 1), "order_conflict"),
        ("online_orders", order("C", "online", "22423", 51), "insufficient_stock"),
        ("online_orders", about_order("shipped", "C"), "unknown_order"),
        ("online_orders", about_order("shipped", "A"), "already_cancelled"),
        ("online_orders", back("C", 1), "unknown_order"),
        ("online_orders", back("B", 13), "over_return"),
        (PAYMENTS, payment("P1", "B"), "payment_conflict"),
        (PAYMENTS, payment("P9", "never"), "orphan_payment"),
    ] {
        world.reject(topic, Some(&value), reason);
    }
    // Rejected before what would have saved it was there.
    world.facts.sort();
    let report = world.report();
    assert!(report.ok && report.notes.is_empty(), "{report:?}");
}

#[test]
fn a_reject_whose_reason_does_not_hold_is_named() {
    let online = Source::OnlineOrders.topic();
    for (topic, value, reason, why) in [
        (online, order("C", "online", "22423", 1), "malformed_json", "nothing in the record is"),
        (online, order("C", "online", "22423", 1), "invalid_quantity", "nothing in the record is"),
        (
            online,
            order("C", "online", "22423", 1),
            "unknown_product",
            "the catalogue knows all that it names",
        ),
        (
            online,
            order("C", "online", "22423", 1),
            "unknown_location",
            "the catalogue knows all that it names",
        ),
        ("supplier_restocks", delivery("S"), "unknown_supplier", "the catalogue knows all that it names"),
        (online, order("C", "online", "22423", 1), "order_conflict", "there is no order C"),
        (online, about_order("shipped", "B"), "order_conflict", "it places no order"),
        (online, order("C", "online", "22423", 10), "insufficient_stock", "there was enough in stock"),
        (
            online,
            about_order("shipped", "B"),
            "unknown_order",
            "order B was placed before, by online_orders-0@1",
        ),
        (online, about_order("shipped", "B"), "already_cancelled", "order B had not been cancelled"),
        (online, back("B", 12), "over_return", "that much was left of order B"),
        (online, about_order("shipped", "B"), "over_return", "that is no reason for such an event"),
        (online, b"{}".to_vec(), "order_conflict", "it is schema_violation"),
        (online, order("C", "online", "22423", 0), "unknown_product", "it is invalid_quantity"),
        (PAYMENTS, payment("P1", "A"), "payment_conflict", "payment P1 is of that very order"),
        (PAYMENTS, payment("P9", "A"), "payment_conflict", "payment P9 is not known"),
        (PAYMENTS, payment("P9", "A"), "unknown_order", "that is no reason for a payment"),
        (online, order("C", "online", "22423", 1), "bad_luck", "that is no reason for such an event"),
    ] {
        let mut world = World::sound();
        unchanged(&mut world);
        world.reject(topic, Some(&value), reason);
        world.facts.sort();
        let report = world.report();
        let told: Vec<_> = report.checks.iter().filter(|check| check.differing > 0).collect();
        assert_eq!(told.len(), 1, "{report:?}");
        let [example] = &told[0].examples[..] else { panic!("{report:?}") };
        assert_eq!((told[0].name, told[0].checked), ("rejects_deserved", 19));
        assert!(example.starts_with(topic) && example.ends_with(&format!("but {why}")), "{example}");
    }
}

#[test]
fn a_payment_is_not_given_up_hours_after_its_order_came() {
    let day = 24 * 60 * 60 * 1_000_000;
    spoilt(
        |world| {
            world.reject(PAYMENTS, Some(&payment("P9", "A")), "orphan_payment");
            for row in world.facts.log.iter_mut().filter(|row| row.event.is_none()) {
                row.processed_at += day;
            }
        },
        &[(
            "rejects_deserved",
            "payments-0@7: rejected as orphan_payment, but order A was there, by online_orders-0@0",
        )],
    );
}

#[test]
fn a_record_that_should_have_been_rejected_is_named() {
    spoilt(
        |world| world.facts.currency = "EUR".to_owned(),
        &[("rejects_deserved", "online_orders-0@1: not rejected, yet currency_mismatch")],
    );
}

#[test]
fn what_is_applied_for_a_name_that_the_catalogue_does_not_have_is_named() {
    spoilt(
        |world| world.facts.catalogue.suppliers.clear(),
        &[("rejects_deserved", "supplier_restocks-0@0: applied, yet the catalogue has no S")],
    );
}

#[test]
fn a_reject_without_a_reason_is_named() {
    spoilt(
        |world| world.facts.rejections.values_mut().for_each(|rejection| rejection.reason = None),
        &[
            (
                "rejects_deserved",
                "online_orders-0@3: rejected without a reason | payments-0@4: rejected without a reason | \
                 store_sales-0@1: rejected without a reason",
            ),
            (
                "dlq",
                "online_orders-0@3: dlq gives the reason malformed_json, the log none | \
                 store_sales-0@1: dlq gives the reason malformed_json, the log none | \
                 payments-0@4: dlq gives the reason orphan_payment, the log none",
            ),
        ],
    );
}

#[test]
fn a_repetition_that_is_rejected_for_what_its_first_record_did_is_named() {
    spoilt(
        |world| {
            let again = world.topics["online_orders"][5].value.clone();
            world.reject("online_orders", again.as_deref(), "already_cancelled");
            world.facts.log.last_mut().unwrap().event = Some(event_id(4));
        },
        &[(
            "rejects_deserved",
            "online_orders-0@7: rejected as already_cancelled, but its event was applied before, by online_orders-0@5",
        )],
    );
}

#[test]
fn stock_is_judged_as_it_was_at_the_time() {
    let asked = |hours: i64, unchanged: bool| {
        let mut world = World::sound();
        world.facts.catalogue.is_unchanged = unchanged;
        world.reject("online_orders", Some(&order("C", "online", "84879", 5)), "insufficient_stock");
        let row = world.facts.log.last_mut().unwrap();
        row.processed_at += hours * 60 * 60 * 1_000_000;
        world.facts.sort();
        world.report().ok
    };
    // 10 were there at first, -2 for a moment, and 2 at last.
    assert!(asked(0, true) && asked(24, true) && !asked(-24, true));
    // How many there were at first may have been loaded later.
    assert!(asked(-24, false));
}

#[test]
fn a_catalogue_that_may_have_been_loaded_since_excuses_a_reject() {
    let mut world = World::sound();
    world.reject("online_orders", Some(&order("C", "online", "22423", 1)), "unknown_product");
    world.facts.sort();
    let report = world.report();
    assert!(
        report.ok && report.notes.len() == 1 && report.notes[0].starts_with("1 rejects are for"),
        "{report:?}"
    );
}

#[test]
fn an_output_of_a_record_that_nobody_settled_is_named() {
    let ahead = |world: &mut World| {
        for topic in ["inventory_updates", "dlq"] {
            let mut record = world.topics[topic][0].clone();
            for (name, value) in &mut record.headers {
                if name.ends_with(".offset") {
                    *value = Some(b"9".to_vec());
                }
            }
            world.add(topic, record);
        }
    };
    spoilt(
        ahead,
        &[
            ("inventory_updates", "online_orders-0@9: is not settled, yet inventory_updates-0@7 comes of it"),
            ("dlq", "online_orders-0@9: is not settled, yet dlq-0@3 comes of it"),
        ],
    );
    let mut world = World::sound();
    ahead(&mut world);
    // They were settled after the database was read, and before the outputs were.
    world.ahead = 5;
    assert!(world.report().ok);
}
