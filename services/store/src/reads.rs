//! What the processor reads at its start: the server, the installation, the catalogue.

use stocktide_domain::{Catalogue, Money, Product, ProductKind};
use tokio_postgres::Client;

use crate::error::StoreError;
use crate::numeric::Numeric;
use crate::writer::WriterOptions;

/// Refuses servers that cannot keep the promises: those that may lose commits, too (rule 5 of the protocol).
pub(crate) async fn check_server(client: &Client) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'),
                      current_setting('fsync')";
    let row = client.query_one(sql, &[]).await?;
    let (version, synchronous, fsync): (i32, String, String) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    match version {
        // UPDATE … FROM under READ COMMITTED skips concurrently updated rows there.
        180_000 | 180_001 => Err(StoreError::Stop(format!(
            "PostgreSQL 18.{} loses concurrent updates: upgrade to 18.2 or later",
            version - 180_000
        ))),
        ..150_000 => Err(StoreError::Stop(format!(
            "PostgreSQL {} is too old: 15 or later is needed",
            version / 10_000
        ))),
        _ if synchronous == "off" || fsync == "off" => Err(StoreError::Stop(format!(
            "synchronous_commit is {synchronous} and fsync is {fsync}: commits could be lost, so both must be on"
        ))),
        _ => Ok(()),
    }
}

/// Refuses a database without the schema, or one whose business months follow another timezone.
pub(crate) async fn check_installation(client: &Client, options: &WriterOptions) -> Result<(), StoreError> {
    let missing =
        || StoreError::Unavailable("the schema is not there yet: run `stocktide migrate`".to_owned());
    let known = client.query_one("SELECT to_regclass('installation') IS NOT NULL", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        return Err(missing());
    }
    let row = client.query_opt("SELECT timezone FROM installation", &[]).await?.ok_or_else(missing)?;
    let timezone: String = row.try_get(0)?;
    if timezone == options.timezone.name() {
        return Ok(());
    }
    Err(StoreError::Stop(format!(
        "business.timezone is {}, but this installation was set up with {timezone}: its months would not add up",
        options.timezone.name()
    )))
}

/// The catalogue, whole.
pub(crate) async fn catalogue(client: &Client) -> Result<Catalogue, StoreError> {
    // The version first: what is loaded in between is then noticed and read again.
    let version: i64 =
        client.query_one("SELECT catalogue_version FROM installation", &[]).await?.try_get(0)?;
    let mut catalogue = Catalogue { version, ..Catalogue::default() };
    for row in client.query("SELECT product_id, price, reorder_point, kind FROM products", &[]).await? {
        let price =
            i64::try_from(row.try_get::<_, Numeric>(1)?.0).map_err(|e| StoreError::Stop(e.to_string()))?;
        let kind: &str = row.try_get(3)?;
        let product = Product {
            price: Money::from_ten_thousandths(price),
            reorder_point: row.try_get(2)?,
            kind: ProductKind::from_name(kind).unwrap_or(ProductKind::Stock),
        };
        catalogue.products.insert(row.try_get(0)?, product);
    }
    for row in client.query("SELECT location_id FROM locations", &[]).await? {
        catalogue.locations.insert(row.try_get(0)?);
    }
    for row in client.query("SELECT supplier_id FROM suppliers", &[]).await? {
        catalogue.suppliers.insert(row.try_get(0)?);
    }
    Ok(catalogue)
}
