//! What sold best.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Money;

/// The products that sold best on a day. Services (postage, fees) are no products that sell and stand apart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TopSellers {
    /// How many were asked for; a list is shorter where fewer were sold.
    pub top_n: u32,
    /// By units, then revenue, then product_id.
    pub by_units: Vec<Seller>,
    /// By revenue, then units, then product_id.
    pub by_revenue: Vec<Seller>,
}

/// A product that sold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Seller {
    /// Its place in the list, from 1.
    pub rank: u32,
    /// The product.
    pub product_id: String,
    /// Its name.
    pub name: String,
    /// Its category; may be empty.
    pub category: String,
    /// Orders and store sales that it stands in.
    pub orders: i64,
    /// Units sold; what came back is not taken off.
    pub units: i64,
    /// Their value; what came back is not taken off.
    pub revenue: Money,
    /// Units that came back on the same day by cancellations and returns, positive.
    pub returned_units: i64,
    /// Their value, positive.
    pub returned_value: Money,
}
