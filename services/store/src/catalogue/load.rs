//! Rows to the database, in one transaction.

use rustc_hash::{FxHashMap, FxHashSet};
use sqlx::{PgConnection, PgPool, Row};
use stocktide_domain::ProductKind;

use super::files::MAX_REFUSALS;
use super::{CatalogueFiles, LeftStock, LoadReport, PRODUCTS, Refusal, STOCK, StockRow, Tally, check};

/// Rows of one statement.
const CHUNK: usize = 20_000;

/// Why a catalogue was not loaded. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// These rows are wrong.
    #[error("the catalogue is refused: {}{}", .0.first().map_or_else(String::new, ToString::to_string),
            if .0.len() > 1 { format!(" (and {} more)", .0.len() - 1) } else { String::new() })]
    Refused(Vec<Refusal>),
    /// The schema is not there.
    #[error("the schema is not there yet: run `stocktide migrate`")]
    NotMigrated,
    /// The database is away, or refuses.
    #[error("the database: {0}")]
    Database(#[from] sqlx::Error),
}

/// Loads a catalogue, all or nothing, and says what became of its rows. The catalogue's version rises when anything
/// changed.
///
/// # Errors
/// [`LoadError`]; then nothing was changed.
pub async fn load(pool: &PgPool, files: &CatalogueFiles) -> Result<LoadReport, LoadError> {
    refuse_any(check::check(files))?;
    let mut transaction = pool.begin().await?;
    // Loads follow one another: the row's lock is what the counts below rely on.
    let sql = "SELECT currency, catalogue_version FROM installation FOR UPDATE";
    let installation = match sqlx::query(sql).fetch_optional(&mut *transaction).await {
        Ok(found) => found.ok_or(LoadError::NotMigrated)?,
        Err(sqlx::Error::Database(e)) if e.code().as_deref() == Some("42P01") => {
            return Err(LoadError::NotMigrated);
        }
        Err(error) => return Err(error.into()),
    };
    let currency: String = installation.try_get(0)?;
    refuse_any(against_database(&mut transaction, files, &currency).await?)?;

    let mut report = LoadReport { absent: files.absent.clone(), ..LoadReport::default() };
    report.catalogue_version = installation.try_get(1)?;
    report.suppliers = suppliers(&mut transaction, files).await?;
    report.locations = locations(&mut transaction, files).await?;
    report.products = products(&mut transaction, files).await?;
    (report.stock, report.left) = stock(&mut transaction, &files.stock).await?;
    if report.is_changed() {
        let sql =
            "UPDATE installation SET catalogue_version = catalogue_version + 1 RETURNING catalogue_version";
        report.catalogue_version = sqlx::query_scalar(sql).fetch_one(&mut *transaction).await?;
    }
    transaction.commit().await?;
    Ok(report)
}

fn refuse_any(mut refusals: Vec<Refusal>) -> Result<(), LoadError> {
    refusals.truncate(MAX_REFUSALS);
    if refusals.is_empty() { Ok(()) } else { Err(LoadError::Refused(refusals)) }
}

// What only the database knows ----------------------------------------------------------------------------------------

async fn against_database(
    connection: &mut PgConnection,
    files: &CatalogueFiles,
    currency: &str,
) -> Result<Vec<Refusal>, sqlx::Error> {
    let mut refusals: Vec<Refusal> = files
        .products
        .iter()
        .filter(|row| row.currency != currency)
        .map(|row| {
            Refusal::new(
                PRODUCTS,
                row.line,
                format!("currency {:?}; allowed: {currency}, business.currency", row.currency),
            )
        })
        .collect();
    refusals.extend(services_with_stock(connection, files).await?);
    let kinds = kinds_of_stock(connection, files).await?;
    let locations = locations_of_stock(connection, files).await?;
    for row in &files.stock {
        match kinds.get(row.product_id.as_str()) {
            None => {
                refusals.push(Refusal::new(
                    STOCK,
                    row.line,
                    format!("unknown product_id {:?}", row.product_id),
                ));
            }
            Some(ProductKind::Service) => {
                refusals.push(Refusal::new(STOCK, row.line, check::service_with_stock(&row.product_id)));
            }
            Some(ProductKind::Stock) => {}
        }
        if !locations.contains(row.location_id.as_str()) {
            refusals.push(Refusal::new(
                STOCK,
                row.line,
                format!("unknown location_id {:?}", row.location_id),
            ));
        }
    }
    Ok(refusals)
}

