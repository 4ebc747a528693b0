//! The importer against what was counted on the files by other means: the shipped slice always, the full file where
//! STOCKTIDE_TEST_ONLINE_RETAIL names it.
//!
//! The figures of the full file stand in its own description. Those of the slice, and the sums per kind of event, were
//! counted by Python's csv module and decimals, in this manner:
//!
//! ```python
//! rows = list(csv.reader(open(sys.argv[1], encoding="utf-8", newline="")))[1:]
//! for i, c, d, q, t, p, cu, co in rows:
//!     if i[0] == "C": kind = "order return" if cu else "store return"
//!     elif int(q) < 0 or (Decimal(p) == 0 and not cu): kind = "adjustment"
//!     else: kind = "order" if cu else "store sale"
//!     invoices[kind].add(i); lines[kind] += 1; value[kind] += int(q) * Decimal(p); units[kind] += int(q)
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use chrono::{DateTime, NaiveDate, Utc};
use rustc_hash::{FxHashMap, FxHashSet};
use stocktide_domain::decode::{Limits, Rules, decode};
use stocktide_domain::fold::{Fate, Known, Record as Folded, Settled, fold};
use stocktide_domain::{Catalogue, Money, Source};
use stocktide_producers::online_retail::rows::{Row, Rows};
use stocktide_producers::online_retail::{OnlineRetail, invoices::Kind, invoices::Skip};

fn slice_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../demo/online-retail-2010-12.csv.xz")
}

fn slice() -> &'static OnlineRetail {
    static FILE: OnceLock<OnlineRetail> = OnceLock::new();
    FILE.get_or_init(|| OnlineRetail::open(&slice_path(), None, None).unwrap())
}

/// None, with a notice, where the full file is not at hand.
fn full() -> Option<&'static OnlineRetail> {
    static FILE: OnceLock<Option<OnlineRetail>> = OnceLock::new();
    let file = FILE.get_or_init(|| {
        let path = std::env::var_os("STOCKTIDE_TEST_ONLINE_RETAIL")?;
        Some(OnlineRetail::open(Path::new(&path), None, None).unwrap())
    });
    if file.is_none() {
        println!("not run on the full file: set STOCKTIDE_TEST_ONLINE_RETAIL to its path");
    }
    file.as_ref()
}

/// Runs a check on the slice, and on the full file where it is at hand, each with what is expected of it.
fn on_both<T>(of_slice: T, of_full: T, check: impl Fn(&OnlineRetail, T)) {
    check(slice(), of_slice);
    if let Some(file) = full() {
        check(file, of_full);
    }
}

/// Rows, invoices and value of those that a predicate takes.
fn count(file: &Rows, take: impl Fn(&Rows, &Row) -> bool) -> (usize, usize, i64, String) {
    let rows: Vec<&Row> = file.rows.iter().filter(|row| take(file, row)).collect();
    let invoices: HashSet<u32> = rows.iter().map(|row| row.invoice).collect();
    let value: i64 = rows.iter().map(|row| row.quantity * row.price.ten_thousandths()).sum();
    let units = rows.iter().map(|row| row.quantity).sum();
    (rows.len(), invoices.len(), units, Money::from_ten_thousandths(value).to_string())
}

fn starts_with(file: &Rows, row: &Row, letter: char) -> bool {
    file.invoices.get(row.invoice).starts_with(letter)
}

fn digits(file: &Rows, row: &Row) -> bool {
    file.invoices.get(row.invoice).bytes().all(|b| b.is_ascii_digit())
}

fn has_customer(file: &Rows, row: &Row) -> bool {
    !file.customers.get(row.customer).is_empty()
}

fn is_product(file: &Rows, row: &Row) -> bool {
    let code = file.codes.get(row.code);
    code.len() >= 5 && code.bytes().take(5).all(|b| b.is_ascii_digit())
}

fn is_sale(file: &Rows, row: &Row) -> bool {
    digits(file, row) && row.quantity > 0 && row.price > Money::ZERO
}

