//! Deliveries, which the file does not have: simulated by a reorder rule over the real sales, without any chance in it.
//!
//! Per product and location: at the end of each day on which its stock moved, stock at or below the reorder point is
//! ordered up to the target level and arrives on the next day at 07:00. The reorder point is a week's mean demand, or
//! what 95 % of its selling days do not exceed, whichever is more, at the product's busiest location; the target is two
//! weeks' mean demand above it, and opening stock is the target. Demand is net of what came back, so an order of 80,995
//! that is cancelled within minutes counts for nothing (and does drive stock below zero until then).

use chrono::{Days, NaiveDate, NaiveTime};
use rustc_hash::FxHashMap;
use stocktide_domain::ProductKind;

use super::derive::Products;
use super::invoices::{Invoices, to_utc};
use super::rows::Rows;

/// Days of mean demand in the reorder point.
const COVER_UNTIL_DELIVERY_DAYS: i64 = 7;
/// Days of mean demand between the reorder point and the target.
const COVER_AFTER_DELIVERY_DAYS: i64 = 14;
/// The share of selling days whose demand the reorder point covers, in percent.
const COVERED_SELLING_DAYS_PERCENT: usize = 95;
/// Lines of one delivery at most.
const LINES_PER_DELIVERY: usize = 1_000;

