//! What the processor reads at its start: the server, the installation, the catalogue.

use std::cmp::Ordering;

use stocktide_domain::{Catalogue, Money, Product, ProductKind};
use tokio_postgres::Client;

use crate::error::StoreError;
use crate::migrate::{MigrateError, newest, unfit};
use crate::numeric::Numeric;
use crate::writer::WriterOptions;

/// Refuses servers that cannot keep the promises: those that may lose commits, too (rule 5 of the protocol).
pub(crate) async fn check_server(client: &Client) -> Result<(), StoreError> {
    let sql = "SELECT current_setting('server_version_num')::int, current_setting('synchronous_commit'),
                      current_setting('fsync')";
    let row = client.query_one(sql, &[]).await?;
    let (synchronous, fsync): (String, String) = (row.try_get(1)?, row.try_get(2)?);
    unfit(row.try_get(0)?, &synchronous, &fsync).map_or(Ok(()), |why| Err(StoreError::Stop(why)))
}

/// Refuses a database without the schema this program was made for, or one whose business months follow another timezone.
pub(crate) async fn check_installation(client: &Client, options: &WriterOptions) -> Result<(), StoreError> {
    let missing =
        || StoreError::Unavailable("the schema is not there yet: run `stocktide migrate`".to_owned());
    let known = client.query_one("SELECT to_regclass('installation') IS NOT NULL", &[]).await?;
    if !known.try_get::<_, bool>(0)? {
        return Err(missing());
    }
    let sql = "SELECT max(version) FROM _sqlx_migrations WHERE success";
    let found: Option<i64> = client.query_one(sql, &[]).await?.try_get(0)?;
    let (found, known) = (found.unwrap_or_default(), newest());
    match found.cmp(&known) {
        Ordering::Equal => {}
        // Whoever brings it up to date may be at it.
        Ordering::Less => {
            return Err(StoreError::Unavailable(format!(
                "the database has migration {found:04} and this program needs {known:04}: run `stocktide migrate`"
            )));
        }
        Ordering::Greater => return Err(StoreError::Stop(MigrateError::Newer { found, known }.to_string())),
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
