//! Rejected records, as the log keeps them: what `dlq` is made from.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Page, ReadError};

/// So many bytes of a record's value are shown in a list.
pub const SHOWN_BYTES: i32 = 4_096;

/// A rejected record.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RejectRow {
    /// When it was rejected.
    pub processed_at: DateTime<Utc>,
    /// The input topic.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// Its offset.
    pub offset: i64,
    /// The reason's stable code.
    pub reason: Option<String>,
    /// What exactly was wrong.
    pub detail: Option<String>,
    /// The event_id, where one could be read.
    pub event_id: Option<Uuid>,
    /// Whether card numbers were masked.
    pub redacted: bool,
    /// The first [`SHOWN_BYTES`] of the record's key.
    pub record_key: Option<Vec<u8>>,
    /// The key's whole length.
    pub key_bytes: Option<i32>,
    /// The first [`SHOWN_BYTES`] of its value; none: a tombstone.
    pub value: Option<Vec<u8>>,
    /// The value's whole length.
    pub value_bytes: Option<i32>,
    /// What became of it: open, pending, replayed, applied or discarded.
    pub state: String,
    /// The last thing that was done with it: replayed or discarded.
    pub action: Option<String>,
    /// When that was done.
    pub handled_at: Option<DateTime<Utc>>,
    /// By whom.
    pub handled_by: Option<String>,
    /// Why, in their words.
    pub note: Option<String>,
    /// Where the replayed record lies, in the same partition.
    pub sent_offset: Option<i64>,
    /// How often it had been replayed before it was rejected here.
    pub replays: i32,
    /// Its earlier rejects as JSON, the latest first; none where it had not been replayed.
    pub history: Option<String>,
}

/// What orders rejected records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RejectKey(
    /// processed_at.
    pub DateTime<Utc>,
    /// topic.
    pub String,
    /// partition.
    pub i32,
    /// offset.
    pub i64,
);

impl RejectRow {
    /// Its place in the order.
    pub fn key(&self) -> RejectKey {
        RejectKey(self.processed_at, self.topic.clone(), self.partition, self.offset)
    }
}

/// Which rejected records are wanted.
#[derive(Debug, Clone, Default)]
pub struct RejectFilter {
    /// Of this reason only.
    pub reason: Option<String>,
    /// Of this input topic only.
    pub topic: Option<String>,
}

/// Rejected records, the newest first.
///
/// # Errors
/// [`ReadError`].
pub async fn rejects(
    pool: &PgPool,
    filter: &RejectFilter,
    page: &Page<RejectKey>,
) -> Result<Vec<RejectRow>, ReadError> {
    let sql =
        "SELECT r.rejected_at AS processed_at, r.topic, r.partition, r.\"offset\", r.reason, r.detail, r.event_id, r.redacted,
               substring(r.record_key FROM 1 FOR $8) AS record_key, octet_length(r.record_key) AS key_bytes,
               substring(r.raw_event FROM 1 FOR $8) AS value, octet_length(r.raw_event) AS value_bytes,
               r.state, r.action, r.handled_at, r.handled_by, r.note, r.sent_offset, r.replays,
               CASE WHEN r.replays > 0 THEN (SELECT jsonb_agg(to_jsonb(h))::text
                    FROM dlq_history(r.topic, r.partition, r.\"offset\") h) END AS history
        FROM dlq_records r
        WHERE r.rejected_at <= coalesce($1::timestamptz, 'infinity')
          AND ($1 IS NULL OR (r.rejected_at, r.topic, r.partition, r.\"offset\") < ($1, $2, $3, $4))
          AND ($5::text IS NULL OR r.reason = $5) AND ($6::text IS NULL OR r.topic = $6)
        ORDER BY r.rejected_at DESC, r.topic DESC, r.partition DESC, r.\"offset\" DESC LIMIT $7";
    let key = page.after.as_ref();
    let query = sqlx::query_as(sql)
        .bind(key.map(|k| k.0))
        .bind(key.map(|k| &k.1))
        .bind(key.map(|k| k.2))
        .bind(key.map(|k| k.3))
        .bind(&filter.reason)
        .bind(&filter.topic)
        .bind(page.limit)
        .bind(SHOWN_BYTES);
    Ok(query.fetch_all(pool).await?)
}

/// How many records were rejected for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema, sqlx::FromRow)]
pub struct ReasonCount {
    /// The input topic.
    pub topic: String,
    /// The reason's stable code.
    pub reason: String,
    /// How many.
    pub records: i64,
    /// When the last one was.
    pub last_at: DateTime<Utc>,
}

/// The reasons of what was rejected since a moment, most first.
///
/// # Errors
/// [`ReadError`].
pub async fn reasons(pool: &PgPool, since: DateTime<Utc>) -> Result<Vec<ReasonCount>, ReadError> {
    let sql = "SELECT topic, coalesce(reason, '') AS reason, count(*) AS records, max(processed_at) AS last_at FROM events_log
        WHERE status = 'rejected' AND processed_at >= $1 GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2";
    Ok(sqlx::query_as(sql).bind(since).fetch_all(pool).await?)
}