/// Products that are to become services, but have stock rows.
async fn services_with_stock(
    connection: &mut PgConnection,
    files: &CatalogueFiles,
) -> Result<Vec<Refusal>, sqlx::Error> {
    let services: FxHashMap<&str, u64> = files
        .products
        .iter()
        .filter(|p| p.kind == ProductKind::Service)
        .map(|p| (p.product_id.as_str(), p.line))
        .collect();
    let ids: Vec<&str> = services.keys().copied().collect();
    let sql = "SELECT DISTINCT product_id FROM inventory WHERE product_id = ANY($1) ORDER BY product_id";
    let stocked: Vec<String> = sqlx::query_scalar(sql).bind(ids).fetch_all(connection).await?;
    let refuse = |id: String| {
        let line = services.get(id.as_str()).copied().unwrap_or_default();
        Refusal::new(
            PRODUCTS,
            line,
            format!("product_id {id:?} has stock rows, so its kind cannot become service"),
        )
    };
    Ok(stocked.into_iter().map(refuse).collect())
}

/// The kinds of the products that `stock.csv` names: from the files, else from the database.
async fn kinds_of_stock(
    connection: &mut PgConnection,
    files: &CatalogueFiles,
) -> Result<FxHashMap<String, ProductKind>, sqlx::Error> {
    let mut kinds: FxHashMap<String, ProductKind> =
        files.products.iter().map(|p| (p.product_id.clone(), p.kind)).collect();
    let unknown: FxHashSet<&str> =
        files.stock.iter().map(|s| s.product_id.as_str()).filter(|id| !kinds.contains_key(*id)).collect();
    let unknown: Vec<&str> = unknown.into_iter().collect();
    let rows = sqlx::query("SELECT product_id, kind FROM products WHERE product_id = ANY($1)").bind(unknown);
    for row in rows.fetch_all(connection).await? {
        let kind: String = row.try_get(1)?;
        kinds.insert(row.try_get(0)?, ProductKind::from_name(&kind).unwrap_or(ProductKind::Stock));
    }
    Ok(kinds)
}

async fn locations_of_stock(
    connection: &mut PgConnection,
    files: &CatalogueFiles,
) -> Result<FxHashSet<String>, sqlx::Error> {
    let mut known: FxHashSet<String> = files.locations.iter().map(|l| l.location_id.clone()).collect();
    let unknown: FxHashSet<&str> =
        files.stock.iter().map(|s| s.location_id.as_str()).filter(|id| !known.contains(*id)).collect();
    let unknown: Vec<&str> = unknown.into_iter().collect();
    let sql = "SELECT location_id FROM locations WHERE location_id = ANY($1)";
    let found: Vec<String> = sqlx::query_scalar(sql).bind(unknown).fetch_all(connection).await?;
    known.extend(found);
    Ok(known)
}

// The catalogue's tables ------------------------------------------------------------------------------------------------

/// Of `rows` rows `known` were there before, and `written` were inserted or updated.
fn tally(rows: usize, known: i64, written: u64) -> Tally {
    let (known, written) = (usize::try_from(known).unwrap_or(rows), written as usize);
    let new = rows.saturating_sub(known);
    Tally { new, changed: written.saturating_sub(new), unchanged: rows.saturating_sub(written), left: 0 }
}

fn add(total: &mut Tally, part: Tally) {
    total.new += part.new;
    total.changed += part.changed;
    total.unchanged += part.unchanged;
    total.left += part.left;
}

