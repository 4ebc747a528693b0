//! Some of a day's rejected records, masked before they leave this crate.

use sqlx::PgPool;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::masked::{LOOKED_INTO_BYTES, MaskedReject};

/// As it is read: topic, reason, the value's beginning, the length of the whole.
type Row = (String, String, Option<Vec<u8>>, Option<i64>);

/// Up to `at_most` records that were rejected on a day: at most three of each topic and reason, and the first of each before
/// the second of any. Only the day's first 5,000 are looked at, however many there are.
///
/// # Errors
/// The database fails.
pub async fn masked_rejects(
    pool: &PgPool,
    day: BusinessDay,
    at_most: u32,
) -> Result<Vec<MaskedReject>, sqlx::Error> {
    let sql = "WITH first AS (
            SELECT topic, partition, \"offset\", coalesce(reason, '') AS reason, raw_event FROM events_log
            WHERE status = 'rejected' AND processed_at >= $1 AND processed_at < $2
            ORDER BY processed_at, topic, partition, \"offset\" LIMIT 5000
        ), ranked AS (
            SELECT *, row_number() OVER (PARTITION BY topic, reason ORDER BY partition, \"offset\") AS nth FROM first
        )
        SELECT topic, reason, substring(raw_event FOR $3), length(raw_event)::bigint
        FROM ranked WHERE nth <= 3 ORDER BY nth, topic, reason, partition, \"offset\" LIMIT $4";
    let rows: Vec<Row> = sqlx::query_as(sql)
        .bind(day.start)
        .bind(day.end)
        .bind(i32::try_from(LOOKED_INTO_BYTES).unwrap_or(i32::MAX))
        .bind(i64::from(at_most))
        .fetch_all(pool)
        .await?;
    let masked = rows.iter().map(|(topic, reason, beginning, bytes)| {
        MaskedReject::of(topic, reason, beginning.as_deref(), bytes.and_then(|b| u64::try_from(b).ok()))
    });
    Ok(masked.collect())
}
