//! What a settled batch writes, table by table.

use chrono::{DateTime, NaiveDate, Utc};
use futures_util::future::{try_join, try_join4};
use postgres_types::Type;
use rustc_hash::FxHashMap;
use stocktide_domain::fold::{After, Change, Fate, Header, OrderLine, RestockLine, Settled};
use stocktide_domain::{Catalogue, Event, Source, StockStatus, card};

use crate::apply::{Batch, Headers};
use crate::broken::{self, Broken};
use crate::copy::{self, CopyRows, Copying, ROWS_AT_A_TIME};
use crate::error::StoreError;
use crate::numeric::Numeric;
use crate::payments;
use crate::writer::Writer;

/// A batch and what it settled to.
#[derive(Clone, Copy)]
pub(crate) struct Written<'a> {
    pub(crate) batch: Batch<'a>,
    pub(crate) settled: &'a Settled<'a>,
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) processed_at: DateTime<Utc>,
    /// Whether any payment waited when the batch began.
    pub(crate) payments_wait: bool,
}

impl<'a> Written<'a> {
    /// The third flight: the rest of the log, dedupe, headers, rollups, payments and, last, stock, whose rows come back as they are
    /// afterwards.
    pub(crate) async fn write_facts(
        &self,
        writer: &Writer,
        log: Copying<'_>,
    ) -> Result<Vec<After>, StoreError> {
        let Writer { sql, .. } = writer;
        let (paid, parked) = (self.paid()?, self.parked(writer)?);
        // What may fail comes after the COPYs that do not: a COPY that begins in a failed transaction puts the connection out
        // of step (see `Writer::roll_back`).
        let ledger = payments::ledger(&paid, self.processed_at)?;
        let copies = try_join4(
            log.finish(),
            ledger.send(writer, &sql.copy_payment_events),
            parked.send(writer, &sql.copy_parked),
            // Sorted and made while the server reads the log.
            async { self.applied()?.send(writer, &sql.copy_applied).await },
        );
        let headers = async { copy::send(writer, &sql.copy_headers, self.headers()).await };
        let facts = try_join(copies, try_join(headers, self.set_statuses(writer)));
        let rollups = async {
            if broken::is(Broken::RollupsApart) { Ok(()) } else { self.write_rollups(writer).await }
        };
        let stock = try_join(payments::upsert(writer, &paid), self.add_stock(writer));
        let (_, ((), ((), finals))) = try_join(facts, try_join(rollups, stock)).await?;
        Ok(finals)
    }

    /// What the statistics are read from.
    pub(crate) async fn write_rollups(&self, writer: &Writer) -> Result<(), StoreError> {
        try_join(self.add_months(writer), self.add_users(writer)).await?;
        Ok(())
    }

    /// The fourth flight: the lines, which hold their result, the progress, and word for the payments that wait.
    pub(crate) async fn write_lines(&self, writer: &Writer, after: &[After]) -> Result<(), StoreError> {
        let Writer { sql, .. } = writer;
        let lines = try_join(
            copy::send(writer, &sql.copy_orders, self.order_lines(after)),
            copy::send(writer, &sql.copy_restocks, self.restock_lines(after)),
        );
        try_join(lines, try_join(self.advance(writer), self.mark_orders_seen(writer))).await?;
        Ok(())
    }

    /// The size of all that goes out by COPY, without the payments.
    pub(crate) fn copied_bytes(&self, after: &[After]) -> Result<usize, StoreError> {
        let log = log(self.batch, &self.settled.fates, 0, self.processed_at, |_| true);
        let parts = log.chain([self.applied()]).chain(self.headers());
        let parts = parts.chain(self.order_lines(after)).chain(self.restock_lines(after));
        parts.map(|part| part.map(|part| part.bytes())).sum()
    }

