//! The catalogue against a real PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod database;

use std::time::{Duration, Instant};

use sqlx::postgres::PgPoolOptions;
use sqlx::{PgPool, Row};
use stocktide_domain::{Money, ProductKind};
use stocktide_store::catalogue::{
    self, CatalogueFiles, LeftStock, LoadError, LocationRow, ProductRow, StockRow, SupplierRow, Tally,
};
use stocktide_store::migrate;

async fn shop() -> PgPool {
    let url = database::empty().await;
    migrate::run(&url, "GBP", "UTC").await.unwrap();
    PgPoolOptions::new().max_connections(8).connect(&url).await.unwrap()
}

fn product(product_id: &str, name: &str, kind: ProductKind) -> ProductRow {
    let (product_id, name) = (product_id.to_owned(), name.to_owned());
    let (category, currency) = ("Kitchen".to_owned(), "GBP".to_owned());
    let price = Money::from_ten_thousandths(25_512);
    ProductRow { line: 0, product_id, name, category, price, currency, reorder_point: Some(5), kind }
}

fn location(location_id: &str) -> LocationRow {
    let (kind, timezone) = ("store".to_owned(), "Europe/London".to_owned());
    LocationRow { line: 0, location_id: location_id.to_owned(), name: "Shop".to_owned(), kind, timezone }
}

fn stock(product_id: &str, location_id: &str, quantity: i64) -> StockRow {
    StockRow { line: 7, product_id: product_id.to_owned(), location_id: location_id.to_owned(), quantity }
}

fn small() -> CatalogueFiles {
    CatalogueFiles {
        products: vec![
            product("P1", "Mug, \"blue\"\nlarge", ProductKind::Stock),
            product("P2", "Becher äöü ☕", ProductKind::Stock),
            product("POST", "Postage", ProductKind::Service),
        ],
        suppliers: vec![SupplierRow {
            line: 0,
            supplier_id: "acme".into(),
            name: "Acme".into(),
            contact: String::new(),
        }],
        locations: vec![location("online"), location("s1")],
        stock: vec![stock("P2", "online", 20), stock("P1", "s1", 5), stock("P1", "online", 10)],
        absent: vec![],
    }
}

fn tally(new: usize, changed: usize, unchanged: usize, left: usize) -> Tally {
    Tally { new, changed, unchanged, left }
}

/// What an event does to a stock row.
async fn sell(pool: &PgPool, product_id: &str, location_id: &str, units: i64) {
    let sql = "UPDATE inventory SET quantity_on_hand = quantity_on_hand - $3, version = version + 1
               WHERE product_id = $1 AND location_id = $2";
    let done = sqlx::query(sql).bind(product_id).bind(location_id).bind(units).execute(pool).await.unwrap();
    assert_eq!(done.rows_affected(), 1);
}

async fn stock_of(pool: &PgPool, product_id: &str, location_id: &str) -> (i64, i64, i64) {
    let sql = "SELECT quantity_on_hand, opening_quantity, version FROM inventory WHERE product_id = $1 AND location_id = $2";
    let row = sqlx::query(sql).bind(product_id).bind(location_id).fetch_one(pool).await.unwrap();
    (row.get(0), row.get(1), row.get(2))
}

#[test]
fn a_load_tells_new_changed_and_unchanged_and_raises_the_version_only_for_a_change() {
    database::run(async {
        let pool = shop().await;
        let mut files = small();
        let first = catalogue::load(&pool, &files).await.unwrap();
        assert_eq!((first.products, first.suppliers), (tally(3, 0, 0, 0), tally(1, 0, 0, 0)));
        assert_eq!((first.locations, first.stock), (tally(2, 0, 0, 0), tally(3, 0, 0, 0)));
        assert_eq!((first.catalogue_version, stock_of(&pool, "P1", "online").await), (1, (10, 10, 0)));

        let second = catalogue::load(&pool, &files).await.unwrap();
        assert!(!second.is_changed());
        assert_eq!(
            (second.products, second.stock, second.catalogue_version),
            (tally(0, 0, 3, 0), tally(0, 0, 3, 0), 1)
        );

        files.products[0].price = Money::ZERO;
        files.products[1].reorder_point = None;
        files.products.push(product("P3", "Cup", ProductKind::Stock));
        files.locations[1].timezone = "UTC".to_owned();
        files.suppliers[0].contact = "acme@example.com".to_owned();
        files.stock[0].quantity = 21;
        let third = catalogue::load(&pool, &files).await.unwrap();
        assert_eq!((third.products, third.locations), (tally(1, 2, 1, 0), tally(0, 1, 1, 0)));
        assert_eq!((third.suppliers, third.stock), (tally(0, 1, 0, 0), tally(0, 1, 2, 0)));
        assert_eq!((third.catalogue_version, stock_of(&pool, "P2", "online").await), (2, (21, 21, 0)));
    });
}

