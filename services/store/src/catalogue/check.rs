//! What must hold of a catalogue before the database is asked.

use std::hash::Hash;

use rustc_hash::{FxHashMap, FxHashSet};
use stocktide_domain::ProductKind;
use stocktide_domain::decode::Limits;

use super::files::MAX_REFUSALS;
use super::{
    CatalogueFiles, LOCATIONS, LocationRow, PRODUCTS, ProductRow, Refusal, STOCK, SUPPLIERS, StockRow,
};

/// The most units of opening stock, and the highest reorder point.
pub(super) const MAX_UNITS: i64 = 1_000_000_000_000;
/// The longest name, category or contact, in bytes.
const NAME_BYTES: usize = 1_024;
/// What a location may be.
const LOCATION_KINDS: [&str; 3] = ["online", "store", "warehouse"];

/// Everything that is wrong, at most [`MAX_REFUSALS`] of it.
pub(super) fn check(files: &CatalogueFiles) -> Vec<Refusal> {
    let mut found = Found::default();
    found.products(&files.products);
    found.keys(
        SUPPLIERS,
        &files.suppliers,
        |row| (row.line, &row.supplier_id),
        |id| format!("supplier_id {id:?}"),
    );
    for row in &files.suppliers {
        found.note(SUPPLIERS, row.line, id("supplier_id", &row.supplier_id));
        found.note(SUPPLIERS, row.line, name("name", &row.name, 1));
        found.note(SUPPLIERS, row.line, name("contact", &row.contact, 0));
    }
    found.locations(&files.locations);
    found.stock(files);
    found.refusals.truncate(MAX_REFUSALS);
    found.refusals
}

#[derive(Default)]
struct Found {
    refusals: Vec<Refusal>,
}

impl Found {
    fn note(&mut self, file: &str, line: u64, answer: Result<(), String>) {
        if let Err(why) = answer {
            self.refusals.push(Refusal::new(file, line, why));
        }
    }

    /// Each key stands once in its file.
    fn keys<'a, R, K: Hash + Eq>(
        &mut self,
        file: &str,
        rows: &'a [R],
        key: impl Fn(&'a R) -> (u64, K),
        show: impl Fn(&K) -> String,
    ) {
        let mut seen: FxHashMap<K, u64> = FxHashMap::default();
        for row in rows {
            let (line, key) = key(row);
            if let Some(first) = seen.get(&key) {
                self.refusals.push(Refusal::new(
                    file,
                    line,
                    format!("{} stands in line {first} already", show(&key)),
                ));
            } else {
                seen.insert(key, line);
            }
        }
    }

    fn products(&mut self, rows: &[ProductRow]) {
        self.keys(PRODUCTS, rows, |row| (row.line, &row.product_id), |id| format!("product_id {id:?}"));
        for row in rows {
            self.note(PRODUCTS, row.line, id("product_id", &row.product_id));
            self.note(PRODUCTS, row.line, name("name", &row.name, 1));
            self.note(PRODUCTS, row.line, name("category", &row.category, 0));
            if row.price.is_negative() {
                self.note(PRODUCTS, row.line, Err(format!("price {}; allowed: 0 or more", row.price)));
            }
            if let Some(point) = row.reorder_point {
                self.note(PRODUCTS, row.line, units("reorder_point", point));
            }
        }
    }

    fn locations(&mut self, rows: &[LocationRow]) {
        self.keys(LOCATIONS, rows, |row| (row.line, &row.location_id), |id| format!("location_id {id:?}"));
        for row in rows {
            self.note(LOCATIONS, row.line, id("location_id", &row.location_id));
            self.note(LOCATIONS, row.line, name("name", &row.name, 1));
            if !LOCATION_KINDS.contains(&row.kind.as_str()) {
                let why = format!("kind {:?}; allowed: {}", row.kind, LOCATION_KINDS.join(", "));
                self.note(LOCATIONS, row.line, Err(why));
            }
            if row.timezone.parse::<chrono_tz::Tz>().is_err() {
                let why = format!(
                    "timezone {:?}; allowed: the name of an IANA time zone like Europe/London",
                    row.timezone
                );
                self.note(LOCATIONS, row.line, Err(why));
            }
        }
    }

    fn stock(&mut self, files: &CatalogueFiles) {
        let key = |row: &StockRow| (row.product_id.clone(), row.location_id.clone());
        self.keys(
            STOCK,
            &files.stock,
            |row| (row.line, key(row)),
            |(product, location)| format!("product_id {product:?} at location_id {location:?}"),
        );
        let services: FxHashSet<&str> = files
            .products
            .iter()
            .filter(|p| p.kind == ProductKind::Service)
            .map(|p| p.product_id.as_str())
            .collect();
        for row in &files.stock {
            self.note(STOCK, row.line, id("product_id", &row.product_id));
            self.note(STOCK, row.line, id("location_id", &row.location_id));
            self.note(STOCK, row.line, units("quantity", row.quantity));
            if services.contains(row.product_id.as_str()) {
                self.note(STOCK, row.line, Err(service_with_stock(&row.product_id)));
            }
        }
    }
}

pub(super) fn service_with_stock(product_id: &str) -> String {
    format!("product_id {product_id:?} is of kind service, which has no stock")
}

/// An id as events may carry it.
fn id(column: &str, id: &str) -> Result<(), String> {
    let most = Limits::default().id_bytes;
    if id.is_empty() || id.len() > most || id.chars().any(char::is_control) {
        let shown: String = id.chars().take(60).collect();
        return Err(format!("{column} {shown:?}; allowed: 1 to {most} bytes without control characters"));
    }
    Ok(())
}

fn name(column: &str, text: &str, least: usize) -> Result<(), String> {
    // PostgreSQL's text takes any character but this one.
    if text.len() < least || text.len() > NAME_BYTES || text.contains('\0') {
        let shown: String = text.chars().take(60).collect();
        return Err(format!("{column} {shown:?}; allowed: {least} to {NAME_BYTES} bytes without NUL"));
    }
    Ok(())
}

fn units(column: &str, units: i64) -> Result<(), String> {
    if (0..=MAX_UNITS).contains(&units) {
        return Ok(());
    }
    Err(format!("{column} {units}; allowed: a whole number from 0 to {MAX_UNITS}"))
}
