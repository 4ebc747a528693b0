//! Figures of an installation, for those who watch it. Each is cheap, or bounded, or says how dear it is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Acquire as _, PgConnection, PgPool};

/// After so long a figure is given up: watching must not be what makes a database slow.
const PATIENCE: &str = "SET LOCAL statement_timeout = '10s'";

/// How far a partition of an input topic has been applied.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Applied {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// P: what lies below has met its fate.
    pub next_offset: i64,
}

/// Stock rows that stand alike.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct StockRows {
    /// `in_stock`, `low`, `out` or `oversold`.
    pub status: String,
    /// How many.
    pub rows: i64,
    /// The units in them; below zero where they are oversold.
    pub units: i64,
}

/// Rejected records of a topic that nobody has dealt with yet.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct OpenRejects {
    /// The topic.
    pub topic: String,
    /// How many, at least one.
    pub records: i64,
    /// When the oldest of them was rejected.
    pub oldest: DateTime<Utc>,
}

/// Rejects older than this are no longer looked at, because dealt with or not each costs a look-up; a warning has come daily until then.
const OPEN_REJECTS_SINCE: Duration = Duration::from_hours(90 * 24);
/// No more rejects are counted than this, of all topics.
pub const OPEN_REJECTS_COUNTED: i64 = 10_000;

/// How far each partition has been applied: a few rows, read by key.
///
/// # Errors
/// When the database is away or not migrated.
pub async fn applied(pool: &PgPool) -> Result<Vec<Applied>, sqlx::Error> {
    let sql = "SELECT topic, partition, next_offset FROM partition_progress ORDER BY topic, partition";
    sqlx::query_as(sql).fetch_all(pool).await
}

/// How many stock rows stand how. Reads all of `inventory`: 6 ms for 5,000 rows. An index on the quantity would make every
/// sale's update dearer, so ask seldom.
///
/// # Errors
/// When the database is away or takes longer than 10 s.
pub async fn stock_rows(connection: &mut PgConnection) -> Result<Vec<StockRows>, sqlx::Error> {
    let sql = "SELECT CASE WHEN i.quantity_on_hand < 0 THEN 'oversold' WHEN i.quantity_on_hand = 0 THEN 'out'
            WHEN i.quantity_on_hand <= p.reorder_point THEN 'low' ELSE 'in_stock' END AS status,
            count(*) AS rows, sum(i.quantity_on_hand)::bigint AS units
        FROM inventory i JOIN products p USING (product_id) GROUP BY 1";
    let mut transaction = connection.begin().await?;
    sqlx::query(PATIENCE).execute(&mut *transaction).await?;
    sqlx::query_as(sql).fetch_all(&mut *transaction).await
}

/// The rejects of the last 90 days that were neither replayed nor discarded, and whose event has not been applied since. The index on rejects finds them, and no more than
/// [`OPEN_REJECTS_COUNTED`] are counted, the oldest first.
///
/// # Errors
/// When the database is away or takes longer than 10 s.
pub async fn open_rejects(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
) -> Result<Vec<OpenRejects>, sqlx::Error> {
    let sql = "SELECT topic, count(*) AS records, min(processed_at) AS oldest FROM (
            SELECT l.topic, l.processed_at FROM events_log l
            WHERE l.status = 'rejected' AND l.processed_at >= $1
              AND NOT EXISTS (SELECT 1 FROM applied_events a WHERE a.event_id = l.event_id)
              AND NOT EXISTS (SELECT 1 FROM dlq_actions d WHERE d.topic = l.topic AND d.partition = l.partition
                              AND d.\"offset\" = l.\"offset\" AND d.done_at IS NOT NULL)
            ORDER BY l.processed_at LIMIT $2) AS open GROUP BY topic";
    let mut transaction = connection.begin().await?;
    sqlx::query(PATIENCE).execute(&mut *transaction).await?;
    let since = now - OPEN_REJECTS_SINCE;
    sqlx::query_as(sql).bind(since).bind(OPEN_REJECTS_COUNTED).fetch_all(&mut *transaction).await
}
