//! What the retailer sells, where, and who supplies it.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::Money;

/// The catalogue as the processor holds it in memory; `version` tells when it is out of date.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    /// Rises with every change of the catalogue.
    pub version: i64,
    /// By product_id.
    pub products: FxHashMap<String, Product>,
    /// All location_ids.
    pub locations: FxHashSet<String>,
    /// All supplier_ids.
    pub suppliers: FxHashSet<String>,
}

/// What the fold needs to know of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// Price per unit, where an event does not say.
    pub price: Money,
    /// At or below it stock is `low`; absent: no alert.
    pub reorder_point: Option<i64>,
    /// Whether it moves stock.
    pub kind: ProductKind,
}

/// Whether a product moves stock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProductKind {
    /// Goods.
    Stock,
    /// Postage, fees and the like: money, but no stock.
    Service,
}

impl ProductKind {
    /// As it stands in the database and in `products.csv`.
    pub const fn as_str(self) -> &'static str {
        match self {
            ProductKind::Stock => "stock",
            ProductKind::Service => "service",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<ProductKind> {
        [ProductKind::Stock, ProductKind::Service].into_iter().find(|k| k.as_str() == name)
    }
}
