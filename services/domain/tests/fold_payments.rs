//! What payments settle to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use rustc_hash::{FxHashMap, FxHashSet};
use stocktide_domain::event::{Item, OrderStatus, Payment, PaymentStatus, Sale};
use stocktide_domain::fold::payments::newest;
use stocktide_domain::fold::{Fate, Known, KnownOrder, Record, fold};
use stocktide_domain::{Body, Catalogue, Event, Money, Product, ProductKind, Source};
use uuid::Uuid;

fn noon() -> DateTime<Utc> {
    "2026-03-01T12:00:00Z".parse().unwrap()
}

fn money(units: i64) -> Money {
    Money::from_ten_thousandths(units * 10_000)
}

/// An order of one thing for 5.
fn order(id: u128, order_id: &str) -> Record {
    let items = vec![Item { product_id: "mug".to_owned(), quantity: 1, unit_price: Some(money(5)) }];
    let sale = Sale {
        order_id: order_id.to_owned(),
        user_id: None,
        location_id: "online".to_owned(),
        payment_method: None,
        shipping_address: None,
        stated_value: None,
        items,
    };
    let event = Event { event_id: Uuid::from_u128(id), occurred_at: noon(), body: Body::Sold(sale) };
    Record { source: Source::OnlineOrders, partition: 0, decoded: Ok(event) }
}

fn payment(id: u128, payment_id: &str, order_id: &str, amount: Option<i64>) -> Record {
    let payment = Payment {
        payment_id: payment_id.to_owned(),
        order_id: order_id.to_owned(),
        payment_method: None,
        card_last_four: None,
        status: PaymentStatus::Captured,
        amount: amount.map(money),
    };
    let event = Event { event_id: Uuid::from_u128(id), occurred_at: noon(), body: Body::Paid(payment) };
    Record { source: Source::Payments, partition: 0, decoded: Ok(event) }
}

