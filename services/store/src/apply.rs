//! One batch, one transaction.
//!
//! Four flights, however many records the batch holds: lock and look up; what the orders that come back consist of
//! (only where some do); log, dedupe, headers, rollups and stock; lines, progress and COMMIT. Within a flight each COPY that has rows
//! waits once more, for the server to be ready for them. The database is what limits a backlog, so it is kept busy: its rows are made
//! while it reads the ones before, and the batch is settled while it reads the log. One lock order holds for
//! all processors (rule 8): progress, known orders, event_ids, new orders, rollups, payments, stock, payments that wait, each
//! ascending.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::{try_join, try_join_all, try_join3};
use rustc_hash::{FxHashMap, FxHashSet};
use stocktide_domain::fold::{self, Fate, Folding, Known, Settled};
use stocktide_domain::{Money, Reason, Source};
use uuid::Uuid;

use crate::broken::{self, Broken};
use crate::copy::{Copying, ROWS_AT_A_TIME};
use crate::error::StoreError;
use crate::lookups::Orders;
use crate::outputs::{self, Output};
use crate::progress::Published;
use crate::rows;
use crate::writer::Writer;
use crate::{lookups, reads};

/// A partition of an input topic.
pub type Partition = (Source, i32);

/// A record as it came from Kafka.
#[derive(Debug, Clone, Default)]
pub struct RawRecord {
    /// Its offset.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none for a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Headers,
}

/// Names and values of a record's headers.
pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A batch, or a part of one: the records and, in step with them, what decoding said.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// The records as they came.
    pub raw: &'a [RawRecord],
    /// The same, decoded.
    pub decoded: &'a [fold::Record],
    /// Per partition in the batch, what it does to the progress.
    pub spans: &'a BTreeMap<Partition, Span>,
    /// The processor's clock.
    pub now: DateTime<Utc>,
}

/// What a batch does to one partition's progress.
#[derive(Debug, Clone)]
pub struct Span {
    /// The position carried over from the batch before (rule 4): the database must be exactly there.
    pub expected: i64,
    /// Of a partition of payments the number of the last output that the timer made: the database must be exactly there, too. The
    /// timer may have made more of which its processor does not know, if the answer to COMMIT was lost; nothing may be noted as
    /// published after that before these are.
    pub timer_seq: Option<i64>,
    /// The position after the batch.
    pub next: i64,
    /// The offset of the last record.
    pub last_offset: i64,
    /// SHA-256 of the last record's value.
    pub last_digest: Vec<u8>,
    /// Up to where the outputs are known to be published.
    pub published: Option<Published>,
}

/// A batch that is in.
#[derive(Debug)]
pub struct Applied {
    /// What has to be published.
    pub outputs: Vec<Output>,
    /// When: the batch's timestamp in every table.
    pub processed_at: DateTime<Utc>,
    /// What became of its records.
    pub counts: Counts,
    /// How long it took.
    pub timings: Timings,
}

/// How long the parts of a batch's transaction took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timings {
    /// The fence and the look-ups, with the waiting for locks.
    pub look_up: Duration,
    /// Settling the records' fates; no database.
    pub settle: Duration,
    /// Log, dedupe, headers, rollups and stock.
    pub write: Duration,
    /// Lines, progress and COMMIT.
    pub commit: Duration,
    /// Times that the database was waited for.
    pub round_trips: u32,
}

/// What became of records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Applied.
    pub applied: BTreeMap<Source, u64>,
    /// Duplicates.
    pub duplicates: BTreeMap<Source, u64>,
    /// Rejected.
    pub rejected: BTreeMap<(Source, Reason), u64>,
    /// Orders whose stated value was corrected.
    pub value_mismatches: u64,
    /// The first of them.
    pub corrected: Option<Box<Corrected>>,
    /// Payments that wait for their order.
    pub parked: u64,
    /// Applied payments whose amount is not their order's value.
    pub amount_mismatches: u64,
    /// Stock rows below zero, at zero or low after a change that brought them there.
    pub oversold: u64,
}

/// An order or a sale whose stated value was not the sum of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corrected {
    /// Its topic.
    pub source: Source,
    /// The order, or the store's sale.
    pub order_id: String,
    /// What the producer stated.
    pub stated: Money,
    /// Σ quantity × price: what holds.
    pub value: Money,
}

impl Writer {
    /// Applies a batch, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError`]; whatever it is, the transaction is rolled back, or, where the answer to COMMIT was lost, the
    /// progress tells at the next attempt which way it went.
    pub async fn apply(&mut self, batch: Batch<'_>) -> Result<Applied, StoreError> {
        self.warned.store(false, Ordering::SeqCst);
        // On the heap: with all that is under way at once it is large.
        let applied = Box::pin(self.attempt(batch)).await;
        match &applied {
            // Rule 5: a COMMIT that answers with a warning may not be durable.
            Ok(_) if self.warned.swap(false, Ordering::SeqCst) => {
                return Err(StoreError::Doubtful("see the log for its text".to_owned()));
            }
            Ok(_) => self.look_up_orders = self.look_up_orders.saturating_sub(1),
            // The code 25P02 hides which key it was.
            Err(StoreError::Contended(text))
                if text.contains("order_headers_pkey") || text.contains("25P02") =>
            {
                self.look_up_orders = 100;
            }
            Err(_) => {}
        }
        if applied.is_err() {
            self.roll_back().await;
        }
        applied
    }