    /// The event of a record that was applied.
    pub(crate) fn event(&self, record: u32) -> Result<&'a Event, StoreError> {
        let decoded = self.batch.decoded.get(record as usize).and_then(|r| r.decoded.as_ref().ok());
        decoded.ok_or_else(|| StoreError::Lost(format!("record {record} of the batch has no event")))
    }

    /// How a stock row stands after a change.
    pub(crate) fn status(&self, change: Change, after: After) -> StockStatus {
        let row = self.settled.stock.get(change.stock as usize);
        let product = row.and_then(|row| self.catalogue.products.get(row.product_id));
        StockStatus::of(after.quantity, product.and_then(|p| p.reorder_point))
    }

    fn applied(&self) -> Result<CopyRows, StoreError> {
        let applied = (self.batch.decoded.iter().zip(&self.settled.fates))
            .filter(|(_, fate)| matches!(fate, Fate::Applied | Fate::Parked));
        let mut ids: Vec<_> =
            applied.filter_map(|(r, _)| r.decoded.as_ref().ok()).map(|event| event.event_id).collect();
        ids.sort_unstable();
        let mut rows = CopyRows::with_capacity(ids.len() * 22);
        for id in ids {
            rows.row(1).put(id, &Type::UUID)?;
        }
        Ok(rows)
    }

    fn headers(&self) -> impl Iterator<Item = Result<CopyRows, StoreError>> {
        let mut headers: Vec<_> = self.settled.headers.iter().collect();
        headers.sort_unstable_by_key(|h| (h.source.topic(), h.sale.order_id.as_str()));
        let all = 0..headers.len();
        all.step_by(ROWS_AT_A_TIME).map(move |from| {
            let part = &headers[from..headers.len().min(from + ROWS_AT_A_TIME)];
            self.header_rows(part)
        })
    }

    fn header_rows(&self, headers: &[&Header<'_>]) -> Result<CopyRows, StoreError> {
        let mut rows = CopyRows::with_capacity(headers.len() * 200);
        for header in headers {
            let (sale, event) = (header.sale, self.event(header.record)?);
            rows.row(12)
                .put(header.source.topic(), &Type::TEXT)?
                .put(&sale.order_id, &Type::TEXT)?
                .put(&sale.user_id, &Type::TEXT)?
                .put(&sale.location_id, &Type::TEXT)?
                .put(&sale.shipping_address, &Type::TEXT)?
                .put(&sale.payment_method, &Type::TEXT)?
                .put(sale.stated_value.map(Numeric::from), &Type::NUMERIC)?
                .put(Numeric::from(header.order_value), &Type::NUMERIC)?
                .put(header.value_mismatch, &Type::BOOL)?
                .put(header.status.as_str(), &Type::TEXT)?
                .put_at(event.occurred_at)
                .put(event.event_id, &Type::UUID)?;
        }
        Ok(rows)
    }

    fn order_lines(&self, after: &[After]) -> impl Iterator<Item = Result<CopyRows, StoreError>> {
        self.settled.order_lines.chunks(ROWS_AT_A_TIME).map(|lines| self.order_rows(lines, after))
    }

    fn order_rows(&self, lines: &[OrderLine<'_>], after: &[After]) -> Result<CopyRows, StoreError> {
        let mut rows = CopyRows::with_capacity(lines.len() * 256);
        for line in lines {
            let (event, moved) = (self.event(line.record)?, self.moved(line.change, after));
            let at = self.coordinates(line.record)?;
            let mut row = rows.row(19);
            row.put(line.order_id, &Type::TEXT)?
                .put(line.line_no, &Type::INT4)?
                .put(line.product_id, &Type::TEXT)?
                .put(line.quantity, &Type::INT8)?
                .put(Numeric::from(line.unit_price), &Type::NUMERIC)?
                .put(at.topic, &Type::TEXT)?
                .put(line.location_id, &Type::TEXT)?
                .put(line.user_id, &Type::TEXT)?
                .put_at(event.occurred_at)
                .put(event.event_id, &Type::UUID)?
                .put(line.kind.as_str(), &Type::TEXT)?
                .put(line.original_id, &Type::TEXT)?;
            self.put_result(&mut row, moved, at)?;
        }
        Ok(rows)
    }

    fn restock_lines(&self, after: &[After]) -> impl Iterator<Item = Result<CopyRows, StoreError>> {
        self.settled.restock_lines.chunks(ROWS_AT_A_TIME).map(|lines| self.restock_rows(lines, after))
    }

    fn restock_rows(&self, lines: &[RestockLine<'_>], after: &[After]) -> Result<CopyRows, StoreError> {
        let mut rows = CopyRows::with_capacity(lines.len() * 256);
        for line in lines {
            let (event, moved) = (self.event(line.record)?, self.moved(line.change, after));
            let at = self.coordinates(line.record)?;
            let mut row = rows.row(19);
            row.put(&line.restock.restock_id, &Type::TEXT)?
                .put(line.line_no, &Type::INT4)?
                .put(line.product_id, &Type::TEXT)?
                .put(line.quantity, &Type::INT8)?
                .put(line.unit_cost.map(Numeric::from), &Type::NUMERIC)?
                .put(at.topic, &Type::TEXT)?
                .put(&line.restock.location_id, &Type::TEXT)?
                .put(&line.restock.supplier_id, &Type::TEXT)?
                .put(&line.restock.note, &Type::TEXT)?
                .put_at(event.occurred_at)
                .put(event.event_id, &Type::UUID)?
                .put(line.restock.kind.as_str(), &Type::TEXT)?;
            self.put_result(&mut row, moved, at)?;
        }
        Ok(rows)
    }

    /// A line's movement: the event's whole change of the row, and how the row stands after it.
    fn moved(&self, change: Option<u32>, after: &[After]) -> Option<(Change, After)> {
        let at = change? as usize;
        Some((*self.settled.changes.get(at)?, *after.get(at)?))
    }

    /// The seven columns that both tables of lines end with.
    fn put_result(
        &self,
        row: &mut crate::copy::Row<'_>,
        moved: Option<(Change, After)>,
        at: Coordinates,
    ) -> Result<(), StoreError> {
        row.put(moved.map(|(change, _)| change.delta), &Type::INT8)?
            .put(moved.map(|(_, after)| after.quantity), &Type::INT8)?
            .put(moved.map(|(_, after)| after.version), &Type::INT8)?
            .put(moved.map(|(change, after)| self.status(change, after).as_str()), &Type::TEXT)?
            .put_at(self.processed_at)
            .put(at.partition, &Type::INT4)?
            .put(at.offset, &Type::INT8)?;
        Ok(())
    }

    /// Where a record came from.
    pub(crate) fn coordinates(&self, record: u32) -> Result<Coordinates, StoreError> {
        let at = record as usize;
        match (self.batch.decoded.get(at), self.batch.raw.get(at)) {
            (Some(decoded), Some(raw)) => Ok(Coordinates {
                topic: decoded.source.topic(),
                partition: decoded.partition,
                offset: raw.offset,
            }),
            _ => Err(StoreError::Lost(format!("record {record} is not in the batch"))),
        }
    }

    async fn set_statuses(&self, writer: &Writer) -> Result<(), StoreError> {
        let statuses = &self.settled.statuses;
        if statuses.is_empty() {
            return Ok(());
        }
        let sources: Vec<&str> = statuses.iter().map(|(source, ..)| source.topic()).collect();
        let ids: Vec<&str> = statuses.iter().map(|(_, id, _)| *id).collect();
        let names: Vec<&str> = statuses.iter().map(|(.., status)| status.as_str()).collect();
        let touched = writer.client.execute(&writer.sql.set_statuses, &[&sources, &ids, &names]).await?;
        as_many("orders", touched, statuses.len())
    }

    async fn add_months(&self, writer: &Writer) -> Result<(), StoreError> {
        let rows = &self.settled.months;
        if rows.is_empty() {
            return Ok(());
        }
        let months: Vec<NaiveDate> = rows.iter().map(|((month, ..), _)| *month).collect();
        let topics: Vec<&str> = rows.iter().map(|((_, source, _), _)| source.topic()).collect();
        let partitions: Vec<i32> = rows.iter().map(|((.., partition), _)| *partition).collect();
        let count = |of: fn(&stocktide_domain::fold::MonthDelta) -> i64| {
            rows.iter().map(|(_, d)| of(d)).collect::<Vec<_>>()
        };
        let money = |of: fn(&stocktide_domain::fold::MonthDelta) -> i128| {
            rows.iter().map(|(_, d)| Numeric(of(d))).collect::<Vec<_>>()
        };
        let touched = writer
            .client
            .execute(
                &writer.sql.add_months,
                &[
                    &months,
                    &topics,
                    &partitions,
                    &count(|d| d.orders),
                    &count(|d| d.units),
                    &money(|d| d.gross),
                    &count(|d| d.cancelled_orders),
                    &count(|d| d.cancelled_units),
                    &money(|d| d.cancelled_value),
                    &count(|d| d.returns),
                    &count(|d| d.returned_units),
                    &money(|d| d.returned_value),
                ],
            )
            .await?;
        as_many("months", touched, rows.len())
    }

    async fn add_users(&self, writer: &Writer) -> Result<(), StoreError> {
        let rows = &self.settled.users;
        if rows.is_empty() {
            return Ok(());
        }
        let users: Vec<&str> = rows.iter().map(|(user, _)| *user).collect();
        let count = |of: fn(&stocktide_domain::fold::UserDelta) -> i64| {
            rows.iter().map(|(_, d)| of(d)).collect::<Vec<_>>()
        };
        let money = |of: fn(&stocktide_domain::fold::UserDelta) -> i128| {
            rows.iter().map(|(_, d)| Numeric(of(d))).collect::<Vec<_>>()
        };
        let first: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(_, d)| d.first_order_at).collect();
        let last: Vec<Option<DateTime<Utc>>> = rows.iter().map(|(_, d)| d.last_order_at).collect();
        let touched = writer
            .client
            .execute(
                &writer.sql.add_users,
                &[
                    &users,
                    &count(|d| d.orders),
                    &count(|d| d.units),
                    &money(|d| d.gross),
                    &count(|d| d.cancelled_orders),
                    &money(|d| d.cancelled_value),
                    &money(|d| d.returned_value),
                    &first,
                    &last,
                ],
            )
            .await?;
        as_many("users", touched, rows.len())
    }

    async fn add_stock(&self, writer: &Writer) -> Result<Vec<After>, StoreError> {
        let rows = &self.settled.stock;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let products: Vec<&str> = rows.iter().map(|row| row.product_id).collect();
        let locations: Vec<&str> = rows.iter().map(|row| row.location_id).collect();
        let deltas: Vec<i64> = rows.iter().map(|row| row.delta).collect();
        let changes: Vec<i64> = rows.iter().map(|row| row.changes).collect();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&products, &locations, &deltas, &changes, &self.processed_at];
        let finals = writer.client.query(&writer.sql.add_stock, &params).await?;
        as_many("stock rows", finals.len() as u64, rows.len())?;
        // They come back in the order in which they were sent; should they ever not, the keys tell.
        let mut after = Vec::with_capacity(rows.len());
        for (row, found) in rows.iter().zip(&finals) {
            let key: (&str, &str) = (found.try_get(0)?, found.try_get(1)?);
            if key != (row.product_id, row.location_id) {
                return Err(StoreError::Lost(format!("stock of {}@{} came back out of order", key.0, key.1)));
            }
            after.push(After { quantity: found.try_get(2)?, version: found.try_get(3)? });
        }
        Ok(after)
    }

    async fn advance(&self, writer: &Writer) -> Result<(), StoreError> {
        let spans = self.batch.spans;
        let mut fates: FxHashMap<_, [i64; 4]> = FxHashMap::default();
        for (record, fate) in self.batch.decoded.iter().zip(&self.settled.fates) {
            let kind = match fate {
                Fate::Applied => 0,
                Fate::Duplicate => 1,
                Fate::Rejected(_) => 2,
                Fate::Parked => 3,
            };
            fates.entry((record.source, record.partition)).or_default()[kind] += 1;
        }
        let fate = |kind: usize| {
            spans.keys().map(|key| fates.get(key).map_or(0, |counts| counts[kind])).collect::<Vec<i64>>()
        };
        let topics: Vec<&str> = spans.keys().map(|(source, _)| source.topic()).collect();
        let partitions: Vec<i32> = spans.keys().map(|(_, partition)| *partition).collect();
        let next: Vec<i64> = spans.values().map(|s| s.next).collect();
        let last: Vec<i64> = spans.values().map(|s| s.last_offset).collect();
        let digests: Vec<&[u8]> = spans.values().map(|s| s.last_digest.as_slice()).collect();
        let published: Vec<Option<i64>> =
            spans.values().map(|s| s.published.map(|published| published.offset)).collect();
        let published_at: Vec<Option<DateTime<Utc>>> =
            spans.values().map(|s| s.published.map(|published| published.processed_at)).collect();
        let timers: Vec<i64> = spans.values().map(|s| s.published.map_or(0, |p| p.timer_seq)).collect();
        let touched = writer
            .client
            .execute(
                &writer.sql.advance,
                &[
                    &topics,
                    &partitions,
                    &next,
                    &last,
                    &digests,
                    &fate(0),
                    &fate(1),
                    &fate(2),
                    &self.processed_at,
                    &published,
                    &published_at,
                    &fate(3),
                    &timers,
                ],
            )
            .await?;
        as_many("progress rows", touched, spans.len())
    }
}