#[test]
fn rows_invoices_codes_customers_and_countries_are_those_of_the_file() {
    on_both(
        (42_481, 2_025, 2_822, 2_762, 948, 24),
        (541_909, 25_900, 4_070, 3_958, 4_372, 38),
        |file, expected| {
            let rows = &file.rows;
            let folded: HashSet<String> = rows.codes.iter().map(str::to_uppercase).collect();
            let customers = rows.customers.iter().filter(|c| !c.is_empty()).count();
            let (codes, countries) = (rows.codes.len(), rows.countries.len());
            assert_eq!(
                (rows.rows.len(), rows.invoices.len(), codes, folded.len(), customers, countries),
                expected
            );
            assert_eq!(file.invoices.rows, rows.rows.len() as u64);
        },
    );
}

#[test]
fn ordinary_sales_are_counted_and_summed_exactly() {
    let of_slice = (41_480, 1_559, 359_239, "823746.14");
    let of_full = (530_103, 19_959, 5_588_375, "10655622.484");
    on_both(of_slice, of_full, |file, (rows, invoices, units, value)| {
        assert_eq!(count(&file.rows, is_sale), (rows, invoices, units, value.to_owned()));
    });
}

#[test]
fn cancellations_are_counted_and_summed_exactly() {
    let of_full = (9_288, 3_836, -277_574, "-896812.49");
    on_both((728, 326, -16_042, "-74789.12"), of_full, |file, (rows, invoices, units, value)| {
        let counted = count(&file.rows, |f, r| starts_with(f, r, 'C'));
        assert_eq!(counted, (rows, invoices, units, value.to_owned()));
    });
}

#[test]
fn write_offs_have_no_price_and_no_customer() {
    on_both((70, -4_046), (1_336, -206_957), |file, (rows, units)| {
        let all = count(&file.rows, |f, r| digits(f, r) && r.quantity < 0);
        let bare = count(&file.rows, |f, r| {
            digits(f, r) && r.quantity < 0 && r.price == Money::ZERO && !has_customer(f, r)
        });
        assert_eq!((all.0, all.2), (rows, units));
        assert_eq!(all, bare);
    });
}

#[test]
fn rows_at_price_zero_are_told_apart_by_their_customer() {
    on_both((203, 3), (1_179, 40), |file, (rows, with_customer)| {
        let free = |_: &Rows, r: &Row| r.quantity > 0 && r.price == Money::ZERO;
        assert_eq!(count(&file.rows, free).0, rows);
        assert_eq!(count(&file.rows, |f, r| free(f, r) && has_customer(f, r)).0, with_customer);
    });
}

#[test]
fn bad_debts_are_skipped_and_counted() {
    on_both((0, 0), (2, 3), |file, (negative_prices, bad_debts)| {
        assert_eq!(count(&file.rows, |_, r| r.price.is_negative()).0, negative_prices);
        assert_eq!(count(&file.rows, |f, r| starts_with(f, r, 'A')).0, bad_debts);
        let skipped: BTreeMap<Skip, u64> = if bad_debts == 0 {
            BTreeMap::new()
        } else {
            BTreeMap::from([(Skip::BadDebt, bad_debts as u64)])
        };
        assert_eq!(*file.skipped(), skipped);
    });
}

#[test]
fn rows_without_customer_or_description_are_counted() {
    on_both((15_631, 125), (135_080, 1_454), |file, (no_customer, no_description)| {
        assert_eq!(count(&file.rows, |f, r| !has_customer(f, r)).0, no_customer);
        assert_eq!(count(&file.rows, |f, r| f.descriptions.get(r.description).is_empty()).0, no_description);
    });
}

#[test]
fn exact_duplicate_rows_are_real_lines() {
    on_both((500, 985), (5_268, 10_684), |file, (duplicates, repeats)| {
        let rows = &file.rows.rows;
        let distinct: HashSet<&Row> = rows.iter().collect();
        let per_code: HashSet<(u32, u32)> = rows.iter().map(|r| (r.invoice, r.code)).collect();
        assert_eq!((rows.len() - distinct.len(), rows.len() - per_code.len()), (duplicates, repeats));
        let skipped: u64 = file.skipped().values().sum();
        let lines: usize = file.invoices.parts.iter().map(|part| part.rows.len()).sum();
        assert_eq!(lines as u64 + skipped, rows.len() as u64);
    });
}

