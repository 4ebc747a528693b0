//! A naive model: one event at a time, plain maps, no batches. What the fold and the database do must equal it.
//! It is written from the design, not from the fold, and shares only the event types with it.

use std::collections::{BTreeMap, BTreeSet};

use stocktide_domain::Money;
use stocktide_domain::event::{Body, Event, Item, OrderStatus, Payment, PaymentStatus, Source};
use uuid::Uuid;

/// Products of the small world: name, price in ten-thousandths, whether they move stock.
pub const PRODUCTS: [(&str, i64, bool); 4] =
    [("apple", 10_000, true), ("bread", 25_500, true), ("cheese", 1, true), ("postage", 39_500, false)];
pub const LOCATIONS: [&str; 2] = ["online", "shop"];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ModelFate {
    Applied,
    Duplicate,
    Rejected(&'static str),
    Parked,
}

/// How a payment stands: its order, status, time and amount, and whether the amount is wrong.
pub type Paid = (String, PaymentStatus, i64, Option<i64>, bool);

/// line_no, product, location, quantity, price in ten-thousandths
type Line = (i32, String, String, i64, i64);

#[derive(Debug, Clone)]
struct Order {
    status: OrderStatus,
    user: Option<String>,
    lines: Vec<Line>,
    value: i64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    pub orders: i64,
    pub units: i64,
    pub gross: i64,
    pub cancelled_orders: i64,
    pub cancelled: i64,
    pub returned: i64,
}

#[derive(Debug, Default)]
pub struct Model {
    policy: bool,
    applied: BTreeSet<Uuid>,
    orders: BTreeMap<(Source, String), Order>,
    /// source, order that it counts against, product, units
    returns: Vec<(Source, String, String, i64)>,
    pub stock: BTreeMap<(String, String), (i64, i64)>,
    /// product, location, delta, quantity after, version: in the order of the events
    pub updates: Vec<(String, String, i64, i64, i64)>,
    pub users: BTreeMap<String, User>,
    /// By payment_id: what decides which event is the newest, and how it stands.
    paid: BTreeMap<String, ((i64, PaymentStatus, Uuid), Paid)>,
    /// Payments that wait, by partition and place in it.
    waiting: BTreeMap<(i32, usize), Event>,
    /// orders, units, gross, cancelled orders, units, value, returns, units, value of all sources
    pub totals: [i64; 9],
}

impl Model {
    pub fn new(policy: bool) -> Model {
        Model { policy, ..Model::default() }
    }

    /// `place` is the record's within all that were sent.
    pub fn take(&mut self, source: Source, partition: i32, place: usize, event: &Event) -> ModelFate {
        if self.applied.contains(&event.event_id) {
            return ModelFate::Duplicate;
        }
        if let Body::Paid(payment) = &event.body {
            let fate = self.pay(event, payment, false);
            if matches!(fate, ModelFate::Applied | ModelFate::Parked) {
                self.applied.insert(event.event_id);
            }
            if fate == ModelFate::Parked {
                self.waiting.insert((partition, place), event.clone());
            }
            return fate;
        }
        match self.step(source, event) {
            Ok(()) => {
                self.applied.insert(event.event_id);
                ModelFate::Applied
            }
            Err(reason) => ModelFate::Rejected(reason),
        }
    }

    /// The timer: how many are joined, and why the others are rejected, in their order.
    pub fn tick(&mut self, time_is_up: bool) -> (usize, Vec<&'static str>) {
        let (mut joined, mut rejected) = (0, Vec::new());
        for (place, event) in std::mem::take(&mut self.waiting) {
            let Body::Paid(payment) = &event.body else { unreachable!() };
            let is_known = self.orders.contains_key(&(Source::OnlineOrders, payment.order_id.clone()));
            match if is_known || time_is_up {
                self.pay(&event, payment, time_is_up)
            } else {
                ModelFate::Parked
            } {
                ModelFate::Applied => joined += 1,
                ModelFate::Rejected(reason) => {
                    self.applied.remove(&event.event_id);
                    rejected.push(reason);
                }
                _ => drop(self.waiting.insert(place, event)),
            }
        }
        (joined, rejected)
    }

    pub fn payments(&self) -> BTreeMap<String, Paid> {
        self.paid.iter().map(|(id, (_, paid))| (id.clone(), paid.clone())).collect()
    }

    fn pay(&mut self, event: &Event, payment: &Payment, time_is_up: bool) -> ModelFate {
        if self.paid.get(&payment.payment_id).is_some_and(|(_, known)| known.0 != payment.order_id) {
            return ModelFate::Rejected("payment_conflict");
        }
        let Some(order) = self.orders.get(&(Source::OnlineOrders, payment.order_id.clone())) else {
            return if time_is_up { ModelFate::Rejected("orphan_payment") } else { ModelFate::Parked };
        };
        let (at, amount) = (event.occurred_at.timestamp_micros(), payment.amount.map(Money::ten_thousandths));
        let mismatch = amount.is_some_and(|amount| amount != order.value);
        let newest = (
            (at, payment.status, event.event_id),
            (payment.order_id.clone(), payment.status, at, amount, mismatch),
        );
        let known = self.paid.entry(payment.payment_id.clone()).or_insert_with(|| newest.clone());
        if newest.0 > known.0 {
            *known = newest;
        }
        ModelFate::Applied
    }

    pub fn headers(&self) -> BTreeMap<(String, String), (String, i64)> {
        let header = |((source, id), order): (&(Source, String), &Order)| {
            ((source.topic().to_owned(), id.clone()), (order.status.as_str().to_owned(), order.value))
        };
        self.orders.iter().map(header).collect()
    }

    fn step(&mut self, source: Source, event: &Event) -> Result<(), &'static str> {
        match &event.body {
            Body::Sold(sale) => {
                check_location(&sale.location_id)?;
                let lines = price(&sale.items, &sale.location_id, &[])?;
                let key = (source, sale.order_id.clone());
                if self.orders.contains_key(&key) {
                    return Err("order_conflict");
                }
                if self.policy && source == Source::OnlineOrders {
                    self.check_cover(&lines)?;
                }
                let (units, value) = sums(&lines);
                let order = Order {
                    status: OrderStatus::Placed,
                    user: sale.user_id.clone(),
                    lines: lines.clone(),
                    value,
                };
                self.orders.insert(key, order);
                self.move_all(&lines, -1);
                self.totals[0] += 1;
                self.totals[1] += units;
                self.totals[2] += value;
                if let Some(user) = self.user(source, sale.user_id.as_ref()) {
                    user.orders += 1;
                    user.units += units;
                    user.gross += value;
                }
            }
            Body::Returned(back) => {
                check_location(&back.location_id)?;
                let original = back.original_id.clone().map(|id| (source, id));
                let sold = match &original {
                    Some(key) => self.orders.get(key).ok_or("unknown_order")?.lines.clone(),
                    None => Vec::new(),
                };
                let lines = price(&back.items, &back.location_id, &sold)?;
                if let Some(key) = &original {
                    for product in lines.iter().map(|l| &l.1) {
                        let wanted: i64 = lines.iter().filter(|l| l.1 == *product).map(|l| l.3).sum();
                        if wanted > self.left(key, product) {
                            return Err("over_return");
                        }
                    }
                }
                let counts_against = back.original_id.clone().unwrap_or_else(|| back.order_id.clone());
                for line in &lines {
                    self.returns.push((source, counts_against.clone(), line.1.clone(), line.3));
                }
                self.move_all(&lines, 1);
                let (units, value) = sums(&lines);
                self.totals[6] += 1;
                self.totals[7] += units;
                self.totals[8] += value;
                if let Some(user) = self.user(source, back.user_id.as_ref()) {
                    user.returned += value;
                }
            }
            Body::Progressed { order_id, status } => {
                let order = self.orders.get_mut(&(source, order_id.clone())).ok_or("unknown_order")?;
                if order.status == OrderStatus::Cancelled {
                    return Err("already_cancelled");
                }
                order.status = order.status.max(*status);
            }
            Body::Cancelled { order_id } => {
                let key = (source, order_id.clone());
                let order = self.orders.get(&key).ok_or("unknown_order")?.clone();
                if order.status == OrderStatus::Cancelled {
                    return Err("already_cancelled");
                }
                let mut lines = Vec::new();
                for (line_no, product, location, quantity, price) in order.lines.clone() {
                    let earlier: i64 =
                        order.lines.iter().filter(|l| l.1 == product && l.0 < line_no).map(|l| l.3).sum();
                    let left = quantity - (self.returned(&key, &product) - earlier).clamp(0, quantity);
                    if left > 0 {
                        lines.push((line_no, product, location, left, price));
                    }
                }
                self.move_all(&lines, 1);
                let (units, value) = sums(&lines);
                self.totals[3] += 1;
                self.totals[4] += units;
                self.totals[5] += value;
                if let Some(user) = self.user(source, order.user.as_ref()) {
                    user.cancelled_orders += 1;
                    user.cancelled += value;
                }
                self.orders.get_mut(&key).unwrap().status = OrderStatus::Cancelled;
            }
            Body::Restocked(restock) => {
                check_location(&restock.location_id)?;
                if restock.supplier_id.as_ref().is_some_and(|s| s != "acme") {
                    return Err("unknown_supplier");
                }
                let items = restock.items.iter();
                if items.clone().any(|i| !PRODUCTS.iter().any(|p| p.0 == i.product_id)) {
                    return Err("unknown_product");
                }
                let line = |i: &stocktide_domain::event::RestockItem| {
                    (0, i.product_id.clone(), restock.location_id.clone(), i.quantity, 0)
                };
                self.move_all(&items.map(line).collect::<Vec<_>>(), 1);
            }
            Body::Paid(_) => unreachable!("payments have a way of their own"),
        }
        Ok(())
    }

    fn returned(&self, key: &(Source, String), product: &str) -> i64 {
        let of = self.returns.iter().filter(|r| r.0 == key.0 && r.1 == key.1 && r.2 == product);
        of.map(|r| r.3).sum()
    }

    fn left(&self, key: &(Source, String), product: &str) -> i64 {
        let order = &self.orders[key];
        if order.status == OrderStatus::Cancelled {
            return 0;
        }
        let sold: i64 = order.lines.iter().filter(|l| l.1 == product).map(|l| l.3).sum();
        (sold - self.returned(key, product)).max(0)
    }

    fn check_cover(&self, lines: &[Line]) -> Result<(), &'static str> {
        for line in lines.iter().filter(|l| moves(&l.1)) {
            let wanted: i64 = lines.iter().filter(|l| l.1 == line.1).map(|l| l.3).sum();
            let there = self.stock.get(&(line.1.clone(), line.2.clone())).map_or(0, |row| row.0);
            if wanted > there {
                return Err("insufficient_stock");
            }
        }
        Ok(())
    }

    /// One event moves each of its stock rows once, by the sum of its lines.
    fn move_all(&mut self, lines: &[Line], sign: i64) {
        let mut rows: Vec<((String, String), i64)> = Vec::new();
        for (_, product, location, quantity, _) in lines.iter().filter(|l| moves(&l.1)) {
            let key = (product.clone(), location.clone());
            match rows.iter_mut().find(|(k, _)| *k == key) {
                Some((_, sum)) => *sum += sign * quantity,
                None => rows.push((key, sign * quantity)),
            }
        }
        for (key, delta) in rows {
            let row = self.stock.entry(key.clone()).or_default();
            *row = (row.0 + delta, row.1 + 1);
            self.updates.push((key.0, key.1, delta, row.0, row.1));
        }
    }

    fn user(&mut self, source: Source, user: Option<&String>) -> Option<&mut User> {
        let user = user.filter(|_| source == Source::OnlineOrders)?;
        Some(self.users.entry(user.clone()).or_default())
    }
}

fn moves(product: &str) -> bool {
    PRODUCTS.iter().any(|p| p.0 == product && p.2)
}

fn check_location(location: &str) -> Result<(), &'static str> {
    if LOCATIONS.contains(&location) { Ok(()) } else { Err("unknown_location") }
}

fn price(items: &[Item], location: &str, sold: &[Line]) -> Result<Vec<Line>, &'static str> {
    let line = |(i, item): (usize, &Item)| {
        let listed = PRODUCTS.iter().find(|p| p.0 == item.product_id).ok_or("unknown_product")?.1;
        let sold_at = sold.iter().find(|l| l.1 == item.product_id).map(|l| l.4);
        let price = item.unit_price.map(Money::ten_thousandths).or(sold_at).unwrap_or(listed);
        Ok((i as i32 + 1, item.product_id.clone(), location.to_owned(), item.quantity, price))
    };
    items.iter().enumerate().map(line).collect()
}

fn sums(lines: &[Line]) -> (i64, i64) {
    (lines.iter().map(|l| l.3).sum(), lines.iter().map(|l| l.3 * l.4).sum())
}