/// A product (by index into [`Products`]) at a location.
type Key = (u32, &'static str);

/// What the rule brings forth.
#[derive(Debug, Default)]
pub struct Plan {
    /// Per product: at or below it stock is low; none for services and for what never sold.
    pub reorder_points: Vec<Option<i64>>,
    /// Opening stock, by product and location.
    pub opening: Vec<(u32, &'static str, i64)>,
    /// In the order of time.
    pub deliveries: Vec<Delivery>,
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its business id: day, location and, where it has many lines, its ordinal.
    pub restock_id: String,
    /// Where it goes.
    pub location: &'static str,
    /// When it arrives.
    pub at: chrono::DateTime<chrono::Utc>,
    /// Product and units, by product.
    pub lines: Vec<(u32, i64)>,
}

/// A stock row's movement on one day.
struct Movement {
    day: NaiveDate,
    key: Key,
    delta: i64,
}

/// Applies the rule to the invoices in range.
pub fn plan(file: &Rows, invoices: &Invoices, products: &Products) -> Plan {
    let movements = movements(file, invoices, products);
    let (Some(first), Some(last)) = (movements.first(), movements.last()) else {
        return Plan { reorder_points: vec![None; products.products.len()], ..Plan::default() };
    };
    let days = (last.day - first.day).num_days() + 1;
    let demand = demand(&movements);
    let mean_over = |net: i64, cover: i64| (net.max(0) * cover + days - 1) / days;

    let mut reorder_points = vec![None; products.products.len()];
    for (key, row) in &demand {
        if let Some(point) = row.reorder_point(mean_over(row.net, COVER_UNTIL_DELIVERY_DAYS)) {
            let slot: &mut Option<i64> = &mut reorder_points[key.0 as usize];
            *slot = Some(slot.map_or(point, |known| known.max(point)));
        }
    }
    let target = |key: &Key, row: &Demand| {
        reorder_points[key.0 as usize].unwrap_or(0) + mean_over(row.net, COVER_AFTER_DELIVERY_DAYS)
    };
    let levels: FxHashMap<Key, i64> = demand.iter().map(|(key, row)| (*key, target(key, row))).collect();
    let mut opening: Vec<_> =
        levels.iter().map(|(&(product, location), &units)| (product, location, units)).collect();
    opening.sort_unstable();
    let deliveries = deliveries(&movements, &levels, &reorder_points);
    Plan { reorder_points, opening, deliveries }
}

/// All rows that move stock, by day.
fn movements(file: &Rows, invoices: &Invoices, products: &Products) -> Vec<Movement> {
    let mut out = Vec::new();
    for part in &invoices.parts {
        for row in part.rows.iter().filter_map(|&at| file.rows.get(at as usize)) {
            let Some(product) = products.index(row.code) else { continue };
            if products.get(product).is_some_and(|p| p.kind == ProductKind::Stock) {
                let key = (product, part.kind.location());
                out.push(Movement { day: part.local.date(), key, delta: part.delta(row) });
            }
        }
    }
    out
}

/// What was wanted of a stock row.
#[derive(Default)]
struct Demand {
    /// Units that left for good.
    net: i64,
    /// Units that left, per day on which any did.
    by_day: FxHashMap<NaiveDate, i64>,
}

impl Demand {
    /// None where nothing was ever wanted for good.
    fn reorder_point(&self, mean: i64) -> Option<i64> {
        if self.net <= 0 {
            return None;
        }
        let mut days: Vec<i64> = self.by_day.values().copied().collect();
        days.sort_unstable();
        let at = (days.len() * COVERED_SELLING_DAYS_PERCENT / 100).min(days.len().saturating_sub(1));
        Some(mean.max(days.get(at).copied().unwrap_or(0)).max(1))
    }
}

fn demand(movements: &[Movement]) -> FxHashMap<Key, Demand> {
    let mut out: FxHashMap<Key, Demand> = FxHashMap::default();
    for movement in movements {
        let row = out.entry(movement.key).or_default();
        row.net -= movement.delta;
        if movement.delta < 0 {
            *row.by_day.entry(movement.day).or_default() -= movement.delta;
        }
    }
    out
}

/// Walks through the days, orders in the evening, delivers in the morning.
fn deliveries(
    movements: &[Movement],
    targets: &FxHashMap<Key, i64>,
    points: &[Option<i64>],
) -> Vec<Delivery> {
    let mut on_hand = targets.clone();
    let mut out = Vec::new();
    let last = movements.last().map(|movement| movement.day);
    for day in movements.chunk_by(|a, b| a.day == b.day) {
        let mut ordered: Vec<(&'static str, u32, i64)> = Vec::new();
        for movement in day {
            *on_hand.entry(movement.key).or_default() += movement.delta;
        }
        for movement in day {
            let (product, location) = movement.key;
            let (Some(point), Some(stock)) = (points[product as usize], on_hand.get_mut(&movement.key))
            else {
                continue;
            };
            let target = targets.get(&movement.key).copied().unwrap_or(0);
            // A row whose target is no higher than its reorder point never sold for good: nobody reorders it.
            if *stock <= point && target > point {
                ordered.push((location, product, target - *stock));
                // It arrives in the morning: as good as there, for the next evening.
                *stock = target;
            }
        }
        ordered.sort_unstable();
        let arrival = day.first().and_then(|movement| movement.day.checked_add_days(Days::new(1)));
        if let Some(arrival) = arrival.filter(|day| last.is_some_and(|last| *day <= last)) {
            out.extend(delivered(arrival, &ordered));
        }
    }
    out
}

/// What arrives on a day, by location.
fn delivered(day: NaiveDate, ordered: &[(&'static str, u32, i64)]) -> Vec<Delivery> {
    let at = to_utc(day.and_time(NaiveTime::from_hms_opt(7, 0, 0).unwrap_or_default()));
    let mut out = Vec::new();
    for orders in ordered.chunk_by(|a, b| a.0 == b.0) {
        let location = orders.first().map_or("", |order| order.0);
        for (ordinal, lines) in orders.chunks(LINES_PER_DELIVERY).enumerate() {
            let suffix = if ordinal == 0 { String::new() } else { format!("-{}", ordinal + 1) };
            let restock_id = format!("delivery-{}-{location}{suffix}", day.format("%Y%m%d"));
            let lines = lines.iter().map(|&(_, product, units)| (product, units)).collect();
            out.push(Delivery { restock_id, location, at, lines });
        }
    }
    out
}
