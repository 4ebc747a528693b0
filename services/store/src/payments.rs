//! What a batch, or the timer, writes of payments: the ledger, how each payment stands, and those that wait.

use chrono::{DateTime, Utc};
use futures_util::future::try_join;
use postgres_types::Type;
use stocktide_domain::event::{Body, Payment};
use stocktide_domain::fold::payments::newest;
use stocktide_domain::fold::{Fate, Record};
use stocktide_domain::{Event, Source};
use uuid::Uuid;

use crate::copy::CopyRows;
use crate::error::StoreError;
use crate::numeric::Numeric;
use crate::rows::{Redacted, Written};
use crate::writer::Writer;

/// A payment event that is applied.
pub(crate) struct Paid<'a> {
    pub(crate) payment: &'a Payment,
    pub(crate) paid_at: DateTime<Utc>,
    pub(crate) event_id: Uuid,
    pub(crate) amount_mismatch: bool,
    pub(crate) partition: i32,
    pub(crate) offset: i64,
}

/// The rows of the ledger.
pub(crate) fn ledger(paid: &[Paid<'_>], processed_at: DateTime<Utc>) -> Result<CopyRows, StoreError> {
    let mut rows = CopyRows::with_capacity(paid.len() * 200);
    for Paid { payment, paid_at, event_id, amount_mismatch, partition, offset } in paid {
        rows.row(12)
            .put(&payment.payment_id, &Type::TEXT)?
            .put(&payment.order_id, &Type::TEXT)?
            .put(&payment.payment_method, &Type::TEXT)?
            .put(&payment.card_last_four, &Type::TEXT)?
            .put(payment.status.as_str(), &Type::TEXT)?
            .put(paid_at, &Type::TIMESTAMPTZ)?
            .put(payment.amount.map(Numeric::from), &Type::NUMERIC)?
            .put(amount_mismatch, &Type::BOOL)?
            .put(event_id, &Type::UUID)?
            .put(processed_at, &Type::TIMESTAMPTZ)?
            .put(partition, &Type::INT4)?
            .put(offset, &Type::INT8)?;
    }
    Ok(rows)
}

/// Brings `payments` up to date. Where another transaction has taken a payment_id for another order meanwhile, everything is
/// to be run again.
pub(crate) async fn upsert(writer: &Writer, paid: &[Paid<'_>]) -> Result<(), StoreError> {
    if paid.is_empty() {
        return Ok(());
    }
    let Writer { client, sql, .. } = writer;
    let key = |p: &Paid<'_>| (p.paid_at, p.payment.status, p.event_id);
    let newest = newest(paid.iter().map(|p| (p.payment.payment_id.as_str(), key(p))));
    let newest: Vec<&Paid<'_>> = newest.into_iter().filter_map(|at| paid.get(at)).collect();
    let of = |field: fn(&Payment) -> &str| newest.iter().map(|p| field(p.payment)).collect::<Vec<_>>();
    let (ids, orders) = (of(|p| &p.payment_id), of(|p| &p.order_id));
    let statuses = of(|p| p.status.as_str());
    let methods: Vec<Option<&str>> = newest.iter().map(|p| p.payment.payment_method.as_deref()).collect();
    let last_four: Vec<Option<&str>> = newest.iter().map(|p| p.payment.card_last_four.as_deref()).collect();
    let times: Vec<DateTime<Utc>> = newest.iter().map(|p| p.paid_at).collect();
    let amounts: Vec<Option<Numeric>> = newest.iter().map(|p| p.payment.amount.map(Numeric::from)).collect();
    let mismatches: Vec<bool> = newest.iter().map(|p| p.amount_mismatch).collect();
    let events: Vec<Uuid> = newest.iter().map(|p| p.event_id).collect();
    let params: [&(dyn tokio_postgres::types::ToSql + Sync); 9] =
        [&ids, &orders, &methods, &last_four, &statuses, &times, &amounts, &mismatches, &events];
    let written = async { Ok::<_, StoreError>(client.execute(&sql.upsert_payments, &params).await?) };
    // The upsert has locked every row, also those that it left as they were, so this counts for good.
    let of_their_orders = async {
        Ok(client.query_one(&sql.payments_of_orders, &[&ids, &orders]).await?.try_get::<_, i64>(0)?)
    };
    let (_, known) = try_join(written, of_their_orders).await?;
    if known == ids.len() as i64 {
        return Ok(());
    }
    Err(StoreError::Contended("a payment_id has become known under another order".to_owned()))
}

/// The payment_ids of a batch, each once, ascending.
pub(crate) fn payment_ids(decoded: &[Record]) -> Vec<&str> {
    let mut ids: Vec<&str> = Vec::new();
    for record in decoded.iter().filter(|record| record.source == Source::Payments) {
        if let Ok(Event { body: Body::Paid(payment), .. }) = &record.decoded {
            ids.push(&payment.payment_id);
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl Written<'_> {
    /// The payments of the batch that are applied.
    pub(crate) fn paid(&self) -> Result<Vec<Paid<'_>>, StoreError> {
        let mut paid = Vec::with_capacity(self.settled.payments.len());
        for row in &self.settled.payments {
            let (event, at) = (self.event(row.record)?, self.coordinates(row.record)?);
            paid.push(Paid {
                payment: row.payment,
                paid_at: event.occurred_at,
                event_id: event.event_id,
                amount_mismatch: row.amount_mismatch,
                partition: at.partition,
                offset: at.offset,
            });
        }
        Ok(paid)
    }

    /// The payments of the batch that wait.
    pub(crate) fn parked(&self, writer: &Writer) -> Result<CopyRows, StoreError> {
        let mut rows = CopyRows::with_capacity(0);
        let wait = chrono::TimeDelta::from_std(writer.options.payments_wait)
            .map_err(|e| StoreError::Stop(format!("payments.wait: {e}")))?;
        let expires_at = self.processed_at + wait;
        let records = self.batch.raw.iter().zip(self.batch.decoded).zip(&self.settled.fates);
        for ((raw, record), _) in records.filter(|(_, fate)| **fate == Fate::Parked) {
            let Ok(event) = &record.decoded else { continue };
            let Body::Paid(payment) = &event.body else { continue };
            let kept = Redacted::of(raw.key.as_deref(), raw.value.as_deref(), &raw.headers);
            rows.row(17)
                .put(record.partition, &Type::INT4)?
                .put(raw.offset, &Type::INT8)?
                .put(event.event_id, &Type::UUID)?
                .put(&payment.payment_id, &Type::TEXT)?
                .put(&payment.order_id, &Type::TEXT)?
                .put(&payment.payment_method, &Type::TEXT)?
                .put(&payment.card_last_four, &Type::TEXT)?
                .put(payment.status.as_str(), &Type::TEXT)?
                .put(event.occurred_at, &Type::TIMESTAMPTZ)?
                .put(payment.amount.map(Numeric::from), &Type::NUMERIC)?
                .put(kept.value.as_deref(), &Type::BYTEA)?
                .put(kept.key.as_deref(), &Type::BYTEA)?
                .put(kept.header_names(), &Type::TEXT_ARRAY)?
                .put(kept.header_values(), &Type::BYTEA_ARRAY)?
                .put(kept.redacted, &Type::BOOL)?
                .put(self.processed_at, &Type::TIMESTAMPTZ)?
                .put(expires_at, &Type::TIMESTAMPTZ)?;
        }
        Ok(rows)
    }

    /// Tells the payments that wait for the batch's new orders. What is locked is passed over: an order never waits for a
    /// payment, and the payment's owner looks by itself, too.
    pub(crate) async fn mark_orders_seen(&self, writer: &Writer) -> Result<(), StoreError> {
        let placed = self.settled.headers.iter().filter(|header| header.source == Source::OnlineOrders);
        let orders: Vec<&str> = placed.map(|header| header.sale.order_id.as_str()).collect();
        if self.payments_wait && !orders.is_empty() {
            writer.client.execute(&writer.sql.mark_orders_seen, &[&orders]).await?;
        }
        Ok(())
    }
}
