//! Online orders, what is heard of them later, and sales in stores.

use chrono::{DateTime, Utc};
use stocktide_domain::{Money, Source};

use super::catalogue::SimCatalogue;
use super::{Drawn, Simulator};
use crate::record::Record;
use crate::wire::{self, Amount, OnlineOrder, SaleLine, StoreSale, Time};

/// Guests among the customers of online orders, in millionths.
const GUESTS_PPM: u32 = 100_000;
/// Orders that more will be heard of at a time. Of an order that finds no room nothing more is heard, so that the others
/// go all their way however few follow-ups are asked for.
const OPEN_ORDERS: usize = 1_000;
/// Of 100 orders that were placed, so many are cancelled before they are shipped.
const CANCELLED_PERCENT: u64 = 12;
/// Of 100 orders that were delivered, something of so many comes back.
const RETURNED_PERCENT: u64 = 25;

const ONLINE_METHODS: [&str; 4] = ["card", "paypal", "bank_transfer", "gift_card"];
const STORE_METHODS: [&str; 3] = ["card", "cash", "gift_card"];
const STREETS: [&str; 6] =
    ["High Street", "Station Road", "Church Lane", "Mill Road", "Park Avenue", "Bridge Street"];
const TOWNS: [&str; 6] = ["Leeds", "Bristol", "Norwich", "York", "Cardiff", "Perth"];

/// An order on its way.
#[derive(Debug, Clone)]
pub(super) struct Order {
    order_id: String,
    user_id: Option<String>,
    pub location: usize,
    lines: Vec<Drawn>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Placed,
    Shipped,
    Delivered,
}

/// The orders on their way.
#[derive(Debug, Default)]
pub(super) struct OpenOrders(Vec<Order>);

impl OpenOrders {
    pub fn add(&mut self, order: Order, lines: Vec<Drawn>) {
        if self.0.len() < OPEN_ORDERS {
            self.0.push(Order { lines, ..order });
        }
    }
}

impl Simulator {
    /// An order is placed.
    pub(super) fn order(&mut self, at: DateTime<Utc>, lines: &[Drawn]) -> (Record, Order) {
        let event_id = self.event_id(at);
        let order_id = self.business_id("o");
        let guest = self.dice.chance(GUESTS_PPM);
        let user_id = (!guest).then(|| format!("u{}", self.dice.below(self.options.users.max(1)) + 1));
        let location = self.dice.below(self.catalogue.online.len() as u64) as usize;
        let method = self.dice.pick(&ONLINE_METHODS).copied();
        let (street, town) = (self.dice.pick(&STREETS).copied(), self.dice.pick(&TOWNS).copied());
        let number = self.dice.between(1, 199);
        let address = format!("{number} {}, {}", street.unwrap_or_default(), town.unwrap_or_default());
        let items = sale_lines(&self.catalogue, lines);
        let value = wire::bytes(&OnlineOrder {
            event_id,
            kind: "placed",
            order_id: &order_id,
            original_id: None,
            user_id: user_id.as_deref(),
            order_timestamp: Time(at),
            items: &items,
            order_value: value_of(&items),
            currency: Some(&self.options.currency),
            payment_method: method,
            shipping_address: Some(&address),
            location_id: self.catalogue.online.get(location).map(String::as_str),
        });
        let record = Record {
            topic: Source::OnlineOrders.topic(),
            key: order_id.clone(),
            value: Some(value),
            occurred_at: at,
        };
        (record, Order { order_id, user_id, location, lines: Vec::new(), stage: Stage::Placed })
    }