/// What is known beforehand: orders with their values, payments with their orders, and whether payments may wait.
#[derive(Default)]
struct World {
    orders: Vec<(&'static str, i64)>,
    payments: Vec<(&'static str, &'static str)>,
    applied: Vec<u128>,
    at_once: bool,
}

/// Fates by name, the applied payments as (payment_id, mismatch), and how many mismatches were counted.
fn settle(batch: &[Record], world: &World) -> (Vec<String>, Vec<(String, bool)>, u64) {
    let mut catalogue = Catalogue::default();
    let mug = Product { price: money(5), reorder_point: None, kind: ProductKind::Stock };
    catalogue.products.insert("mug".to_owned(), mug);
    catalogue.locations.insert("online".to_owned());
    let known = |(id, value): &(&str, i64)| {
        let order = KnownOrder {
            status: OrderStatus::Placed,
            user_id: None,
            value: money(*value),
            lines: Vec::new(),
        };
        ((Source::OnlineOrders, (*id).to_owned()), order)
    };
    let orders: FxHashMap<_, _> = world.orders.iter().map(known).collect();
    let payments: FxHashMap<String, String> =
        world.payments.iter().map(|(id, order)| ((*id).to_owned(), (*order).to_owned())).collect();
    let applied: FxHashSet<Uuid> = world.applied.iter().map(|id| Uuid::from_u128(*id)).collect();
    let known = Known {
        catalogue: &catalogue,
        applied: &applied,
        orders: &orders,
        returned: &FxHashMap::default(),
        stock: None,
        payments: &payments,
        payments_may_wait: !world.at_once,
        timezone: chrono_tz::UTC,
    };
    let settled = fold(batch, &known);
    let name = |fate: &Fate| match fate {
        Fate::Applied => "applied".to_owned(),
        Fate::Duplicate => "duplicate".to_owned(),
        Fate::Parked => "parked".to_owned(),
        Fate::Rejected(reject) => reject.reason.code().to_owned(),
    };
    let rows = settled.payments.iter().map(|row| (row.payment.payment_id.clone(), row.amount_mismatch));
    (settled.fates.iter().map(name).collect(), rows.collect(), settled.amount_mismatches)
}

fn fates(batch: &[Record], world: &World) -> Vec<String> {
    settle(batch, world).0
}

#[test]
fn a_payment_joins_an_order_that_is_known_or_placed_anywhere_in_its_batch() {
    let known = World { orders: vec![("A", 5)], ..World::default() };
    assert_eq!(fates(&[payment(1, "p", "A", None)], &known), ["applied"]);
    let before = [payment(1, "p", "A", None), order(2, "A")];
    assert_eq!(fates(&before, &World::default()), ["applied", "applied"]);
    let after = [order(2, "A"), payment(1, "p", "A", None)];
    assert_eq!(fates(&after, &World::default()), ["applied", "applied"]);
    // An order that is refused is no order.
    let refused = [payment(1, "p", "A", None), order(2, "A")];
    let mut world = World { applied: vec![2], ..World::default() };
    assert_eq!(fates(&refused, &world), ["parked", "duplicate"]);
    world.at_once = true;
    assert_eq!(fates(&refused, &world), ["orphan_payment", "duplicate"]);
}

#[test]
fn a_payment_without_its_order_waits_or_is_refused_at_once() {
    let batch = [payment(1, "p", "A", None)];
    assert_eq!(fates(&batch, &World::default()), ["parked"]);
    assert_eq!(fates(&batch, &World { at_once: true, ..World::default() }), ["orphan_payment"]);
}

#[test]
fn a_second_record_of_an_event_that_waits_is_a_duplicate() {
    let batch = [payment(1, "p", "A", None), payment(1, "p", "A", None)];
    assert_eq!(fates(&batch, &World::default()), ["parked", "duplicate"]);
    assert_eq!(fates(&batch[..1], &World { applied: vec![1], ..World::default() }), ["duplicate"]);
    // Refused at once it leaves no trace, so the second one is judged anew.
    let world = World { at_once: true, ..World::default() };
    assert_eq!(fates(&batch, &world), ["orphan_payment", "orphan_payment"]);
}

#[test]
fn a_payment_belongs_to_one_order() {
    let world = World { orders: vec![("A", 5), ("B", 5)], payments: vec![("p", "A")], ..World::default() };
    let batch = [payment(1, "p", "B", None), payment(2, "p", "A", None), payment(3, "p", "C", None)];
    assert_eq!(fates(&batch, &world), ["payment_conflict", "applied", "payment_conflict"]);
    let batch = [payment(1, "q", "B", None), payment(2, "q", "A", None)];
    assert_eq!(fates(&batch, &world), ["applied", "payment_conflict"]);
}

#[test]
fn an_amount_that_is_not_the_orders_value_is_flagged_and_counted() {
    let world = World { orders: vec![("A", 7)], ..World::default() };
    let batch = [
        payment(1, "p", "A", Some(7)),
        payment(2, "q", "A", Some(6)),
        payment(3, "r", "A", None),
        payment(4, "s", "B", Some(4)),
        order(5, "B"),
    ];
    let (fates, rows, mismatches) = settle(&batch, &world);
    assert_eq!(fates, ["applied"; 5]);
    let flagged: Vec<(&str, bool)> = rows.iter().map(|(id, flag)| (id.as_str(), *flag)).collect();
    assert_eq!(flagged, [("p", false), ("q", true), ("r", false), ("s", true)]);
    assert_eq!(mismatches, 2);
}

proptest! {
    #[test]
    fn the_newest_event_of_each_payment_holds_whatever_the_order_of_arrival(
        events in prop::collection::vec((0..4_u8, 0..3_i64, 0..5_usize, any::<u128>()), 1..40),
        turn in any::<prop::sample::Index>(),
    ) {
        let event = |(payment, seconds, status, id): &(u8, i64, usize, u128)| {
            let at = noon() + TimeDelta::seconds(*seconds);
            (["a", "b", "c", "d"][usize::from(*payment)], (at, PaymentStatus::ALL[*status], Uuid::from_u128(*id)))
        };
        let events: Vec<_> = events.iter().map(event).collect();
        let mut turned = events.clone();
        turned.rotate_left(turn.index(events.len()));
        let held = |events: &[(&'static str, _)]| -> Vec<_> {
            newest(events.iter().copied()).into_iter().map(|at| events[at]).collect()
        };
        let held_now = held(&events);
        prop_assert_eq!(&held_now, &held(&turned));
        prop_assert!(held_now.is_sorted_by(|a, b| a.0 < b.0));
        for (payment, newness) in &events {
            prop_assert!(held_now.iter().any(|(held, newest)| held == payment && newest >= newness));
        }
    }

    #[test]
    fn no_order_of_a_batch_changes_which_payments_wait(
        orders in prop::collection::btree_set(0..6_u8, 0..6), payments in prop::collection::vec(0..6_u8, 0..12),
        turn in any::<prop::sample::Index>(),
    ) {
        let mut batch: Vec<Record> = orders.iter().map(|n| order(1_000 + u128::from(*n), &n.to_string())).collect();
        for (at, order) in payments.iter().enumerate() {
            batch.push(payment(at as u128, &format!("p{at}"), &order.to_string(), None));
        }
        let expected = |record: &Record| match &record.decoded.as_ref().unwrap().body {
            Body::Paid(payment) if !orders.contains(&payment.order_id.parse().unwrap()) => "parked",
            _ => "applied",
        };
        if !batch.is_empty() {
            let turn = turn.index(batch.len());
            batch.rotate_left(turn);
        }
        let expected: Vec<&str> = batch.iter().map(expected).collect();
        prop_assert_eq!(fates(&batch, &World::default()), expected);
    }
}
