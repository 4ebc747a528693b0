//! What became of the records, and the totals.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{ReadError, amount};

/// What became of a partition's records so far.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Fates {
    /// The input topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Records below it have met their fate.
    pub next_offset: i64,
    /// Records whose effect is in the database.
    pub applied: i64,
    /// Records whose event had been applied before.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order.
    pub parked: i64,
    /// When the last of them met its fate.
    pub last_processed_at: Option<DateTime<Utc>>,
}

/// The fates by partition.
///
/// # Errors
/// [`ReadError`].
pub async fn fates(pool: &PgPool) -> Result<Vec<Fates>, ReadError> {
    let sql = "SELECT topic, partition, next_offset, applied, duplicates, rejected, parked, last_processed_at
               FROM partition_progress ORDER BY topic, partition";
    Ok(sqlx::query_as(sql).fetch_all(pool).await?)
}

/// Whether the tables are there that the API reads, the last migration's included.
///
/// # Errors
/// [`ReadError`].
pub async fn schema_is_there(pool: &PgPool) -> Result<bool, ReadError> {
    let sql = "SELECT to_regclass('installation') IS NOT NULL AND to_regclass('top_users') IS NOT NULL";
    Ok(sqlx::query_scalar(sql).fetch_one(pool).await?)
}

/// The totals of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct Totals {
    /// Online orders placed, cancelled ones included.
    pub total_orders: i64,
    /// Revenue of online orders: gross less cancellations and returns.
    pub total_revenue: String,
    /// Units ordered online.
    pub total_units: i64,
    /// Sales in stores.
    pub store_sales: i64,
    /// Products in the catalogue.
    pub products: i64,
    /// Stock rows.
    pub stock_rows: i64,
    /// Of these, at or below the reorder point.
    pub low: i64,
    /// Of these, exactly empty.
    pub out: i64,
    /// Of these, below zero.
    pub oversold: i64,
    /// Records whose effect is in the database.
    pub applied: i64,
    /// Records whose event had been applied before.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order.
    pub parked: i64,
    /// Events of payments that were joined to their order.
    pub payment_events: i64,
    /// Payments of another amount than their order's value; 10,001: more than 10,000.
    pub amount_mismatches: i64,
    /// Orders and sales whose stated value was wrong; 10,001: more than 10,000.
    pub value_mismatches: i64,
}

/// The totals of this moment.
///
/// # Errors
/// [`ReadError`].
pub async fn totals(pool: &PgPool) -> Result<Totals, ReadError> {
    let sql = concat!(
        "SELECT g.orders AS total_orders, ",
        amount!("g.revenue"),
        " AS total_revenue, g.units AS total_units,
          (SELECT count(*) FROM (SELECT FROM payments WHERE amount_mismatch LIMIT 10001) m) AS amount_mismatches,
          (SELECT count(*) FROM (SELECT FROM order_headers WHERE value_mismatch LIMIT 10001) m) AS value_mismatches,
          (SELECT coalesce(sum(orders), 0)::bigint FROM sales_by_month WHERE topic = 'store_sales') AS store_sales,
          (SELECT count(*) FROM products) AS products, s.*, f.*
         FROM global_stats g
         CROSS JOIN (
            SELECT count(*) AS stock_rows, count(*) FILTER (WHERE quantity_on_hand > 0 AND quantity_on_hand <= reorder_point) AS low,
                   count(*) FILTER (WHERE quantity_on_hand = 0) AS out, count(*) FILTER (WHERE quantity_on_hand < 0) AS oversold
            FROM inventory JOIN products USING (product_id)) s
         CROSS JOIN (
            SELECT coalesce(sum(applied), 0)::bigint AS applied, coalesce(sum(duplicates), 0)::bigint AS duplicates,
                   coalesce(sum(rejected), 0)::bigint AS rejected, coalesce(sum(parked), 0)::bigint AS parked,
                   coalesce(sum(applied) FILTER (WHERE topic = 'payments'), 0)::bigint AS payment_events
            FROM partition_progress) f"
    );
    Ok(sqlx::query_as(sql).fetch_one(pool).await?)
}
