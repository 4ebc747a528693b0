//! The rows, in compact form: amounts in ten-thousandths, moments in microseconds since 1970.

use std::fmt;

use uuid::Uuid;

use crate::digest::Digest;
use crate::names::Name;
use crate::record::Fingerprint;

/// A topic that moves stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `online_orders`
    OnlineOrders,
    /// `store_sales`
    StoreSales,
    /// `supplier_restocks`
    SupplierRestocks,
}

impl Source {
    /// Its topic.
    pub const fn topic(self) -> &'static str {
        match self {
            Source::OnlineOrders => "online_orders",
            Source::StoreSales => "store_sales",
            Source::SupplierRestocks => "supplier_restocks",
        }
    }

    /// The source of a topic.
    pub fn of_topic(topic: &str) -> Option<Source> {
        [Source::OnlineOrders, Source::StoreSales, Source::SupplierRestocks]
            .into_iter()
            .find(|s| s.topic() == topic)
    }
}

/// An input partition, as its number in [`Facts::partitions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// An input record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Coordinates {
    /// Its partition.
    pub slot: Slot,
    /// Its offset.
    pub offset: i64,
}

/// A row of `partition_progress`.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its topic.
    pub topic: String,
    /// Its number within the topic.
    pub partition: i32,
    /// What the database says of its progress; none where rows speak of it and `partition_progress` does not.
    pub progress: Option<Progress>,
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// How far a partition is, and the sums of its records' fates.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// The first offset that counts.
    pub start_offset: i64,
    /// Records below it have met their fate.
    pub next_offset: i64,
    /// A hint: what lies below it is published.
    pub published_offset: Option<i64>,
    /// Below it the log may have aged out.
    pub log_floor: i64,
    /// Records that took effect.
    pub applied: i64,
    /// Records whose event another record had brought.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Records that wait.
    pub parked: i64,
    /// The number of the last output that a timer made.
    pub timer_seq: i64,
    /// A hint: a timer's outputs up to this number are published.
    pub timer_published: i64,
}

impl Progress {
    /// Whether the log still holds a row for every applied and rejected record.
    pub fn log_is_complete(&self) -> bool {
        self.log_floor <= self.start_offset
    }
}

/// A row of `events_log`.
#[derive(Debug, Clone, Copy)]
pub struct LogRow {
    /// The record.
    pub at: Coordinates,
    /// Whether it was applied; else rejected.
    pub applied: bool,
    /// Its event, where one could be read.
    pub event: Option<Uuid>,
    /// Of its value; none for a tombstone.
    pub value: Option<Digest>,
    /// Whether card numbers are masked in it.
    pub redacted: bool,
    /// Whether a user was erased from it.
    pub erased: bool,
    /// Microseconds since 1970.
    pub processed_at: i64,
    /// The number of a rejection that a timer made.
    pub timer_seq: Option<i64>,
}

/// A row of `dlq_actions` that says a rejected record was, or may have been, sent again.
#[derive(Debug, Clone, Copy)]
pub struct Replay {
    /// What the record's header says.
    pub id: Uuid,
    /// The rejected record.
    pub of: Coordinates,
    /// Where the record that was sent is said to lie, in the same partition.
    pub sent_offset: Option<i64>,
    /// Of the value that was sent.
    pub value: Option<Digest>,
}

/// A row of `forgotten_users`.
#[derive(Debug, Clone)]
pub struct Forgotten {
    /// What stands in place of the user.
    pub token: Name,
    /// What their user_id was digested with.
    pub salt: Vec<u8>,
    /// Of salt and user_id.
    pub digest: Digest,
    /// When, the last time; microseconds since 1970.
    pub at: i64,
}

impl Forgotten {
    /// Whether a user is the one.
    pub fn is(&self, user: &str) -> bool {
        Digest::of(&[&self.salt, user.as_bytes()].concat()) == self.digest
    }
}

/// What the log keeps of a rejected record beyond [`LogRow`].
#[derive(Debug, Clone, Copy)]
pub struct Rejection {
    /// The stable code.
    pub reason: Option<Name>,
    /// Of the record's key.
    pub key: Option<Digest>,
    /// Of the record's headers.
    pub headers: Digest,
    /// How many they are.
    pub header_count: usize,
}

/// What kind of line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LineKind {
    /// Sold.
    Sale,
    /// Given back by a cancellation.
    Cancellation,
    /// Brought back.
    Return,
    /// Delivered.
    Received,
    /// Corrected.
    Adjustment,
}