async fn suppliers(connection: &mut PgConnection, files: &CatalogueFiles) -> Result<Tally, sqlx::Error> {
    let mut total = Tally::default();
    for rows in files.suppliers.chunks(CHUNK) {
        let ids: Vec<&str> = rows.iter().map(|r| r.supplier_id.as_str()).collect();
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM suppliers WHERE supplier_id = ANY($1)")
            .bind(&ids)
            .fetch_one(&mut *connection)
            .await?;
        let written = sqlx::query(
            "INSERT INTO suppliers AS known (supplier_id, name, contact)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
             ON CONFLICT (supplier_id) DO UPDATE SET name = excluded.name, contact = excluded.contact
             WHERE (known.name, known.contact) IS DISTINCT FROM (excluded.name, excluded.contact)",
        )
        .bind(&ids)
        .bind(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.contact.as_str()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
        add(&mut total, tally(rows.len(), known, written.rows_affected()));
    }
    Ok(total)
}

async fn locations(connection: &mut PgConnection, files: &CatalogueFiles) -> Result<Tally, sqlx::Error> {
    let mut total = Tally::default();
    for rows in files.locations.chunks(CHUNK) {
        let ids: Vec<&str> = rows.iter().map(|r| r.location_id.as_str()).collect();
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM locations WHERE location_id = ANY($1)")
            .bind(&ids)
            .fetch_one(&mut *connection)
            .await?;
        let written = sqlx::query(
            "INSERT INTO locations AS known (location_id, name, kind, timezone)
             SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[])
             ON CONFLICT (location_id) DO UPDATE SET name = excluded.name, kind = excluded.kind, timezone = excluded.timezone
             WHERE (known.name, known.kind, known.timezone)
                   IS DISTINCT FROM (excluded.name, excluded.kind, excluded.timezone)",
        )
        .bind(&ids)
        .bind(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.timezone.as_str()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
        add(&mut total, tally(rows.len(), known, written.rows_affected()));
    }
    Ok(total)
}

async fn products(connection: &mut PgConnection, files: &CatalogueFiles) -> Result<Tally, sqlx::Error> {
    let mut total = Tally::default();
    for rows in files.products.chunks(CHUNK) {
        let ids: Vec<&str> = rows.iter().map(|r| r.product_id.as_str()).collect();
        let known: i64 = sqlx::query_scalar("SELECT count(*) FROM products WHERE product_id = ANY($1)")
            .bind(&ids)
            .fetch_one(&mut *connection)
            .await?;
        let written = sqlx::query(
            "INSERT INTO products AS known (product_id, name, category, price, currency, reorder_point, kind)
             SELECT product_id, name, category, price::numeric, currency, reorder_point, kind
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[])
                  AS given(product_id, name, category, price, currency, reorder_point, kind)
             ON CONFLICT (product_id) DO UPDATE SET name = excluded.name, category = excluded.category,
                 price = excluded.price, currency = excluded.currency, reorder_point = excluded.reorder_point,
                 kind = excluded.kind
             WHERE (known.name, known.category, known.price, known.currency, known.reorder_point, known.kind)
                   IS DISTINCT FROM (excluded.name, excluded.category, excluded.price, excluded.currency,
                                     excluded.reorder_point, excluded.kind)",
        )
        .bind(&ids)
        .bind(rows.iter().map(|r| r.name.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.category.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.price.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.currency.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.reorder_point).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>())
        .execute(&mut *connection)
        .await?;
        add(&mut total, tally(rows.len(), known, written.rows_affected()));
    }
    Ok(total)
}

// Opening stock ---------------------------------------------------------------------------------------------------------

async fn stock(
    connection: &mut PgConnection,
    rows: &[StockRow],
) -> Result<(Tally, Vec<LeftStock>), sqlx::Error> {
    let mut sorted: Vec<&StockRow> = rows.iter().collect();
    sorted.sort_unstable_by_key(|row| (row.product_id.as_bytes(), row.location_id.as_bytes()));
    let mut total = Tally::default();
    let mut left = Vec::new();
    for rows in sorted.chunks(CHUNK) {
        let (tally, more) = stock_chunk(connection, rows).await?;
        add(&mut total, tally);
        left.extend(more);
    }
    Ok((total, left))
}

