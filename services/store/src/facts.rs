//! One row of `orders_payments_facts`: an online order and how it is paid.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;

/// The thirteen columns of the view. Amounts are decimals as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Fact {
    /// The order.
    pub order_id: String,
    /// Whose it is; none for a guest.
    pub customer_id: Option<String>,
    /// The products' names, with "; " between.
    pub item: Option<String>,
    /// Units of all lines.
    pub quantity: Option<i64>,
    /// The price per unit of an order of one line, else the order's value.
    pub price: Option<String>,
    /// Where it goes.
    pub shipping_address: Option<String>,
    /// How far the order is.
    pub order_status: String,
    /// When it was placed.
    pub creation_date: DateTime<Utc>,
    /// The payment; none where there is none yet. Of several the one that is newest.
    pub payment_id: Option<String>,
    /// How it is paid: the payment's word, else the order's.
    pub payment_method: Option<String>,
    /// The card's last four digits.
    pub card_last_four: Option<String>,
    /// How far the payment is.
    pub payment_status: Option<String>,
    /// When it got there.
    pub payment_datetime: Option<DateTime<Utc>>,
}

/// The row of an order, if there is such an online order.
///
/// # Errors
/// When the database is away or not migrated.
pub async fn of_order(pool: &PgPool, order_id: &str) -> Result<Option<Fact>, sqlx::Error> {
    let sql = "SELECT order_id, customer_id, item, quantity, trim_scale(price)::text AS price, shipping_address, order_status,
               creation_date, payment_id, payment_method, card_last_four, payment_status, payment_datetime
        FROM orders_payments_facts WHERE order_id = $1";
    sqlx::query_as(sql).bind(order_id).fetch_optional(pool).await
}