#[test]
fn codes_that_are_no_products_are_services() {
    on_both(
        (200, 14, "45880.50", 156),
        (2_995, 33, "384587.874", 2_278),
        |file, (rows, codes, value, invoices)| {
            let distinct: HashSet<u32> =
                file.rows.rows.iter().filter(|r| !is_product(&file.rows, r)).map(|r| r.code).collect();
            assert_eq!((count(&file.rows, |f, r| !is_product(f, r)).0, distinct.len()), (rows, codes));
            let sold = count(&file.rows, |f, r| is_sale(f, r) && !is_product(f, r));
            assert_eq!((sold.3.as_str(), sold.1), (value, invoices));
            for product in &file.products.products {
                let five_digits = product.product_id.bytes().take_while(u8::is_ascii_digit).count() >= 5;
                assert_eq!(
                    product.kind.as_str(),
                    if five_digits { "stock" } else { "service" },
                    "{product:?}"
                );
            }
        },
    );
}

#[test]
fn an_invoice_of_two_timestamps_is_one_event_at_the_first() {
    on_both(1, 43, |file, expected| {
        let mut times: HashMap<u32, BTreeSet<_>> = HashMap::new();
        for row in &file.rows.rows {
            times.entry(row.invoice).or_default().insert(row.at);
        }
        assert_eq!(times.values().filter(|t| t.len() > 1).count(), expected);
        for part in &file.invoices.parts {
            assert_eq!(Some(&part.local), times[&part.invoice].first());
        }
    });
}

#[test]
fn extreme_quantities_come_through() {
    let Some(file) = full() else { return };
    for quantity in [74_215, 80_995] {
        let of = |q: i64| file.rows.rows.iter().find(|row| row.quantity == q).unwrap();
        let (sold, back) = (of(quantity), of(-quantity));
        assert!((back.at - sold.at).num_minutes() <= 16);
    }
}

/// Events, lines, value and units per kind, counted on the events' own bytes.
#[test]
fn events_per_kind_carry_all_lines_money_and_units() {
    type Kinds = [(&'static str, usize, usize, &'static str, i64); 5];
    let of_slice: Kinds = [
        ("adjustment", 146, 270, "0.00", -984),
        ("order", 1_400, 26_160, "572713.89", 312_280),
        ("order return", 308, 690, "18109.87", 15_918),
        ("store return", 18, 38, "56679.25", 124),
        ("store sale", 159, 15_323, "251032.25", 46_974),
    ];
    let of_full: Kinds = [
        ("adjustment", 2_121, 2_475, "0.00", -148_238),
        ("order", 18_536, 397_924, "8911407.904", 5_181_696),
        ("order return", 3_654, 8_905, "611342.09", 274_808),
        ("store return", 182, 383, "285470.40", 2_766),
        ("store sale", 1_427, 132_219, "1744214.58", 420_563),
    ];
    on_both(of_slice, of_full, |file, expected| {
        let mut kinds: BTreeMap<&'static str, (usize, usize, i64, i64)> = BTreeMap::new();
        for record in file.events(false) {
            let event: serde_json::Value = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            let name = match (record.topic, event["type"].as_str().unwrap()) {
                ("online_orders", "placed") => "order",
                ("online_orders", "returned") => "order return",
                ("store_sales", "sold") => "store sale",
                ("store_sales", "returned") => "store return",
                ("supplier_restocks", "adjustment") => "adjustment",
                ("supplier_restocks", "received") => continue,
                other => panic!("{other:?}"),
            };
            let kind = kinds.entry(name).or_default();
            kind.0 += 1;
            let mut value = 0;
            for item in event["items"].as_array().unwrap() {
                let quantity = item["quantity"].as_i64().unwrap();
                let price = item["price_per_unit"].as_str().map_or(Money::ZERO, |p| Money::parse(p).unwrap());
                kind.1 += 1;
                value += quantity * price.ten_thousandths();
                kind.3 += quantity;
            }
            kind.2 += value;
            if let Some(stated) = event["order_value"].as_str().or(event["total"].as_str()) {
                assert_eq!(Money::parse(stated).unwrap().ten_thousandths(), value, "{}", record.key);
            }
        }
        let counted: Vec<_> = kinds
            .iter()
            .map(|(name, k)| (*name, k.0, k.1, Money::from_ten_thousandths(k.2).to_string(), k.3))
            .collect();
        let expected: Vec<_> = expected.iter().map(|k| (k.0, k.1, k.2, k.3.to_owned(), k.4)).collect();
        assert_eq!(counted, expected);
    });
}

