//! The timer of payments that wait: those whose order has come are joined to it, those whose time is up are rejected.
//!
//! Only the owner of a `payments` partition settles what waits in it, under the lock of its progress row, and no order is
//! locked. What a rejection puts out has a number, [`Position::timer_seq`](crate::Position), that rises by one; which
//! numbers are published stands in Kafka beside the committed offset (rule 6 of the protocol).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join3;
use rustc_hash::FxHashMap;
use stocktide_domain::event::{Payment, PaymentStatus};
use stocktide_domain::fold::payments::{Verdict, judge};
use stocktide_domain::{Money, Reason, Reject, Source};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::error::StoreError;
use crate::numeric::Numeric;
use crate::outputs::{self, Output};
use crate::payments::{self, Paid};
use crate::rows::as_many;
use crate::writer::Writer;

/// Payments that one transaction settles at most.
const MOST: i64 = 5_000;
/// Ages in seconds at which a payment is looked at whether or not its order's batch has left word: that batch may have been
/// open while the payment was parked, and no transaction stays open longer than the last of these.
const LOOKED_AT: [i64; 3] = [1, 5, 65];

/// Where a partition of `payments` is believed to stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// P.
    pub next_offset: i64,
    /// The number of the last output that a timer made.
    pub timer_seq: i64,
}

/// One look at what waits.
#[derive(Debug, Clone, Copy)]
pub struct Tick<'a> {
    /// The owned partitions of `payments`.
    pub stands: &'a BTreeMap<i32, Stand>,
    /// The processor's clock.
    pub now: DateTime<Utc>,
    /// The `now` of the tick before that was done; none: everything is looked at.
    pub since: Option<DateTime<Utc>>,
}

/// What a tick did.
#[derive(Debug, Clone, Default)]
pub struct Ticked {
    /// When: the timestamp in every table; none where there was nothing to do.
    pub processed_at: Option<DateTime<Utc>>,
    /// What has to be published.
    pub outputs: Vec<Output>,
    /// The numbers of the last outputs, of the partitions where they rose.
    pub timers: BTreeMap<i32, i64>,
    /// Payments that were joined to their orders.
    pub joined: u64,
    /// Payments that were rejected.
    pub rejected: BTreeMap<Reason, u64>,
    /// Of the joined ones, those whose amount is not their order's value.
    pub amount_mismatches: u64,
    /// Per partition, how many wait.
    pub waiting: BTreeMap<i32, i64>,
    /// Since when the oldest of them does.
    pub oldest: Option<DateTime<Utc>>,
    /// Whether there may be more to do at once.
    pub more: bool,
}

impl Writer {
    /// Settles what is due of the payments that wait.
    ///
    /// # Errors
    /// As [`Writer::apply`]; [`StoreError::Fenced`] also where the numbers are not the expected ones.
    pub async fn tick(&mut self, tick: Tick<'_>) -> Result<Ticked, StoreError> {
        self.warned.store(false, Ordering::SeqCst);
        let ticked = self.look_and_settle(tick).await;
        match &ticked {
            Ok(_) if self.warned.swap(false, Ordering::SeqCst) => {
                Err(StoreError::Doubtful("see the log for its text".to_owned()))
            }
            Err(_) => {
                self.roll_back().await;
                ticked
            }
            Ok(_) => ticked,
        }
    }

    async fn look_and_settle(&self, tick: Tick<'_>) -> Result<Ticked, StoreError> {
        let mut ticked = self.waiting(tick.stands).await?;
        if ticked.waiting.values().all(|parked| *parked == 0) || self.due(tick).await?.is_empty() {
            return Ok(ticked);
        }
        let begin = async { Ok(self.client.batch_execute("BEGIN").await?) };
        // Looked at again under the lock: from here on nobody else settles them.
        let ((), last_processed_at, due) = try_join3(begin, self.fence(tick.stands), self.due(tick)).await?;
        let processed_at = last_processed_at.map_or(tick.now, |last| last.max(tick.now));
        let settled = Settled::of(&due, tick.stands);
        if settled.joined.is_empty() && settled.refused.is_empty() {
            self.client.batch_execute("ROLLBACK").await?;
            return Ok(ticked);
        }
        ticked.more = due.len() as i64 >= MOST;
        let outputs = settled.write(self, processed_at).await?;
        self.client.batch_execute("COMMIT").await?;
        for (partition, [joined, rejected]) in settled.by_partition() {
            *ticked.waiting.entry(partition).or_default() -= joined + rejected;
        }
        ticked.processed_at = Some(processed_at);
        ticked.outputs = outputs;
        ticked.timers = settled.timers();
        ticked.joined = settled.joined.len() as u64;
        ticked.amount_mismatches = settled.joined.iter().filter(|(_, mismatch)| *mismatch).count() as u64;
        for refused in &settled.refused {
            *ticked.rejected.entry(refused.reject.reason).or_default() += 1;
        }
        Ok(ticked)
    }

