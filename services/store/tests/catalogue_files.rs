//! The catalogue's files: what is read, and what is refused with file and line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::Path;

use stocktide_domain::{Money, ProductKind};
use stocktide_store::catalogue::{self, LOCATIONS, PRODUCTS, STOCK, SUPPLIERS};

const GOOD_PRODUCTS: &str =
    "product_id,name,category,price,currency,reorder_point,kind\nP1,Mug,Kitchen,2.55,GBP,10,stock\n";
const GOOD_LOCATIONS: &str = "location_id,name,kind,timezone\nonline,Web shop,online,Europe/London\n";

fn write(dir: &Path, file: &str, content: impl AsRef<[u8]>) {
    std::fs::write(dir.join(file), content).unwrap();
}

/// A directory with good products and locations, and `file` with this content.
fn with(file: &str, content: impl AsRef<[u8]>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), PRODUCTS, GOOD_PRODUCTS);
    write(dir.path(), LOCATIONS, GOOD_LOCATIONS);
    write(dir.path(), file, content);
    dir
}

fn refusals(file: &str, content: impl AsRef<[u8]>) -> Vec<String> {
    let refusals = catalogue::read_dir(with(file, content).path()).unwrap_err();
    refusals.iter().map(ToString::to_string).collect()
}

#[test]
fn columns_come_in_any_order_and_the_kind_may_be_missing() {
    let dir = with(
        PRODUCTS,
        "currency,price,reorder_point,product_id,category,name\nGBP,0,,P9,,\"Tea, \"\"green\"\"\n25 g\"\n",
    );
    let files = catalogue::read_dir(dir.path()).unwrap();
    let product = &files.products[0];
    assert_eq!((product.product_id.as_str(), product.name.as_str()), ("P9", "Tea, \"green\"\n25 g"));
    assert_eq!((product.price, product.reorder_point, product.kind), (Money::ZERO, None, ProductKind::Stock));
    assert_eq!(files.absent, [SUPPLIERS, STOCK]);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_harm() {
    let dir = with(LOCATIONS, "\u{feff}location_id,name,kind,timezone\r\nonline,Web shop,online,UTC\r\n\r\n");
    assert_eq!(catalogue::read_dir(dir.path()).unwrap().locations[0].location_id, "online");
}

#[test]
fn unknown_missing_and_repeated_columns_are_named() {
    assert_eq!(
        refusals(SUPPLIERS, "supplier_id,name,contact,colour\n"),
        ["suppliers.csv:1: unknown column \"colour\"; allowed: supplier_id, name, contact"]
    );
    assert_eq!(refusals(STOCK, "product_id,location_id\n"), ["stock.csv:1: no column quantity"]);
    assert_eq!(
        refusals(STOCK, "product_id,product_id,quantity\n"),
        ["stock.csv:1: column product_id stands twice"]
    );
    assert_eq!(
        refusals(STOCK, ""),
        ["stock.csv: empty; it needs the header product_id,location_id,quantity"]
    );
}

#[test]
fn products_and_locations_are_needed_and_said_to_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    let missing: Vec<String> =
        catalogue::read_dir(dir.path()).unwrap_err().iter().map(ToString::to_string).collect();
    assert_eq!(
        missing,
        [
            "products.csv: missing; products.csv and locations.csv are needed",
            "locations.csv: missing; products.csv and locations.csv are needed"
        ]
    );
    let nowhere = catalogue::read_dir(&dir.path().join("nowhere")).unwrap_err();
    assert!(
        nowhere[0].to_string().ends_with("/nowhere: No such file or directory (os error 2)"),
        "{}",
        nowhere[0]
    );
}

