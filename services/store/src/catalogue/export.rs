//! The database to CSV: what `load` reads back as unchanged.

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use csv::Writer;
use futures_util::TryStreamExt;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, PgPool, Row};
use stocktide_domain::Money;

use super::{LOCATIONS, PRODUCTS, STOCK, SUPPLIERS};

/// How many rows each file has got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// `products.csv`
    pub products: usize,
    /// `suppliers.csv`
    pub suppliers: usize,
    /// `locations.csv`
    pub locations: usize,
    /// `stock.csv`: the opening stock, not what is on hand.
    pub stock: usize,
}

/// Why a catalogue was not exported. Files that were there before are as they were.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The schema is not there.
    #[error("the schema is not there yet: run `stocktide migrate`")]
    NotMigrated,
    /// The database is away, or refuses.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
    /// A file cannot be written.
    #[error("{path}: {problem}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
    },
}

/// Writes the four files into `dir`, which is made if need be, from one snapshot of the database. Files of these names
/// are replaced, once all are written.
///
/// # Errors
/// [`ExportError`].
pub async fn export(pool: &PgPool, dir: &Path) -> Result<Exported, ExportError> {
    let mut transaction = pool.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .execute(&mut *transaction)
        .await?;
    let sql = "SELECT to_regclass('products') IS NOT NULL";
    if !sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut *transaction).await? {
        return Err(ExportError::NotMigrated);
    }
    std::fs::create_dir_all(dir).map_err(|e| failed(dir, &e))?;
    let exported = Exported {
        products: products(&mut transaction, dir).await?,
        suppliers: suppliers(&mut transaction, dir).await?,
        locations: locations(&mut transaction, dir).await?,
        stock: stock(&mut transaction, dir).await?,
    };
    transaction.commit().await?;
    for file in [PRODUCTS, SUPPLIERS, LOCATIONS, STOCK] {
        let path = dir.join(file);
        std::fs::rename(part(dir, file), &path).map_err(|e| failed(&path, &e))?;
    }
    Ok(exported)
}

async fn products(connection: &mut PgConnection, dir: &Path) -> Result<usize, ExportError> {
    let header = ["product_id", "name", "category", "price", "currency", "reorder_point", "kind"];
    let sql = "SELECT product_id, name, category, price::text, currency, reorder_point::text, kind
               FROM products ORDER BY product_id COLLATE \"C\"";
    write(connection, dir, PRODUCTS, &header, sql, |row| {
        let price: String = row.try_get(3)?;
        let price = Money::parse(&price).map_err(|e| sqlx::Error::Decode(Box::new(e)))?.to_string();
        let reorder_point: Option<String> = row.try_get(5)?;
        let (id, name, category): (String, String, String) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let (currency, kind): (String, String) = (row.try_get(4)?, row.try_get(6)?);
        Ok(vec![id, name, category, price, currency, reorder_point.unwrap_or_default(), kind])
    })
    .await
}

async fn suppliers(connection: &mut PgConnection, dir: &Path) -> Result<usize, ExportError> {
    let header = ["supplier_id", "name", "contact"];
    let sql = "SELECT supplier_id, name, contact FROM suppliers ORDER BY supplier_id COLLATE \"C\"";
    write(connection, dir, SUPPLIERS, &header, sql, texts).await
}

async fn locations(connection: &mut PgConnection, dir: &Path) -> Result<usize, ExportError> {
    let header = ["location_id", "name", "kind", "timezone"];
    let sql = "SELECT location_id, name, kind, timezone FROM locations ORDER BY location_id COLLATE \"C\"";
    write(connection, dir, LOCATIONS, &header, sql, texts).await
}

async fn stock(connection: &mut PgConnection, dir: &Path) -> Result<usize, ExportError> {
    let header = ["product_id", "location_id", "quantity"];
    let sql = "SELECT product_id, location_id, opening_quantity::text FROM inventory
               ORDER BY product_id COLLATE \"C\", location_id COLLATE \"C\"";
    write(connection, dir, STOCK, &header, sql, texts).await
}

fn texts(row: &PgRow) -> Result<Vec<String>, sqlx::Error> {
    (0..row.len()).map(|at| row.try_get(at)).collect()
}

/// One file, streamed: the catalogue need not fit in memory.
async fn write(
    connection: &mut PgConnection,
    dir: &Path,
    file: &str,
    header: &[&str],
    sql: &'static str,
    fields: impl Fn(&PgRow) -> Result<Vec<String>, sqlx::Error>,
) -> Result<usize, ExportError> {
    let path = part(dir, file);
    let mut writer = Writer::from_writer(BufWriter::new(File::create(&path).map_err(|e| failed(&path, &e))?));
    writer.write_record(header).map_err(|e| failed(&path, &e))?;
    let mut count = 0;
    let mut rows = sqlx::query(sql).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        writer.write_record(fields(&row)?).map_err(|e| failed(&path, &e))?;
        count += 1;
    }
    let file = writer.into_inner().map_err(|e| failed(&path, e.error()))?;
    let file = file.into_inner().map_err(|e| failed(&path, e.error()))?;
    file.sync_all().map_err(|e| failed(&path, &e))?;
    Ok(count)
}

fn part(dir: &Path, file: &str) -> PathBuf {
    dir.join(format!(".{file}.part"))
}

fn failed(path: &Path, error: &impl std::fmt::Display) -> ExportError {
    ExportError::File { path: path.display().to_string(), problem: error.to_string().replace('\n', " ") }
}