/// The log's rows of the records of some topics that have their fates, which are those of the batch from `from` on.
pub(crate) fn log<'a>(
    batch: Batch<'a>,
    fates: &'a [Fate],
    from: usize,
    processed_at: DateTime<Utc>,
    wanted: impl Fn(Source) -> bool,
) -> impl Iterator<Item = Result<CopyRows, StoreError>> {
    let parts = fates.chunks(ROWS_AT_A_TIME).enumerate();
    parts
        .map(move |(part, fates)| log_rows(batch, fates, from + part * ROWS_AT_A_TIME, processed_at, &wanted))
}

fn log_rows(
    batch: Batch<'_>,
    fates: &[Fate],
    from: usize,
    processed_at: DateTime<Utc>,
    wanted: impl Fn(Source) -> bool,
) -> Result<CopyRows, StoreError> {
    let records = batch.raw[from..].iter().zip(&batch.decoded[from..]).zip(fates);
    let records = records.filter(|((_, record), _)| wanted(record.source));
    let bytes: usize =
        records.clone().map(|((raw, _), _)| raw.value.as_ref().map_or(0, Vec::len) + 128).sum();
    let mut rows = CopyRows::with_capacity(bytes);
    for ((raw, record), fate) in records {
        let mut row = match fate {
            // What waits gets its row when its fate is known.
            Fate::Duplicate | Fate::Parked => continue,
            _ => rows.row(13),
        };
        let reject = if let Fate::Rejected(reject) = fate { Some(reject) } else { None };
        let kept = reject.map(|_| Redacted::of(raw.key.as_deref(), raw.value.as_deref(), &raw.headers));
        let event_id = match reject {
            Some(reject) => reject.event_id,
            None => record.decoded.as_ref().ok().map(|event| event.event_id),
        };
        let value = kept.as_ref().map_or(raw.value.as_deref(), |kept| kept.value.as_deref());
        row.put(event_id, &Type::UUID)?
            .put(value, &Type::BYTEA)?
            .put_at(processed_at)
            .put(if reject.is_some() { "rejected" } else { "applied" }, &Type::TEXT)?
            .put(reject.map(|r| r.reason.code()), &Type::TEXT)?
            .put(record.source.topic(), &Type::TEXT)?
            .put(record.partition, &Type::INT4)?
            .put(raw.offset, &Type::INT8)?
            .put(reject.map(|r| r.detail.as_str()), &Type::TEXT)?
            .put(kept.as_ref().is_some_and(|k| k.redacted), &Type::BOOL)?
            .put(kept.as_ref().and_then(|k| k.key.as_deref()), &Type::BYTEA)?
            .put(kept.as_ref().map(Redacted::header_names), &Type::TEXT_ARRAY)?
            .put(kept.as_ref().map(Redacted::header_values), &Type::BYTEA_ARRAY)?;
    }
    Ok(rows)
}

