//! How a stock row stands.

use std::fmt;

/// How a stock row stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StockStatus {
    /// Above the reorder point, or positive where there is none.
    InStock,
    /// Positive, but at or below the reorder point.
    Low,
    /// Exactly nothing.
    Out,
    /// More was sold than there was: a sale is a fact, so the figure goes below zero.
    Oversold,
}

impl StockStatus {
    /// How `quantity` units stand against a reorder point.
    pub fn of(quantity: i64, reorder_point: Option<i64>) -> StockStatus {
        match quantity {
            q if q < 0 => StockStatus::Oversold,
            0 => StockStatus::Out,
            q if reorder_point.is_some_and(|r| q <= r) => StockStatus::Low,
            _ => StockStatus::InStock,
        }
    }

    /// As it stands on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            StockStatus::InStock => "in_stock",
            StockStatus::Low => "low",
            StockStatus::Out => "out",
            StockStatus::Oversold => "oversold",
        }
    }
}

impl fmt::Display for StockStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_follows_quantity_and_reorder_point() {
        let of = StockStatus::of;
        assert_eq!(
            [of(-1, None), of(0, Some(5)), of(5, Some(5)), of(6, Some(5)), of(1, None)]
                .map(StockStatus::as_str),
            ["oversold", "out", "low", "in_stock", "in_stock"]
        );
    }
}
