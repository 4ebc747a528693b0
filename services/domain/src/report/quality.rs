//! What was odd on a day.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tenths::Tenths;
use crate::Money;

/// An event is late when it was processed more than this after the end of the day that it belongs to. Less than the quarter of
/// an hour after which the built-in schedule makes the report, by more than a batch takes: what misses that report is late.
pub const LATE_GRACE_SECONDS: u32 = 600;
/// Lists of examples hold at most so many rows; the counts beside them are of all.
pub const LISTED_ROWS: u32 = 100;

/// What was odd on a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataQuality {
    /// The fates of the records that were processed on this day, whatever day they speak of; sorted by topic.
    pub fates: Vec<Fates>,
    /// Why records that were processed on this day were rejected.
    pub rejects: Rejects,
    /// The day's lines of unusual quantity.
    pub outliers: Outliers,
    /// The day's orders whose stated value was not what their lines add up to.
    pub value_mismatches: ValueMismatches,
    /// The day's events that came after it had ended.
    pub late_events: LateEvents,
    /// Stock rows of which more was sold than there was.
    pub oversold: OversoldStock,
}

/// What became of a topic's records. Duplicates by source are here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fates {
    /// The input topic.
    pub topic: String,
    /// Records that were consumed: the sum of the others.
    pub consumed: i64,
    /// Records whose effect is in the database.
    pub applied: i64,
    /// Records whose event had been applied before.
    pub duplicates: i64,
    /// Records that went to `dlq`.
    pub rejected: i64,
    /// Payments that wait for their order; less those that had been waiting and met their fate.
    pub parked: i64,
}

/// Rejected records by reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rejects {
    /// All of them.
    pub records: i64,
    /// By topic and reason, sorted by them.
    pub by_reason: Vec<RejectCount>,
    /// Those whose reason went with a part of the log that was removed before reasons were counted by day.
    pub reason_aged_out: i64,
}

/// Rejected records of one topic for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RejectCount {
    /// The input topic.
    pub topic: String,
    /// The stable code.
    pub reason: String,
    /// How many.
    pub records: i64,
}

/// Lines of unusual quantity: those whose ln(quantity) has a modified z-score above 3.5, by median and MAD of the sale lines
/// of `window_days` days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outliers {
    /// Days up to the day's end whose sale lines say what is usual.
    pub window_days: u32,
    /// How many lines that were; of fewer than 30 nothing is called unusual.
    pub window_lines: i64,
    /// Their median quantity; null of too few lines.
    pub median_quantity: Option<i64>,
    /// Half of them are within this factor of the median; at least 2; null of too few lines.
    pub spread_factor: Option<Tenths>,
    /// The largest quantity that is not unusual; null of too few lines.
    pub largest_usual: Option<i64>,
    /// The day's lines (sales, cancellations, returns) that are beyond it; 0 of too few lines, when none was judged.
    pub found: i64,
    /// The largest of them, at most 100: by quantity without its sign, then source, order_id, line_no, event_id.
    pub rows: Vec<Outlier>,
}

impl Outliers {
    /// Whether there were lines enough to say what is usual.
    pub fn is_judged(&self) -> bool {
        self.largest_usual.is_some()
    }
}

/// A line of unusual quantity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Outlier {
    /// The input topic.
    pub source: String,
    /// The order or sale.
    pub order_id: String,
    /// The line in its event.
    pub line_no: i32,
    /// `sale`, `cancellation` or `return`.
    pub kind: String,
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Units; negative where they came back.
    pub quantity: i64,
    /// Per unit.
    pub unit_price: Money,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// The modified z-score of ln(quantity without its sign).
    pub z_score: Tenths,
}

/// Orders whose stated value was not what their lines add up to; the sum of the lines holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueMismatches {
    /// How many.
    pub orders: i64,
    /// Σ (stated − added up); what is too little and too much may cancel out.
    pub difference: Money,
    /// Those that are furthest off, at most 100: by the difference without its sign, then source, order_id.
    pub rows: Vec<ValueMismatch>,
}

/// An order whose stated value was not what its lines add up to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ValueMismatch {
    /// The input topic.
    pub source: String,
    /// The order or sale.
    pub order_id: String,
    /// As the event said.
    pub stated_value: Money,
    /// Σ quantity × unit price of its lines.
    pub order_value: Money,
}

/// Events that belong to the day and were processed after it had ended, by more than a grace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateEvents {
    /// Seconds after the day's end in which an event is not called late yet.
    pub grace_seconds: u32,
    /// How many events.
    pub events: i64,
    /// By input topic, sorted by it; only those with any.
    pub by_source: Vec<LateBySource>,
}

/// A topic's late events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LateBySource {
    /// The input topic.
    pub source: String,
    /// Events.
    pub events: i64,
    /// Their lines.
    pub lines: i64,
    /// When the last of them was processed.
    pub last_processed_at: DateTime<Utc>,
}

/// Stock rows of which more was sold than there was: below zero at the day's end, or after a movement of the day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OversoldStock {
    /// How many are below zero at the day's end.
    pub at_end: i64,
    /// How many were below zero after a movement of the day.
    pub during_day: i64,
    /// Both, the lowest at most 100: by quantity at the end, then product_id, location_id.
    pub rows: Vec<OversoldRow>,
}

/// An oversold stock row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OversoldRow {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Where the stock is.
    pub location_id: String,
    /// Units as of the day's end, by the movements' own timestamps.
    pub quantity_at_end: i64,
    /// The lowest that a movement of the day left, in the order in which they were processed; null where none left less
    /// than nothing.
    pub lowest_in_day: Option<i64>,
}
