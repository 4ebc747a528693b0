//! Settles a batch of records: which fate each one meets, and what the applied ones change.
//!
//! The fold sees the batch in its order and what the database [`Known`]s of it; it neither reads nor writes anything
//! itself. Every record is settled alone: a rejected one leaves no trace in what follows. Payments are settled after all the
//! others. Stock figures are deltas here;
//! [`Settled::running`] turns the finals that the database returns into the figure after each single change.

pub mod payments;
mod settled;

use std::cell::OnceCell;

use chrono::{Datelike, NaiveDate};
use chrono_tz::Tz;
use rustc_hash::{FxHashMap, FxHashSet};
use uuid::Uuid;

use crate::event::{Body, Event, Item, OrderStatus, Restock, RestockKind, Return, Sale, Source};
use crate::{Catalogue, Money, ProductKind, Reason, Reject};

pub use settled::{
    After, Change, Fate, Header, LineKind, MonthDelta, OrderLine, PaymentRow, RestockLine, Settled,
    StockDelta, UserDelta,
};

/// A decoded record of the batch.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its topic.
    pub source: Source,
    /// Its partition: rollups that every event touches are kept per partition.
    pub partition: i32,
    /// What decoding said.
    pub decoded: Result<Event, Reject>,
}

/// An order as others refer to it: ids are unique within their topic.
pub type OrderKey = (Source, String);

/// What the database knows that concerns the batch.
#[derive(Debug)]
pub struct Known<'a> {
    /// The catalogue.
    pub catalogue: &'a Catalogue,
    /// Those of the batch's event_ids that have been applied before.
    pub applied: &'a FxHashSet<Uuid>,
    /// The orders that the batch [refers to](references), as far as they exist; lines only where something may come back.
    pub orders: &'a FxHashMap<OrderKey, KnownOrder>,
    /// What came back so far of the orders that something may come back from, be they known yet or not.
    pub returned: &'a FxHashMap<OrderKey, Returned>,
    /// Units on hand of the rows that online orders of the batch would take from; only under the policy that rejects
    /// what stock cannot cover. A row that is missing here has nothing.
    pub stock: Option<&'a FxHashMap<(String, String), i64>>,
    /// Those of the batch's payment_ids that are known, with their orders.
    pub payments: &'a FxHashMap<String, String>,
    /// Whether a payment waits for an order that is not known yet; else it is rejected at once.
    pub payments_may_wait: bool,
    /// Business months follow it.
    pub timezone: Tz,
}

/// An order in the database.
#[derive(Debug, Clone)]
pub struct KnownOrder {
    /// How far it is.
    pub status: OrderStatus,
    /// Whose it is.
    pub user_id: Option<String>,
    /// Σ quantity × price.
    pub value: Money,
    /// Its sale lines.
    pub lines: Vec<KnownLine>,
}

/// Units that came back, by product.
pub type Returned = FxHashMap<String, i64>;

/// A sale line in the database.
#[derive(Debug, Clone)]
pub struct KnownLine {
    /// Ordinal within the order, from 1.
    pub line_no: i32,
    /// The product.
    pub product_id: String,
    /// Where it was taken from.
    pub location_id: String,
    /// Units sold.
    pub quantity: i64,
    /// Price per unit.
    pub unit_price: Money,
    /// Whether it took stock (services do not).
    pub moved_stock: bool,
}

/// The orders that a record needs to know of beyond its own: what it ships, cancels, brings back or pays. The flag says
/// whether their lines matter, too.
pub fn references(record: &Record) -> Option<((Source, &str), bool)> {
    match &record.decoded.as_ref().ok()?.body {
        Body::Progressed { order_id, .. } => Some(((record.source, order_id), false)),
        Body::Cancelled { order_id } => Some(((record.source, order_id), true)),
        Body::Returned(r) => r.original_id.as_deref().map(|id| ((record.source, id), true)),
        Body::Paid(payment) => Some(((Source::OnlineOrders, &payment.order_id), false)),
        Body::Sold(_) | Body::Restocked(_) => None,
    }
}

/// Settles a batch.
pub fn fold<'a>(batch: &'a [Record], known: &'a Known<'a>) -> Settled<'a> {
    let mut folding = Folding::new(batch, known);
    folding.settle(batch.len());
    folding.settle_payments();
    folding.finish()
}

/// A batch that is settled some records at a time, so that the fates of the first can be on their way to the database while the next
/// are settled.
pub struct Folding<'a> {
    batch: &'a [Record],
    fold: Fold<'a>,
}

