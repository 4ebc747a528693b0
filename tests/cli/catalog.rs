//! `stocktide catalog` against a real PostgreSQL.

use std::path::Path;
use std::sync::OnceLock;

use crate::command::{Outcome, run, stocktide};
use serde_json::json;
use stocktide_devstack::{Stack, StackOptions};

struct Server {
    runtime: tokio::runtime::Runtime,
    stack: Stack,
}

fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = StackOptions { kafka: false, ..StackOptions::default() };
        let stack = runtime.block_on(Stack::start(options)).unwrap();
        Server { runtime, stack }
    })
}

/// The URL of a database of its own, with the schema.
fn shop(name: &str) -> String {
    let Server { runtime, stack } = server();
    runtime.block_on(async {
        let url = stack.create_database(name).await.unwrap();
        stocktide_store::migrate::run(&url, "GBP", "UTC").await.unwrap();
        url
    })
}

fn catalog(url: &str, args: &[&str], dir: &Path) -> Outcome {
    run(stocktide(&["catalog"]).args(args).arg(dir).env("STOCKTIDE_DATABASE_URL", url))
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (file, content) in files {
        std::fs::write(dir.join(file), content).unwrap();
    }
}

const PRODUCTS: &str = "product_id,name,category,price,currency,reorder_point,kind\n\
    P1,Mug,Kitchen,2.55,GBP,10,stock\nPOST,Postage,,3,GBP,,service\n";
const LOCATIONS: &str = "location_id,name,kind,timezone\nonline,Web shop,online,Europe/London\n";
const STOCK: &str = "product_id,location_id,quantity\nP1,online,40\n";

#[test]
fn a_catalogue_is_loaded_reported_exported_and_loaded_again() {
    let (url, dir) = (shop("loaded"), tempfile::tempdir().unwrap());
    write(dir.path(), &[("products.csv", PRODUCTS), ("locations.csv", LOCATIONS), ("stock.csv", STOCK)]);
    let first = catalog(&url, &["load"], dir.path()).done();
    assert_eq!(
        first.stdout,
        "file              new  changed  unchanged  left as is\n\
         products.csv        2        0          0           0\n\
         suppliers.csv  absent\n\
         locations.csv       1        0          0           0\n\
         stock.csv           1        0          0           0\n\
         catalogue version 1\n"
    );
    let backup = tempfile::tempdir().unwrap();
    let exported = catalog(&url, &["export", "--json"], &backup.path().join("deep/er")).done();
    assert_eq!(exported.documents(), [json!({"products": 2, "suppliers": 0, "locations": 1, "stock": 1})]);
    let again = catalog(&url, &["load", "--json"], &backup.path().join("deep/er")).done();
    let [report] = &again.documents()[..] else { panic!("{again:?}") };
    assert_eq!((&report["ok"], &report["catalogue_version"]), (&json!(true), &json!(1)));
    assert_eq!(report["products"], json!({"new": 0, "changed": 0, "unchanged": 2, "left": 0}));
}

#[test]
fn refused_rows_are_told_with_file_line_and_reason_and_nothing_is_loaded() {
    let (url, dir) = (shop("refused"), tempfile::tempdir().unwrap());
    let stock = "product_id,location_id,quantity\nP1,online,40\nP9,online,1\nP1,moon,1\n";
    write(dir.path(), &[("products.csv", PRODUCTS), ("locations.csv", LOCATIONS), ("stock.csv", stock)]);
    let outcome = catalog(&url, &["load"], dir.path());
    let expected = format!(
        "stock.csv:3: unknown product_id \"P9\"\n\
         stock.csv:4: unknown location_id \"moon\"\n\
         stocktide: 2 refused in {}: nothing was loaded\n",
        dir.path().display()
    );
    assert_eq!((outcome.code, outcome.stderr.as_str(), outcome.stdout.as_str()), (1, expected.as_str(), ""));
    let outcome = catalog(&url, &["load", "--json"], dir.path());
    assert_eq!(outcome.code, 1);
    assert_eq!(
        outcome.documents()[0]["refused"][1],
        json!({"file": "stock.csv", "line": 4, "reason": "unknown location_id \"moon\""})
    );
    let exported = catalog(&url, &["export", "--json"], &dir.path().join("out")).done();
    assert_eq!(exported.documents()[0]["products"], json!(0));
}

#[test]
fn a_load_before_migrate_says_so() {
    let Server { runtime, stack } = server();
    let url = runtime.block_on(stack.create_database("bare")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("products.csv", PRODUCTS), ("locations.csv", LOCATIONS)]);
    let outcome = catalog(&url, &["load"], dir.path());
    assert_eq!(
        (outcome.code, outcome.complaint()),
        (1, "the schema is not there yet: run `stocktide migrate`")
    );
    let outcome = catalog(&url, &["export"], &dir.path().join("out"));
    assert_eq!(outcome.code, 1);
    assert!(outcome.complaint().starts_with("the schema is not there yet"), "{outcome:?}");
}
