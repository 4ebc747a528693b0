//! The files of a report: what they look like, that they depend on the figures alone, and that no text breaks out of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sample;

use std::path::Path;

use proptest::prelude::*;
use sample::{HOSTILE, figures, money};
use schemars::schema_for;
use serde_json::Value;
use stocktide_domain::report::Figures;
use stocktide_reports::render::Document;
use stocktide_reports::{File, Manifest, RenderContext, render};

fn rendered(figures: &Figures) -> Vec<File> {
    let context = RenderContext { revision: 1, code_version: "0.1.0".to_owned(), previous: None };
    render(figures, &context).unwrap()
}

fn text<'a>(files: &'a [File], name: &str) -> &'a str {
    std::str::from_utf8(&files.iter().find(|file| file.name == name).unwrap().bytes).unwrap()
}

#[test]
fn the_files_are_written_in_this_order_with_these_rows() {
    let files: Vec<(&str, Option<u64>)> =
        rendered(&figures(HOSTILE)).iter().map(|file| (file.name, file.rows)).collect();
    let expected = [
        ("sales.csv", Some(10)),
        ("top_sellers.csv", Some(4)),
        ("low_stock.csv", Some(2)),
        ("data_quality.csv", Some(24)),
        ("report.json", None),
        ("report.html", None),
        ("manifest.json", None),
    ];
    assert_eq!(files, expected);
}

#[test]
fn sheets_are_rfc_4180_with_formulas_defused() {
    let files = rendered(&figures(HOSTILE));
    for name in ["sales.csv", "top_sellers.csv", "low_stock.csv", "data_quality.csv"] {
        // Carriage returns would be lost in a snapshot's file.
        insta::assert_snapshot!(name, text(&files, name).replace('\r', "␍"));
    }
}

#[test]
fn the_page_is_self_contained() {
    let files = rendered(&figures(HOSTILE));
    let page = text(&files, "report.html");
    insta::assert_snapshot!("report.html", page);
    for outside in ["<script", "<link", "src=", "url(", "@import", "onload"] {
        assert!(!page.contains(outside), "{outside}");
    }
}

#[test]
fn the_manifest_names_every_file_and_the_interval() {
    let files = rendered(&figures("Tea"));
    insta::assert_snapshot!("manifest.json", text(&files, "manifest.json"));
    insta::assert_snapshot!("report.json", text(&files, "report.json"));
    let manifest: Manifest = serde_json::from_str(text(&files, "manifest.json")).unwrap();
    for (entry, file) in manifest.files.iter().zip(&files) {
        assert_eq!((entry.name.as_str(), &entry.sha256), (file.name, &file.sha256()));
    }
    assert_eq!(manifest.files.len(), 6);
}

#[test]
fn a_revision_says_what_changed() {
    let before = figures("Tea");
    let mut after = before.clone();
    after.sales.total.gross = money("1234570.00");
    let context = RenderContext { revision: 2, code_version: "0.1.0".to_owned(), previous: Some(before) };
    let files = render(&after, &context).unwrap();
    let manifest: Manifest = serde_json::from_str(text(&files, "manifest.json")).unwrap();
    let change = &manifest.changes[0];
    assert_eq!((manifest.revision, manifest.changes.len(), manifest.further_changes), (2, 1, 0));
    assert_eq!(
        (change.figure.as_str(), &change.before, &change.after),
        ("/sales/total/gross", &Value::from("1234567.895"), &Value::from("1234570.00"))
    );
    let page = text(&files, "report.html");
    let sentence = "Revision 2: the ledger, the catalogue or the report&#39;s settings changed. 1 figure differs from revision 1.";
    assert!(page.contains(sentence), "{page}");
    assert!(page.contains("<td>sales · total · gross</td><td class=\"n\">1234567.895</td>"), "{page}");
}

#[test]
fn a_late_sale_and_an_outlier_above_the_others_are_told_by_their_totals_and_one_row() {
    let before = figures("Tea");
    let mut after = before.clone();
    after.sales.total.gross = money("1234570.00");
    after.data_quality.late_events.events += 1;
    let outliers = &mut after.data_quality.outliers;
    let largest = stocktide_domain::report::Outlier {
        order_id: "late/1".to_owned(),
        quantity: 99_999,
        ..outliers.rows[0].clone()
    };
    outliers.rows.insert(0, largest);
    outliers.found += 1;
    let context = RenderContext { revision: 2, code_version: "0.1.0".to_owned(), previous: Some(before) };
    let files = render(&after, &context).unwrap();
    let manifest: Manifest = serde_json::from_str(text(&files, "manifest.json")).unwrap();
    let changed: Vec<&str> = manifest.changes.iter().map(|change| change.figure.as_str()).collect();
    let row = "/data_quality/outliers/rows/source=online_orders,order_id=late~11,kind=sale,line_no=1,product_id=23843";
    let expected =
        ["/sales/total/gross", "/data_quality/late_events/events", "/data_quality/outliers/found", row];
    assert_eq!((changed, manifest.further_changes), (expected.to_vec(), 0));
    assert_eq!(manifest.changes[3].after["quantity"], 99_999);
    assert_eq!(manifest.reason.as_deref(), Some("a late event of the day came in"));
    let page = text(&files, "report.html");
    assert!(page.contains("Revision 2: a late event of the day came in. 4 figures differ"), "{page}");
    assert!(page.contains("outliers · rows · online orders late/1 sale 1 23843</td>"), "{page}");
}

