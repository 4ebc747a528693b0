//! The figures of a daily report: what they are, and the arithmetic on them. A function of the ledger and the catalogue.
//!
//! A sale, cancellation, return or delivery counts on the business day of its own timestamp, however late it arrived. What
//! has no timestamp that could be trusted (rejected records, duplicates) counts on the day on which it was processed.
//! Money is exact and stands as a decimal string; shares and days are rounded once, half away from zero.

mod amount;
mod low_stock;
mod outlier;
mod quality;
mod sales;
mod sellers;
mod tenths;

use chrono::{DateTime, NaiveDate, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::interval::BusinessDay;

pub use low_stock::{Demand, LowStock, LowStockRow};
pub use outlier::{FEWEST_LINES, LOG_SPREAD_FLOOR, Spread, Z_LIMIT};
pub use quality::{
    DataQuality, Fates, LATE_GRACE_SECONDS, LISTED_ROWS, LateBySource, LateEvents, Outlier, Outliers,
    OversoldRow, OversoldStock, RejectCount, Rejects, ValueMismatch, ValueMismatches,
};
pub use sales::{Changes, Comparison, Earlier, Sales, SalesGroup, Totals};
pub use sellers::{Seller, TopSellers};
pub use tenths::Tenths;

/// All figures of one business day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Figures {
    /// The business day.
    pub day: Day,
    /// The currency of all money, an ISO 4217 code.
    pub currency: String,
    /// What was sold, and what came back.
    pub sales: Sales,
    /// What sold best.
    pub top_sellers: TopSellers,
    /// What should be ordered.
    pub low_stock: LowStock,
    /// What was odd.
    pub data_quality: DataQuality,
}

/// A business day, as it stands in a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Day {
    /// The date on the wall.
    pub date: NaiveDate,
    /// Whose wall: an IANA name.
    pub timezone: String,
    /// The first instant, UTC.
    pub start: DateTime<Utc>,
    /// The first instant after it, UTC.
    pub end: DateTime<Utc>,
}

impl From<BusinessDay> for Day {
    fn from(day: BusinessDay) -> Day {
        Day { date: day.date, timezone: day.timezone.name().to_owned(), start: day.start, end: day.end }
    }
}