impl LineKind {
    /// As it stands in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            LineKind::Sale => "sale",
            LineKind::Cancellation => "cancellation",
            LineKind::Return => "return",
            LineKind::Received => "received",
            LineKind::Adjustment => "adjustment",
        }
    }

    /// The kind of a name.
    pub fn of_name(name: &str) -> Option<LineKind> {
        use LineKind::{Adjustment, Cancellation, Received, Return, Sale};
        [Sale, Cancellation, Return, Received, Adjustment].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A row of `orders` or `restock_lines`.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The record that brought it.
    pub at: Coordinates,
    /// The event in that record.
    pub event: Uuid,
    /// What kind of line.
    pub kind: LineKind,
    /// Ordinal, from 1.
    pub line_no: i32,
    /// `order_id` or `restock_id`
    pub business_id: Name,
    /// The order that a return undoes.
    pub original: Option<Name>,
    /// `user_id` or `supplier_id`
    pub party: Option<Name>,
    /// The product.
    pub product: Name,
    /// Whose stock it moves.
    pub location: Name,
    /// Units; negative on cancellations and returns.
    pub quantity: i64,
    /// Ten-thousandths; a delivery may have none.
    pub price: Option<i64>,
    /// Microseconds since 1970.
    pub occurred_at: i64,
    /// Microseconds since 1970.
    pub processed_at: i64,
    /// None on lines of services.
    pub result: Option<StockResult>,
}

impl Line {
    /// The units that the line adds to stock.
    pub fn stock_delta(&self) -> i64 {
        match self.kind {
            LineKind::Sale | LineKind::Cancellation | LineKind::Return => -self.quantity,
            LineKind::Received | LineKind::Adjustment => self.quantity,
        }
    }

    /// Quantity × price, in ten-thousandths; negative where something came back.
    pub fn value(&self) -> i128 {
        i128::from(self.quantity) * i128::from(self.price.unwrap_or(0))
    }
}

/// What an event made of a stock row, as its lines keep it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StockResult {
    /// The event's whole change of the row.
    pub delta: i64,
    /// Units on hand afterwards.
    pub quantity_after: i64,
    /// Of the row.
    pub version: i64,
    /// How the row stands.
    pub status: StockStatus,
}

/// How a stock row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StockStatus {
    /// Above the reorder point.
    InStock,
    /// At or below it.
    Low,
    /// Nothing left.
    Out,
    /// Below zero.
    Oversold,
    /// No word of the contract.
    Unknown,
}

impl StockStatus {
    /// As it stands in the database and on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            StockStatus::InStock => "in_stock",
            StockStatus::Low => "low",
            StockStatus::Out => "out",
            StockStatus::Oversold => "oversold",
            StockStatus::Unknown => "?",
        }
    }

    /// The status of a name.
    pub fn of_name(name: &str) -> StockStatus {
        use StockStatus::{InStock, Low, Out, Oversold, Unknown};
        [InStock, Low, Out, Oversold].into_iter().find(|status| status.as_str() == name).unwrap_or(Unknown)
    }
}

/// A row of `order_headers`.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// Its topic.
    pub source: Source,
    /// The order.
    pub order: Name,
    /// Whose it is.
    pub user: Option<Name>,
    /// Whose stock serves it.
    pub location: Name,
    /// Of the address.
    pub address: Option<Digest>,
    /// Of the payment method.
    pub payment_method: Option<Digest>,
    /// Ten-thousandths.
    pub stated_value: Option<i64>,
    /// Ten-thousandths.
    pub order_value: i64,
    /// Whether the two are said to differ.
    pub value_mismatch: bool,
    /// How far it is.
    pub status: OrderStatus,
    /// Microseconds since 1970.
    pub ordered_at: i64,
    /// The event that placed it.
    pub event: Uuid,
}

/// How far an order is, in the order in which it may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum OrderStatus {
    /// Placed.
    Placed,
    /// On its way.
    Shipped,
    /// Arrived.
    Delivered,
    /// Cancelled.
    Cancelled,
}

impl OrderStatus {
    /// As it stands in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            OrderStatus::Placed => "placed",
            OrderStatus::Shipped => "shipped",
            OrderStatus::Delivered => "delivered",
            OrderStatus::Cancelled => "cancelled",
        }
    }

    /// The status of a name.
    pub fn of_name(name: &str) -> Option<OrderStatus> {
        use OrderStatus::{Cancelled, Delivered, Placed, Shipped};
        [Placed, Shipped, Delivered, Cancelled].into_iter().find(|status| status.as_str() == name)
    }
}

