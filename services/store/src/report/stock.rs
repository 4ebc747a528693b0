//! Stock as of a day's end.

use sqlx::{FromRow, PgConnection};
use stocktide_domain::StockStatus;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{Demand, LISTED_ROWS, LowStockRow, OversoldRow, OversoldStock};

use super::Span;

/// The stock rows that are at or below their reorder point at $1, below zero then, or were below zero in the day that begins
/// at $2; with the demand since $3. Opening stock and the ledger say so, not the current stock.
pub(super) const STOCK: &str = "
    WITH moved AS (
        SELECT product_id, location_id, sum(moved)::bigint AS moved FROM (
            SELECT product_id, location_id, -sum(quantity) AS moved
            FROM orders WHERE \"timestamp\" < $1 AND delta IS NOT NULL GROUP BY 1, 2
            UNION ALL
            SELECT product_id, location_id, sum(quantity)
            FROM restock_lines WHERE \"timestamp\" < $1 AND delta IS NOT NULL GROUP BY 1, 2
        ) m GROUP BY 1, 2
    ), dipped AS (
        SELECT product_id, location_id, min(quantity_after) AS lowest FROM (
            SELECT product_id, location_id, quantity_after
            FROM orders WHERE \"timestamp\" >= $2 AND \"timestamp\" < $1 AND quantity_after < 0
            UNION ALL
            SELECT product_id, location_id, quantity_after
            FROM restock_lines WHERE \"timestamp\" >= $2 AND \"timestamp\" < $1 AND quantity_after < 0
        ) d GROUP BY 1, 2
    ), demand AS (
        SELECT product_id, location_id, sum(quantity)::bigint AS units
        FROM orders WHERE \"timestamp\" >= $3 AND \"timestamp\" < $1 AND delta IS NOT NULL GROUP BY 1, 2
    ), stock AS (
        SELECT i.product_id, i.location_id, i.opening_quantity + coalesce(m.moved, 0) AS quantity
        FROM inventory i LEFT JOIN moved m USING (product_id, location_id)
        -- Else a later event made the row: at this moment it did not exist.
        WHERE i.opening_quantity <> 0 OR m.moved IS NOT NULL
    )
    SELECT s.product_id, p.name, p.category, s.location_id, s.quantity,
        CASE p.kind WHEN 'stock' THEN p.reorder_point END AS reorder_point,
        coalesce(d.units, 0) AS demand_units, w.lowest
    FROM stock s JOIN products p USING (product_id)
    LEFT JOIN dipped w USING (product_id, location_id) LEFT JOIN demand d USING (product_id, location_id)
    WHERE s.quantity < 0 OR w.lowest IS NOT NULL OR (p.kind = 'stock' AND s.quantity <= p.reorder_point)
    ORDER BY s.product_id COLLATE \"C\", s.location_id COLLATE \"C\"";

#[derive(FromRow)]
pub(super) struct StockRow {
    product_id: String,
    name: String,
    category: String,
    location_id: String,
    quantity: i64,
    reorder_point: Option<i64>,
    demand_units: i64,
    lowest: Option<i64>,
}

/// The stock rows that are worth a word, in the order of product and location.
pub(super) async fn at_end(
    db: &mut PgConnection,
    day: BusinessDay,
    cover_days: u32,
) -> Result<Vec<StockRow>, sqlx::Error> {
    let window = Span::last_days(day, cover_days);
    sqlx::query_as(STOCK).bind(day.end).bind(day.start).bind(window.start).fetch_all(db).await
}

/// Those at or below their reorder point.
pub(super) fn low(rows: &[StockRow], cover_days: u32) -> Vec<LowStockRow> {
    let low = |row: &StockRow| row.reorder_point.filter(|&point| row.quantity <= point);
    let rows = rows.iter().filter_map(|row| low(row).map(|point| (row, point)));
    rows.map(|(row, reorder_point)| {
        let demand = Demand { units: row.demand_units, days: cover_days };
        LowStockRow {
            product_id: row.product_id.clone(),
            name: row.name.clone(),
            category: row.category.clone(),
            location_id: row.location_id.clone(),
            status: StockStatus::of(row.quantity, Some(reorder_point)).as_str().to_owned(),
            quantity: row.quantity,
            reorder_point,
            demand_units: row.demand_units,
            days_of_cover: demand.days_of_cover(row.quantity),
            suggested_order: demand.suggested_order(row.quantity, reorder_point),
        }
    })
    .collect()
}

/// Those below zero at the day's end or in the day.
pub(super) fn oversold(rows: &[StockRow]) -> OversoldStock {
    let mut oversold: Vec<&StockRow> =
        rows.iter().filter(|row| row.quantity < 0 || row.lowest.is_some()).collect();
    let count = |is: fn(&StockRow) -> bool| oversold.iter().filter(|row| is(row)).count() as i64;
    let (at_end, during_day) = (count(|row| row.quantity < 0), count(|row| row.lowest.is_some()));
    // Stable: rows of the same quantity stay in the order of product and location.
    oversold.sort_by_key(|row| row.quantity);
    let rows = oversold.into_iter().take(LISTED_ROWS as usize).map(|row| OversoldRow {
        product_id: row.product_id.clone(),
        name: row.name.clone(),
        location_id: row.location_id.clone(),
        quantity_at_end: row.quantity,
        lowest_in_day: row.lowest,
    });
    OversoldStock { at_end, during_day, rows: rows.collect() }
}
