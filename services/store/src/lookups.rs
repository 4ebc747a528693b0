//! What the fold must know of orders and stock.

use std::collections::BTreeSet;

use futures_util::future::try_join;
use rustc_hash::FxHashMap;
use stocktide_domain::event::{Body, OrderStatus};
use stocktide_domain::fold::{self, KnownLine, KnownOrder, OrderKey, Returned};
use stocktide_domain::{Money, ProductKind, Source};
use tokio_postgres::Row;

use crate::apply::Batch;
use crate::error::StoreError;
use crate::numeric::Numeric;
use crate::payments::payment_ids;
use crate::writer::Writer;

/// The orders that a batch asks for, ascending, in an order that is the same for all processors.
pub(crate) struct Wanted<'a>(Vec<Query<'a>>);

/// One look-up of orders.
pub(crate) struct Query<'a> {
    source: Source,
    ids: Vec<&'a str>,
    /// Something is about to happen to them, so they are locked.
    lock: bool,
}

impl<'a> Wanted<'a> {
    /// What the batch refers to, and, where `placed` asks for it, the orders that it places: they are normally new, so
    /// it is cheaper to let the COPY fail once when one is known. (Not under the policy that checks stock: an order that is
    /// rejected for want of stock never comes to the COPY, and its true reason may be that it is known.)
    pub(crate) fn of(decoded: &'a [fold::Record], placed: bool) -> Wanted<'a> {
        let referred = |paid: bool| {
            let records = decoded.iter().filter(move |record| (record.source == Source::Payments) == paid);
            records.filter_map(fold::references).map(|(key, _)| key)
        };
        let mut queries = by_source(referred(false), true);
        // A payment does nothing to its order, so it does not lock it.
        queries.extend(by_source(referred(true), false));
        if placed {
            queries.extend(by_source(decoded.iter().filter_map(placed_order), false));
        }
        Wanted(queries)
    }

    pub(crate) fn queries(&self) -> impl Iterator<Item = &Query<'a>> {
        self.0.iter()
    }
}

fn by_source<'a>(keys: impl Iterator<Item = (Source, &'a str)>, lock: bool) -> Vec<Query<'a>> {
    let mut queries: Vec<Query<'a>> = Vec::new();
    for (source, id) in keys.collect::<BTreeSet<_>>() {
        match queries.last_mut().filter(|query| query.source == source) {
            Some(query) => query.ids.push(id),
            None => queries.push(Query { source, ids: vec![id], lock }),
        }
    }
    queries
}

fn placed_order(record: &fold::Record) -> Option<(Source, &str)> {
    match &record.decoded.as_ref().ok()?.body {
        Body::Sold(sale) => Some((record.source, &sale.order_id)),
        _ => None,
    }
}

impl Query<'_> {
    pub(crate) async fn run(&self, writer: &Writer) -> Result<(Source, Vec<Row>), StoreError> {
        let sql = if self.lock { &writer.sql.lock_orders } else { &writer.sql.find_orders };
        Ok((self.source, writer.client.query(sql, &[&self.source.topic(), &self.ids]).await?))
    }
}

/// The orders that were found; their lines, and what came back, follow in [`Orders::load_lines`].
#[derive(Default)]
pub(crate) struct Orders {
    pub(crate) known: FxHashMap<OrderKey, KnownOrder>,
    pub(crate) returned: FxHashMap<OrderKey, Returned>,
}

impl Orders {
    pub(crate) fn of(answers: Vec<(Source, Vec<Row>)>) -> Result<Orders, StoreError> {
        let mut orders = Orders::default();
        for (source, row) in
            answers.iter().flat_map(|(source, rows)| rows.iter().map(move |row| (*source, row)))
        {
            let status: &str = row.try_get(1)?;
            let order = KnownOrder {
                status: OrderStatus::from_name(status).unwrap_or(OrderStatus::Placed),
                user_id: row.try_get(2)?,
                value: money(row, 3)?,
                lines: Vec::new(),
            };
            orders.known.insert((source, row.try_get(0)?), order);
        }
        Ok(orders)
    }

