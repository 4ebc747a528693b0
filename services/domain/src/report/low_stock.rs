//! What should be ordered.

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tenths::Tenths;

/// The stock rows at or below their product's reorder point as of the day's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LowStock {
    /// The instant: opening stock plus every movement with a timestamp before it.
    pub as_of: DateTime<Utc>,
    /// Days up to that instant whose demand is looked at.
    pub cover_days: u32,
    /// In how many days the demand was: `cover_days`, or, of a younger ledger, the days since its first movement; 0 in reports
    /// that were made before this was told.
    #[serde(default)]
    pub demand_days: u32,
    /// How many are low in all; `rows` has the most urgent of them.
    #[serde(default)]
    pub found: i64,
    /// By days of cover (those without demand last), then by how far they are below the reorder point, then product_id and
    /// location_id. Products without a reorder point and services are never low. A row that neither stands in the stock that
    /// was loaded nor had a movement before the instant did not exist yet; a product without any row then is listed once,
    /// with 0 on hand and an empty location_id.
    pub rows: Vec<LowStockRow>,
}

impl LowStock {
    /// How many are low in all.
    pub fn in_all(&self) -> i64 {
        // Before `found` was told, all were listed.
        self.found.max(self.rows.len() as i64)
    }

    /// In how many days the demand was.
    pub fn days_of_demand(&self) -> u32 {
        if self.demand_days == 0 { self.cover_days } else { self.demand_days }
    }
}

/// A stock row that is low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LowStockRow {
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Its category; may be empty.
    pub category: String,
    /// Where the stock is; empty where there never was any.
    pub location_id: String,
    /// `low`, `out` or `oversold`.
    pub status: String,
    /// Units on hand; below 0 where more was sold than there was.
    pub quantity: i64,
    /// At or below it stock is low.
    pub reorder_point: i64,
    /// Units that left this row by sales in the last `demand_days` days, less those that came back in them.
    pub demand_units: i64,
    /// How long the stock lasts if demand goes on as in those days; 0 where there is none left; null without demand.
    pub days_of_cover: Option<Tenths>,
    /// Units that bring the stock to the reorder point plus the demand of `demand_days` days. What may be on order already is
    /// not known.
    pub suggested_order: i64,
}

/// A stock row's demand, and what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Units that left by sales, less those that came back.
    pub units: i64,
    /// In how many days; a day without a sale counts too.
    pub days: u32,
}

impl Demand {
    /// How many days `quantity` units last.
    pub fn days_of_cover(self, quantity: i64) -> Option<Tenths> {
        if self.units <= 0 {
            return None;
        }
        Tenths::ratio(i128::from(quantity.max(0)) * i128::from(self.days), i128::from(self.units))
    }

    /// The units that bring `quantity` to the reorder point plus the same demand once more; never below 0.
    pub fn suggested_order(self, quantity: i64, reorder_point: i64) -> i64 {
        reorder_point.saturating_add(self.units.max(0)).saturating_sub(quantity).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cover_is_stock_over_the_mean_daily_demand() {
        let demand = Demand { units: 56, days: 28 };
        let cover = [10, 3, 0, -4].map(|quantity| demand.days_of_cover(quantity));
        assert_eq!(cover, [50, 15, 0, 0].map(|tenths| Some(Tenths(tenths))));
    }

    #[test]
    fn without_demand_stock_lasts_for_ever() {
        for units in [0, -3] {
            assert_eq!(Demand { units, days: 28 }.days_of_cover(10), None);
        }
    }

    #[test]
    fn an_order_brings_stock_to_the_reorder_point_and_as_much_demand_again() {
        let demand = Demand { units: 56, days: 28 };
        assert_eq!([20, 0, -5].map(|quantity| demand.suggested_order(quantity, 20)), [56, 76, 81]);
        assert_eq!(Demand { units: -9, days: 28 }.suggested_order(15, 20), 5);
        assert_eq!(Demand { units: 0, days: 28 }.suggested_order(20, 20), 0);
    }
}
