//! The stock policy `reject`: an online order that stock cannot cover is refused; what happened in a store happened.

use crate::support::World;
use crate::support::fates::Fate::{Applied, Rejected};
use crate::support::fates::{Fate, Fates};
use crate::support::records::{Coordinates, Record, of, order, restock, sale, with, without};
use serde_json::{Value, json};

const ORDERS: &str = "online_orders";
const POLICY: (&str, &str) = ("STOCKTIDE_PROCESSOR_STOCK_POLICY", "reject");
const SHORT: Fate = Rejected("insufficient_stock");

fn named(event: Value, order_id: &str) -> Value {
    with(event, "order_id", order_id)
}

async fn send(world: &World, topic: &'static str, key: &str, events: &[Value]) -> Vec<(Record, Coordinates)> {
    world.send_events(topic, key, events).await
}

fn check(fates: &Fates, sent: &[(Record, Coordinates)], expected: &[Fate]) {
    assert_eq!(sent.len(), expected.len());
    for (record, fate) in sent.iter().zip(expected) {
        fates.check(record, *fate);
    }
}

/// Orders of several products, one after the other in one partition each, mostly in one batch; and what becomes of them with
/// 100 apples and 50 loaves on the shelf.
async fn send_more_than_there_is(world: &World) -> Vec<(Vec<(Record, Coordinates)>, Vec<Fate>)> {
    let cancelled = with(without(named(order(), "a"), "items"), "type", "cancelled");
    let apples = [
        named(of(order(), "apple", 60), "a"),
        of(order(), "apple", 50),
        of(order(), "apple", 40),
        of(order(), "apple", 1),
        cancelled,
        of(order(), "apple", 61),
        of(order(), "apple", 50),
    ];
    let apples = send(world, ORDERS, "apples", &apples).await;
    // An order's lines on one product count together.
    let lines = |a: i64, b: i64| {
        with(
            order(),
            "items",
            json!([{"product_id": "bread", "quantity": a}, {"product_id": "apple", "quantity": 1},
            {"product_id": "bread", "quantity": b}]),
        )
    };
    let bread = send(world, ORDERS, "bread", &[lines(30, 21), of(order(), "bread", 50)]).await;
    // Services have no stock, and so no end.
    let postage = send(world, ORDERS, "postage", &[of(order(), "postage", 1_000)]).await;
    let nothing_there =
        send(world, ORDERS, "shop", &[with(of(order(), "bread", 1), "location_id", "shop")]).await;
    let in_store = send(world, "store_sales", "till", &[of(sale(), "apple", 3)]).await;
    vec![
        (apples, vec![Applied, SHORT, Applied, SHORT, Applied, SHORT, Applied]),
        (bread, vec![SHORT, Applied]),
        (postage, vec![Applied]),
        (nothing_there, vec![SHORT]),
        (in_store, vec![Applied]),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_online_order_beyond_stock_is_rejected_as_insufficient_stock_and_a_store_sale_goes_below_zero() {
    let world = World::start(&[POLICY]).await;
    world.stock_shelves().await;
    let sent = send_more_than_there_is(&world).await;
    world.process().await;

    let fates = Fates::read(&world).await;
    sent.iter().for_each(|(sent, expected)| check(&fates, sent, expected));
    let [apples, bread, .., in_store] = &sent[..] else { panic!("five sorts were sent") };
    let detail = &fates.logged[&apples.0[1].1][0].detail;
    assert_eq!(detail.as_deref(), Some("apple at online: 50 wanted, 40 there"));
    let stock = world.stock().await;
    assert_eq!((stock["apple@online"].0, stock["bread@online"].0, stock["apple@shop"]), (10, 0, (-3, 1)));
    let status = |at: &Coordinates| fates.updates_of(at)[0]["stock_status"].clone();
    assert_eq!((status(&bread.0[1].1), status(&in_store.0[0].1)), (json!("out"), json!("oversold")));

    make_room_and_take_it(&world).await;
    world.verify().await;
}

/// A delivery makes room, in the next batch; a store sale from the same stock takes it away again.
async fn make_room_and_take_it(world: &World) {
    let delivered = send(world, "supplier_restocks", "r", &[of(restock(), "bread", 5)]).await;
    world.process().await;
    let bought = send(world, ORDERS, "bread", &[of(order(), "bread", 4)]).await;
    world.process().await;
    let taken =
        send(world, "store_sales", "till", &[with(of(sale(), "bread", 9), "store_id", "online")]).await;
    world.process().await;
    let short = send(world, ORDERS, "bread", &[of(order(), "bread", 1)]).await;
    world.process().await;
    let fates = Fates::read(world).await;
    for (sent, fate) in [(delivered, Applied), (bought, Applied), (taken, Applied), (short, SHORT)] {
        check(&fates, &sent, &[fate]);
    }
    assert_eq!(world.stock().await["bread@online"].0, -8);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processors_side_by_side_never_oversell_the_last_units_online() {
    // Small batches, so that the two get in each other's way as often as possible.
    let world = World::start(&[POLICY, ("STOCKTIDE_PROCESSOR_BATCH_MAX_RECORDS", "5")]).await;
    world.stock_shelves().await;
    let processors = [world.start_processor(), world.start_processor()];
    for processor in &processors {
        processor.owns(8).await;
    }
    // Each order wants both products, in turn this one and that one first; bread runs out first.
    let want = |i: usize| {
        let (first, second) = if i.is_multiple_of(2) { ("apple", "bread") } else { ("bread", "apple") };
        with(
            order(),
            "items",
            json!([{"product_id": first, "quantity": 1}, {"product_id": second, "quantity": 1}]),
        )
    };
    let records = (0..400).map(|i| Record::event(ORDERS, &want(i)).key(format!("{i}"))).collect();
    let sent = world.sender().send("", records).await;
    world.until_settled(400).await;
    for processor in processors {
        assert!(processor.end().await.consumed > 0, "both had a part in it");
    }

    let fates = Fates::read(&world).await;
    let (applied, rejected): (Vec<_>, Vec<_>) =
        sent.iter().partition(|(_, at)| fates.logged[at][0].status == "applied");
    assert_eq!((applied.len(), rejected.len()), (50, 350), "as many as there were loaves");
    rejected.into_iter().for_each(|record| fates.check(record, SHORT));
    assert_eq!(world.number("SELECT count(*) FROM orders WHERE quantity_after < 0").await, 0);
    assert_eq!(
        (world.stock().await["apple@online"], world.stock().await["bread@online"]),
        ((50, 50), (0, 50))
    );
    world.verify().await;
}
