//! The catalogue: products, suppliers, locations and opening stock, loaded from files and exported to them.
//!
//! A load is one transaction, all or nothing. It only adds and changes: what a file does not name stays. It may run beside
//! a processor, and takes its locks in the processor's order: the installation, the catalogue's rows, then stock rows
//! sorted bytewise by (product_id, location_id).

use std::fmt;

use serde::Serialize;
use stocktide_domain::{Money, ProductKind};

mod check;
mod export;
mod files;
mod load;

pub use export::{ExportError, Exported, export};
pub use files::read_dir;
pub use load::{LoadError, load};

/// The file of the products.
pub const PRODUCTS: &str = "products.csv";
/// The file of the suppliers.
pub const SUPPLIERS: &str = "suppliers.csv";
/// The file of the locations.
pub const LOCATIONS: &str = "locations.csv";
/// The file of the opening stock.
pub const STOCK: &str = "stock.csv";

/// The content of a catalogue's files, from [`read_dir`] or made by a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CatalogueFiles {
    /// `products.csv`
    pub products: Vec<ProductRow>,
    /// `suppliers.csv`
    pub suppliers: Vec<SupplierRow>,
    /// `locations.csv`
    pub locations: Vec<LocationRow>,
    /// `stock.csv`
    pub stock: Vec<StockRow>,
    /// The optional files that were not there; empty when made by a program.
    pub absent: Vec<&'static str>,
}

/// A row of `products.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its line in the file, from 1; 0 when it came from none. It only serves refusals.
    pub line: u64,
    /// The product.
    pub product_id: String,
    /// For people.
    pub name: String,
    /// May be empty.
    pub category: String,
    /// Price per unit, in the installation's currency.
    pub price: Money,
    /// The installation's currency.
    pub currency: String,
    /// At or below it stock is low; none: no alert.
    pub reorder_point: Option<i64>,
    /// Whether it moves stock.
    pub kind: ProductKind,
}

/// A row of `suppliers.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupplierRow {
    /// Its line in the file, from 1; 0 when it came from none.
    pub line: u64,
    /// The supplier.
    pub supplier_id: String,
    /// For people.
    pub name: String,
    /// May be empty.
    pub contact: String,
}

/// A row of `locations.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocationRow {
    /// Its line in the file, from 1; 0 when it came from none.
    pub line: u64,
    /// The location.
    pub location_id: String,
    /// For people.
    pub name: String,
    /// `online`, `store` or `warehouse`.
    pub kind: String,
    /// The name of an IANA time zone.
    pub timezone: String,
}

/// A row of `stock.csv`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StockRow {
    /// Its line in the file, from 1; 0 when it came from none.
    pub line: u64,
    /// The product, of kind `stock`.
    pub product_id: String,
    /// The location.
    pub location_id: String,
    /// Opening stock, in units.
    pub quantity: i64,
}

/// Why a row, or a file as a whole, is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The file.
    pub file: String,
    /// The line at which the row begins, from 1; 0: it is not about one line.
    pub line: u64,
    /// What is wrong, and what is allowed.
    pub reason: String,
}

impl Refusal {
    fn new(file: &str, line: u64, reason: impl Into<String>) -> Refusal {
        Refusal { file: file.to_owned(), line, reason: reason.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.reason),
            line => write!(f, "{}:{line}: {}", self.file, self.reason),
        }
    }
}

/// What became of a file's rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Were not known before.
    pub new: usize,
    /// Were known, and differed.
    pub changed: usize,
    /// Were known as they are.
    pub unchanged: usize,
    /// Opening stock of rows that have had movements: left as it is.
    pub left: usize,
}

/// Opening stock that was left as it is, because the row has had movements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeftStock {
    /// The row's line in `stock.csv`.
    pub line: u64,
    /// The product.
    pub product_id: String,
    /// The location.
    pub location_id: String,
    /// The opening stock that it keeps; none where the row came to be while the load ran.
    pub opening_quantity: Option<i64>,
    /// What the file says.
    pub stated_quantity: i64,
}

/// What a load did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// `products.csv`
    pub products: Tally,
    /// `suppliers.csv`
    pub suppliers: Tally,
    /// `locations.csv`
    pub locations: Tally,
    /// `stock.csv`
    pub stock: Tally,
    /// The opening stock that was left as it is, in the order of the locks.
    pub left: Vec<LeftStock>,
    /// The optional files that were not there.
    pub absent: Vec<&'static str>,
    /// The catalogue's version now; it rises when a load changes anything.
    pub catalogue_version: i64,
}

impl LoadReport {
    /// Whether anything is new or changed.
    pub fn is_changed(&self) -> bool {
        [self.products, self.suppliers, self.locations, self.stock].iter().any(|t| t.new + t.changed > 0)
    }
}