#[test]
fn opening_stock_of_rows_with_movements_is_left_and_reported() {
    database::run(async {
        let pool = shop().await;
        let mut files = small();
        catalogue::load(&pool, &files).await.unwrap();
        sell(&pool, "P1", "online", 3).await;
        assert_eq!(
            catalogue::load(&pool, &files).await.unwrap().stock,
            tally(0, 0, 3, 0),
            "the same opening stock"
        );

        files.stock = vec![stock("P1", "online", 99), stock("P2", "online", 1)];
        let report = catalogue::load(&pool, &files).await.unwrap();
        assert_eq!(report.stock, tally(0, 1, 0, 1));
        let left = LeftStock {
            line: 7,
            product_id: "P1".into(),
            location_id: "online".into(),
            opening_quantity: Some(10),
            stated_quantity: 99,
        };
        assert_eq!(report.left, [left]);
        assert_eq!(stock_of(&pool, "P1", "online").await, (7, 10, 1));
    });
}

#[test]
fn one_wrong_row_and_nothing_is_loaded() {
    database::run(async {
        let pool = shop().await;
        let mut files = small();
        files.products[2].currency = "EUR".to_owned();
        files.stock.push(stock("P7", "online", 1));
        files.stock.push(stock("P1", "moon", 1));
        let LoadError::Refused(refusals) = catalogue::load(&pool, &files).await.unwrap_err() else {
            panic!()
        };
        let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
        assert_eq!(
            refusals,
            [
                "products.csv: currency \"EUR\"; allowed: GBP, business.currency",
                "stock.csv:7: unknown product_id \"P7\"",
                "stock.csv:7: unknown location_id \"moon\""
            ]
        );
        let sql = "SELECT (SELECT count(*) FROM products) + (SELECT count(*) FROM locations) + (SELECT count(*) FROM suppliers)
                        + (SELECT count(*) FROM inventory) + (SELECT catalogue_version FROM installation)";
        assert_eq!(sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap(), 0);
    });
}

#[test]
fn stock_may_name_what_only_the_database_knows_but_no_service() {
    database::run(async {
        let pool = shop().await;
        catalogue::load(&pool, &small()).await.unwrap();
        let only_stock =
            |product| CatalogueFiles { stock: vec![stock(product, "s1", 4)], ..CatalogueFiles::default() };
        assert_eq!(catalogue::load(&pool, &only_stock("P2")).await.unwrap().stock, tally(1, 0, 0, 0));
        let error = catalogue::load(&pool, &only_stock("POST")).await.unwrap_err().to_string();
        assert!(error.ends_with("product_id \"POST\" is of kind service, which has no stock"), "{error}");
        let files = CatalogueFiles {
            products: vec![product("P1", "Mug", ProductKind::Service)],
            ..CatalogueFiles::default()
        };
        let error = catalogue::load(&pool, &files).await.unwrap_err().to_string();
        assert!(
            error.ends_with("product_id \"P1\" has stock rows, so its kind cannot become service"),
            "{error}"
        );
    });
}

#[test]
fn a_program_s_catalogue_is_checked_like_a_file_s() {
    database::run(async {
        let pool = shop().await;
        let mut files = small();
        files.products.push(files.products[0].clone());
        let error = catalogue::load(&pool, &files).await.unwrap_err().to_string();
        assert!(
            error.starts_with("the catalogue is refused: products.csv: product_id \"P1\" stands"),
            "{error}"
        );
    });
}

#[test]
fn what_was_exported_loads_without_a_change() {
    database::run(async {
        let pool = shop().await;
        catalogue::load(&pool, &small()).await.unwrap();
        sell(&pool, "P1", "online", 3).await;
        let dir = tempfile::tempdir().unwrap();
        let exported = catalogue::export(&pool, dir.path()).await.unwrap();
        assert_eq!((exported.products, exported.suppliers, exported.locations, exported.stock), (3, 1, 2, 3));

        let files = catalogue::read_dir(dir.path()).unwrap();
        let again = catalogue::load(&pool, &files).await.unwrap();
        assert!(!again.is_changed() && again.left.is_empty(), "{again:?}");

        let other = shop().await;
        let there = catalogue::load(&other, &files).await.unwrap();
        assert_eq!((there.products.new, there.stock.new), (3, 3));
        let second = tempfile::tempdir().unwrap();
        catalogue::export(&other, &second.path().join("new/deep")).await.unwrap();
        for file in ["products.csv", "suppliers.csv", "locations.csv", "stock.csv"] {
            let read = |dir: &std::path::Path| std::fs::read_to_string(dir.join(file)).unwrap();
            assert_eq!(read(dir.path()), read(&second.path().join("new/deep")), "{file}");
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 4, "no half-written files stay");
    });
}