impl<'a> Folding<'a> {
    /// Nothing is settled yet.
    pub fn new(batch: &'a [Record], known: &'a Known<'a>) -> Folding<'a> {
        Folding { batch, fold: Fold::new(batch, known) }
    }

    /// Settles so many records more, and answers their fates. Those of payments are [`Fate::Parked`] for now, whatever becomes of them.
    pub fn settle(&mut self, records: usize) -> &[Fate] {
        let from = self.fold.out.fates.len();
        for (at, record) in self.batch.iter().enumerate().skip(from).take(records) {
            let fate = match record.source {
                // Holds its place until its turn comes.
                Source::Payments => Fate::Parked,
                _ => self.fold.settle(at as u32, record),
            };
            self.fold.out.fates.push(fate);
        }
        &self.fold.out.fates[from..]
    }

    /// Settles the payments, once all the others are settled, and answers the fates of all records.
    pub fn settle_payments(&mut self) -> &[Fate] {
        debug_assert_eq!(self.fold.out.fates.len(), self.batch.len());
        let payments = self.batch.iter().enumerate().filter(|(_, record)| record.source == Source::Payments);
        for (at, record) in payments {
            self.fold.out.fates[at] = self.fold.settle(at as u32, record);
        }
        &self.fold.out.fates
    }

    /// What all the records come to, payments too.
    pub fn finish(self) -> Settled<'a> {
        self.fold.finish()
    }
}

/// An order while the batch is being folded.
struct OrderState<'a> {
    status: OrderStatus,
    user_id: Option<&'a str>,
    value: Money,
    lines: Vec<SoldLine<'a>>,
    /// The lines by product, made when something comes back: both may have ten thousand lines.
    sold: OnceCell<FxHashMap<&'a str, Sold>>,
    /// Index into the new headers, where the batch itself placed it.
    header: Option<usize>,
}

/// What an order sold of a product.
#[derive(Clone, Copy)]
struct Sold {
    quantity: i64,
    /// Its first line's.
    unit_price: Money,
}

#[derive(Clone, Copy)]
struct SoldLine<'a> {
    line_no: i32,
    product_id: &'a str,
    location_id: &'a str,
    quantity: i64,
    unit_price: Money,
    moved_stock: bool,
}

