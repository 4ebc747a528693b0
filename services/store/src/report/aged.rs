//! What a report says of records that are not in the log any more.

use sqlx::{AssertSqlSafe, PgConnection};

/// Counts rejected records by the day on which they were processed, by topic and by reason, before the rows `which` of the log
/// are removed, in the same transaction.
pub(crate) async fn keep_rejects(connection: &mut PgConnection, which: &str) -> Result<(), sqlx::Error> {
    let sql = format!(
        "INSERT INTO rejects_by_day AS kept (day, topic, reason, records)
         SELECT (processed_at AT TIME ZONE i.timezone)::date, topic, coalesce(reason, ''), count(*)
         FROM events_log CROSS JOIN installation i WHERE status = 'rejected' AND {which} GROUP BY 1, 2, 3
         ON CONFLICT (day, topic, reason) DO UPDATE SET records = kept.records + excluded.records"
    );
    // Names and bounds of the log's own partitions.
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}
