//! Stock of a day's end.

use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Days, NaiveDate, Utc};
use stocktide_domain::report::{LowStock, LowStockRow, Tenths};

use super::{Catalogue, Kind, Line, rounded};

/// Product and location.
pub type Key = (String, String);

/// A simulated delivery's line, as it stands in `supplier_restocks`.
#[derive(Debug, Clone)]
pub struct Delivered {
    pub restock_id: String,
    pub key: Key,
    pub quantity: i64,
    pub date: NaiveDate,
}

/// What the file does not have.
#[derive(Debug, Default)]
pub struct Given {
    pub opening: BTreeMap<Key, i64>,
    pub deliveries: Vec<Delivered>,
    pub reorder_points: HashMap<String, i64>,
}

/// Stock by product and location after the last movement of a day.
pub fn at_end(lines: &[Line], date: NaiveDate, given: &Given) -> BTreeMap<Key, i64> {
    let mut stock: BTreeMap<Key, i64> = BTreeMap::new();
    for (key, &quantity) in &given.opening {
        stock.insert(key.clone(), quantity);
    }
    for delivered in given.deliveries.iter().filter(|delivered| delivered.date <= date) {
        *stock.entry(delivered.key.clone()).or_default() += delivered.quantity;
    }
    for line in lines.iter().filter(|line| line.is_goods() && line.at.date() <= date) {
        *stock.entry((line.product.clone(), line.location.to_owned())).or_default() += line.moves();
    }
    stock
}

pub fn low(
    lines: &[Line],
    date: NaiveDate,
    as_of: DateTime<Utc>,
    given: &Given,
    catalogue: &Catalogue,
) -> LowStock {
    const DAYS: i64 = 28;
    let first = date - Days::new(27);
    let mut demand: BTreeMap<Key, i64> = BTreeMap::new();
    for line in lines.iter().filter(|line| line.kind != Kind::Adjustment) {
        if line.at.date() >= first && line.at.date() <= date {
            *demand.entry((line.product.clone(), line.location.to_owned())).or_default() += line.quantity;
        }
    }
    let mut stock = at_end(lines, date, given);
    // Of which there never was any.
    for product in given.reorder_points.keys() {
        let after = stock.range((product.clone(), String::new())..).next();
        if after.is_none_or(|(key, _)| key.0 != *product) {
            stock.insert((product.clone(), String::new()), 0);
        }
    }
    let moved = lines.iter().filter(|line| line.is_goods()).map(|line| line.at.date());
    let moved = moved.chain(given.deliveries.iter().map(|delivered| delivered.date));
    let days = moved.min().map_or(DAYS, |first| ((date - first).num_days() + 1).min(DAYS));
    let mut rows = Vec::new();
    for (key, quantity) in stock {
        let Some(&reorder_point) = given.reorder_points.get(&key.0) else { continue };
        if quantity > reorder_point {
            continue;
        }
        let units = demand.get(&key).copied().unwrap_or(0);
        let status = match quantity {
            i64::MIN..0 => "oversold",
            0 => "out",
            _ => "low",
        };
        rows.push(LowStockRow {
            name: catalogue[&key.0].0.clone(),
            category: catalogue[&key.0].1.clone(),
            product_id: key.0,
            location_id: key.1,
            status: status.to_owned(),
            quantity,
            reorder_point,
            demand_units: units,
            days_of_cover: (units > 0).then(|| Tenths(rounded(quantity.max(0) * days * 10, units))),
            suggested_order: (reorder_point + units.max(0) - quantity).max(0),
        });
    }
    rows.sort_by(more_urgent);
    LowStock { as_of, cover_days: 28, demand_days: days as u32, found: rows.len() as i64, rows }
}

/// Less cover first, by the fractions themselves; then what is further below its reorder point.
fn more_urgent(a: &LowStockRow, b: &LowStockRow) -> Ordering {
    let cover = match (a.demand_units > 0, b.demand_units > 0) {
        (true, true) => (a.quantity.max(0) * b.demand_units).cmp(&(b.quantity.max(0) * a.demand_units)),
        (a, b) => b.cmp(&a),
    };
    let gap = |row: &LowStockRow| row.quantity - row.reorder_point;
    let key = |row: &LowStockRow| (row.product_id.clone(), row.location_id.clone());
    cover.then_with(|| gap(a).cmp(&gap(b))).then_with(|| key(a).cmp(&key(b)))
}