    /// How many wait; also whether the partitions stand where they are believed to, which an idle owner finds out here.
    async fn waiting(&self, stands: &BTreeMap<i32, Stand>) -> Result<Ticked, StoreError> {
        let partitions: Vec<i32> = stands.keys().copied().collect();
        let mut ticked = Ticked::default();
        for row in self.client.query(&self.sql.waiting, &[&partitions]).await? {
            let partition: i32 = row.try_get(0)?;
            check_stand(stands, partition, row.try_get(1)?, row.try_get(2)?)?;
            ticked.waiting.insert(partition, row.try_get(3)?);
            let oldest: Option<DateTime<Utc>> = row.try_get(4)?;
            ticked.oldest =
                ticked.oldest.map_or(oldest, |known| Some(oldest.map_or(known, |o| o.min(known))));
        }
        complete(ticked.waiting.len(), stands)?;
        Ok(ticked)
    }

    /// Locks the progress rows and checks that each is where this processor left it.
    async fn fence(&self, stands: &BTreeMap<i32, Stand>) -> Result<Option<DateTime<Utc>>, StoreError> {
        let topics: Vec<&str> = stands.keys().map(|_| Source::Payments.topic()).collect();
        let partitions: Vec<i32> = stands.keys().copied().collect();
        let rows = self.client.query(&self.sql.lock_progress, &[&topics, &partitions]).await?;
        complete(rows.len(), stands)?;
        let mut latest = None;
        for row in rows {
            check_stand(stands, row.try_get(1)?, row.try_get(2)?, row.try_get(4)?)?;
            latest = latest.max(row.try_get::<_, Option<DateTime<Utc>>>(3)?);
        }
        Ok(latest)
    }

    /// The payments that something may be done about, by partition and offset.
    async fn due(&self, tick: Tick<'_>) -> Result<Vec<Due>, StoreError> {
        let partitions: Vec<i32> = tick.stands.keys().copied().collect();
        let window = |age: &i64| {
            let age = TimeDelta::seconds(*age);
            tick.since.map(|since| (since - age, tick.now - age))
        };
        let windows: Option<Vec<_>> = LOOKED_AT.iter().map(window).collect();
        let everything = || vec![(DateTime::UNIX_EPOCH, tick.now + TimeDelta::days(365))];
        let (after, until): (Vec<DateTime<Utc>>, Vec<DateTime<Utc>>) =
            windows.unwrap_or_else(everything).into_iter().unzip();
        let params: [&(dyn ToSql + Sync); 5] = [&partitions, &tick.now, &after, &until, &MOST];
        self.client.query(&self.sql.due_payments, &params).await?.iter().map(Due::of).collect()
    }

