//! Stock as of a day's end.

use chrono::{DateTime, Utc};
use sqlx::{FromRow, PgConnection};
use stocktide_domain::StockStatus;
use stocktide_domain::interval::BusinessDay;
use stocktide_domain::report::{Demand, LISTED_ROWS, LowStock, LowStockRow, OversoldRow, OversoldStock};

use super::Span;

/// The stock rows that are at or below their reorder point at $1 (the $4 most urgent), and those below zero then, or in the day
/// that begins at $2 (the $5 lowest); with the demand since $3. Opening stock and the ledger say so, not the current stock.
pub(super) const STOCK: &str = "
    WITH moved AS MATERIALIZED (
        SELECT product_id, location_id, sum(moved)::bigint AS moved, min(first) AS first FROM (
            SELECT product_id, location_id, -sum(quantity) AS moved, min(\"timestamp\") AS first
            FROM orders WHERE \"timestamp\" < $1 AND delta IS NOT NULL GROUP BY 1, 2
            UNION ALL
            SELECT product_id, location_id, sum(quantity), min(\"timestamp\")
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
    ), stock AS MATERIALIZED (
        SELECT i.product_id, i.location_id, i.opening_quantity + coalesce(m.moved, 0) AS quantity
        FROM inventory i LEFT JOIN moved m USING (product_id, location_id)
        -- Else a later event made the row: at this moment it did not exist.
        WHERE i.loaded OR i.opening_quantity <> 0 OR m.moved IS NOT NULL
    ), judged AS (
        SELECT s.product_id, p.name, p.category, s.location_id, s.quantity, p.reorder_point,
            coalesce(d.units, 0) AS units, w.lowest,
            (p.kind = 'stock' AND s.quantity <= p.reorder_point) IS TRUE AS is_low,
            s.quantity < 0 OR w.lowest IS NOT NULL AS is_oversold
        FROM stock s JOIN products p USING (product_id)
        LEFT JOIN dipped w USING (product_id, location_id) LEFT JOIN demand d USING (product_id, location_id)
        UNION ALL
        -- Nowhere was there ever any.
        SELECT p.product_id, p.name, p.category, '', 0, p.reorder_point, 0, NULL, true, false
        FROM products p WHERE p.kind = 'stock' AND p.reorder_point >= 0
            AND NOT EXISTS (SELECT FROM stock s WHERE s.product_id = p.product_id)
    ), ranked AS (
        SELECT *,
            row_number() OVER (PARTITION BY is_low ORDER BY
                CASE WHEN units > 0 THEN greatest(quantity, 0)::numeric / units END NULLS LAST,
                quantity::numeric - reorder_point, product_id COLLATE \"C\", location_id COLLATE \"C\") AS urgency,
            row_number() OVER (PARTITION BY is_oversold ORDER BY
                quantity, product_id COLLATE \"C\", location_id COLLATE \"C\") AS depth,
            count(*) FILTER (WHERE is_low) OVER () AS low,
            count(*) FILTER (WHERE quantity < 0) OVER () AS below,
            count(*) FILTER (WHERE lowest IS NOT NULL) OVER () AS dipped
        FROM judged WHERE is_low OR is_oversold
    )
    SELECT product_id, name, category, location_id, quantity, coalesce(reorder_point, 0) AS reorder_point, units, lowest,
        CASE WHEN is_low AND urgency <= $4 THEN urgency END AS urgency,
        CASE WHEN is_oversold AND depth <= $5 THEN depth END AS depth,
        low, below, dipped, (SELECT min(first) FROM moved) AS began
    FROM ranked WHERE is_low AND urgency <= $4 OR is_oversold AND depth <= $5";

#[derive(FromRow)]
pub(super) struct StockRow {
    product_id: String,
    name: String,
    category: String,
    location_id: String,
    quantity: i64,
    reorder_point: i64,
    units: i64,
    lowest: Option<i64>,
    /// Its place among the low ones, from 1; none: it is not among the most urgent ones.
    urgency: Option<i64>,
    /// Its place among the oversold ones, from 1; none: it is not among the lowest ones.
    depth: Option<i64>,
    /// In all: rows that are low, that are below zero, that were below zero in the day.
    low: i64,
    below: i64,
    dipped: i64,
    /// The first movement of the ledger.
    began: Option<DateTime<Utc>>,
}

/// The stock rows that are worth a word, `low_rows` low ones at most.
pub(super) async fn at_end(
    db: &mut PgConnection,
    day: BusinessDay,
    cover_days: u32,
    low_rows: u32,
) -> Result<Vec<StockRow>, sqlx::Error> {
    let window = Span::last_days(day, cover_days);
    sqlx::query_as(STOCK)
        .bind(day.end)
        .bind(day.start)
        .bind(window.start)
        .bind(i64::from(low_rows))
        .bind(i64::from(LISTED_ROWS))
        .fetch_all(db)
        .await
}

/// Those at or below their reorder point.
pub(super) fn low(rows: &[StockRow], day: BusinessDay, cover_days: u32) -> LowStock {
    let began = rows.first().and_then(|row| row.began);
    let demand_days = days_of_demand(began, day, cover_days);
    let mut low: Vec<&StockRow> = rows.iter().filter(|row| row.urgency.is_some()).collect();
    low.sort_unstable_by_key(|row| row.urgency);
    let row = |row: &StockRow| {
        let demand = Demand { units: row.units, days: demand_days };
        LowStockRow {
            product_id: row.product_id.clone(),
            name: row.name.clone(),
            category: row.category.clone(),
            location_id: row.location_id.clone(),
            status: StockStatus::of(row.quantity, Some(row.reorder_point)).as_str().to_owned(),
            quantity: row.quantity,
            reorder_point: row.reorder_point,
            demand_units: row.units,
            days_of_cover: demand.days_of_cover(row.quantity),
            suggested_order: demand.suggested_order(row.quantity, row.reorder_point),
        }
    };
    LowStock {
        as_of: day.end,
        cover_days,
        demand_days,
        found: rows.first().map_or(0, |row| row.low),
        rows: low.into_iter().map(row).collect(),
    }
}

/// The days of the window in which there was a ledger; the day of its first movement is one of them.
fn days_of_demand(began: Option<DateTime<Utc>>, day: BusinessDay, cover_days: u32) -> u32 {
    let Some(began) = began else { return cover_days };
    let first = BusinessDay::containing(began, day.timezone).date;
    let days = (day.date - first).num_days().saturating_add(1).max(1);
    u32::try_from(days).map_or(cover_days, |days| days.min(cover_days))
}

/// Those below zero at the day's end or in the day.
pub(super) fn oversold(rows: &[StockRow]) -> OversoldStock {
    let (at_end, during_day) = rows.first().map_or((0, 0), |row| (row.below, row.dipped));
    let mut oversold: Vec<&StockRow> = rows.iter().filter(|row| row.depth.is_some()).collect();
    oversold.sort_unstable_by_key(|row| row.depth);
    let rows = oversold.into_iter().map(|row| OversoldRow {
        product_id: row.product_id.clone(),
        name: row.name.clone(),
        location_id: row.location_id.clone(),
        quantity_at_end: row.quantity,
        lowest_in_day: row.lowest,
    });
    OversoldStock { at_end, during_day, rows: rows.collect() }
}
