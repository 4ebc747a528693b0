//! A product's movements, the newest first.
//!
//! The ledger has no index by product: one would cost every line that is written, for the sake of a look now and then. Instead
//! it is walked backwards in stretches of time that grow, each found by its index of block ranges; the ranges that do not
//! hold the product are left out by the Bloom filters of another (migration 0006).

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, ReadError};

/// The first stretch that is looked at.
const FIRST_STRETCH: TimeDelta = TimeDelta::seconds(1);
/// By what each stretch is longer than the one before.
const GROWTH: i32 = 8;
/// Beyond it the rest is looked at in one.
const LONGEST_STRETCH: TimeDelta = TimeDelta::days(366);

/// A line that moved stock.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct Movement {
    /// When it was applied.
    pub processed_at: DateTime<Utc>,
    /// When it happened, by its own account.
    pub occurred_at: DateTime<Utc>,
    /// The location.
    pub location_id: String,
    /// `sale`, `cancellation`, `return`, `received` or `adjustment`.
    pub kind: String,
    /// Units that this line added or (negative) took.
    pub line_delta: i64,
    /// Units that its whole event added to or took from this stock row: lines of one event on one row share it.
    pub delta: i64,
    /// Units on hand after the event.
    pub quantity_after: i64,
    /// The stock row's version after the event.
    pub version: i64,
    /// How the stock row stood after the event.
    pub stock_status: String,
    /// The input topic.
    pub source: String,
    /// The order, sale or restock.
    pub business_id: String,
    /// The line's number within it.
    pub line_no: i32,
    /// The event.
    pub event_id: Uuid,
    /// The record's partition.
    pub partition: i32,
    /// The record's offset.
    pub offset: i64,
}

/// What orders movements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovementKey(
    /// processed_at.
    pub DateTime<Utc>,
    /// version.
    pub i64,
    /// location_id.
    pub String,
    /// source.
    pub String,
    /// partition.
    pub i32,
    /// offset.
    pub i64,
    /// line_no.
    pub i32,
);

impl Movement {
    /// Its place in the order.
    pub fn key(&self) -> MovementKey {
        MovementKey(
            self.processed_at,
            self.version,
            self.location_id.clone(),
            self.source.clone(),
            self.partition,
            self.offset,
            self.line_no,
        )
    }
}

/// The movements of a product, at one location or at all, the newest first.
///
/// # Errors
/// [`ReadError`].
pub async fn movements(
    pool: &PgPool,
    product_id: &str,
    location_id: Option<&str>,
    page: &Page<MovementKey>,
) -> Result<Vec<Movement>, ReadError> {
    let mut found: Vec<Movement> = Vec::new();
    let Some(newest) = newest(pool, product_id, location_id).await? else { return Ok(found) };
    // A key that is not ours may name any time.
    let mut until = page.after.as_ref().map_or(newest, |key| key.0.min(newest));
    let mut stretch = FIRST_STRETCH;
    loop {
        let from = until.checked_sub_signed(stretch).filter(|_| stretch <= LONGEST_STRETCH);
        let wanted = page.limit - found.len() as i64;
        let part = Stretch { product_id, location_id, after: page.after.as_ref(), from, until };
        found.extend(part.read(pool, wanted).await?);
        match from {
            Some(from) if (found.len() as i64) < page.limit => until = from,
            _ => return Ok(found),
        }
        stretch = stretch * GROWTH;
    }
}

/// When the product's stock last changed; none: it never moved.
async fn newest(
    pool: &PgPool,
    product_id: &str,
    location_id: Option<&str>,
) -> Result<Option<DateTime<Utc>>, ReadError> {
    let sql = "SELECT max(last_updated) FROM inventory
               WHERE product_id = $1 AND version > 0 AND ($2::text IS NULL OR location_id = $2)";
    Ok(sqlx::query_scalar(sql).bind(product_id).bind(location_id).fetch_one(pool).await?)
}

struct Stretch<'a> {
    product_id: &'a str,
    location_id: Option<&'a str>,
    after: Option<&'a MovementKey>,
    /// Not included; none: from the beginning.
    from: Option<DateTime<Utc>>,
    /// Included.
    until: DateTime<Utc>,
}

impl Stretch<'_> {
    async fn read(&self, pool: &PgPool, limit: i64) -> Result<Vec<Movement>, ReadError> {
        let sql = "SELECT processed_at, occurred_at, location_id, kind, line_delta, delta, quantity_after, version,
                   stock_status, source, business_id, line_no, event_id, partition, \"offset\"
            FROM stock_movements
            WHERE product_id = $1 AND ($2::text IS NULL OR location_id = $2)
              AND processed_at > coalesce($3, '-infinity') AND processed_at <= $4
              AND ($5::bigint IS NULL OR (processed_at, version, location_id, source, partition, \"offset\", line_no)
                                       < ($6, $5, $7, $8, $9, $10, $11))
            ORDER BY processed_at DESC, version DESC, location_id DESC, source DESC, partition DESC, \"offset\" DESC,
                     line_no DESC
            LIMIT $12";
        let key = self.after;
        let query = sqlx::query_as(sql)
            .bind(self.product_id)
            .bind(self.location_id)
            .bind(self.from)
            .bind(self.until)
            .bind(key.map(|k| k.1))
            .bind(key.map(|k| k.0))
            .bind(key.map(|k| &k.2))
            .bind(key.map(|k| &k.3))
            .bind(key.map(|k| k.4))
            .bind(key.map(|k| k.5))
            .bind(key.map(|k| k.6))
            .bind(limit);
        Ok(query.fetch_all(pool).await?)
    }
}
