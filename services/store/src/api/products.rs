//! Products, and their stock by location.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;

use super::{Page, ReadError, amount};

/// A product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct ProductRow {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Its category; may be empty.
    pub category: String,
    /// The catalogue's price per unit.
    #[schema(example = "2.55")]
    pub price: String,
    /// The price's currency.
    #[schema(example = "GBP")]
    pub currency: String,
    /// At or below it stock is low; null: no alert.
    pub reorder_point: Option<i64>,
    /// `stock`, or `service`, which moves no stock.
    #[schema(example = "stock")]
    pub kind: String,
    /// Units on hand over all locations; below zero where more was sold than there was.
    pub quantity_on_hand: i64,
    /// Locations that have a stock row.
    pub locations: i64,
}

/// Which products are wanted.
#[derive(Debug, Clone, Default)]
pub struct ProductFilter {
    /// Of this category only.
    pub category: Option<String>,
    /// Those whose id or name contains it, whatever the case.
    pub containing: Option<String>,
}

/// A text for ILIKE that finds `part` anywhere, and means nothing else by it.
fn like(part: Option<&str>) -> Option<String> {
    part.map(|p| format!("%{}%", p.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")))
}

macro_rules! product_columns {
    () => {
        concat!(
            "p.product_id, p.name, p.category, ",
            amount!("p.price"),
            " AS price, p.currency, p.reorder_point, p.kind, t.quantity_on_hand, t.locations FROM products p
             CROSS JOIN LATERAL (SELECT coalesce(sum(i.quantity_on_hand), 0)::bigint AS quantity_on_hand, count(*) AS locations
                                 FROM inventory i WHERE i.product_id = p.product_id) t"
        )
    };
}

/// Products by id.
///
/// # Errors
/// [`ReadError`].
pub async fn products(
    pool: &PgPool,
    filter: &ProductFilter,
    page: &Page<String>,
) -> Result<Vec<ProductRow>, ReadError> {
    let sql = concat!(
        "SELECT ",
        product_columns!(),
        " WHERE p.product_id > coalesce($1::text, '') AND ($2::text IS NULL OR p.category = $2)
            AND ($3::text IS NULL OR p.product_id ILIKE $3 OR p.name ILIKE $3) ORDER BY p.product_id LIMIT $4"
    );
    let query = sqlx::query_as(sql)
        .bind(&page.after)
        .bind(&filter.category)
        .bind(like(filter.containing.as_deref()))
        .bind(page.limit);
    Ok(query.fetch_all(pool).await?)
}

/// One product; none: it is not in the catalogue.
///
/// # Errors
/// [`ReadError`].
pub async fn product(pool: &PgPool, product_id: &str) -> Result<Option<ProductRow>, ReadError> {
    let sql = concat!("SELECT ", product_columns!(), " WHERE p.product_id = $1");
    Ok(sqlx::query_as(sql).bind(product_id).fetch_optional(pool).await?)
}

/// The stock of a product at a location.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct StockRow {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Its category; may be empty.
    pub category: String,
    /// The location.
    pub location_id: String,
    /// Units on hand; below zero where more was sold than there was.
    pub quantity_on_hand: i64,
    /// The number of changes so far; 0: none yet.
    pub version: i64,
    /// Units at the beginning.
    pub opening_quantity: i64,
    /// At or below it stock is low; null: no alert.
    pub reorder_point: Option<i64>,
    /// How it stands.
    #[schema(example = "in_stock")]
    pub status: String,
    /// When it last changed.
    pub last_updated: DateTime<Utc>,
}

/// Which stock rows are wanted.
#[derive(Debug, Clone, Default)]
pub struct StockFilter {
    /// In this status only.
    pub status: Option<String>,
    /// At this location only.
    pub location_id: Option<String>,
    /// Those whose product's id or name contains it, whatever the case.
    pub containing: Option<String>,
}

/// A stock row's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockKey(
    /// The product.
    pub String,
    /// The location.
    pub String,
);

macro_rules! stock_columns {
    () => {
        "SELECT i.product_id, p.name, p.category, i.location_id, i.quantity_on_hand, i.version, i.opening_quantity,
                p.reorder_point, s.status, i.last_updated
         FROM inventory i JOIN products p USING (product_id)
         CROSS JOIN LATERAL (SELECT CASE WHEN i.quantity_on_hand < 0 THEN 'oversold' WHEN i.quantity_on_hand = 0 THEN 'out'
                                         WHEN i.quantity_on_hand <= p.reorder_point THEN 'low' ELSE 'in_stock' END AS status) s"
    };
}

/// Stock rows by product and location.
///
/// # Errors
/// [`ReadError`].
pub async fn stock(
    pool: &PgPool,
    filter: &StockFilter,
    page: &Page<StockKey>,
) -> Result<Vec<StockRow>, ReadError> {
    // Said of the products, too, the place lets a page begin there and not at the first product; and what is looked for is
    // found among them, who are fewer.
    let sql = concat!(
        stock_columns!(),
        " WHERE (i.product_id, i.location_id) > (coalesce($1::text, ''), coalesce($2::text, ''))
            AND p.product_id >= coalesce($1::text, '') AND ($3::text IS NULL OR s.status = $3)
            AND ($4::text IS NULL OR i.location_id = $4)
            AND ($5::text IS NULL OR p.product_id ILIKE $5 OR p.name ILIKE $5)
          ORDER BY i.product_id, i.location_id LIMIT $6"
    );
    let (product, location) = page.after.as_ref().map(|key| (&key.0, &key.1)).unzip();
    let query = sqlx::query_as(sql)
        .bind(product)
        .bind(location)
        .bind(&filter.status)
        .bind(&filter.location_id)
        .bind(like(filter.containing.as_deref()))
        .bind(page.limit);
    Ok(query.fetch_all(pool).await?)
}

/// A product's stock at every location that has a row of it, at most `limit`.
///
/// # Errors
/// [`ReadError`].
pub async fn product_stock(pool: &PgPool, product_id: &str, limit: i64) -> Result<Vec<StockRow>, ReadError> {
    let sql = concat!(stock_columns!(), " WHERE i.product_id = $1 ORDER BY i.location_id LIMIT $2");
    Ok(sqlx::query_as(sql).bind(product_id).bind(limit).fetch_all(pool).await?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_looked_for_is_no_pattern() {
        assert_eq!(super::like(Some(r"50%_\")).as_deref(), Some(r"%50\%\_\\%"));
        assert_eq!(super::like(None), None);
    }
}