/// Where a record came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coordinates {
    /// The input topic.
    pub topic: &'static str,
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

/// A rejected record as it is kept and passed on: without full card numbers.
pub(crate) struct Redacted {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Headers,
    pub(crate) redacted: bool,
}

impl Redacted {
    pub(crate) fn of(key: Option<&[u8]>, value: Option<&[u8]>, headers: &Headers) -> Redacted {
        let mut redacted = headers.iter().any(|(name, _)| card::contains(name.as_bytes()));
        let mut mask = |bytes: Option<&[u8]>| {
            bytes.map(|bytes| match card::redact(bytes) {
                Some(masked) => {
                    redacted = true;
                    masked
                }
                None => bytes.to_vec(),
            })
        };
        let (key, value) = (mask(key), mask(value));
        let headers = headers
            .iter()
            .map(|(name, value)| (card::masked(name).into_owned(), mask(value.as_deref())))
            .collect();
        Redacted { key, value, headers, redacted }
    }

    pub(crate) fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    pub(crate) fn header_values(&self) -> Vec<Option<&[u8]>> {
        self.headers.iter().map(|(_, value)| value.as_deref()).collect()
    }
}

pub(crate) fn as_many(what: &str, touched: u64, sent: usize) -> Result<(), StoreError> {
    if touched == sent as u64 {
        return Ok(());
    }
    Err(StoreError::Lost(format!("{touched} {what} were touched of {sent}")))
}