    /// What the timer put out under the numbers above `after` up to `until` of a partition of `payments`, made again from the
    /// log. Nothing of it was processed before `since`.
    ///
    /// # Errors
    /// [`StoreError::Stop`] where a number is missing: the outputs cannot be made again.
    pub async fn timer_outputs_of(
        &self,
        partition: i32,
        after: i64,
        until: i64,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<Output>, StoreError> {
        let sql = "SELECT \"offset\", record_key, raw_event, header_names, header_values, redacted, reason, detail, timer_seq
            FROM events_log
            WHERE topic = 'payments' AND partition = $1 AND timer_seq > $2 AND timer_seq <= $3 AND processed_at >= $4
            ORDER BY timer_seq";
        let mut rows = Vec::new();
        // From when on is a hint, which spares the log's older months. Their numbers tell whether it was right.
        for since in [since.unwrap_or(DateTime::<Utc>::UNIX_EPOCH), DateTime::<Utc>::UNIX_EPOCH] {
            rows = self.client.query(sql, &[&partition, &after, &until, &since]).await?;
            let numbers: Vec<i64> = rows.iter().map(|row| row.try_get(8)).collect::<Result<_, _>>()?;
            if numbers.iter().copied().eq(after + 1..=until) {
                return rows
                    .iter()
                    .map(|row| outputs::dead_letter(row, Source::Payments.topic(), partition))
                    .collect();
            }
        }
        Err(StoreError::Stop(format!(
            "payments/{partition}: the timer's outputs {} to {until} have to be published again, and the log has {} of them",
            after + 1,
            rows.len()
        )))
    }
}

fn complete(found: usize, stands: &BTreeMap<i32, Stand>) -> Result<(), StoreError> {
    if found == stands.len() {
        return Ok(());
    }
    Err(StoreError::Stop(format!("{found} progress rows of payments are there of {}", stands.len())))
}

fn check_stand(
    stands: &BTreeMap<i32, Stand>,
    partition: i32,
    next_offset: i64,
    timer_seq: i64,
) -> Result<(), StoreError> {
    let topic = Source::Payments.topic().to_owned();
    let fenced = |expected, found| Err(StoreError::Fenced { topic, partition, expected, found });
    match stands.get(&partition) {
        Some(stand) if stand.next_offset != next_offset => fenced(stand.next_offset, next_offset),
        Some(stand) if stand.timer_seq != timer_seq => fenced(stand.timer_seq, timer_seq),
        Some(_) => Ok(()),
        None => fenced(-1, next_offset),
    }
}

/// A payment that something may be done about.
struct Due {
    partition: i32,
    offset: i64,
    event_id: Uuid,
    paid_at: DateTime<Utc>,
    payment: Payment,
    order_value: Option<Money>,
    /// The order that its payment_id is known under.
    known_under: Option<String>,
    is_expired: bool,
}

impl Due {
    fn of(row: &Row) -> Result<Due, StoreError> {
        let money = |at: usize| -> Result<Option<Money>, StoreError> {
            let amount = row.try_get::<_, Option<Numeric>>(at)?.map(|amount| i64::try_from(amount.0));
            let amount = amount.transpose().map_err(|e| StoreError::Stop(e.to_string()))?;
            Ok(amount.map(Money::from_ten_thousandths))
        };
        let status: &str = row.try_get(7)?;
        let status = PaymentStatus::from_name(status)
            .ok_or_else(|| StoreError::Stop(format!("a payment waits with the status {status:?}")))?;
        Ok(Due {
            partition: row.try_get(0)?,
            offset: row.try_get(1)?,
            event_id: row.try_get(2)?,
            payment: Payment {
                payment_id: row.try_get(3)?,
                order_id: row.try_get(4)?,
                payment_method: row.try_get(5)?,
                card_last_four: row.try_get(6)?,
                status,
                amount: money(9)?,
            },
            paid_at: row.try_get(8)?,
            order_value: money(10)?,
            known_under: row.try_get(11)?,
            is_expired: row.try_get(12)?,
        })
    }
}

/// A payment that is rejected, and its number.
struct Refused<'d> {
    due: &'d Due,
    reject: Reject,
    timer_seq: i64,
}

/// What becomes of what is due.
struct Settled<'d> {
    /// With whether their amounts are not their orders' values.
    joined: Vec<(&'d Due, bool)>,
    refused: Vec<Refused<'d>>,
}