/// A stock row as it was found.
struct Found {
    is_untouched: bool,
    opening_quantity: i64,
}

type Keyed<'a, T> = FxHashMap<(&'a str, &'a str), T>;

async fn stock_chunk(
    connection: &mut PgConnection,
    rows: &[&StockRow],
) -> Result<(Tally, Vec<LeftStock>), sqlx::Error> {
    let found_rows = find_stock(connection, rows).await?;
    let found: Keyed<&Found> =
        found_rows.iter().map(|(product, location, f)| ((&**product, &**location), f)).collect();
    let known = |row: &StockRow| found.get(&(row.product_id.as_str(), row.location_id.as_str())).copied();
    let mut tally = Tally::default();
    let mut left = Vec::new();
    let mut leave = |row: &StockRow, opening_quantity: Option<i64>| {
        left.push(LeftStock {
            line: row.line,
            product_id: row.product_id.clone(),
            location_id: row.location_id.clone(),
            opening_quantity,
            stated_quantity: row.quantity,
        });
    };
    // Only rows that differ are written, and so locked: a row with movements stays one, so what was read of it holds.
    let mut write: Vec<&StockRow> = Vec::new();
    for row in rows {
        match known(row) {
            Some(found) if found.opening_quantity == row.quantity => tally.unchanged += 1,
            Some(found) if !found.is_untouched => leave(row, Some(found.opening_quantity)),
            _ => write.push(row),
        }
    }
    let written_rows = write_stock(connection, &write).await?;
    let written: FxHashSet<(&str, &str)> =
        written_rows.iter().map(|(p, l)| (p.as_str(), l.as_str())).collect();
    for row in write {
        match known(row) {
            // A processor moved it while the load ran.
            found if !written.contains(&(&row.product_id, &row.location_id)) => {
                leave(row, found.map(|f| f.opening_quantity));
            }
            Some(_) => tally.changed += 1,
            None => tally.new += 1,
        }
    }
    tally.left = left.len();
    Ok((tally, left))
}

async fn find_stock(
    connection: &mut PgConnection,
    rows: &[&StockRow],
) -> Result<Vec<(String, String, Found)>, sqlx::Error> {
    let found = sqlx::query(
        "SELECT product_id, location_id, version = 0, opening_quantity
         FROM inventory JOIN unnest($1::text[], $2::text[]) AS given(product_id, location_id) USING (product_id, location_id)",
    )
    .bind(rows.iter().map(|r| r.product_id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.location_id.as_str()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let read = |row: sqlx::postgres::PgRow| {
        let found = Found { is_untouched: row.try_get(2)?, opening_quantity: row.try_get(3)? };
        Ok((row.try_get(0)?, row.try_get(1)?, found))
    };
    found.into_iter().map(read).collect()
}

/// Writes the rows that have had no movement, in the processor's lock order, and returns which these were.
async fn write_stock(
    connection: &mut PgConnection,
    rows: &[&StockRow],
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "INSERT INTO inventory AS known (product_id, location_id, quantity_on_hand, opening_quantity, loaded, last_updated)
         SELECT product_id, location_id, quantity, quantity, true, now()
         FROM unnest($1::text[], $2::text[], $3::bigint[]) AS given(product_id, location_id, quantity)
         ORDER BY product_id COLLATE \"C\", location_id COLLATE \"C\"
         ON CONFLICT (product_id, location_id) DO UPDATE
             SET quantity_on_hand = excluded.quantity_on_hand, opening_quantity = excluded.opening_quantity,
                 loaded = true, last_updated = excluded.last_updated
             WHERE known.version = 0
         RETURNING product_id, location_id",
    )
    .bind(rows.iter().map(|r| r.product_id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.location_id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|r| r.quantity).collect::<Vec<_>>())
    .fetch_all(connection)
    .await
}