    /// More is heard of an order that is on its way; none where there is none.
    pub(super) fn follow_up(&mut self, at: DateTime<Utc>) -> Option<Record> {
        loop {
            let open = self.open_orders.0.len() as u64;
            let chosen = self.dice.below(open) as usize;
            let stage = self.open_orders.0.get(chosen)?.stage;
            let percent = self.dice.below(100);
            return match stage {
                Stage::Placed if percent < CANCELLED_PERCENT => {
                    let order = self.open_orders.0.swap_remove(chosen);
                    for line in &order.lines {
                        self.shelves.change(order.location, line.product, line.quantity);
                    }
                    Some(self.order_event(at, "cancelled", &order, &[]))
                }
                Stage::Placed => self.advance(at, chosen, "shipped", Stage::Shipped),
                Stage::Shipped => self.advance(at, chosen, "delivered", Stage::Delivered),
                Stage::Delivered => {
                    let order = self.open_orders.0.swap_remove(chosen);
                    if percent >= RETURNED_PERCENT {
                        // Nothing more is heard of it.
                        continue;
                    }
                    Some(self.order_return(at, &order))
                }
            };
        }
    }

    fn advance(
        &mut self,
        at: DateTime<Utc>,
        chosen: usize,
        kind: &'static str,
        stage: Stage,
    ) -> Option<Record> {
        let order = self.open_orders.0.get_mut(chosen)?;
        order.stage = stage;
        let order = order.clone();
        Some(self.order_event(at, kind, &order, &[]))
    }

    /// Some units of one line come back.
    fn order_return(&mut self, at: DateTime<Utc>, order: &Order) -> Record {
        let line = self.dice.pick(&order.lines).copied().unwrap_or(Drawn { product: 0, quantity: 1 });
        let back = Drawn { quantity: self.dice.between(1, line.quantity), ..line };
        self.shelves.change(order.location, back.product, back.quantity);
        self.order_event(at, "returned", order, &[back])
    }

    fn order_event(
        &mut self,
        at: DateTime<Utc>,
        kind: &'static str,
        order: &Order,
        lines: &[Drawn],
    ) -> Record {
        let event_id = self.event_id(at);
        let returned = !lines.is_empty();
        let value = wire::bytes(&OnlineOrder {
            event_id,
            kind,
            order_id: &order.order_id,
            original_id: returned.then_some(order.order_id.as_str()),
            user_id: order.user_id.as_deref().filter(|_| returned),
            order_timestamp: Time(at),
            items: &sale_lines(&self.catalogue, lines),
            order_value: None,
            currency: None,
            payment_method: None,
            shipping_address: None,
            location_id: self.catalogue.online.get(order.location).map(String::as_str).filter(|_| returned),
        });
        // The order's own key, so that what follows it stays behind it in its partition.
        let key = order.order_id.clone();
        Record { topic: Source::OnlineOrders.topic(), key, value: Some(value), occurred_at: at }
    }

    /// A store sells something, or takes something back; with the index of its location.
    pub(super) fn sale(&mut self, at: DateTime<Utc>, kind: &'static str, lines: &[Drawn]) -> (Record, usize) {
        let event_id = self.event_id(at);
        let sale_id = self.business_id("s");
        let store = self.dice.below(self.catalogue.stores.len() as u64) as usize;
        let method = self.dice.pick(&STORE_METHODS).copied();
        let items = sale_lines(&self.catalogue, lines);
        let value = wire::bytes(&StoreSale {
            event_id,
            kind,
            sale_id: &sale_id,
            store_id: self.catalogue.stores.get(store).map_or("", String::as_str),
            sold_at: Time(at),
            items: &items,
            total: value_of(&items),
            currency: Some(&self.options.currency),
            payment_method: method,
        });
        let record =
            Record { topic: Source::StoreSales.topic(), key: sale_id, value: Some(value), occurred_at: at };
        (record, self.catalogue.online.len() + store)
    }
}

/// At the catalogue's prices.
fn sale_lines<'c>(catalogue: &'c SimCatalogue, lines: &[Drawn]) -> Vec<SaleLine<'c>> {
    let line = |line: &Drawn| {
        let product = catalogue.products.get(line.product)?;
        let price_per_unit = Amount(product.price);
        Some(SaleLine { product_id: &product.product_id, quantity: line.quantity, price_per_unit })
    };
    lines.iter().filter_map(line).collect()
}

fn value_of(lines: &[SaleLine<'_>]) -> Option<Amount> {
    let sum =
        lines.iter().try_fold(Money::ZERO, |sum, line| sum.plus(line.price_per_unit.0.times(line.quantity)?));
    sum.map(Amount)
}
