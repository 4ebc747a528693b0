//! One order with its lines and payments.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{ReadError, amount};

/// A line of an order, or of what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OrderLine {
    /// `sale`, `cancellation` or `return`.
    pub kind: String,
    /// Its number within the event.
    pub line_no: i32,
    /// The product.
    pub product_id: String,
    /// Its name, where the catalogue has it.
    pub name: Option<String>,
    /// Units; negative on cancellations and returns.
    pub quantity: i64,
    /// Price per unit.
    pub unit_price: String,
    /// Whose stock it is.
    pub location_id: String,
    /// When it happened, by its own account.
    pub occurred_at: DateTime<Utc>,
    /// When it was applied.
    pub processed_at: DateTime<Utc>,
    /// The event.
    pub event_id: Uuid,
}

/// A payment of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Payment {
    /// The payment.
    pub payment_id: String,
    /// How it is paid.
    pub payment_method: Option<String>,
    /// The card's last four digits: no more of it is ever kept.
    pub card_last_four: Option<String>,
    /// What became of it.
    pub payment_status: String,
    /// When it came to be so.
    pub payment_datetime: DateTime<Utc>,
    /// How much, where it says so.
    pub amount: Option<String>,
    /// Whether that is another amount than the order's value.
    pub amount_mismatch: bool,
    /// The event.
    pub event_id: Uuid,
}

/// An online order or a store sale.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema, sqlx::FromRow)]
pub struct Order {
    /// The input topic.
    pub source: String,
    /// The order, or the store's sale.
    pub order_id: String,
    /// The customer; null for a guest.
    pub user_id: Option<String>,
    /// Whose stock serves it.
    pub location_id: String,
    /// Where it goes.
    pub shipping_address: Option<String>,
    /// How it is to be paid.
    pub payment_method: Option<String>,
    /// The value that the producer stated.
    pub stated_value: Option<String>,
    /// The sum over its lines, as it was placed.
    pub order_value: String,
    /// Whether the two differ.
    pub value_mismatch: bool,
    /// `placed`, `shipped`, `delivered` or `cancelled`.
    pub status: String,
    /// When it was placed, by its own account.
    pub ordered_at: DateTime<Utc>,
    /// The event that placed it.
    pub event_id: Uuid,
    /// What was sold, cancelled and returned, in the order in which it was applied; at most 1,000.
    #[sqlx(json)]
    pub lines: Vec<OrderLine>,
    /// How many lines there are.
    pub line_count: i64,
    /// Its payments, the newest first; at most 100.
    #[sqlx(json)]
    pub payments: Vec<Payment>,
}

/// An order; none: the source knows no such order.
///
/// # Errors
/// [`ReadError`].
pub async fn order(pool: &PgPool, source: &str, order_id: &str) -> Result<Option<Order>, ReadError> {
    let sql = concat!(
        "SELECT h.source, h.order_id, h.user_id, h.location_id, h.shipping_address, h.payment_method, ",
        amount!("h.stated_value"),
        " AS stated_value, ",
        amount!("h.order_value"),
        " AS order_value, h.value_mismatch, h.status, h.ordered_at, h.event_id, l.lines, l.line_count, p.payments
         FROM order_headers h
         CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_agg(to_jsonb(o) - 'at' ORDER BY o.at) FILTER (WHERE o.at <= 1000), '[]') AS lines,
                   count(*) AS line_count
            FROM (SELECT o.kind, o.line_no, o.product_id, pr.name, o.quantity, ",
        amount!("o.unit_price"),
        " AS unit_price, o.location_id, o.\"timestamp\" AS occurred_at, o.processed_at, o.event_id,
                         row_number() OVER (ORDER BY o.processed_at, o.partition, o.\"offset\", o.line_no) AS at
                  FROM orders o LEFT JOIN products pr USING (product_id)
                  WHERE o.source = h.source AND (o.order_id = h.order_id OR o.original_id = h.order_id)) o
         ) l
         CROSS JOIN LATERAL (
            SELECT coalesce(jsonb_agg(to_jsonb(p)), '[]') AS payments
            FROM (SELECT payment_id, payment_method, card_last_four, payment_status, payment_datetime, ",
        amount!("amount"),
        " AS amount, amount_mismatch, event_id FROM payments
                  WHERE h.source = 'online_orders' AND order_id = h.order_id
                  ORDER BY payment_datetime DESC, payment_id LIMIT 100) p
         ) p
         WHERE h.source = $1 AND h.order_id = $2"
    );
    Ok(sqlx::query_as(sql).bind(source).bind(order_id).fetch_optional(pool).await?)
}