    /// Reads the lines of the orders that something comes back from. Their headers are locked by now, so this is a
    /// statement of its own: it sees what the transactions that held those locks have written.
    pub(crate) async fn load_lines(
        mut self,
        writer: &Writer,
        decoded: &[fold::Record],
    ) -> Result<Orders, StoreError> {
        let with_lines = decoded.iter().filter_map(fold::references).filter(|(_, lines)| *lines);
        for query in by_source(with_lines.map(|(key, _)| key), false) {
            let (topic, ids) = (query.source.topic(), &query.ids);
            let lines = async {
                Ok::<_, StoreError>(writer.client.query(&writer.sql.order_lines, &[&topic, ids]).await?)
            };
            let returns = async {
                Ok::<_, StoreError>(writer.client.query(&writer.sql.returns_of, &[&topic, ids]).await?)
            };
            writer.waited();
            let (lines, returns) = try_join(lines, returns).await?;
            for row in &lines {
                self.add_line(query.source, row)?;
            }
            for row in &returns {
                self.add_return(query.source, row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            }
        }
        Ok(self)
    }

    fn add_line(&mut self, source: Source, row: &Row) -> Result<(), StoreError> {
        let (order_id, product_id): (String, String) = (row.try_get(0)?, row.try_get(2)?);
        let (quantity, kind): (i64, &str) = (row.try_get(4)?, row.try_get(7)?);
        let original_id: Option<&str> = row.try_get(8)?;
        match kind {
            // A return that carries this order's id, but names another order, counts there.
            "return" if original_id.is_none_or(|original| original == order_id) => {
                self.add_return(source, order_id, product_id, quantity);
            }
            "sale" => {
                let Some(order) = self.known.get_mut(&(source, order_id)) else { return Ok(()) };
                order.lines.push(KnownLine {
                    line_no: row.try_get(1)?,
                    product_id,
                    location_id: row.try_get(3)?,
                    quantity,
                    unit_price: money(row, 5)?,
                    moved_stock: row.try_get(6)?,
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// Return lines have negative quantities.
    fn add_return(&mut self, source: Source, order_id: String, product_id: String, quantity: i64) {
        *self.returned.entry((source, order_id)).or_default().entry(product_id).or_default() -= quantity;
    }
}

fn money(row: &Row, column: usize) -> Result<Money, StoreError> {
    let amount = i64::try_from(row.try_get::<_, Numeric>(column)?.0);
    Ok(Money::from_ten_thousandths(amount.map_err(|e| StoreError::Stop(e.to_string()))?))
}

/// Those of the batch's payments that are known, with their orders. No request where it has none.
pub(crate) async fn payments(
    writer: &Writer,
    decoded: &[fold::Record],
) -> Result<FxHashMap<String, String>, StoreError> {
    let ids = payment_ids(decoded);
    if ids.is_empty() {
        return Ok(FxHashMap::default());
    }
    let rows = writer.client.query(&writer.sql.find_payments, &[&ids]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// Units on hand by product and location, locked: for the policy that rejects what stock cannot cover.
pub(crate) async fn lock_stock(
    writer: &Writer,
    batch: Batch<'_>,
) -> Result<FxHashMap<(String, String), i64>, StoreError> {
    // Rows that are only delivered to are locked, too: one order of locks for the whole batch.
    let catalogue = &writer.catalogue;
    let known = |(product, location): &(&str, &str)| {
        catalogue.products.get(*product).is_some_and(|p| p.kind == ProductKind::Stock)
            && catalogue.locations.contains(*location)
    };
    let rows: BTreeSet<(&str, &str)> = batch.decoded.iter().flat_map(touched).filter(known).collect();
    let (products, locations): (Vec<&str>, Vec<&str>) = rows.into_iter().unzip();
    writer.waited();
    writer.client.execute(&writer.sql.create_stock, &[&products, &locations, &batch.now]).await?;
    writer.waited();
    let locked = writer.client.query(&writer.sql.lock_stock, &[&products, &locations]).await?;
    if locked.len() != products.len() {
        return Err(StoreError::Lost(format!(
            "{} stock rows were locked of {}",
            locked.len(),
            products.len()
        )));
    }
    let stock = locked.iter().map(|row| Ok(((row.try_get(0)?, row.try_get(1)?), row.try_get(2)?)));
    stock.collect::<Result<_, tokio_postgres::Error>>().map_err(StoreError::from)
}

/// The stock rows that a record names; a cancellation's are those of its order, locked later by the upsert.
fn touched(record: &fold::Record) -> Vec<(&str, &str)> {
    let Ok(event) = &record.decoded else { return Vec::new() };
    match &event.body {
        Body::Sold(sale) => {
            sale.items.iter().map(|i| (i.product_id.as_str(), sale.location_id.as_str())).collect()
        }
        Body::Returned(back) => {
            back.items.iter().map(|i| (i.product_id.as_str(), back.location_id.as_str())).collect()
        }
        Body::Restocked(r) => {
            r.items.iter().map(|i| (i.product_id.as_str(), r.location_id.as_str())).collect()
        }
        Body::Progressed { .. } | Body::Cancelled { .. } | Body::Paid(_) => Vec::new(),
    }
}
