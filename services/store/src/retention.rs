//! Retention of `events_log`: whole months that are old enough are dropped, the oldest first, each in a transaction of its own.
//!
//! What has to stay stays, and everything after it, so that the log never has a hole: a month with a record that is not known
//! to be published, or with what a timer put out that is not (rules 6 and 9). In the transaction that drops a month `partition_progress.log_floor` is raised first, so nobody
//! sees the one without the other, and a replay below the floor stops. Nothing else ages out: `applied_events` (the dedupe)
//! and the ledger do not need the log, and are never touched.

use std::time::{Duration, Instant};

use chrono::{DateTime, Datelike as _, Months, NaiveDate, Utc};
use serde::Serialize;
use sqlx::{Acquire as _, AssertSqlSafe, PgConnection, PgPool};

/// How long a statement waits for a lock before it lets the others pass: meanwhile the processors wait behind it.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How long the others are let pass.
const PAUSE: Duration = Duration::from_secs(1);

/// What to drop.
#[derive(Debug, Clone, Copy)]
pub struct RetentionOptions {
    /// Months that ended this long ago, or longer, are dropped.
    pub age: Duration,
    /// The clock.
    pub now: DateTime<Utc>,
    /// Nothing is changed; it is only said what would be.
    pub dry_run: bool,
    /// How long to try to get in between those who use the log.
    pub patience: Duration,
}

impl RetentionOptions {
    /// With five minutes of patience.
    pub fn new(age: Duration, now: DateTime<Utc>, dry_run: bool) -> RetentionOptions {
        RetentionOptions { age, now, dry_run, patience: Duration::from_mins(5) }
    }
}

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What was processed before this is old enough.
    pub before: DateTime<Utc>,
    /// The months that are old enough, oldest first; after one that is kept no further ones are looked at.
    pub months: Vec<Month>,
}

impl Retention {
    /// Rows of the log that were dropped, or would be.
    pub fn rows(&self) -> i64 {
        self.months.iter().filter(|month| month.kept_for.is_none()).map(|month| month.rows).sum()
    }
}

/// A month of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Month {
    /// Its first day, in UTC.
    pub month: NaiveDate,
    /// Its rows in the log.
    pub rows: i64,
    /// What it takes on disk with its indexes, in bytes; 0 where the month has no partition of its own.
    pub bytes: i64,
    /// Why it is kept; none: it was dropped, or would be.
    pub kept_for: Option<String>,
}

/// Why retention did not come to its end. The months before are dropped, and the next run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Somebody reads or writes the log all the time: try again later.
    #[error("the log of {month} is in use, and could not be locked within {patience:?}")]
    InUse {
        /// The month's first day.
        month: NaiveDate,
        /// How long it was tried.
        patience: Duration,
    },
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

/// Drops what is old enough and not needed.
///
/// # Errors
/// [`RetentionError`].
pub async fn run(pool: &PgPool, options: RetentionOptions) -> Result<Retention, RetentionError> {
    let before = months_that_ended_before(options.now, options.age);
    let mut done = Retention { dry_run: options.dry_run, before: instant(before), months: Vec::new() };
    for part in parts(pool, before).await? {
        let month = drop_part(pool, &part, options).await?;
        tracing::info!(month = %month.month, rows = month.rows, bytes = month.bytes, kept_for = month.kept_for,
            dry_run = options.dry_run, "a month of the log is old enough");
        let is_kept = month.kept_for.is_some();
        done.months.push(month);
        if is_kept {
            break;
        }
    }
    Ok(done)
}

/// The first day of the month that an age ago falls into: the months before it ended longer ago.
fn months_that_ended_before(now: DateTime<Utc>, age: Duration) -> NaiveDate {
    let then = chrono::TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age));
    let day = then.unwrap_or(DateTime::UNIX_EPOCH).date_naive();
    day.with_day(1).unwrap_or(day)
}

fn instant(day: NaiveDate) -> DateTime<Utc> {
    day.and_time(chrono::NaiveTime::MIN).and_utc()
}

/// A month of the log, and where its rows are.
#[derive(Debug)]
struct Part {
    month: NaiveDate,
    /// Its own partition; none: they are in the default one.
    partition: Option<String>,
}