#[test]
fn changes_beyond_the_first_fifty_are_counted() {
    let before = figures("Tea");
    let mut after = before.clone();
    let row = after.low_stock.rows[0].clone();
    after.low_stock.rows = (0..80)
        .map(|n| stocktide_domain::report::LowStockRow { product_id: format!("p{n}"), ..row.clone() })
        .collect();
    let context = RenderContext { revision: 2, code_version: "0.1.0".to_owned(), previous: Some(before) };
    let files = render(&after, &context).unwrap();
    let manifest: Manifest = serde_json::from_str(text(&files, "manifest.json")).unwrap();
    // 80 rows came and 2 went.
    assert_eq!((manifest.changes.len(), manifest.further_changes), (50, 32));
}

#[test]
fn of_too_few_lines_the_page_says_that_nothing_was_judged() {
    let mut figures = figures("Tea");
    let outliers = &mut figures.data_quality.outliers;
    (outliers.window_lines, outliers.found) = (29, 0);
    (outliers.median_quantity, outliers.largest_usual, outliers.spread_factor) = (None, None, None);
    outliers.rows.clear();
    let files = rendered(&figures);
    assert!(text(&files, "report.html").contains("<h3>Unusual quantities: too few lines to judge</h3>"));
    assert!(text(&files, "data_quality.csv").contains(",outliers,,,,,found,\r\n"));
}

#[test]
fn the_version_of_the_program_stands_in_the_manifest_alone() {
    let of = |version: &str| {
        let context = RenderContext { revision: 1, code_version: version.to_owned(), previous: None };
        render(&figures("Tea"), &context).unwrap()
    };
    let (old, new) = (of("0.1.0"), of("0.2.0"));
    let differing: Vec<&str> = old.iter().zip(&new).filter(|(a, b)| a != b).map(|(a, _)| a.name).collect();
    assert_eq!(differing, ["manifest.json"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_same_figures_give_the_same_bytes(name in "\\PC*|[\\x01-\\x7f]*", gross in any::<i64>()) {
        let mut figures = figures(&name);
        figures.sales.total.gross = stocktide_domain::Money::from_ten_thousandths(gross);
        let files = rendered(&figures);
        prop_assert_eq!(&rendered(&figures.clone()), &files);
        // As they come back from the database.
        let stored: Value = serde_json::to_value(&figures).unwrap();
        let restored: Figures = serde_json::from_value(stored).unwrap();
        prop_assert_eq!(&rendered(&restored), &files);
        let document: Document = serde_json::from_str(text(&files, "report.json")).unwrap();
        prop_assert_eq!(document.figures, figures);
    }

    #[test]
    fn no_text_breaks_out_of_a_sheet_or_the_page(name in "[=+\\-@,\"'<>&;\r\n\t ]{0,6}\\PC*|[\\x01-\\x7f]*") {
        let files = rendered(&figures(&name));
        for sheet in files.iter().filter(|file| file.rows.is_some()) {
            let mut reader = csv::Reader::from_reader(sheet.bytes.as_slice());
            let mut rows = 0;
            for row in reader.records() {
                for cell in &row.unwrap() {
                    let is_formula = cell.starts_with(['=', '+', '@', '\t', '\r', '\n'])
                        || (cell.starts_with('-') && cell.parse::<f64>().is_err());
                    prop_assert!(!is_formula, "{:?}", cell);
                }
                rows += 1;
            }
            prop_assert_eq!(Some(rows), sheet.rows);
        }
        let marks = |page: &str| (page.matches('<').count(), page.matches('>').count(), page.matches('"').count());
        let harmless = rendered(&figures("Tea"));
        prop_assert_eq!(marks(text(&files, "report.html")), marks(text(&harmless, "report.html")));
    }
}

// The schemas in docs/ ------------------------------------------------------------------------------------------------------

#[test]
fn the_schemas_in_docs_are_made_from_the_types() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    for (name, schema) in [
        ("report.schema.json", schema_for!(Document)),
        ("report-manifest.schema.json", schema_for!(Manifest)),
    ] {
        let made = serde_json::to_string_pretty(&sorted(&Value::from(schema))).unwrap() + "\n";
        let path = docs.join(name);
        if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(&path, &made).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = stored.lines().zip(made.lines()).find(|(stored, made)| stored != made);
        assert!(
            stored == made,
            "docs/{name} is not made from the types, first at {difference:?} (there, made); \
             UPDATE_DOCS=1 cargo test -p stocktide-reports --test render writes it anew"
        );
    }
}

/// With its keys in order, whatever order another crate has asked serde_json to keep.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            keys.into_iter().map(|key| (key.clone(), sorted(&map[key]))).collect()
        }
        Value::Array(items) => items.iter().map(sorted).collect(),
        other => other.clone(),
    }
}
