//! The UCI *Online Retail* data set (Chen, D. (2015), doi 10.24432/C5BW33, CC BY 4.0) as events.
//!
//! What the file says, and what is added so that it makes a full set of sources:
//!
//! - An invoice with a CustomerID is an online order. One without is sent to `store_sales`: this retailer has no stores,
//!   so that is a relabelling, for the sake of a second source.
//! - A `C…` invoice is a `returned` event without an original, for it does not name the invoice that it undoes.
//! - A row of negative quantity, or of price 0 without a customer, is a correction of stock: an `adjustment`.
//! - `A…` invoices (bad debt) are skipped and counted.
//! - A row is a line. Rows that repeat exactly are real lines; the event_id comes from topic and invoice number alone.
//! - Codes that are no products (`POST`, `DOT`, `M` …) are services: they carry money, not stock.
//! - Deliveries and opening stock are simulated by a rule over the real sales ([`restock`]).

pub mod derive;
pub mod events;
pub mod invoices;
pub mod restock;
pub mod rows;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use chrono::NaiveDate;
use chrono_tz::Europe::London;
use stocktide_domain::ProductKind;
use stocktide_store::catalogue::{CatalogueFiles, LocationRow, ProductRow, StockRow, SupplierRow};

use self::derive::Products;
use self::invoices::{Invoices, Skip};
use self::restock::Plan;
use self::rows::Rows;
use crate::record::Record;

/// The currency of its prices.
pub const CURRENCY: &str = "GBP";

/// A file, read and understood.
#[derive(Debug)]
pub struct OnlineRetail {
    /// Its rows, those out of range included.
    pub rows: Rows,
    /// The invoices in range.
    pub invoices: Invoices,
    /// The products of these invoices.
    pub products: Products,
    /// Opening stock, reorder points and deliveries for them.
    pub plan: Plan,
}

impl OnlineRetail {
    /// Reads a file (plain or xz) and takes the invoices of the days `from` to `to`, both included, in London's time.
    ///
    /// # Errors
    /// When the file cannot be read, is not of the format (the line is named), or has nothing in range.
    pub fn open(path: &Path, from: Option<NaiveDate>, to: Option<NaiveDate>) -> anyhow::Result<OnlineRetail> {
        OnlineRetail::of(Rows::open(path)?, from, to)
    }

    /// As [`OnlineRetail::open`], of rows at hand.
    ///
    /// # Errors
    /// When no row is in range.
    pub fn of(rows: Rows, from: Option<NaiveDate>, to: Option<NaiveDate>) -> anyhow::Result<OnlineRetail> {
        let invoices = invoices::group(&rows, from, to);
        if invoices.rows == 0 {
            let days = rows.rows.iter().map(|row| row.at.date());
            match (days.clone().min(), days.max()) {
                (Some(first), Some(last)) => {
                    bail!("no row lies in the range asked for; the file has {first} to {last}")
                }
                _ => bail!("the file has no rows"),
            }
        }
        let products = derive::products(&rows, &invoices);
        let plan = restock::plan(&rows, &invoices, &products);
        Ok(OnlineRetail { rows, invoices, products, plan })
    }

    /// The events in the order of time; `payments` adds one per online order to the topic `payments`.
    pub fn events(&self, payments: bool) -> impl Iterator<Item = Record> {
        events::events(self, payments)
    }

    /// How many events [`OnlineRetail::events`] yields.
    pub fn len(&self, payments: bool) -> u64 {
        let orders =
            self.invoices.parts.iter().filter(|part| payments && part.kind == invoices::Kind::Order).count();
        (self.invoices.parts.len() + self.plan.deliveries.len() + orders) as u64
    }

    /// The catalogue that the file implies, in the form in which catalogues are loaded.
    pub fn catalogue(&self) -> CatalogueFiles {
        let line = 0;
        let product = |(product, &reorder_point): (&derive::Product, &Option<i64>)| ProductRow {
            line,
            product_id: product.product_id.clone(),
            name: product.name.clone(),
            // The file has none. Its retailer sells gifts, mostly to other shops.
            category: if product.kind == ProductKind::Stock { "giftware" } else { "services" }.to_owned(),
            price: product.price,
            currency: CURRENCY.to_owned(),
            reorder_point,
            kind: product.kind,
        };
        let location = |id: &str, name: &str, kind: &str| LocationRow {
            line,
            location_id: id.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
            timezone: London.name().to_owned(),
        };
        let supplier_id = events::SUPPLIER.to_owned();
        let stock = |&(product, location, quantity): &(u32, &str, i64)| {
            let product_id = self.products.get(product)?.product_id.clone();
            Some(StockRow { line, product_id, location_id: location.to_owned(), quantity })
        };
        CatalogueFiles {
            products: self.products.products.iter().zip(&self.plan.reorder_points).map(product).collect(),
            suppliers: vec![SupplierRow {
                line,
                supplier_id,
                name: "Supplier (simulated)".into(),
                contact: String::new(),
            }],
            locations: vec![
                location(invoices::ONLINE, "Online shop", "online"),
                location(invoices::STORE, "Store (relabelled: invoices without a customer)", "store"),
            ],
            stock: self.plan.opening.iter().filter_map(stock).collect(),
            absent: Vec::new(),
        }
    }

    /// Rows that became no event, by reason.
    pub fn skipped(&self) -> &BTreeMap<Skip, u64> {
        &self.invoices.skipped
    }

    fn product_id(&self, code: u32) -> &str {
        self.products.index(code).and_then(|index| self.products.get(index)).map_or("", |p| &p.product_id)
    }
}
