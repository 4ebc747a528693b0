//! CSV to rows.

use std::io::{BufReader, ErrorKind, Read};
use std::path::Path;

use csv::{ByteRecord, Reader, ReaderBuilder};
use stocktide_domain::{Money, ProductKind};

use super::{
    CatalogueFiles, LOCATIONS, LocationRow, PRODUCTS, ProductRow, Refusal, STOCK, SUPPLIERS, StockRow,
    SupplierRow, check,
};

/// The most rows of one file.
const MAX_ROWS: usize = 10_000_000;
/// After so many refusals reading stops: whoever mends a file starts with the first ones.
pub(super) const MAX_REFUSALS: usize = 1_000;

/// A file of the catalogue.
struct Table {
    file: &'static str,
    columns: &'static [&'static str],
    optional: &'static [&'static str],
}

const TABLES: [Table; 4] = [
    Table {
        file: PRODUCTS,
        columns: &["product_id", "name", "category", "price", "currency", "reorder_point"],
        optional: &["kind"],
    },
    Table { file: SUPPLIERS, columns: &["supplier_id", "name", "contact"], optional: &[] },
    Table { file: LOCATIONS, columns: &["location_id", "name", "kind", "timezone"], optional: &[] },
    Table { file: STOCK, columns: &["product_id", "location_id", "quantity"], optional: &[] },
];

/// Reads and checks the files of a catalogue. `suppliers.csv` and `stock.csv` may be absent.
///
/// # Errors
/// Everything that is wrong with them, at most 1,000 of it.
pub fn read_dir(dir: &Path) -> Result<CatalogueFiles, Vec<Refusal>> {
    if let Err(error) = std::fs::read_dir(dir) {
        return Err(vec![Refusal::new(&dir.display().to_string(), 0, plain(&error))]);
    }
    let mut refusals = Vec::new();
    let mut files = CatalogueFiles::default();
    let [products, suppliers, locations, stock] = &TABLES;
    let absent = &mut files.absent;
    files.products = read(dir, products, Absence::Refused, product, absent, &mut refusals);
    files.suppliers = read(dir, suppliers, Absence::Allowed, |row| Ok(supplier(row)), absent, &mut refusals);
    files.locations = read(dir, locations, Absence::Refused, |row| Ok(location(row)), absent, &mut refusals);
    files.stock = read(dir, stock, Absence::Allowed, stock_row, absent, &mut refusals);
    if refusals.is_empty() {
        refusals = check::check(&files);
    }
    if refusals.is_empty() { Ok(files) } else { Err(refusals) }
}

#[derive(PartialEq, Eq)]
enum Absence {
    Allowed,
    Refused,
}

/// A row whose fields are asked for by the column's name.
struct Fields<'a> {
    line: u64,
    columns: &'a [(&'static str, usize)],
    record: &'a csv::StringRecord,
}

impl Fields<'_> {
    /// The field of a column; empty where an optional column is not there.
    fn get(&self, column: &str) -> &str {
        let at = self.columns.iter().find(|(name, _)| *name == column);
        at.and_then(|(_, at)| self.record.get(*at)).unwrap_or_default()
    }

    fn text(&self, column: &str) -> String {
        self.get(column).to_owned()
    }
}

fn read<T>(
    dir: &Path,
    table: &Table,
    absence: Absence,
    parse: impl Fn(&Fields) -> Result<T, String>,
    absent: &mut Vec<&'static str>,
    refusals: &mut Vec<Refusal>,
) -> Vec<T> {
    let file = match std::fs::File::open(dir.join(table.file)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound && absence == Absence::Allowed => {
            absent.push(table.file);
            return Vec::new();
        }
        Err(error) => {
            let why = match error.kind() {
                ErrorKind::NotFound => format!("missing; {PRODUCTS} and {LOCATIONS} are needed"),
                _ => plain(&error),
            };
            refusals.push(Refusal::new(table.file, 0, why));
            return Vec::new();
        }
    };
    let reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(BufReader::new(file));
    match rows(table, reader, parse, refusals) {
        Ok(rows) => rows,
        Err(error) => {
            refusals.push(Refusal::new(table.file, 0, plain(&error)));
            Vec::new()
        }
    }
}

