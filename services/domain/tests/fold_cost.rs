//! What settling a batch costs must not grow with the square of what its records hold: it happens inside a transaction, and
//! a batch that takes longer than the server's patience with an idle one would be tried again for ever.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use rustc_hash::{FxHashMap, FxHashSet};
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::fold::{Fate, Known, Record, fold};
use stocktide_domain::{Catalogue, Money, Product, ProductKind, Source};
use uuid::Uuid;

const LINES: usize = 10_000;

/// An order of 10,000 lines and 20 returns of as many, over so many products.
fn long_returns(products: usize) -> Vec<String> {
    let event = |id: u128, more: &str, quantity: usize| {
        let line =
            |i: usize| format!(r#"{{"product_id":"product {:05}","quantity":{quantity}}}"#, i % products);
        let lines = (0..LINES).map(line).collect::<Vec<_>>().join(",");
        format!(
            r#"{{"event_id":"{}","order_id":"{id}","order_timestamp":"2025-03-01T10:00:00Z","items":[{lines}]{more}}}"#,
            Uuid::from_u128(id)
        )
    };
    let back = |id| event(id, r#","type":"returned","original_id":"1""#, 1);
    std::iter::once(event(1, "", 20)).chain((2..22).map(back)).collect()
}

/// How long reading and settling take.
fn costs(products: usize) -> (Duration, Duration) {
    let product = Product { price: Money::ZERO, reorder_point: None, kind: ProductKind::Stock };
    let mut catalogue = Catalogue::default();
    catalogue.products.extend((0..products).map(|i| (format!("product {i:05}"), product.clone())));
    catalogue.locations.insert("online".to_owned());
    let rules = Rules {
        currency: "GBP".to_owned(),
        now: "2026-01-01T00:00:00Z".parse().unwrap(),
        limits: Limits::default(),
    };
    let texts = long_returns(products);

    let begun = Instant::now();
    let read = |text: &String| {
        let decoded = decode(Source::OnlineOrders, Some(text.as_bytes()), &rules);
        Record { source: Source::OnlineOrders, partition: 0, decoded }
    };
    let batch: Vec<Record> = texts.iter().map(read).collect();
    let reading = begun.elapsed();

    let (applied, orders, returned) = (FxHashSet::default(), FxHashMap::default(), FxHashMap::default());
    let known = Known {
        catalogue: &catalogue,
        applied: &applied,
        orders: &orders,
        returned: &returned,
        stock: None,
        payments: &FxHashMap::default(),
        payments_may_wait: true,
        timezone: chrono_tz::UTC,
    };
    let begun = Instant::now();
    let settled = fold(&batch, &known);
    let settling = begun.elapsed();
    assert!(settled.fates.iter().all(|fate| *fate == Fate::Applied));
    (reading, settling)
}

#[test]
fn long_returns_of_a_long_order_cost_little_more_to_settle_than_to_read() {
    for products in [1, LINES] {
        let (reading, settling) = costs(products);
        assert!(settling < 10 * reading, "{products} products: read in {reading:?}, settled in {settling:?}");
    }
}