impl<'d> Settled<'d> {
    fn of(due: &'d [Due], stands: &BTreeMap<i32, Stand>) -> Settled<'d> {
        let mut settled = Settled { joined: Vec::new(), refused: Vec::new() };
        let mut paid: FxHashMap<&str, &str> = FxHashMap::default();
        let mut numbers: BTreeMap<i32, i64> = stands.iter().map(|(p, stand)| (*p, stand.timer_seq)).collect();
        for due in due {
            let payment = &due.payment;
            let known_under = due.known_under.as_deref().or_else(|| paid.get(&*payment.payment_id).copied());
            match judge(payment, due.order_value, known_under, !due.is_expired) {
                Verdict::Joins { amount_mismatch } => {
                    paid.insert(&payment.payment_id, &payment.order_id);
                    settled.joined.push((due, amount_mismatch));
                }
                Verdict::Waits => {}
                Verdict::Refused(reason, detail) => {
                    let number = numbers.entry(due.partition).or_default();
                    *number += 1;
                    let (reject, timer_seq) = (Reject::new(reason, detail, Some(due.event_id)), *number);
                    settled.refused.push(Refused { due, reject, timer_seq });
                }
            }
        }
        settled
    }

    /// Per partition, how many are joined and how many are rejected.
    fn by_partition(&self) -> BTreeMap<i32, [i64; 2]> {
        let mut counts: BTreeMap<i32, [i64; 2]> = BTreeMap::new();
        for (due, _) in &self.joined {
            counts.entry(due.partition).or_default()[0] += 1;
        }
        for refused in &self.refused {
            counts.entry(refused.due.partition).or_default()[1] += 1;
        }
        counts
    }

    fn timers(&self) -> BTreeMap<i32, i64> {
        // In each partition they rise, so the last one stays.
        self.refused.iter().map(|refused| (refused.due.partition, refused.timer_seq)).collect()
    }

    /// Writes it, in the one order of locks: event_ids, payments, parked payments. The rejections' outputs.
    async fn write(&self, writer: &Writer, processed_at: DateTime<Utc>) -> Result<Vec<Output>, StoreError> {
        let paid = |(due, amount_mismatch): &(&'d Due, bool)| Paid {
            payment: &due.payment,
            paid_at: due.paid_at,
            event_id: due.event_id,
            amount_mismatch: *amount_mismatch,
            partition: due.partition,
            offset: due.offset,
        };
        let paid: Vec<Paid<'_>> = self.joined.iter().map(paid).collect();
        let ledger = payments::ledger(&paid, processed_at)?;
        ledger.send(writer, &writer.sql.copy_payment_events).await?;
        try_join3(
            self.free_events(writer),
            payments::upsert(writer, &paid),
            self.log_joined(writer, processed_at),
        )
        .await?;
        let (outputs, (), ()) = try_join3(
            self.log_refused(writer, processed_at),
            self.leave(writer),
            self.advance(writer, processed_at),
        )
        .await?;
        Ok(outputs)
    }

    /// A rejected event may come back mended, so the dedupe forgets it.
    async fn free_events(&self, writer: &Writer) -> Result<(), StoreError> {
        let mut ids: Vec<Uuid> = self.refused.iter().map(|refused| refused.due.event_id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        ids.sort_unstable();
        let touched = writer.client.execute(&writer.sql.free_events, &[&ids]).await?;
        as_many("events", touched, ids.len())
    }

    async fn log_joined(&self, writer: &Writer, processed_at: DateTime<Utc>) -> Result<(), StoreError> {
        if self.joined.is_empty() {
            return Ok(());
        }
        let (partitions, offsets) = coordinates(self.joined.iter().map(|(due, _)| *due));
        let params: [&(dyn ToSql + Sync); 3] = [&partitions, &offsets, &processed_at];
        let logged = writer.client.execute(&writer.sql.log_joined, &params).await?;
        as_many("rows of the log", logged, self.joined.len())
    }

    async fn log_refused(
        &self,
        writer: &Writer,
        processed_at: DateTime<Utc>,
    ) -> Result<Vec<Output>, StoreError> {
        if self.refused.is_empty() {
            return Ok(Vec::new());
        }
        let (partitions, offsets) = coordinates(self.refused.iter().map(|refused| refused.due));
        let reasons: Vec<&str> = self.refused.iter().map(|refused| refused.reject.reason.code()).collect();
        let details: Vec<&str> = self.refused.iter().map(|refused| refused.reject.detail.as_str()).collect();
        let numbers: Vec<i64> = self.refused.iter().map(|refused| refused.timer_seq).collect();
        let params: [&(dyn ToSql + Sync); 6] =
            [&partitions, &offsets, &processed_at, &reasons, &details, &numbers];
        let rows = writer.client.query(&writer.sql.log_refused, &params).await?;
        as_many("rows of the log", rows.len() as u64, self.refused.len())?;
        let letter = |row: &Row| outputs::dead_letter(row, Source::Payments.topic(), row.try_get(8)?);
        let mut outputs: Vec<Output> = rows.iter().map(letter).collect::<Result<_, _>>()?;
        outputs.sort_by_key(|output| (output.origin.partition, output.origin.offset));
        Ok(outputs)
    }

    /// They wait no longer.
    async fn leave(&self, writer: &Writer) -> Result<(), StoreError> {
        let all =
            self.joined.iter().map(|(due, _)| *due).chain(self.refused.iter().map(|refused| refused.due));
        let (partitions, offsets) = coordinates(all);
        let touched = writer.client.execute(&writer.sql.leave, &[&partitions, &offsets]).await?;
        as_many("parked payments", touched, partitions.len())
    }

    async fn advance(&self, writer: &Writer, processed_at: DateTime<Utc>) -> Result<(), StoreError> {
        let counts = self.by_partition();
        let partitions: Vec<i32> = counts.keys().copied().collect();
        let of = |which: usize| counts.values().map(|counts| counts[which]).collect::<Vec<i64>>();
        let (joined, rejected) = (of(0), of(1));
        let params: [&(dyn ToSql + Sync); 4] = [&partitions, &joined, &rejected, &processed_at];
        let touched = writer.client.execute(&writer.sql.advance_timer, &params).await?;
        as_many("progress rows", touched, partitions.len())
    }
}

fn coordinates<'d>(due: impl Iterator<Item = &'d Due>) -> (Vec<i32>, Vec<i64>) {
    due.map(|due| (due.partition, due.offset)).unzip()
}