impl Part {
    /// Which rows of the log it has; in UTC, as the partitions are.
    fn rows(&self) -> String {
        let next = self.month.checked_add_months(Months::new(1)).unwrap_or(self.month);
        format!("processed_at >= '{}' AND processed_at < '{}'", instant(self.month), instant(next))
    }
}

/// The months before one, oldest first: those with a partition of their own, and those whose rows are in the default one.
async fn parts(pool: &PgPool, before: NaiveDate) -> Result<Vec<Part>, sqlx::Error> {
    let sql = "SELECT month::date, name FROM (
            SELECT to_date(substr(c.relname, 12), 'YYYYMM') AS month, c.relname::text AS name
            FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
            WHERE i.inhparent = 'events_log'::regclass AND c.relname ~ '^events_log_[0-9]{6}$'
            UNION ALL
            SELECT DISTINCT date_trunc('month', processed_at AT TIME ZONE 'UTC')::date, NULL FROM events_log_default
        ) AS parts WHERE month < $1 ORDER BY month, name NULLS LAST";
    let rows: Vec<(NaiveDate, Option<String>)> = sqlx::query_as(sql).bind(before).fetch_all(pool).await?;
    Ok(rows.into_iter().map(|(month, partition)| Part { month, partition }).collect())
}

/// Of an input partition, how many rows a month has, the highest offset, and the highest number of what a timer put out, or 0.
type Extent = (String, i32, i64, i64, i64);

