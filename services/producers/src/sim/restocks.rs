//! Deliveries and corrections of stock.

use chrono::{DateTime, Utc};
use stocktide_domain::{Money, Source};

use super::{Drawn, Simulator};
use crate::record::Record;
use crate::wire::{self, Amount, RestockLine, SupplierRestock, Time};

const LOSSES: [&str; 3] = ["breakage", "write-off", "damaged in transit"];
const FINDS: [&str; 2] = ["stock count", "found"];
/// Corrections that take stock, in millionths.
const LOSSES_PPM: u32 = 700_000;

impl Simulator {
    /// A supplier delivers.
    pub(super) fn delivery(&mut self, at: DateTime<Utc>, location: usize, lines: &[Drawn]) -> Record {
        let supplier = self.dice.below(self.catalogue.suppliers.len() as u64) as usize;
        self.restock_event(at, location, lines, "received", Some(supplier), None)
    }

    /// A few units of a product are gone, or there after all.
    pub(super) fn adjustment(&mut self, at: DateTime<Utc>) -> Record {
        let location = self.dice.below(self.catalogue.locations().count() as u64) as usize;
        let loss = self.dice.chance(LOSSES_PPM);
        let note = self.dice.pick(if loss { &LOSSES[..] } else { &FINDS[..] }).copied();
        let units = self.dice.between(1, 3);
        let line = Drawn { quantity: if loss { -units } else { units }, ..self.draw_line() };
        self.shelves.change(location, line.product, line.quantity);
        self.restock_event(at, location, &[line], "adjustment", None, note)
    }

    fn restock_event(
        &mut self,
        at: DateTime<Utc>,
        location: usize,
        lines: &[Drawn],
        kind: &'static str,
        supplier: Option<usize>,
        note: Option<&str>,
    ) -> Record {
        let event_id = self.event_id(at);
        let restock_id = self.business_id("r");
        let line = |line: &Drawn| {
            let product = self.catalogue.products.get(line.product)?;
            let unit_cost = supplier.map(|_| Amount(bought_at(product.price)));
            Some(RestockLine { product_id: &product.product_id, quantity: line.quantity, unit_cost })
        };
        let value = wire::bytes(&SupplierRestock {
            event_id,
            kind,
            restock_id: &restock_id,
            supplier_id: supplier.and_then(|at| self.catalogue.suppliers.get(at)).map(String::as_str),
            location_id: self.catalogue.locations().nth(location).unwrap_or_default(),
            received_at: Time(at),
            items: &lines.iter().filter_map(line).collect::<Vec<_>>(),
            note,
        });
        Record {
            topic: Source::SupplierRestocks.topic(),
            key: restock_id,
            value: Some(value),
            occurred_at: at,
        }
    }
}

/// Six tenths of the price, in whole pence.
fn bought_at(price: Money) -> Money {
    Money::from_ten_thousandths(price.ten_thousandths() * 6 / 1_000 * 100)
}