/// A row of `inventory`.
#[derive(Debug, Clone, Copy)]
pub struct StockRow {
    /// The product.
    pub product: Name,
    /// Where.
    pub location: Name,
    /// Units.
    pub on_hand: i64,
    /// Changes so far.
    pub version: i64,
    /// Units before the first change.
    pub opening: i64,
}

/// A row of `sales_by_month`; amounts in ten-thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Month {
    /// Orders placed, or sales made.
    pub orders: i64,
    /// Units sold.
    pub units: i64,
    /// Value sold.
    pub gross: i128,
    /// Orders cancelled.
    pub cancelled_orders: i64,
    /// Units given back so.
    pub cancelled_units: i64,
    /// Their value.
    pub cancelled_value: i128,
    /// Return events.
    pub returns: i64,
    /// Units that came back so.
    pub returned_units: i64,
    /// Their value.
    pub returned_value: i128,
}

/// A row of `user_stats`; amounts in ten-thousandths, moments in microseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct User {
    /// Orders placed.
    pub orders: i64,
    /// Units bought.
    pub units: i64,
    /// Value bought.
    pub gross: i128,
    /// Orders cancelled.
    pub cancelled_orders: i64,
    /// Their value.
    pub cancelled_value: i128,
    /// Value that came back.
    pub returned_value: i128,
    /// The earliest order.
    pub first_order_at: Option<i64>,
    /// The latest order.
    pub last_order_at: Option<i64>,
}

/// A row of `top_users`; the amount in ten-thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopUser {
    /// Value bought, less what was cancelled or came back.
    pub spend: i128,
    /// Orders placed.
    pub orders: i64,
}

/// Who stands in `top_users` for certain: whoever reaches one of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopFloor {
    /// In ten-thousandths; none: everybody reaches it.
    pub spend: Option<i128>,
    /// Orders placed.
    pub orders: i64,
}

impl TopFloor {
    /// Whether somebody with so much reaches it.
    pub fn is_reached(self, TopUser { spend, orders }: TopUser) -> bool {
        self.spend.is_none_or(|floor| spend >= floor) || orders >= self.orders
    }
}

/// A row of `payment_events`, or of `payments` with the coordinates of nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payment {
    /// Its business id.
    pub payment: Name,
    /// The online order.
    pub order: Name,
    /// Of the payment method.
    pub method: Option<Digest>,
    /// The card's last four digits.
    pub last_four: Option<Name>,
    /// How far it is; none where it is no word of the contract.
    pub status: Option<PaymentStatus>,
    /// Microseconds since 1970.
    pub paid_at: i64,
    /// Ten-thousandths.
    pub amount: Option<i64>,
    /// Whether the amount is said not to be the order's value.
    pub amount_mismatch: bool,
    /// The event.
    pub event: Uuid,
}

/// A row of `payment_events`.
#[derive(Debug, Clone, Copy)]
pub struct PaymentEvent {
    /// The record.
    pub at: Coordinates,
    /// What it says.
    pub payment: Payment,
}

/// A row of `parked_payments`.
#[derive(Debug, Clone, Copy)]
pub struct Parked {
    /// The record.
    pub at: Coordinates,
    /// The event.
    pub event: Uuid,
    /// The order that it waits for.
    pub order: Name,
    /// What the record is made of.
    pub print: Fingerprint,
    /// Whether card numbers are masked in it.
    pub redacted: bool,
    /// Whether the order has left word.
    pub order_seen: bool,
}

/// How far a payment is, in the order that decides between two events of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PaymentStatus {
    /// Begun.
    Pending,
    /// The money is reserved.
    Authorised,
    /// The money is there.
    Captured,
    /// It came to nothing.
    Failed,
    /// The money went back.
    Refunded,
}

impl PaymentStatus {
    /// The status of a name in the database.
    pub fn of_name(name: &str) -> Option<PaymentStatus> {
        Some(match name {
            "pending" => PaymentStatus::Pending,
            "authorised" => PaymentStatus::Authorised,
            "captured" => PaymentStatus::Captured,
            "failed" => PaymentStatus::Failed,
            "refunded" => PaymentStatus::Refunded,
            _ => return None,
        })
    }
}