struct Fold<'a> {
    known: &'a Known<'a>,
    /// Orders that some record of the batch refers to.
    orders: FxHashMap<(Source, &'a str), OrderState<'a>>,
    referenced: FxHashSet<(Source, &'a str)>,
    /// Units that came back of the orders that are referred to, by order and product.
    returned: FxHashMap<((Source, &'a str), &'a str), i64>,
    placed: FxHashSet<(Source, &'a str)>,
    applied: FxHashSet<Uuid>,
    /// The payments that the batch applied, with their orders.
    paid: FxHashMap<&'a str, &'a str>,
    changed_statuses: FxHashMap<(Source, &'a str), OrderStatus>,
    rows: FxHashMap<(&'a str, &'a str), u32>,
    /// Per stock row, its newest change.
    newest: Vec<u32>,
    months: FxHashMap<(NaiveDate, Source, i32), MonthDelta>,
    users: FxHashMap<&'a str, UserDelta>,
    out: Settled<'a>,
}

/// What the mutating half of a step needs to know of its record.
#[derive(Clone, Copy)]
struct At<'a> {
    record: u32,
    source: Source,
    partition: i32,
    event: &'a Event,
}

impl<'a> Fold<'a> {
    fn new(batch: &'a [Record], known: &'a Known<'a>) -> Fold<'a> {
        let orders =
            known.orders.iter().map(|((source, id), order)| ((*source, id.as_str()), OrderState::of(order)));
        let returned = known.returned.iter().flat_map(|((source, id), products)| {
            products.iter().map(move |(product, units)| (((*source, id.as_str()), product.as_str()), *units))
        });
        Fold {
            known,
            orders: orders.collect(),
            returned: returned.collect(),
            referenced: batch.iter().filter_map(references).map(|(key, _)| key).collect(),
            placed: FxHashSet::default(),
            applied: FxHashSet::default(),
            paid: FxHashMap::default(),
            changed_statuses: FxHashMap::default(),
            rows: FxHashMap::default(),
            newest: Vec::new(),
            months: FxHashMap::default(),
            users: FxHashMap::default(),
            out: Settled { fates: Vec::with_capacity(batch.len()), ..Settled::default() },
        }
    }

    fn settle(&mut self, at: u32, record: &'a Record) -> Fate {
        let event = match &record.decoded {
            Ok(event) => event,
            Err(reject) => return Fate::Rejected(reject.clone()),
        };
        if self.known.applied.contains(&event.event_id) || self.applied.contains(&event.event_id) {
            return Fate::Duplicate;
        }
        let at = At { record: at, source: record.source, partition: record.partition, event };
        let step = match &event.body {
            Body::Sold(sale) => self.sell(at, sale),
            Body::Returned(back) => self.take_back(at, back),
            Body::Progressed { order_id, status } => self.progress(at, order_id, *status),
            Body::Cancelled { order_id } => self.cancel(at, order_id),
            Body::Restocked(restock) => self.restock(at, restock),
            Body::Paid(payment) => return self.pay(at, payment),
        };
        match step {
            Ok(()) => {
                self.applied.insert(event.event_id);
                Fate::Applied
            }
            Err((reason, detail)) => Fate::Rejected(Reject::new(reason, detail, Some(event.event_id))),
        }
    }

    fn sell(&mut self, at: At<'a>, sale: &'a Sale) -> Step {
        self.check_location(&sale.location_id)?;
        let lines = self.priced(&sale.items, &sale.location_id, None)?;
        let value = total(&lines)?;
        let key = (at.source, sale.order_id.as_str());
        if self.placed.contains(&key) || self.orders.contains_key(&key) {
            return refuse(
                Reason::OrderConflict,
                format!("order {} was placed under another event_id", sale.order_id),
            );
        }
        self.check_cover(at.source, &lines)?;

        // From here on nothing fails.
        let units = units(&lines);
        let value_mismatch = sale.stated_value.is_some_and(|stated| stated != value);
        self.out.value_mismatches += u64::from(value_mismatch);
        self.placed.insert(key);
        if self.referenced.contains(&key) {
            let header = Some(self.out.headers.len());
            self.orders.insert(key, OrderState::placed(sale, value, lines.clone(), header));
        }
        self.out.headers.push(Header {
            record: at.record,
            source: at.source,
            sale,
            order_value: value,
            value_mismatch,
            status: OrderStatus::Placed,
        });
        let owner = Owner { order: &sale.order_id, user: sale.user_id.as_deref(), original: None };
        self.write_lines(at, owner, LineKind::Sale, &lines);
        let month = self.month(at);
        month.orders += 1;
        month.units += units;
        month.gross += i128::from(value.ten_thousandths());
        if let Some(user) = self.user(at.source, sale.user_id.as_deref()) {
            user.orders += 1;
            user.units += units;
            user.gross += i128::from(value.ten_thousandths());
            let when = at.event.occurred_at;
            user.first_order_at = Some(user.first_order_at.map_or(when, |first| first.min(when)));
            user.last_order_at = Some(user.last_order_at.map_or(when, |last| last.max(when)));
        }
        Ok(())
    }

    fn take_back(&mut self, at: At<'a>, back: &'a Return) -> Step {
        self.check_location(&back.location_id)?;
        let original = back.original_id.as_deref().map(|id| (at.source, id));
        let order = original.and_then(|key| self.orders.get(&key));
        if let (Some(id), None) = (&back.original_id, order) {
            return refuse(Reason::UnknownOrder, format!("original_id {id} is not known"));
        }
        let lines = self.priced(&back.items, &back.location_id, order)?;
        if let (Some(key), Some(order)) = (original, order) {
            self.check_return(key, order, &lines)?;
        }
        let value = total(&lines)?;

        // A return that names no original still counts against the order whose id it carries.
        let key = original.unwrap_or((at.source, back.order_id.as_str()));
        for line in lines.iter().filter(|_| self.referenced.contains(&key)) {
            *self.returned.entry((key, line.product_id)).or_default() += line.quantity;
        }
        let owner = Owner {
            order: &back.order_id,
            user: back.user_id.as_deref(),
            original: back.original_id.as_deref(),
        };
        self.write_lines(at, owner, LineKind::Return, &lines);
        let month = self.month(at);
        month.returns += 1;
        month.returned_units += units(&lines);
        month.returned_value += i128::from(value.ten_thousandths());
        if let Some(user) = self.user(at.source, back.user_id.as_deref()) {
            user.returned_value += i128::from(value.ten_thousandths());
        }
        Ok(())
    }

    fn progress(&mut self, at: At<'a>, order_id: &'a str, status: OrderStatus) -> Step {
        let order = self.open_order(at.source, order_id)?;
        let status = order.status.max(status);
        self.set_status((at.source, order_id), status);
        Ok(())
    }

    fn cancel(&mut self, at: At<'a>, order_id: &'a str) -> Step {
        let order = self.open_order(at.source, order_id)?;
        let (mut lines, user_id) = (self.not_returned((at.source, order_id), order), order.user_id);
        let value = total(&lines)?;
        if lines.is_empty() {
            // All of it had come back. It was cancelled all the same, and the ledger says on which day: what counts
            // cancellations counts lines. Of no units, this one moves no stock.
            lines.extend(order.lines.first().map(|line| SoldLine {
                quantity: 0,
                moved_stock: false,
                ..*line
            }));
        }
        self.set_status((at.source, order_id), OrderStatus::Cancelled);
        self.write_lines(
            at,
            Owner { order: order_id, user: user_id, original: None },
            LineKind::Cancellation,
            &lines,
        );
        let month = self.month(at);
        month.cancelled_orders += 1;
        month.cancelled_units += units(&lines);
        month.cancelled_value += i128::from(value.ten_thousandths());
        if let Some(user) = self.user(at.source, user_id) {
            user.cancelled_orders += 1;
            user.cancelled_value += i128::from(value.ten_thousandths());
        }
        Ok(())
    }

    fn restock(&mut self, at: At<'a>, restock: &'a Restock) -> Step {
        self.check_location(&restock.location_id)?;
        if let Some(supplier) =
            restock.supplier_id.as_ref().filter(|s| !self.known.catalogue.suppliers.contains(*s))
        {
            return refuse(
                Reason::UnknownSupplier,
                format!("supplier_id {supplier} is not in the catalogue"),
            );
        }
        let kinds: Vec<ProductKind> = (restock.items.iter().enumerate())
            .map(|(i, item)| product(self.known.catalogue, i, &item.product_id).map(|p| p.kind))
            .collect::<Result<_, _>>()?;
        debug_assert!(
            restock.kind == RestockKind::Adjustment || restock.items.iter().all(|i| i.quantity > 0)
        );
        for (i, (item, kind)) in restock.items.iter().zip(kinds).enumerate() {
            let moves = kind == ProductKind::Stock;
            let change =
                moves.then(|| self.move_stock(at, &item.product_id, &restock.location_id, item.quantity));
            self.out.restock_lines.push(RestockLine {
                record: at.record,
                restock,
                line_no: i as i32 + 1,
                product_id: &item.product_id,
                quantity: item.quantity,
                unit_cost: item.unit_cost,
                change,
            });
        }
        Ok(())
    }

    fn check_location(&self, location_id: &str) -> Step {
        if self.known.catalogue.locations.contains(location_id) {
            return Ok(());
        }
        refuse(Reason::UnknownLocation, format!("location_id {location_id} is not in the catalogue"))
    }

    /// The items with their prices: as stated, else the original order's, else the catalogue's.
    fn priced(
        &self,
        items: &'a [Item],
        location_id: &'a str,
        original: Option<&OrderState<'a>>,
    ) -> Result<Vec<SoldLine<'a>>, Refusal> {
        let line = |(i, item): (usize, &'a Item)| {
            let product = product(self.known.catalogue, i, &item.product_id)?;
            let sold_at = || original?.sold().get(item.product_id.as_str()).map(|sold| sold.unit_price);
            Ok(SoldLine {
                line_no: i as i32 + 1,
                product_id: &item.product_id,
                location_id,
                quantity: item.quantity,
                unit_price: item.unit_price.or_else(sold_at).unwrap_or(product.price),
                moved_stock: product.kind == ProductKind::Stock,
            })
        };
        items.iter().enumerate().map(line).collect()
    }

    /// The policy, where it is on: an online order that stock cannot cover is refused.
    fn check_cover(&self, source: Source, lines: &[SoldLine<'a>]) -> Step {
        let Some(stock) = self.known.stock.filter(|_| source == Source::OnlineOrders) else { return Ok(()) };
        let mut wanted: FxHashMap<&str, i64> = FxHashMap::default();
        for line in lines.iter().filter(|l| l.moved_stock) {
            let sum = wanted.entry(line.product_id).or_default();
            *sum += line.quantity;
            let before =
                stock.get(&(line.product_id.to_owned(), line.location_id.to_owned())).copied().unwrap_or(0);
            let in_batch = self.rows.get(&(line.product_id, line.location_id));
            let moved = in_batch.and_then(|&row| self.out.stock.get(row as usize)).map_or(0, |row| row.delta);
            if *sum > before + moved {
                let detail = format!(
                    "{} at {}: {} wanted, {} there",
                    line.product_id,
                    line.location_id,
                    sum,
                    before + moved
                );
                return refuse(Reason::InsufficientStock, detail);
            }
        }
        Ok(())
    }

    /// Whether so much may come back: not more than was sold and neither returned nor cancelled.
    fn check_return(&self, key: (Source, &'a str), order: &OrderState<'a>, lines: &[SoldLine<'a>]) -> Step {
        let mut back: FxHashMap<&str, i64> = FxHashMap::default();
        for line in lines {
            let sum = back.entry(line.product_id).or_default();
            *sum += line.quantity;
            let sold = order.sold().get(line.product_id).map_or(0, |sold| sold.quantity);
            let before = self.returned.get(&(key, line.product_id)).copied().unwrap_or(0);
            let left = if order.status == OrderStatus::Cancelled { 0 } else { (sold - before).max(0) };
            if *sum > left {
                return refuse(
                    Reason::OverReturn,
                    format!("{}: {} come back, {} are left", line.product_id, sum, left),
                );
            }
        }
        Ok(())
    }

    /// The sale lines less what came back, which is set against the earliest lines of its product.
    fn not_returned(&self, key: (Source, &'a str), order: &OrderState<'a>) -> Vec<SoldLine<'a>> {
        let of = |line: &SoldLine<'a>| self.returned.get(&(key, line.product_id)).copied().unwrap_or(0);
        let mut returned: FxHashMap<&str, i64> =
            order.lines.iter().map(|line| (line.product_id, of(line))).collect();
        let left = |line: &SoldLine<'a>| {
            let back = returned.get_mut(line.product_id).map_or(0, |units| {
                let taken = line.quantity.min(*units);
                *units -= taken;
                taken
            });
            SoldLine { quantity: line.quantity - back, ..*line }
        };
        order.lines.iter().map(left).filter(|line| line.quantity > 0).collect()
    }

    fn open_order(&self, source: Source, order_id: &'a str) -> Result<&OrderState<'a>, Refusal> {
        match self.orders.get(&(source, order_id)) {
            None => refuse(Reason::UnknownOrder, format!("order_id {order_id} is not known")),
            Some(order) if order.status == OrderStatus::Cancelled => {
                refuse(Reason::AlreadyCancelled, format!("order {order_id} has been cancelled"))
            }
            Some(order) => Ok(order),
        }
    }

    fn set_status(&mut self, key: (Source, &'a str), status: OrderStatus) {
        let Some(order) = self.orders.get_mut(&key) else { return };
        if order.status == status {
            return;
        }
        order.status = status;
        match order.header.and_then(|at| self.out.headers.get_mut(at)) {
            Some(header) => header.status = status,
            None => {
                self.changed_statuses.insert(key, status);
            }
        }
    }

    fn write_lines(&mut self, at: At<'a>, owner: Owner<'a>, kind: LineKind, lines: &[SoldLine<'a>]) {
        for line in lines {
            let back = kind != LineKind::Sale;
            let delta = if back { line.quantity } else { -line.quantity };
            let change =
                line.moved_stock.then(|| self.move_stock(at, line.product_id, line.location_id, delta));
            self.out.order_lines.push(OrderLine {
                record: at.record,
                order_id: owner.order,
                line_no: line.line_no,
                product_id: line.product_id,
                quantity: -delta,
                unit_price: line.unit_price,
                location_id: line.location_id,
                user_id: owner.user,
                kind,
                original_id: owner.original,
                change,
            });
        }
    }

    /// Adds to a stock row and returns the event's change of it: one, however many of its lines fall on the row.
    fn move_stock(&mut self, at: At<'a>, product_id: &'a str, location_id: &'a str, delta: i64) -> u32 {
        let Settled { stock, changes, .. } = &mut self.out;
        let row = *self.rows.entry((product_id, location_id)).or_insert_with(|| {
            stock.push(StockDelta { product_id, location_id, delta: 0, changes: 0 });
            self.newest.push(u32::MAX);
            stock.len() as u32 - 1
        });
        let (total, newest) = (&mut stock[row as usize], &mut self.newest[row as usize]);
        total.delta += delta;
        match changes.get_mut(*newest as usize) {
            Some(change) if change.record == at.record => change.delta += delta,
            _ => {
                total.changes += 1;
                *newest = changes.len() as u32;
                changes.push(Change { record: at.record, stock: row, delta });
            }
        }
        *newest
    }

    fn month(&mut self, at: At<'a>) -> &mut MonthDelta {
        let day = at.event.occurred_at.with_timezone(&self.known.timezone).date_naive();
        let month = day.with_day(1).unwrap_or(day);
        self.months.entry((month, at.source, at.partition)).or_default()
    }

    fn user(&mut self, source: Source, user_id: Option<&'a str>) -> Option<&mut UserDelta> {
        let user_id = user_id.filter(|_| source == Source::OnlineOrders)?;
        Some(self.users.entry(user_id).or_default())
    }

    /// Brings everything that takes locks into one order for all processors.
    fn finish(self) -> Settled<'a> {
        let mut out = self.out;
        let mut order: Vec<u32> = (0..out.stock.len() as u32).collect();
        order
            .sort_unstable_by_key(|&i| (out.stock[i as usize].product_id, out.stock[i as usize].location_id));
        let mut place = vec![0u32; order.len()];
        for (new, &old) in order.iter().enumerate() {
            place[old as usize] = new as u32;
        }
        out.stock = order.iter().map(|&old| out.stock[old as usize]).collect();
        for change in &mut out.changes {
            change.stock = place[change.stock as usize];
        }
        out.months = self.months.into_iter().collect();
        out.months.sort_unstable_by_key(|(key, _)| *key);
        out.users = self.users.into_iter().collect();
        out.users.sort_unstable_by_key(|(key, _)| *key);
        out.statuses =
            self.changed_statuses.into_iter().map(|((source, id), status)| (source, id, status)).collect();
        out.statuses.sort_unstable_by_key(|&(source, id, _)| (source.topic(), id));
        out
    }
}

/// Whose lines are written.
#[derive(Clone, Copy)]
struct Owner<'a> {
    order: &'a str,
    user: Option<&'a str>,
    original: Option<&'a str>,
}

type Refusal = (Reason, String);
type Step = Result<(), Refusal>;

fn refuse<T>(reason: Reason, detail: String) -> Result<T, Refusal> {
    Err((reason, detail))
}

fn product<'c>(catalogue: &'c Catalogue, i: usize, product_id: &str) -> Result<&'c crate::Product, Refusal> {
    let unknown =
        || (Reason::UnknownProduct, format!("items[{i}].product_id {product_id} is not in the catalogue"));
    catalogue.products.get(product_id).ok_or_else(unknown)
}

fn total(lines: &[SoldLine<'_>]) -> Result<Money, Refusal> {
    let sum = lines.iter().try_fold(Money::ZERO, |sum, line| sum.plus(line.unit_price.times(line.quantity)?));
    sum.ok_or_else(|| (Reason::InvalidPrice, "the lines add up to more than an amount can hold".to_owned()))
}

fn units(lines: &[SoldLine<'_>]) -> i64 {
    lines.iter().map(|line| line.quantity).sum()
}

impl<'a> OrderState<'a> {
    fn of(order: &'a KnownOrder) -> OrderState<'a> {
        let line = |l: &'a KnownLine| SoldLine {
            line_no: l.line_no,
            product_id: &l.product_id,
            location_id: &l.location_id,
            quantity: l.quantity,
            unit_price: l.unit_price,
            moved_stock: l.moved_stock,
        };
        OrderState {
            status: order.status,
            user_id: order.user_id.as_deref(),
            value: order.value,
            lines: order.lines.iter().map(line).collect(),
            sold: OnceCell::new(),
            header: None,
        }
    }

    fn placed(
        sale: &'a Sale,
        value: Money,
        lines: Vec<SoldLine<'a>>,
        header: Option<usize>,
    ) -> OrderState<'a> {
        let (status, user_id) = (OrderStatus::Placed, sale.user_id.as_deref());
        OrderState { status, user_id, value, lines, sold: OnceCell::new(), header }
    }

    fn sold(&self) -> &FxHashMap<&'a str, Sold> {
        self.sold.get_or_init(|| {
            let mut sold = FxHashMap::default();
            for line in &self.lines {
                let none = Sold { quantity: 0, unit_price: line.unit_price };
                sold.entry(line.product_id).or_insert(none).quantity += line.quantity;
            }
            sold
        })
    }
}