async fn drop_part(pool: &PgPool, part: &Part, options: RetentionOptions) -> Result<Month, RetentionError> {
    let in_use = || RetentionError::InUse { month: part.month, patience: options.patience };
    let deadline = Instant::now() + options.patience;
    let mut transaction = pool.begin().await?;
    if !options.dry_run {
        // What is counted has to stay as it is, and only a writer of so old a month would meet this lock.
        wait_for_locks(&mut transaction, options.patience).await?;
        let frozen = of_month(&mut transaction, "SELECT lock_events_log_month($1)", part).await;
        frozen.map_err(|error| if lost_a_race(&error) { in_use() } else { error.into() })?;
        wait_for_locks(&mut transaction, LOCK_WAIT).await?;
    }
    let (extents, bytes) = count(&mut transaction, part).await?;
    let rows = extents.iter().map(|(_, _, rows, ..)| rows).sum();
    let month = |kept_for| Month { month: part.month, rows, bytes, kept_for };
    if options.dry_run {
        return Ok(month(needed_for(&mut transaction, &extents).await?));
    }
    loop {
        let mut attempt = transaction.begin().await?;
        match try_drop(&mut attempt, part, &extents).await {
            Ok(None) => {
                attempt.commit().await?;
                transaction.commit().await?;
                return Ok(month(None));
            }
            Ok(kept_for) => return Ok(month(kept_for)),
            Err(error) if !lost_a_race(&error) => return Err(error.into()),
            Err(_) if Instant::now() + PAUSE > deadline => return Err(in_use()),
            Err(error) => tracing::debug!(month = %part.month, "the log is in use: {error}"),
        }
        attempt.rollback().await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a month holds, and what it takes on disk.
async fn count(connection: &mut PgConnection, part: &Part) -> Result<(Vec<Extent>, i64), sqlx::Error> {
    let sql = format!(
        "SELECT topic, partition, count(*), max(\"offset\"), coalesce(max(timer_seq), 0) FROM events_log WHERE {} GROUP BY 1, 2 ORDER BY 1, 2",
        part.rows()
    );
    let extents = sqlx::query_as(AssertSqlSafe(sql)).fetch_all(&mut *connection).await?;
    let Some(name) = &part.partition else { return Ok((extents, 0)) };
    let sql = "SELECT pg_total_relation_size($1::regclass)";
    Ok((extents, sqlx::query_scalar(sql).bind(name).fetch_one(connection).await?))
}

/// Drops a month, unless it has to stay: then why. The locks are taken in the processors' order, the progress before the log.
async fn try_drop(
    connection: &mut PgConnection,
    part: &Part,
    extents: &[Extent],
) -> Result<Option<String>, sqlx::Error> {
    let lock = "SELECT 1 FROM partition_progress ORDER BY topic, partition FOR UPDATE";
    sqlx::query(lock).fetch_all(&mut *connection).await?;
    if let Some(needed_for) = needed_for(connection, extents).await? {
        return Ok(Some(needed_for));
    }
    raise_floor(connection, extents).await?;
    crate::report::keep_rejects(connection, &part.rows()).await?;
    of_month(connection, "SELECT drop_events_log_month($1)", part).await?;
    Ok(None)
}

/// Calls a function that does with the owner's rights what the jobs' role must not do by itself.
async fn of_month(connection: &mut PgConnection, call: &'static str, part: &Part) -> Result<(), sqlx::Error> {
    sqlx::query(call).bind(part.month).execute(connection).await?;
    Ok(())
}

/// Why rows up to these offsets have to stay, if they have to.
async fn needed_for(
    connection: &mut PgConnection,
    extents: &[Extent],
) -> Result<Option<String>, sqlx::Error> {
    let sql = "SELECT topic, partition, coalesce(published_offset, start_offset), timer_published FROM partition_progress";
    let published: Vec<(String, i32, i64, i64)> = sqlx::query_as(sql).fetch_all(connection).await?;
    let needed = extents.iter().find_map(|(topic, partition, _, last, timer)| {
        let known = published.iter().find(|(t, p, ..)| (t, p) == (topic, partition));
        match known.map(|(_, _, below, numbers)| (*below, *numbers)) {
            None => Some(format!("{topic}-{partition} has rows in it and no progress")),
            Some((below, _)) if *last >= below => Some(format!(
                "{topic}-{partition}@{last} is in it, and only what lies below {below} is known to be published"
            )),
            Some((_, numbers)) => (*timer > numbers).then(|| {
                format!("number {timer} of the timer of {topic}-{partition} is in it, and only {numbers} is known to be published")
            }),
        }
    });
    Ok(needed)
}

async fn raise_floor(connection: &mut PgConnection, extents: &[Extent]) -> Result<(), sqlx::Error> {
    let sql = "UPDATE partition_progress p SET log_floor = greatest(p.log_floor, u.last + 1)
        FROM unnest($1::text[], $2::int[], $3::bigint[]) AS u(topic, partition, last)
        WHERE p.topic = u.topic AND p.partition = u.partition";
    let (topics, partitions) = keys(extents);
    let lasts: Vec<i64> = extents.iter().map(|(_, _, _, last, _)| *last).collect();
    sqlx::query(sql).bind(topics).bind(partitions).bind(lasts).execute(connection).await?;
    Ok(())
}

fn keys(extents: &[Extent]) -> (Vec<&str>, Vec<i32>) {
    extents.iter().map(|(topic, partition, ..)| (topic.as_str(), *partition)).unzip()
}

async fn wait_for_locks(connection: &mut PgConnection, at_most: Duration) -> Result<(), sqlx::Error> {
    execute(connection, format!("SET LOCAL lock_timeout = {}", at_most.as_millis().max(1))).await
}

async fn execute(connection: &mut PgConnection, sql: String) -> Result<(), sqlx::Error> {
    sqlx::query(AssertSqlSafe(sql)).execute(connection).await?;
    Ok(())
}

/// A lock that was not had, or a deadlock that was ended at our cost.
fn lost_a_race(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.is_some_and(|code| code == "55P03" || code == "40P01")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_month_is_old_enough_when_its_last_moment_is() {
        let at = |now: &str, days: u64| {
            months_that_ended_before(now.parse().unwrap(), Duration::from_hours(24 * days)).to_string()
        };
        assert_eq!(at("2026-03-31T23:59:59Z", 30), "2026-03-01");
        assert_eq!(at("2026-03-30T23:59:59Z", 30), "2026-02-01");
        assert_eq!(at("2026-03-31T00:00:00Z", 30), "2026-03-01");
        assert_eq!(at("2026-04-30T23:59:59Z", 30), "2026-03-01");
        assert_eq!(at("2026-01-01T00:00:00Z", 1), "2025-12-01");
    }
}