#[test]
fn a_wrong_product_is_refused_with_file_line_and_reason() {
    let long = "x".repeat(257);
    for (row, reason) in [
        (
            "P2,Mug,K,2.55555,GBP,,",
            "price \"2.55555\" is more than 4 decimals; allowed: a decimal number with at most 4 decimals",
        ),
        (
            "P2,Mug,K,two,GBP,,",
            "price \"two\" is not a decimal number; allowed: a decimal number with at most 4 decimals",
        ),
        (
            "P2,Mug,K,NaN,GBP,,",
            "price \"NaN\" is not a decimal number; allowed: a decimal number with at most 4 decimals",
        ),
        ("P2,Mug,K,-1,GBP,,", "price -1.00; allowed: 0 or more"),
        ("P2,Mug,K,1,GBP,few,", "reorder_point \"few\"; allowed: a whole number from 0 to 1000000000000"),
        ("P2,Mug,K,1,GBP,-1,", "reorder_point -1; allowed: a whole number from 0 to 1000000000000"),
        ("P2,Mug,K,1,GBP,,goods", "kind \"goods\"; allowed: stock, service, or empty for stock"),
        (",Mug,K,1,GBP,,", "product_id \"\"; allowed: 1 to 256 bytes without control characters"),
        ("P\t2,Mug,K,1,GBP,,", "product_id \"P\\t2\"; allowed: 1 to 256 bytes without control characters"),
        ("P2,,K,1,GBP,,", "name \"\"; allowed: 1 to 1024 bytes without NUL"),
        ("P1,Mug,K,1,GBP,,", "product_id \"P1\" stands in line 2 already"),
        ("P2,Mug,K,1,GBP", "5 fields, where the header has 7"),
    ] {
        assert_eq!(
            refusals(PRODUCTS, format!("{GOOD_PRODUCTS}{row}\n")),
            [format!("products.csv:3: {reason}")]
        );
    }
    let found = refusals(PRODUCTS, format!("{GOOD_PRODUCTS}{long},Mug,K,1,GBP,,\n"));
    assert!(found[0].starts_with("products.csv:3: product_id \"xxx"), "{found:?}");
    let mut bytes = GOOD_PRODUCTS.as_bytes().to_vec();
    bytes.extend(b"P2,M\xffg,K,1,GBP,,\n");
    assert_eq!(refusals(PRODUCTS, bytes), ["products.csv:3: not UTF-8"]);
}

#[test]
fn a_wrong_location_or_stock_row_is_refused_with_file_line_and_reason() {
    assert_eq!(
        refusals(LOCATIONS, format!("{GOOD_LOCATIONS}s1,Shop,kiosk,UTC\ns2,Shop,store,Mars/Olympus\n")),
        [
            "locations.csv:3: kind \"kiosk\"; allowed: online, store, warehouse",
            "locations.csv:4: timezone \"Mars/Olympus\"; allowed: the name of an IANA time zone like Europe/London"
        ]
    );
    assert_eq!(
        refusals(STOCK, "product_id,location_id,quantity\nP1,online,5\nP1,online,6\nP1,s1,-1\nP1,s2,1.5\n"),
        ["stock.csv:5: quantity \"1.5\"; allowed: a whole number from 0 to 1000000000000"]
    );
    assert_eq!(
        refusals(STOCK, "product_id,location_id,quantity\nP1,online,5\nP1,online,6\nP1,s1,-1\n"),
        [
            "stock.csv:3: product_id \"P1\" at location_id \"online\" stands in line 2 already",
            "stock.csv:4: quantity -1; allowed: a whole number from 0 to 1000000000000"
        ]
    );
    let dir = with(PRODUCTS, format!("{GOOD_PRODUCTS}POST,Postage,,1,GBP,,service\n"));
    write(dir.path(), STOCK, "product_id,location_id,quantity\nPOST,online,1\n");
    let found = catalogue::read_dir(dir.path()).unwrap_err();
    assert_eq!(
        found[0].to_string(),
        "stock.csv:2: product_id \"POST\" is of kind service, which has no stock"
    );
}

#[test]
fn the_line_is_where_a_row_begins_even_after_a_field_with_line_breaks() {
    let content = format!("{GOOD_PRODUCTS}P2,\"A\nlong\nname\",K,1,GBP,,\nP3,Mug,K,x,GBP,,\n");
    assert!(refusals(PRODUCTS, content)[0].starts_with("products.csv:6: price"));
}

#[test]
fn reading_stops_after_a_thousand_refusals() {
    let rows: Vec<String> = (0..5_000).map(|n| format!("P{n},Mug,K,x,GBP,,\n")).collect();
    assert_eq!(refusals(PRODUCTS, GOOD_PRODUCTS.to_owned() + &rows.concat()).len(), 1_000);
}
