//! What a batch puts out: made from the batch itself, or again from the database.

use std::borrow::Cow;
use std::ops::Range;

use chrono::{DateTime, Utc};
use stocktide_domain::Source;
use stocktide_domain::fold::{After, Fate};
use stocktide_domain::update::InventoryUpdate;
use tokio_postgres::Row;
use uuid::Uuid;

use crate::apply::{Batch, Headers, Partition};
use crate::error::StoreError;
use crate::rows::{Coordinates, Redacted, Written};
use crate::writer::Writer;

/// A record to be published, and the input record that it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Output {
    /// Where the input record lies.
    pub origin: Coordinates,
    /// What to publish.
    pub body: OutputBody,
}

/// What to publish.
#[derive(Debug, Clone, PartialEq)]
pub enum OutputBody {
    /// To `inventory_updates`.
    Update {
        /// The product_id.
        key: String,
        /// JSON.
        value: Vec<u8>,
        /// The trace context of the input record, as it came: headers `traceparent` and `tracestate`. What is published again from
        /// the database has none.
        trace: Headers,
    },
    /// To `dlq`.
    DeadLetter(DeadLetter),
}

/// A rejected record.
#[derive(Debug, Clone, PartialEq)]
pub struct DeadLetter {
    /// Its key, value and headers, untouched but for card numbers.
    pub key: Option<Vec<u8>>,
    /// See `key`.
    pub value: Option<Vec<u8>>,
    /// See `key`.
    pub headers: Headers,
    /// Whether a card number was masked.
    pub redacted: bool,
    /// The reason's code.
    pub reason: String,
    /// What exactly was wrong.
    pub detail: String,
}

/// Outputs of so many records are made before others have their turn.
const RECORDS_AT_A_TIME: usize = 256;

/// The outputs of a settled batch, in the order of its records. Others of the same task have their turn again and again.
pub(crate) async fn of_batch(
    batch: Batch<'_>,
    written: &Written<'_>,
    after: &[After],
) -> Result<Vec<Output>, StoreError> {
    let mut outputs = Vec::with_capacity(written.settled.changes.len());
    let records = written.settled.fates.len();
    for from in (0..records).step_by(RECORDS_AT_A_TIME) {
        let part = from..records.min(from + RECORDS_AT_A_TIME);
        of_records(batch, written, after, part, &mut outputs)?;
        tokio::task::yield_now().await;
    }
    Ok(outputs)
}

/// Adds the outputs of some records of a settled batch.
pub(crate) fn of_records(
    batch: Batch<'_>,
    written: &Written<'_>,
    after: &[After],
    records: Range<usize>,
    outputs: &mut Vec<Output>,
) -> Result<(), StoreError> {
    let settled = written.settled;
    // They are in the order of the records.
    let first = settled.changes.partition_point(|change| (change.record as usize) < records.start);
    let mut changes = settled.changes.iter().zip(after).skip(first).peekable();
    for (at, fate) in settled.fates.iter().enumerate().take(records.end).skip(records.start) {
        let origin = written.coordinates(at as u32)?;
        if let Fate::Rejected(reject) = fate
            && let Some(raw) = batch.raw.get(at)
        {
            let Redacted { key, value, headers, redacted } =
                Redacted::of(raw.key.as_deref(), raw.value.as_deref(), &raw.headers);
            let (reason, detail) = (reject.reason.code().to_owned(), reject.detail.clone());
            let letter = DeadLetter { key, value, headers, redacted, reason, detail };
            outputs.push(Output { origin, body: OutputBody::DeadLetter(letter) });
        }
        while let Some((change, after)) = changes.next_if(|(change, _)| change.record == at as u32) {
            let Some(row) = settled.stock.get(change.stock as usize) else { continue };
            outputs.push(update(
                origin,
                batch.raw.get(at).map_or_else(Headers::new, |raw| trace_of(&raw.headers)),
                InventoryUpdate {
                    event_id: written.event(change.record)?.event_id,
                    product_id: Cow::Borrowed(row.product_id),
                    location_id: Cow::Borrowed(row.location_id),
                    delta: change.delta,
                    quantity_on_hand: after.quantity,
                    version: after.version,
                    stock_status: Cow::Borrowed(written.status(*change, *after).as_str()),
                    source: Cow::Borrowed(origin.topic),
                    processed_at: written.processed_at,
                },
            ));
        }
    }
    Ok(())
}

fn update(origin: Coordinates, trace: Headers, update: InventoryUpdate<'_>) -> Output {
    Output {
        origin,
        body: OutputBody::Update { value: update.to_json(), key: update.product_id.into_owned(), trace },
    }
}