#[test]
fn a_database_without_the_schema_is_told_apart() {
    database::run(async {
        let pool = PgPool::connect(&database::empty().await).await.unwrap();
        let error = catalogue::load(&pool, &small()).await.unwrap_err();
        assert_eq!(error.to_string(), "the schema is not there yet: run `stocktide migrate`");
    });
}

#[test]
fn loads_at_once_follow_one_another() {
    database::run(async {
        let pool = shop().await;
        let loads: Vec<_> = (0..6)
            .map(|_| {
                let pool = pool.clone();
                tokio::spawn(async move { catalogue::load(&pool, &small()).await })
            })
            .collect();
        let mut new = 0;
        for load in loads {
            new += load.await.unwrap().unwrap().stock.new;
        }
        assert_eq!(new, 3);
    });
}

/// What a processor does to stock: rows made and moved in key order, in one transaction.
const MOVE: &str =
    "INSERT INTO inventory AS i (product_id, location_id, quantity_on_hand, version, last_updated)
     SELECT p, 'online', -1, 1, now() FROM unnest($1::text[]) AS p ORDER BY p COLLATE \"C\"
     ON CONFLICT (product_id, location_id)
     DO UPDATE SET quantity_on_hand = i.quantity_on_hand - 1, version = i.version + 1";

#[test]
fn a_load_beside_a_processor_neither_deadlocks_nor_loses_a_movement() {
    database::run(async {
        let pool = shop().await;
        // Upper and lower case: the bytewise order is not the one of most locales.
        let ids: Vec<String> =
            (0..300).map(|n| format!("{}{n}", if n % 2 == 0 { "a" } else { "B" })).collect();
        let mut files = CatalogueFiles { locations: vec![location("online")], ..CatalogueFiles::default() };
        files.products = ids.iter().map(|id| product(id, "Mug", ProductKind::Stock)).collect();
        catalogue::load(&pool, &files).await.unwrap();

        let (movers, rounds) = (3, 40);
        let moving: Vec<_> = (0..movers)
            .map(|mover| {
                let (pool, ids) = (pool.clone(), ids.clone());
                tokio::spawn(async move {
                    for round in 0..rounds {
                        let some: Vec<&String> = ids.iter().skip((mover + round) % 7).step_by(7).collect();
                        sqlx::query(MOVE).bind(some).execute(&pool).await.unwrap();
                    }
                })
            })
            .collect();
        for quantity in 1..20 {
            files.stock = ids.iter().rev().map(|id| stock(id, "online", quantity)).collect();
            let stock = catalogue::load(&pool, &files).await.unwrap().stock;
            assert_eq!(stock.new + stock.changed + stock.unchanged + stock.left, ids.len());
        }
        for mover in moving {
            mover.await.unwrap();
        }
        let sql = "SELECT count(*) FILTER (WHERE quantity_on_hand <> opening_quantity - version), count(*) FROM inventory";
        let row = sqlx::query(sql).fetch_one(&pool).await.unwrap();
        assert_eq!((row.get::<i64, _>(0), row.get::<i64, _>(1)), (0, 300));
    });
}

#[test]
fn a_hundred_thousand_products_are_loaded_in_seconds() {
    database::run(async {
        let pool = shop().await;
        let mut files = CatalogueFiles { locations: vec![location("online")], ..CatalogueFiles::default() };
        for n in 0..100_000 {
            let id = format!("P{n}");
            files.products.push(product(&id, "Mug", ProductKind::Stock));
            files.stock.push(stock(&id, "online", n));
        }
        for expected in [(100_000, 0), (0, 100_000)] {
            let start = Instant::now();
            let report = catalogue::load(&pool, &files).await.unwrap();
            assert_eq!((report.products.new, report.products.unchanged), expected);
            assert_eq!((report.stock.new, report.stock.unchanged), expected);
            println!("100,000 products and stock rows: {:?}", start.elapsed());
            // A load row by row takes minutes; a busy machine several times the few seconds that this takes.
            assert!(start.elapsed() < Duration::from_mins(1), "{:?}", start.elapsed());
        }
    });
}