    async fn attempt(&mut self, batch: Batch<'_>) -> Result<Applied, StoreError> {
        self.round_trips.store(0, Ordering::Relaxed);
        let mut stopwatch = Stopwatch(Instant::now());
        let Found { orders, applied: applied_ids, payments, last_processed_at, payments_wait } =
            self.lock_and_look_up(batch).await?;
        let orders = orders.load_lines(self, batch.decoded).await?;
        let stock =
            if self.options.reject_uncovered { Some(lookups::lock_stock(self, batch).await?) } else { None };
        let look_up = stopwatch.lap();
        // Monotonic within a partition whatever the clock does: recovery searches by it.
        let processed_at = last_processed_at.map_or(batch.now, |last| last.max(batch.now));
        let known = Known {
            catalogue: &self.catalogue,
            applied: &applied_ids,
            orders: &orders.known,
            returned: &orders.returned,
            stock: stock.as_ref(),
            payments: &payments,
            payments_may_wait: !self.options.payments_wait.is_zero(),
            timezone: self.options.timezone,
        };
        self.waited();
        let Settling { settled, log, took: settle } = self.settle(batch, &known, processed_at).await?;
        let catalogue = &self.catalogue;
        let written = rows::Written { batch, settled: &settled, catalogue, processed_at, payments_wait };
        let finals = written.write_facts(self, log).await?;
        let write = stopwatch.lap().saturating_sub(settle);
        let after = settled.running(&finals);
        self.waited();
        // COMMIT goes out in the same flight: should anything before it fail, the server makes it a rollback.
        let commit = async { Ok(self.client.batch_execute("COMMIT").await?) };
        // What is to be published is made while the server reads the lines.
        let outputs = outputs::of_batch(batch, &written, &after);
        let ((), (), outputs) = try_join3(written.write_lines(self, &after), commit, outputs).await?;

        if broken::is(Broken::RollupsApart) {
            Box::pin(written.write_rollups(self)).await?;
        }

        let commit = stopwatch.lap();
        let round_trips = self.round_trips.load(Ordering::Relaxed);
        let timings = Timings { look_up, settle, write, commit, round_trips };

        let counts = count(batch, &settled, &after);
        Ok(Applied { outputs, processed_at, counts, timings })
    }

