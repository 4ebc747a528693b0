//! What an installation looks like at a glance.

use serde::Serialize;
use sqlx::PgPool;
use stocktide_domain::stock::StockStatus;

/// As it is read: product, name, location, sold, on hand, reorder point.
type SellerRow = (String, String, String, i64, i64, Option<i64>);

/// A stock row, and what it has sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seller {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Where the stock is.
    pub location_id: String,
    /// Units sold there; returns and cancellations are not taken off.
    pub sold: i64,
    /// Units on hand.
    pub on_hand: i64,
    /// How that stands against the reorder point.
    pub status: &'static str,
}

/// The stock rows that have sold most units, at most `limit` of them.
///
/// # Errors
/// When the database is away or not migrated.
pub async fn top_sellers(pool: &PgPool, limit: i64) -> Result<Vec<Seller>, sqlx::Error> {
    let sql = "SELECT i.product_id, p.name, i.location_id, s.sold, i.quantity_on_hand, p.reorder_point
        FROM (SELECT product_id, location_id, sum(quantity)::bigint AS sold FROM orders
              WHERE kind = 'sale' AND delta IS NOT NULL GROUP BY product_id, location_id) s
        JOIN inventory i USING (product_id, location_id) JOIN products p USING (product_id)
        ORDER BY s.sold DESC, i.product_id, i.location_id LIMIT $1";
    let rows: Vec<SellerRow> = sqlx::query_as(sql).bind(limit).fetch_all(pool).await?;
    let seller = |(product_id, name, location_id, sold, on_hand, reorder_point): SellerRow| {
        let status = StockStatus::of(on_hand, reorder_point).as_str();
        Seller { product_id, name, location_id, sold, on_hand, status }
    };
    Ok(rows.into_iter().map(seller).collect())
}

/// What became of a topic's records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct TopicFates {
    /// The input topic.
    pub topic: String,
    /// Records whose effect is in the database.
    pub applied: i64,
    /// Records whose event had been applied before.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order.
    pub parked: i64,
}

/// The fates of all records so far, by topic.
///
/// # Errors
/// As [`top_sellers`].
pub async fn fates(pool: &PgPool) -> Result<Vec<TopicFates>, sqlx::Error> {
    let sql = "SELECT topic, sum(applied)::bigint AS applied, sum(duplicates)::bigint AS duplicates,
               sum(rejected)::bigint AS rejected, sum(parked)::bigint AS parked
        FROM partition_progress GROUP BY topic ORDER BY topic COLLATE \"C\"";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// Gross sales of all months and sources, in the installation's currency, as a decimal with two places or more.
///
/// # Errors
/// As [`top_sellers`].
pub async fn total_sales(pool: &PgPool) -> Result<String, sqlx::Error> {
    let sql = "SELECT to_char(coalesce(sum(gross), 0), 'FM999999999999999999990.00FM99') FROM sales_by_month";
    sqlx::query_scalar(sql).fetch_one(pool).await
}

/// How payments stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Payments {
    /// Payments that are joined to their order.
    pub joined: i64,
    /// Of these, those of another amount than the order's value.
    pub amount_mismatches: i64,
    /// Payment events that wait for their order.
    pub waiting: i64,
}

/// How payments stand.
///
/// # Errors
/// As [`top_sellers`].
pub async fn payments(pool: &PgPool) -> Result<Payments, sqlx::Error> {
    let sql = "SELECT count(*) AS joined, count(*) FILTER (WHERE amount_mismatch) AS amount_mismatches,
               (SELECT count(*) FROM parked_payments) AS waiting FROM payments";
    sqlx::query_as(sql).fetch_one(pool).await
}

/// The order whose payment was made first, if anything is paid.
///
/// # Errors
/// As [`top_sellers`].
pub async fn first_paid(pool: &PgPool) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT order_id FROM payments ORDER BY payment_datetime, payment_id LIMIT 1";
    sqlx::query_scalar(sql).fetch_optional(pool).await
}
