//! The events, as the rest of the system sees them: decoded, within the limits, not yet held against the catalogue.

use std::fmt;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::Money;

/// An input topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// `online_orders`
    OnlineOrders,
    /// `store_sales`
    StoreSales,
    /// `supplier_restocks`
    SupplierRestocks,
    /// `payments`
    Payments,
}

impl Source {
    /// All input topics.
    pub const ALL: [Source; 4] =
        [Source::OnlineOrders, Source::StoreSales, Source::SupplierRestocks, Source::Payments];
    /// Those whose events move stock.
    pub const STOCK: [Source; 3] = [Source::OnlineOrders, Source::StoreSales, Source::SupplierRestocks];

    /// The topic's name.
    pub const fn topic(self) -> &'static str {
        match self {
            Source::OnlineOrders => "online_orders",
            Source::StoreSales => "store_sales",
            Source::SupplierRestocks => "supplier_restocks",
            Source::Payments => "payments",
        }
    }

    /// The source of a topic's name.
    pub fn from_topic(topic: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|s| s.topic() == topic)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.topic())
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its identity: the same event_id is applied once, whichever topic it comes by.
    pub event_id: Uuid,
    /// When it happened, by its own account.
    pub occurred_at: DateTime<Utc>,
    /// What happened.
    pub body: Body,
}

/// What happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// An online order was placed, or a store sold something.
    Sold(Sale),
    /// Items came back.
    Returned(Return),
    /// An online order moved on: its status changes, nothing else.
    Progressed {
        /// The order.
        order_id: String,
        /// [`OrderStatus::Shipped`] or [`OrderStatus::Delivered`].
        status: OrderStatus,
    },
    /// A whole online order was cancelled.
    Cancelled {
        /// The order.
        order_id: String,
    },
    /// A delivery came in, or stock was corrected.
    Restocked(Restock),
    /// An online order was paid, or its payment moved on.
    Paid(Payment),
}

/// An online order's way. The order of the variants is the order of progress; a late `shipped` does not undo `delivered`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OrderStatus {
    /// Placed (a store sale stays so).
    Placed,
    /// Handed to the carrier.
    Shipped,
    /// Arrived.
    Delivered,
    /// Cancelled as a whole.
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
    pub fn from_name(name: &str) -> Option<OrderStatus> {
        [OrderStatus::Placed, OrderStatus::Shipped, OrderStatus::Delivered, OrderStatus::Cancelled]
            .into_iter()
            .find(|s| s.as_str() == name)
    }
}

/// An online order, or a sale in a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Sale {
    /// `order_id`, or a store's `sale_id`.
    pub order_id: String,
    /// The customer; absent for a guest.
    pub user_id: Option<String>,
    /// Whose stock serves it.
    pub location_id: String,
    /// How it is paid.
    pub payment_method: Option<String>,
    /// Where it goes.
    pub shipping_address: Option<String>,
    /// `order_value` or `total` as the producer stated it; the true one is recomputed.
    pub stated_value: Option<Money>,
    /// The lines, at least one; quantities are positive.
    pub items: Vec<Item>,
}

/// A line of a sale or a return.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// The product.
    pub product_id: String,
    /// Units, positive.
    pub quantity: i64,
    /// Price per unit; where absent, the original order's or the catalogue's price holds.
    pub unit_price: Option<Money>,
}

/// Items that come back.
#[derive(Debug, Clone, PartialEq)]
pub struct Return {
    /// The business id that the event gives (its own, or the order's).
    pub order_id: String,
    /// The order or sale that it undoes, where it says so.
    pub original_id: Option<String>,
    /// The customer.
    pub user_id: Option<String>,
    /// Whose stock it returns to.
    pub location_id: String,
    /// The lines, at least one; quantities are positive.
    pub items: Vec<Item>,
}

/// A delivery or a correction.
#[derive(Debug, Clone, PartialEq)]
pub struct Restock {
    /// Its business id.
    pub restock_id: String,
    /// Who delivered; checked against the catalogue when given.
    pub supplier_id: Option<String>,
    /// Whose stock it changes.
    pub location_id: String,
    /// Delivery or correction.
    pub kind: RestockKind,
    /// Free text.
    pub note: Option<String>,
    /// The lines, at least one.
    pub items: Vec<RestockItem>,
}

/// Delivery or correction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestockKind {
    /// A delivery: quantities are positive.
    Received,
    /// A count, breakage or write-off: quantities are signed and not zero.
    Adjustment,
}

impl RestockKind {
    /// As it stands in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            RestockKind::Received => "received",
            RestockKind::Adjustment => "adjustment",
        }
    }
}

/// A line of a delivery or a correction.
#[derive(Debug, Clone, PartialEq)]
pub struct RestockItem {
    /// The product.
    pub product_id: String,
    /// Units.
    pub quantity: i64,
    /// Cost per unit.
    pub unit_cost: Option<Money>,
}

/// A payment of an online order, or what became of one. Full card numbers are nowhere in it: an event that carries one is
/// rejected before it gets here.
#[derive(Debug, Clone, PartialEq)]
pub struct Payment {
    /// Its business id: the same one comes again with each status.
    pub payment_id: String,
    /// The online order.
    pub order_id: String,
    /// How it is paid.
    pub payment_method: Option<String>,
    /// The card's last four digits.
    pub card_last_four: Option<String>,
    /// How far it is.
    pub status: PaymentStatus,
    /// The amount, where it is stated.
    pub amount: Option<Money>,
}

/// How far a payment is. The order of the variants decides between two events of the same moment: the later one holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
    /// Every one, in order.
    pub const ALL: [PaymentStatus; 5] = [
        PaymentStatus::Pending,
        PaymentStatus::Authorised,
        PaymentStatus::Captured,
        PaymentStatus::Failed,
        PaymentStatus::Refunded,
    ];

    /// As it stands in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            PaymentStatus::Pending => "pending",
            PaymentStatus::Authorised => "authorised",
            PaymentStatus::Captured => "captured",
            PaymentStatus::Failed => "failed",
            PaymentStatus::Refunded => "refunded",
        }
    }

    /// The status of a name, whatever its case; `completed` is captured, and `authorized` is authorised.
    pub fn from_name(name: &str) -> Option<PaymentStatus> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if is("completed") => Some(PaymentStatus::Captured),
            () if is("authorized") => Some(PaymentStatus::Authorised),
            () => PaymentStatus::ALL.into_iter().find(|status| is(status.as_str())),
        }
    }
}