#[test]
fn event_ids_are_the_same_each_time_and_never_shared() {
    on_both(0, 23, |file, both| {
        let ids = |payments| -> Vec<String> {
            let id = |bytes: &[u8]| {
                serde_json::from_slice::<serde_json::Value>(bytes).unwrap()["event_id"].to_string()
            };
            file.events(payments).map(|record| id(record.value.as_deref().unwrap())).collect()
        };
        let first = ids(true);
        assert_eq!(first, ids(true));
        assert_eq!(first.iter().collect::<HashSet<_>>().len() as u64, file.len(true));
        assert_eq!(ids(false).len() as u64, file.len(false));
        // Invoices that give both a sale and an adjustment.
        let of = |take: fn(Kind) -> bool| -> HashSet<u32> {
            file.invoices.parts.iter().filter(|part| take(part.kind)).map(|part| part.invoice).collect()
        };
        let (sales, adjustments) = (of(|k| k != Kind::Adjustment), of(|k| k == Kind::Adjustment));
        let mixed = sales.intersection(&adjustments).count();
        assert_eq!(mixed, if both == 0 { 6 } else { both });
    });
}

#[test]
fn events_stand_in_the_order_of_time() {
    on_both((), (), |file, ()| {
        let times: Vec<DateTime<Utc>> = file.events(true).map(|record| record.occurred_at).collect();
        assert!(times.is_sorted());
    });
}

fn catalogue(file: &OnlineRetail) -> Catalogue {
    let products =
        file.products.products.iter().zip(&file.plan.reorder_points).map(|(product, &reorder_point)| {
            let known = stocktide_domain::Product { price: product.price, reorder_point, kind: product.kind };
            (product.product_id.clone(), known)
        });
    Catalogue {
        version: 1,
        products: products.collect(),
        locations: ["online", "store-1"].map(String::from).into_iter().collect(),
        suppliers: ["supplier-1".to_owned()].into_iter().collect(),
    }
}

fn decoded(file: &OnlineRetail) -> Vec<Folded> {
    let now = "2026-01-01T00:00:00Z".parse().unwrap();
    let rules = Rules { currency: "GBP".into(), now, limits: Limits::default() };
    let decode = |record: stocktide_producers::Record| {
        let source = Source::from_topic(record.topic).unwrap();
        Folded { source, partition: 0, decoded: decode(source, record.value.as_deref(), &rules) }
    };
    file.events(false).map(decode).collect()
}

fn settle<'a>(batch: &'a [Folded], known: &'a Known<'a>) -> Settled<'a> {
    fold(batch, known)
}