    /// Settles the records; meanwhile the server reads the log's rows of those that are settled.
    async fn settle<'a>(
        &'a self,
        batch: Batch<'a>,
        known: &'a Known<'a>,
        processed_at: DateTime<Utc>,
    ) -> Result<Settling<'a>, StoreError> {
        let records = batch.decoded.len();
        let mut folding = Folding::new(batch.decoded, known);
        let mut log = Copying::new(self, &self.sql.copy_log);
        let (mut took, mut from) = (Duration::ZERO, 0);
        // This negative control has something to delete first, and a COPY under way lets nothing pass.
        let at_a_time = if broken::is(Broken::BatchDedupe) { records } else { ROWS_AT_A_TIME };
        while from < records {
            let begun = Instant::now();
            let fates = folding.settle(at_a_time);
            took += begun.elapsed();
            if broken::is(Broken::BatchDedupe) {
                self.free(batch, fates).await?;
            }
            for rows in rows::log(batch, fates, from, processed_at, |source| source != Source::Payments) {
                log.feed(rows?).await?;
            }
            from += fates.len();
        }
        let begun = Instant::now();
        let fates = folding.settle_payments();
        took += begun.elapsed();
        for rows in rows::log(batch, fates, 0, processed_at, |source| source == Source::Payments) {
            log.feed(rows?).await?;
        }
        let begun = Instant::now();
        let settled = folding.finish();
        Ok(Settling { settled, log, took: took + begun.elapsed() })
    }

    /// For a negative control: what is applied twice is written once more, and nothing but its effect tells.
    async fn free(&self, batch: Batch<'_>, fates: &[Fate]) -> Result<(), StoreError> {
        let applied = batch.decoded.iter().zip(fates);
        let applied = applied.filter(|(_, fate)| matches!(fate, Fate::Applied | Fate::Parked));
        let ids: Vec<Uuid> = applied.filter_map(|(r, _)| Some(r.decoded.as_ref().ok()?.event_id)).collect();
        self.client.execute(&self.sql.free_events, &[&ids]).await?;
        Ok(())
    }

    /// The first flight: the fence, the dedupe's look-up, the catalogue's version and the orders and payments that are referred
    /// to.
    async fn lock_and_look_up(&mut self, batch: Batch<'_>) -> Result<Found, StoreError> {
        let ids = sorted_event_ids(batch.decoded);
        let wanted =
            lookups::Wanted::of(batch.decoded, self.options.reject_uncovered || self.look_up_orders > 0);
        self.waited();
        let this = &*self;
        let begin = async { Ok(this.client.batch_execute("BEGIN").await?) };
        let fence = this.lock_progress(batch.spans);
        let lookups = async {
            let applied = async { Ok(this.client.query(&this.sql.applied, &[&ids]).await?) };
            let version = async { Ok(this.client.query_one(&this.sql.catalogue_version, &[]).await?) };
            try_join(applied, version).await
        };
        let orders = try_join_all(wanted.queries().map(|query| query.run(this)));
        let payments = lookups::payments(this, batch.decoded);
        let (((), last_processed_at), ((applied, version), (orders, payments))) =
            try_join(try_join(begin, fence), try_join(lookups, try_join(orders, payments))).await?;
        let payments_wait = version.try_get(1)?;
        let mut applied = applied.iter().map(|row| row.try_get(0)).collect::<Result<FxHashSet<_>, _>>()?;
        if broken::is(Broken::BatchDedupe) {
            applied.clear();
        }
        let version: i64 = version.try_get(0)?;
        if version != self.catalogue.version {
            self.waited();
            self.catalogue = reads::catalogue(&self.client).await?;
        }
        Ok(Found { orders: Orders::of(orders)?, applied, payments, last_processed_at, payments_wait })
    }

    /// Locks the batch's progress rows and checks that each is where the batch begins (rule 4), and that the timer has put out nothing
    /// that its processor does not know of (rule 6): a late writer gets no further.
    async fn lock_progress(
        &self,
        spans: &BTreeMap<Partition, Span>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let topics: Vec<&str> = spans.keys().map(|(source, _)| source.topic()).collect();
        let partitions: Vec<i32> = spans.keys().map(|(_, partition)| *partition).collect();
        let rows = self.client.query(&self.sql.lock_progress, &[&topics, &partitions]).await?;
        if rows.len() != spans.len() {
            return Err(StoreError::Stop(format!(
                "{} progress rows are there of {}",
                rows.len(),
                spans.len()
            )));
        }
        let mut latest = None;
        for row in rows {
            let (topic, partition, found): (String, i32, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let span = Source::from_topic(&topic).and_then(|source| spans.get(&(source, partition)));
            let expected = span.map(|span| span.expected);
            if expected != Some(found) && !broken::is(Broken::FenceOff) {
                return Err(StoreError::Fenced { topic, partition, expected: expected.unwrap_or(-1), found });
            }
            let number: i64 = row.try_get(4)?;
            if let Some(expected) = span.and_then(|span| span.timer_seq).filter(|known| *known != number)
                && !broken::is(Broken::FenceOff)
            {
                return Err(StoreError::Fenced { topic, partition, expected, found: number });
            }
            latest = latest.max(row.try_get::<_, Option<DateTime<Utc>>>(3)?);
        }
        Ok(latest)
    }
}

/// Measures one stretch after the other.
struct Stopwatch(Instant);

impl Stopwatch {
    fn lap(&mut self) -> Duration {
        let now = Instant::now();
        now.duration_since(std::mem::replace(&mut self.0, now))
    }
}

/// A batch that is settled, while its log is on its way.
struct Settling<'a> {
    settled: Settled<'a>,
    log: Copying<'a>,
    /// How long the settling took, without the database.
    took: Duration,
}

/// What the first flight brings.
struct Found {
    orders: Orders,
    /// Those of the batch's event_ids that have been applied.
    applied: FxHashSet<Uuid>,
    /// The known ones of the batch's payments, with their orders.
    payments: FxHashMap<String, String>,
    /// When the newest batch of its partitions was processed.
    last_processed_at: Option<DateTime<Utc>>,
    /// Whether any payment waits for an order.
    payments_wait: bool,
}

/// The batch's event_ids, each once, ascending.
fn sorted_event_ids(decoded: &[fold::Record]) -> Vec<Uuid> {
    let mut ids: Vec<Uuid> =
        decoded.iter().filter_map(|r| r.decoded.as_ref().ok()).map(|e| e.event_id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn count(batch: Batch<'_>, settled: &Settled<'_>, after: &[fold::After]) -> Counts {
    let corrected = settled.headers.iter().find(|header| header.value_mismatch);
    let mut counts = Counts {
        corrected: corrected.and_then(|header| {
            Some(Box::new(Corrected {
                source: header.source,
                order_id: header.sale.order_id.clone(),
                stated: header.sale.stated_value?,
                value: header.order_value,
            }))
        }),
        value_mismatches: settled.value_mismatches,
        amount_mismatches: settled.amount_mismatches,
        ..Counts::default()
    };
    for (record, fate) in batch.decoded.iter().zip(&settled.fates) {
        match fate {
            Fate::Applied => *counts.applied.entry(record.source).or_default() += 1,
            Fate::Duplicate => *counts.duplicates.entry(record.source).or_default() += 1,
            Fate::Parked => counts.parked += 1,
            Fate::Rejected(reject) => {
                *counts.rejected.entry((record.source, reject.reason)).or_default() += 1;
            }
        }
    }
    let falls =
        settled.changes.iter().zip(after).filter(|(c, a)| a.quantity < 0 && a.quantity - c.delta >= 0);
    counts.oversold = falls.count() as u64;
    counts
}