/// Headers of this length and more are no trace context, in bytes.
const TRACE_CONTEXT_MAX: usize = 512;

/// The W3C trace context among a record's headers, as it is; most records have none.
fn trace_of(headers: &Headers) -> Headers {
    let is_context = |name: &str, value: Option<&[u8]>| {
        matches!(name, "traceparent" | "tracestate")
            && value.is_some_and(|value| value.len() < TRACE_CONTEXT_MAX)
    };
    headers.iter().filter(|(name, value)| is_context(name, value.as_deref())).cloned().collect()
}

const UPDATES: &str = "SELECT DISTINCT ON (\"offset\", version, product_id, location_id)
        \"offset\", event_id, product_id, location_id, delta, quantity_after, version, stock_status, processed_at
    FROM {table}
    WHERE source = $1 AND partition = $2 AND \"offset\" >= $3 AND \"offset\" < $4 AND processed_at >= $5 AND delta IS NOT NULL
    ORDER BY \"offset\", version, product_id, location_id";

const DEAD_LETTERS: &str = "SELECT \"offset\", record_key, raw_event, header_names, header_values, redacted, reason, detail
    FROM events_log
    WHERE status = 'rejected' AND topic = $1 AND partition = $2 AND \"offset\" >= $3 AND \"offset\" < $4 AND processed_at >= $5
      AND timer_seq IS NULL
    ORDER BY \"offset\"";

impl Writer {
    /// What the records of `[from, to)` of a partition put out, made again from the ledger and the log; not what a timer put
    /// out later (rule 6; [`Writer::timer_outputs_of`]). Nothing of it was processed before `since`.
    pub async fn outputs_of(
        &self,
        (source, partition): Partition,
        from: i64,
        to: i64,
        since: Option<DateTime<Utc>>,
    ) -> Result<Vec<Output>, StoreError> {
        let since = since.unwrap_or(DateTime::<Utc>::UNIX_EPOCH);
        let topic = source.topic();
        let params: [&(dyn tokio_postgres::types::ToSql + Sync); 5] =
            [&topic, &partition, &from, &to, &since];
        let updates = match source {
            Source::OnlineOrders | Source::StoreSales => {
                self.client.query(&UPDATES.replace("{table}", "orders"), &params).await?
            }
            Source::SupplierRestocks => {
                self.client.query(&UPDATES.replace("{table}", "restock_lines"), &params).await?
            }
            // Payments move no stock.
            Source::Payments => Vec::new(),
        };
        let mut outputs = Vec::new();
        for row in updates {
            let origin = Coordinates { topic, partition, offset: row.try_get(0)? };
            outputs.push(update(
                origin,
                Headers::new(),
                InventoryUpdate {
                    event_id: row.try_get::<_, Uuid>(1)?,
                    product_id: Cow::Borrowed(row.try_get(2)?),
                    location_id: Cow::Borrowed(row.try_get(3)?),
                    delta: row.try_get(4)?,
                    quantity_on_hand: row.try_get(5)?,
                    version: row.try_get(6)?,
                    stock_status: Cow::Borrowed(row.try_get(7)?),
                    source: Cow::Borrowed(topic),
                    processed_at: row.try_get(8)?,
                },
            ));
        }
        for row in self.client.query(DEAD_LETTERS, &params).await? {
            outputs.push(dead_letter(&row, topic, partition)?);
        }
        outputs.sort_by_key(|output| output.origin.offset);
        Ok(outputs)
    }
}

/// A dead letter from a row of the log: its offset, key, value, names and values of the headers, whether it is masked, reason
/// and detail, in this order.
pub(crate) fn dead_letter(row: &Row, topic: &'static str, partition: i32) -> Result<Output, StoreError> {
    let names: Vec<String> = row.try_get::<_, Option<_>>(3)?.unwrap_or_default();
    let values: Vec<Option<Vec<u8>>> = row.try_get::<_, Option<_>>(4)?.unwrap_or_default();
    let letter = DeadLetter {
        key: row.try_get(1)?,
        value: row.try_get(2)?,
        headers: names.into_iter().zip(values).collect(),
        redacted: row.try_get(5)?,
        reason: row.try_get::<_, Option<_>>(6)?.unwrap_or_default(),
        detail: row.try_get::<_, Option<_>>(7)?.unwrap_or_default(),
    };
    let origin = Coordinates { topic, partition, offset: row.try_get(0)? };
    Ok(Output { origin, body: OutputBody::DeadLetter(letter) })
}
