//! Sales of a day.

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::tenths::{Tenths, divided};
use crate::Money;

/// What was sold on a day, and what came back on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sales {
    /// The whole day.
    pub total: Totals,
    /// By input topic (`online_orders`, `store_sales`), sorted by it; only those with any line on the day.
    pub by_source: Vec<SalesGroup>,
    /// By the location whose stock served it, sorted by its id; only those with any line on the day.
    pub by_location: Vec<SalesGroup>,
    /// By the product's category (may be empty), sorted by it; only those with any line on the day. An order with lines of
    /// two categories counts in both, so the orders, cancellations and returns here may add up to more than the total's.
    pub by_category: Vec<SalesGroup>,
    /// How the day stands against earlier ones.
    pub compared: Comparison,
}

/// A part of a day's sales.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SalesGroup {
    /// The topic, location_id or category.
    pub key: String,
    /// For people: the location's name; the key where there is none other.
    pub name: String,
    /// Its sales.
    pub totals: Totals,
}

/// Sales, cancellations and returns, each on its own day. Services (postage, fees) are included.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Totals {
    /// Orders placed online and sales in stores.
    pub orders: i64,
    /// Their lines.
    pub lines: i64,
    /// Their units.
    pub units: i64,
    /// Their value: Σ quantity × unit price, before cancellations and returns.
    pub gross: Money,
    /// Cancelled orders (events).
    pub cancellations: i64,
    /// Units given back by cancellations, positive.
    pub cancelled_units: i64,
    /// Value given back by cancellations, positive.
    pub cancelled_value: Money,
    /// Returns (events).
    pub returns: i64,
    /// Units returned, positive.
    pub returned_units: i64,
    /// Value returned, positive.
    pub returned_value: Money,
    /// gross − cancelled_value − returned_value.
    pub net: Money,
    /// gross ÷ orders, to the hundredth; null where there was no order.
    pub average_order_value: Option<Money>,
}

impl Totals {
    /// Fills in what follows from the counts and sums.
    #[must_use]
    pub fn completed(mut self) -> Totals {
        let amount = Money::ten_thousandths;
        let net = i128::from(amount(self.gross))
            - i128::from(amount(self.cancelled_value))
            - i128::from(amount(self.returned_value));
        self.net = Money::from_ten_thousandths(clamped(net));
        self.average_order_value = divided(i128::from(amount(self.gross)), i128::from(self.orders) * 100)
            .map(|hundredths| Money::from_ten_thousandths(clamped(hundredths * 100)));
        self
    }
}

/// Sums that are read into an `i64` each cannot leave it together by more than their number; the bound is never met.
fn clamped(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value.is_negative() { i64::MIN } else { i64::MAX })
}

/// A day beside two earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Comparison {
    /// The day before.
    pub day_before: Earlier,
    /// The same weekday a week before.
    pub week_before: Earlier,
}

/// An earlier day's sales, and how the day's differ from them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Earlier {
    /// Its date.
    pub date: NaiveDate,
    /// Its sales.
    pub totals: Totals,
    /// The day's change from it.
    pub change: Changes,
}

impl Earlier {
    /// Puts a day beside an earlier one.
    pub fn of(date: NaiveDate, totals: Totals, today: &Totals) -> Earlier {
        let change = Changes {
            orders_percent: percent(today.orders, totals.orders),
            units_percent: percent(today.units, totals.units),
            gross_percent: percent(today.gross.ten_thousandths(), totals.gross.ten_thousandths()),
            net_percent: percent(today.net.ten_thousandths(), totals.net.ten_thousandths()),
        };
        Earlier { date, totals, change }
    }
}

/// Changes in percent of the earlier figure; null where that is not above 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Changes {
    /// Of the orders.
    pub orders_percent: Option<Tenths>,
    /// Of the units.
    pub units_percent: Option<Tenths>,
    /// Of the gross sales.
    pub gross_percent: Option<Tenths>,
    /// Of the net sales.
    pub net_percent: Option<Tenths>,
}

fn percent(now: i64, before: i64) -> Option<Tenths> {
    let change = i128::from(now) - i128::from(before);
    if before > 0 { Tenths::ratio(change * 100, i128::from(before)) } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn totals(orders: i64, gross: &str, returned: &str) -> Totals {
        let [gross, returned_value] = [gross, returned].map(|text| Money::parse(text).unwrap());
        Totals { orders, units: orders, gross, returned_value, ..Totals::default() }.completed()
    }

    #[test]
    fn net_and_average_follow_from_the_sums() {
        let totals = totals(3, "100.00", "12.345");
        assert_eq!(totals.net.to_string(), "87.655");
        assert_eq!(totals.average_order_value.unwrap().to_string(), "33.33");
        let nothing = Totals::default().completed();
        assert_eq!((nothing.net, nothing.average_order_value), (Money::ZERO, None));
    }

    #[test]
    fn the_average_is_rounded_once_from_the_exact_sum() {
        // A third of 0.0449 is 0.01497; rounding to four decimals first would give the same here, 0.00495 would not.
        assert_eq!(totals(3, "0.0449", "0").average_order_value.unwrap().to_string(), "0.01");
        assert_eq!(totals(2, "0.01", "0").average_order_value.unwrap().to_string(), "0.01");
    }

    #[test]
    fn changes_are_percent_of_the_earlier_figure() {
        let date = NaiveDate::default();
        let change = Earlier::of(date, totals(8, "80.00", "90.00"), &totals(9, "40.00", "0")).change;
        assert_eq!(change.orders_percent, Some(Tenths(125)));
        assert_eq!(change.gross_percent, Some(Tenths(-500)));
        assert_eq!(change.net_percent, None, "the earlier net is below zero");
        let first = Earlier::of(date, Totals::default().completed(), &totals(9, "40.00", "0")).change;
        assert_eq!((first.orders_percent, first.gross_percent), (None, None));
    }
}
