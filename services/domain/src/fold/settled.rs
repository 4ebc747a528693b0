//! What a batch settles to: fates, new rows, and what stock and rollups gain.

use chrono::{DateTime, NaiveDate, Utc};

use crate::event::{OrderStatus, Payment, Restock, Sale, Source};
use crate::{Money, Reject};

/// What happened to a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// Its effect is in.
    Applied,
    /// Its event_id had been applied by another record.
    Duplicate,
    /// It has no effect and goes to `dlq`.
    Rejected(Reject),
    /// A payment that waits for its order: its fate comes later.
    Parked,
}

/// The batch, settled. `record` fields are indices into the batch.
#[derive(Debug, Default)]
pub struct Settled<'a> {
    /// One fate per record, in the batch's order.
    pub fates: Vec<Fate>,
    /// New orders and store sales.
    pub headers: Vec<Header<'a>>,
    /// New statuses of orders that the database has.
    pub statuses: Vec<(Source, &'a str, OrderStatus)>,
    /// Lines of sales, cancellations and returns.
    pub order_lines: Vec<OrderLine<'a>>,
    /// Lines of deliveries and adjustments.
    pub restock_lines: Vec<RestockLine<'a>>,
    /// One per event and stock row, in the batch's order.
    pub changes: Vec<Change>,
    /// The stock rows that change, in ascending order of product and location: every processor locks in this order.
    pub stock: Vec<StockDelta<'a>>,
    /// Rollup deltas per business month and input partition, ascending.
    pub months: Vec<((NaiveDate, Source, i32), MonthDelta)>,
    /// Rollup deltas per user of online orders, ascending.
    pub users: Vec<(&'a str, UserDelta)>,
    /// Placed orders whose stated value was not the sum of their lines.
    pub value_mismatches: u64,
    /// The payments that were applied, in the batch's order.
    pub payments: Vec<PaymentRow<'a>>,
    /// Of them, those whose amount is not their order's value.
    pub amount_mismatches: u64,
}

/// A new row of `payment_events`.
#[derive(Debug)]
pub struct PaymentRow<'a> {
    /// The record.
    pub record: u32,
    /// The payment.
    pub payment: &'a Payment,
    /// Whether its amount is stated and not the order's value.
    pub amount_mismatch: bool,
}

/// A new row of `order_headers`.
#[derive(Debug)]
pub struct Header<'a> {
    /// The record.
    pub record: u32,
    /// Its topic.
    pub source: Source,
    /// The sale.
    pub sale: &'a Sale,
    /// Σ quantity × price.
    pub order_value: Money,
    /// Whether the producer stated another value.
    pub value_mismatch: bool,
    /// How far it got within the batch.
    pub status: OrderStatus,
}

/// A new row of `orders`.
#[derive(Debug)]
pub struct OrderLine<'a> {
    /// The record.
    pub record: u32,
    /// The order that the line belongs to.
    pub order_id: &'a str,
    /// Ordinal from 1; a cancellation's is the sale line's.
    pub line_no: i32,
    /// The product.
    pub product_id: &'a str,
    /// Units; negative where they come back, 0 on the one line of a cancellation of what had come back before.
    pub quantity: i64,
    /// Price per unit.
    pub unit_price: Money,
    /// Whose stock it moves.
    pub location_id: &'a str,
    /// The customer.
    pub user_id: Option<&'a str>,
    /// What kind of line.
    pub kind: LineKind,
    /// The order that a return undoes.
    pub original_id: Option<&'a str>,
    /// Index into [`Settled::changes`]; none for services and where there are no units.
    pub change: Option<u32>,
}

/// What kind of order line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// Sold.
    Sale,
    /// Given back by a cancellation.
    Cancellation,
    /// Brought back by the customer.
    Return,
}

impl LineKind {
    /// As it stands in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            LineKind::Sale => "sale",
            LineKind::Cancellation => "cancellation",
            LineKind::Return => "return",
        }
    }
}

/// A new row of `restock_lines`.
#[derive(Debug)]
pub struct RestockLine<'a> {
    /// The record.
    pub record: u32,
    /// The delivery.
    pub restock: &'a Restock,
    /// Ordinal from 1.
    pub line_no: i32,
    /// The product.
    pub product_id: &'a str,
    /// Units, signed.
    pub quantity: i64,
    /// Cost per unit.
    pub unit_cost: Option<Money>,
    /// Index into [`Settled::changes`]; none for services.
    pub change: Option<u32>,
}

/// One event's change of one stock row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The record.
    pub record: u32,
    /// Index into [`Settled::stock`].
    pub stock: u32,
    /// Units added or taken.
    pub delta: i64,
}

/// The batch's whole effect on one stock row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockDelta<'a> {
    /// The product.
    pub product_id: &'a str,
    /// The location.
    pub location_id: &'a str,
    /// The sum of its changes, in units.
    pub delta: i64,
    /// How many changes: the version rises by so much.
    pub changes: i64,
}

/// What a month's row gains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MonthDelta {
    /// Orders placed, or sales made.
    pub orders: i64,
    /// Units sold.
    pub units: i64,
    /// Value sold, in ten-thousandths.
    pub gross: i128,
    /// Orders cancelled.
    pub cancelled_orders: i64,
    /// Units given back by cancellations.
    pub cancelled_units: i64,
    /// Value given back by cancellations, in ten-thousandths.
    pub cancelled_value: i128,
    /// Return events.
    pub returns: i64,
    /// Units that came back.
    pub returned_units: i64,
    /// Value that came back, in ten-thousandths.
    pub returned_value: i128,
}

/// What a user's row gains.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserDelta {
    /// Orders placed.
    pub orders: i64,
    /// Units bought.
    pub units: i64,
    /// Value bought, in ten-thousandths.
    pub gross: i128,
    /// Orders cancelled.
    pub cancelled_orders: i64,
    /// Value of cancellations, in ten-thousandths.
    pub cancelled_value: i128,
    /// Value of returns, in ten-thousandths.
    pub returned_value: i128,
    /// The earliest order of the batch.
    pub first_order_at: Option<DateTime<Utc>>,
    /// The latest order of the batch.
    pub last_order_at: Option<DateTime<Utc>>,
}

/// A stock row after one change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Units on hand.
    pub quantity: i64,
    /// The row's version.
    pub version: i64,
}

impl Settled<'_> {
    /// The stock figures after each of [`Settled::changes`], from the rows as the database returned them at the end of
    /// the batch, in the order of [`Settled::stock`].
    pub fn running(&self, finals: &[After]) -> Vec<After> {
        let mut rows = finals.to_vec();
        let mut after = vec![After { quantity: 0, version: 0 }; self.changes.len()];
        for (change, slot) in self.changes.iter().zip(&mut after).rev() {
            if let Some(row) = rows.get_mut(change.stock as usize) {
                *slot = *row;
                row.quantity -= change.delta;
                row.version -= 1;
            }
        }
        after
    }
}