/// Units that leave each stock row over the file, by an independent count (see above; products are codes that start with
/// five digits).
#[test]
fn every_event_is_applied_and_stock_moves_by_what_the_file_says() {
    let of_slice = (
        -343_733,
        [("85123A", -3_341), ("22423", -2_028), ("85099B", -2_124), ("84879", -2_371), ("47566", -237)],
    );
    let of_full = (
        -5_471_594,
        [
            ("85123A", -31_626),
            ("22423", -13_084),
            ("85099B", -47_355),
            ("84879", -36_541),
            ("47566", -18_022),
        ],
    );
    on_both(of_slice, of_full, |file, (all, some)| {
        let catalogue = catalogue(file);
        let batch = decoded(file);
        let (applied, orders, returned) = (FxHashSet::default(), FxHashMap::default(), FxHashMap::default());
        let timezone = "Europe/London".parse().unwrap();
        let known = Known {
            catalogue: &catalogue,
            applied: &applied,
            orders: &orders,
            returned: &returned,
            stock: None,
            payments: &FxHashMap::default(),
            payments_may_wait: true,
            timezone,
        };
        let settled = settle(&batch, &known);
        for (fate, record) in settled.fates.iter().zip(&batch) {
            assert_eq!(*fate, Fate::Applied, "{record:?}");
        }
        assert_eq!(settled.value_mismatches, 0);

        let mut received: HashMap<&str, i64> = HashMap::new();
        for line in settled.restock_lines.iter().filter(|l| l.restock.supplier_id.is_some()) {
            *received.entry(line.product_id).or_default() += line.quantity;
        }
        let mut net: HashMap<&str, i64> = HashMap::new();
        for row in &settled.stock {
            *net.entry(row.product_id).or_default() += row.delta;
        }
        assert_eq!(net.values().sum::<i64>() - received.values().sum::<i64>(), all);
        for (product, moved) in some {
            assert_eq!(net[product] - received.get(product).unwrap_or(&0), moved, "{product}");
        }
        assert_stock_is_plausible(file, &settled);
    });
}

/// A retailer that plans well runs out now and then, not as a rule.
fn assert_stock_is_plausible(file: &OnlineRetail, settled: &Settled<'_>) {
    let mut on_hand: HashMap<(&str, &str), i64> = HashMap::new();
    for &(product, location, units) in &file.plan.opening {
        assert!(units >= 0);
        on_hand.insert((file.products.get(product).unwrap().product_id.as_str(), location), units);
    }
    let mut oversold = 0;
    for change in &settled.changes {
        let row = &settled.stock[change.stock as usize];
        let stock = on_hand
            .get_mut(&(row.product_id, row.location_id))
            .expect("every row that moves has opening stock");
        *stock += change.delta;
        oversold += usize::from(*stock < 0);
    }
    let negative = on_hand.values().filter(|&&units| units < 0).count();
    println!(
        "{} deliveries, {} of {} changes oversold, {negative} of {} rows negative at the end",
        file.plan.deliveries.len(),
        oversold,
        settled.changes.len(),
        on_hand.len()
    );
    assert!(oversold * 50 < settled.changes.len(), "{oversold} of {}", settled.changes.len());
    assert!(negative * 100 < on_hand.len(), "{negative} of {}", on_hand.len());
}

#[test]
fn a_range_of_the_full_file_is_the_same_as_the_slice() {
    let Some(file) = full() else { return };
    let day = |d| NaiveDate::from_ymd_opt(2010, 12, d);
    let path = std::env::var_os("STOCKTIDE_TEST_ONLINE_RETAIL").unwrap();
    let range = OnlineRetail::open(Path::new(&path), day(1), day(31)).unwrap();
    assert!(range.events(true).eq(slice().events(true)));
    assert!(range.rows.rows.len() == file.rows.rows.len() && range.invoices.rows == 42_481);
}

#[test]
fn a_range_without_rows_is_refused_and_says_what_there_is() {
    let day = NaiveDate::from_ymd_opt(2010, 12, 25);
    let error = OnlineRetail::open(&slice_path(), day, day).unwrap_err().to_string();
    assert_eq!(error, "no row lies in the range asked for; the file has 2010-12-01 to 2010-12-23");
}

#[test]
fn both_days_of_a_range_are_included() {
    let day = |d| NaiveDate::from_ymd_opt(2010, 12, d);
    // By grep -cE ',12/2/2010 [0-9]+:[0-9]+,' and the same of the 3rd: 2,109 and 2,202.
    let range = OnlineRetail::open(&slice_path(), day(2), day(3)).unwrap();
    assert_eq!(range.invoices.rows, 2_109 + 2_202);
}