fn rows<T>(
    table: &Table,
    mut reader: Reader<impl Read>,
    parse: impl Fn(&Fields) -> Result<T, String>,
    refusals: &mut Vec<Refusal>,
) -> Result<Vec<T>, csv::Error> {
    let mut record = ByteRecord::new();
    if !reader.read_byte_record(&mut record)? {
        refusals.push(Refusal::new(
            table.file,
            0,
            format!("empty; it needs the header {}", table.columns.join(",")),
        ));
        return Ok(Vec::new());
    }
    let width = record.len();
    let columns = match header(table, &record) {
        Ok(columns) => columns,
        Err(why) => {
            refusals.push(Refusal::new(table.file, 1, why));
            return Ok(Vec::new());
        }
    };
    let mut rows = Vec::new();
    while reader.read_byte_record(&mut record)? {
        let line = record.position().map_or(0, csv::Position::line);
        let row = if rows.len() >= MAX_ROWS {
            Err(format!("more than {MAX_ROWS} rows"))
        } else if record.len() == width {
            let text =
                csv::StringRecord::from_byte_record(record.clone()).map_err(|_| "not UTF-8".to_owned());
            text.and_then(|record| parse(&Fields { line, columns: &columns, record: &record }))
        } else {
            Err(format!("{} fields, where the header has {width}", record.len()))
        };
        match row {
            Ok(row) => rows.push(row),
            Err(why) => refusals.push(Refusal::new(table.file, line, why)),
        }
        if refusals.len() >= MAX_REFUSALS {
            break;
        }
    }
    Ok(rows)
}

/// Where each column stands.
fn header(table: &Table, record: &ByteRecord) -> Result<Vec<(&'static str, usize)>, String> {
    let mut columns: Vec<(&'static str, usize)> = Vec::new();
    for (at, name) in record.iter().enumerate() {
        let name = String::from_utf8_lossy(name);
        let Some(known) = table.columns.iter().chain(table.optional).find(|c| **c == name) else {
            let allowed: Vec<&str> = table.columns.iter().chain(table.optional).copied().collect();
            return Err(format!("unknown column {name:?}; allowed: {}", allowed.join(", ")));
        };
        if columns.iter().any(|(seen, _)| seen == known) {
            return Err(format!("column {known} stands twice"));
        }
        columns.push((known, at));
    }
    let missing: Vec<&str> =
        table.columns.iter().filter(|c| !columns.iter().any(|(seen, _)| seen == *c)).copied().collect();
    if missing.is_empty() { Ok(columns) } else { Err(format!("no column {}", missing.join(", "))) }
}

fn product(row: &Fields) -> Result<ProductRow, String> {
    let price = row.get("price");
    let reorder_point = row.get("reorder_point");
    let kind = row.get("kind");
    Ok(ProductRow {
        line: row.line,
        product_id: row.text("product_id"),
        name: row.text("name"),
        category: row.text("category"),
        price: Money::parse(price).map_err(|why| {
            format!("price {price:?} is {why}; allowed: a decimal number with at most 4 decimals")
        })?,
        currency: row.text("currency"),
        reorder_point: if reorder_point.is_empty() {
            None
        } else {
            Some(units("reorder_point", reorder_point)?)
        },
        kind: match kind {
            "" => ProductKind::Stock,
            name => ProductKind::from_name(name)
                .ok_or_else(|| format!("kind {name:?}; allowed: stock, service, or empty for stock"))?,
        },
    })
}

fn supplier(row: &Fields) -> SupplierRow {
    SupplierRow {
        line: row.line,
        supplier_id: row.text("supplier_id"),
        name: row.text("name"),
        contact: row.text("contact"),
    }
}

fn location(row: &Fields) -> LocationRow {
    LocationRow {
        line: row.line,
        location_id: row.text("location_id"),
        name: row.text("name"),
        kind: row.text("kind"),
        timezone: row.text("timezone"),
    }
}

fn stock_row(row: &Fields) -> Result<StockRow, String> {
    Ok(StockRow {
        line: row.line,
        product_id: row.text("product_id"),
        location_id: row.text("location_id"),
        quantity: units("quantity", row.get("quantity"))?,
    })
}

fn units(column: &str, text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("{column} {text:?}; allowed: a whole number from 0 to {}", check::MAX_UNITS))
}

fn plain(error: &impl std::fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}
