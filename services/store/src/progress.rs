//! Where each partition stands.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use stocktide_domain::Source;

use crate::apply::Partition;
use crate::error::StoreError;
use crate::writer::Writer;

/// Up to where a partition is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    /// What lies below it is published.
    pub offset: i64,
    /// When the batch that ended there was processed, or the tick after it.
    pub processed_at: DateTime<Utc>,
    /// What a timer put out under numbers up to this one is published.
    pub timer_seq: i64,
}

/// A partition's row of `partition_progress`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// Where this installation began to read the partition.
    pub start_offset: i64,
    /// P: what lies below has met its fate.
    pub next_offset: i64,
    /// A hint: what lies below has been published.
    pub published_offset: Option<i64>,
    /// When the batch that ended at `published_offset` was processed.
    pub published_at: Option<DateTime<Utc>>,
    /// The last record that met its fate, and the SHA-256 of its value.
    pub last: Option<(i64, Vec<u8>)>,
    /// Below it the log may have aged out.
    pub log_floor: i64,
    /// The number of the last output that a timer made.
    pub timer_seq: i64,
    /// A hint: what a timer put out under numbers up to this one has been published.
    pub timer_published: i64,
}

impl Position {
    /// No output above `published_offset` is older than this.
    pub fn searched_from(&self) -> DateTime<Utc> {
        self.published_at.unwrap_or(DateTime::UNIX_EPOCH)
    }
}

impl Writer {
    /// The positions of some partitions. One that was never read begins at the log's start as given.
    pub async fn positions(
        &self,
        starts: &BTreeMap<Partition, i64>,
    ) -> Result<BTreeMap<Partition, Position>, StoreError> {
        let topics: Vec<&str> = starts.keys().map(|(source, _)| source.topic()).collect();
        let partitions: Vec<i32> = starts.keys().map(|(_, partition)| *partition).collect();
        let offsets: Vec<i64> = starts.values().copied().collect();
        let create = "INSERT INTO partition_progress (topic, partition, start_offset, next_offset, log_floor)
            SELECT topic, partition, start_offset, start_offset, start_offset
            FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, start_offset)
            ON CONFLICT (topic, partition) DO NOTHING";
        self.client.execute(create, &[&topics, &partitions, &offsets]).await?;
        let read = "SELECT p.topic, p.partition, p.start_offset, p.next_offset, p.published_offset, p.published_at,
                p.last_offset, p.last_digest, p.log_floor, p.timer_seq, p.timer_published
            FROM partition_progress p JOIN unnest($1::text[], $2::int[]) AS u(topic, partition) USING (topic, partition)";
        let mut positions = BTreeMap::new();
        for row in self.client.query(read, &[&topics, &partitions]).await? {
            let topic: &str = row.try_get(0)?;
            let last = row.try_get::<_, Option<i64>>(6)?.zip(row.try_get::<_, Option<Vec<u8>>>(7)?);
            let position = Position {
                start_offset: row.try_get(2)?,
                next_offset: row.try_get(3)?,
                published_offset: row.try_get(4)?,
                published_at: row.try_get(5)?,
                last,
                log_floor: row.try_get(8)?,
                timer_seq: row.try_get(9)?,
                timer_published: row.try_get(10)?,
            };
            if let Some(source) = Source::from_topic(topic) {
                positions.insert((source, row.try_get(1)?), position);
            }
        }
        if positions.len() == starts.len() {
            return Ok(positions);
        }
        Err(StoreError::Lost(format!("{} progress rows were read of {}", positions.len(), starts.len())))
    }

    /// Writes the hint of what is published: for a processor that ends, so that the next one need not search far.
    pub async fn note_published(&self, published: &BTreeMap<Partition, Published>) -> Result<(), StoreError> {
        let topics: Vec<&str> = published.keys().map(|(source, _)| source.topic()).collect();
        let partitions: Vec<i32> = published.keys().map(|(_, partition)| *partition).collect();
        let offsets: Vec<i64> = published.values().map(|published| published.offset).collect();
        let times: Vec<DateTime<Utc>> = published.values().map(|published| published.processed_at).collect();
        let timers: Vec<i64> = published.values().map(|published| published.timer_seq).collect();
        // Where only the timer's number has risen the time stays: it bounds the search from below, and is older.
        let sql = "UPDATE partition_progress p SET published_offset = u.published_offset,
                published_at = CASE WHEN u.published_offset > coalesce(p.published_offset, -1) THEN u.published_at
                                    ELSE p.published_at END,
                timer_published = greatest(p.timer_published, u.timer_published)
            FROM unnest($1::text[], $2::int[], $3::bigint[], $4::timestamptz[], $5::bigint[])
                AS u(topic, partition, published_offset, published_at, timer_published)
            WHERE p.topic = u.topic AND p.partition = u.partition
              AND (u.published_offset, u.timer_published) > (coalesce(p.published_offset, -1), p.timer_published)
              AND u.published_offset >= coalesce(p.published_offset, -1)
              AND u.published_offset <= p.next_offset AND u.timer_published <= p.timer_seq";
        self.client.execute(sql, &[&topics, &partitions, &offsets, &times, &timers]).await?;
        Ok(())
    }

    /// Makes the log's partitions of this month and the next, so that no row has to fall into the default one.
    pub async fn prepare_log(&self, now: DateTime<Utc>) -> Result<(), StoreError> {
        let sql =
            "SELECT ensure_events_log_partition($1), ensure_events_log_partition($1 + interval '1 month')";
        self.client.execute(sql, &[&now]).await?;
        Ok(())
    }
}
