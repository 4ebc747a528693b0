//! A daily report for the terminal.

use stocktide_domain::Money;
use stocktide_domain::report::{DataQuality, Earlier, Figures, SalesGroup, Seller, Tenths, Totals};
use stocktide_reports::render::two_decimals;
use stocktide_store::reports::Recorded;

use crate::cli::table::table;

/// The most rows of a list; the files have all.
const MOST_ROWS: usize = 20;
/// The most letters of a name.
const NAME_LETTERS: usize = 36;

/// The report's sections under each other, and a language model's remarks, which carry their own label.
pub fn in_words(report: &Recorded, remarks: Option<&str>) -> String {
    let figures = &report.figures;
    let day = &figures.day;
    let mut parts = vec![
        format!("Daily report {} ({}), revision {}", day.date, day.timezone, report.revision),
        format!("{} to {}, all money in {}", day.start.to_rfc3339(), day.end.to_rfc3339(), figures.currency),
    ];
    parts.extend(sales(figures));
    parts.extend(top_sellers(figures));
    parts.extend(low_stock(figures));
    parts.extend(data_quality(&figures.data_quality));
    parts.extend(remarks.map(|remarks| title(&harmless(remarks.trim_end()))));
    parts.push(format!("\nFiles: {}", report.place));
    parts.join("\n")
}

/// Text from outside, fit for a terminal: no control characters, and cut where it is long.
fn plain(text: &str) -> String {
    let clean: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if clean.chars().count() <= NAME_LETTERS {
        return clean;
    }
    clean.chars().take(NAME_LETTERS - 1).chain(['…']).collect()
}

/// Lines from outside, fit for a terminal.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn title(text: &str) -> String {
    format!("\n{text}")
}

/// A table with at most [`MOST_ROWS`] rows, and how many more there are.
fn list(header: &[&str], rows: Vec<Vec<String>>, all: usize) -> Vec<String> {
    if rows.is_empty() {
        return vec!["none".to_owned()];
    }
    let shown: Vec<Vec<String>> = rows.into_iter().take(MOST_ROWS).collect();
    let mut parts = vec![table(header, &shown)];
    if all > shown.len() {
        parts.push(format!("… and {} more", all - shown.len()));
    }
    parts
}

// Sections -------------------------------------------------------------------------------------------------------------

const TOTALS: [&str; 8] = ["", "orders", "units", "gross", "cancelled", "returned", "net", "average"];

fn totals(name: &str, totals: &Totals) -> Vec<String> {
    vec![
        plain(name),
        totals.orders.to_string(),
        totals.units.to_string(),
        money(totals.gross),
        money(totals.cancelled_value),
        money(totals.returned_value),
        money(totals.net),
        totals.average_order_value.map_or_else(none, money),
    ]
}

fn sales(figures: &Figures) -> Vec<String> {
    let sales = &figures.sales;
    let mut rows = vec![totals("this day", &sales.total)];
    for (name, earlier) in
        [("day before", &sales.compared.day_before), ("week before", &sales.compared.week_before)]
    {
        rows.push(totals(name, &earlier.totals));
        rows.push(change(earlier));
    }
    let mut parts = vec![title("Sales"), table(&TOTALS, &rows)];
    for (name, groups) in [
        ("by source", &sales.by_source),
        ("by location", &sales.by_location),
        ("by category", &sales.by_category),
    ] {
        parts.push(title(&format!("Sales {name}")));
        let row = |group: &SalesGroup| {
            let name = if group.name.is_empty() { "(none)" } else { &group.name };
            totals(name, &group.totals)
        };
        parts.extend(list(&TOTALS, groups.iter().map(row).collect(), groups.len()));
    }
    parts
}

fn change(earlier: &Earlier) -> Vec<String> {
    let percent = |change: Option<Tenths>| {
        change
            .map_or_else(none, |change| if change.0 > 0 { format!("+{change}") } else { change.to_string() })
    };
    let change = &earlier.change;
    let [orders, units] = [change.orders_percent, change.units_percent].map(percent);
    let [gross, net] = [change.gross_percent, change.net_percent].map(percent);
    vec!["  change in %".to_owned(), orders, units, gross, String::new(), String::new(), net, String::new()]
}

fn top_sellers(figures: &Figures) -> Vec<String> {
    let top = &figures.top_sellers;
    let mut parts = Vec::new();
    for (name, sellers) in [("by revenue", &top.by_revenue), ("by units", &top.by_units)] {
        parts.push(title(&format!("Top sellers {name}")));
        let row = |seller: &Seller| {
            let Seller { rank, product_id, name, orders, units, revenue, .. } = seller;
            let counts = [orders.to_string(), units.to_string(), money(*revenue)];
            [rank.to_string(), plain(product_id), plain(name)].into_iter().chain(counts).collect()
        };
        let header = ["#", "product", "name", "orders", "units", "revenue"];
        parts.extend(list(&header, sellers.iter().map(row).collect(), sellers.len()));
    }
    parts
}

fn low_stock(figures: &Figures) -> Vec<String> {
    let low = &figures.low_stock;
    let mut parts = vec![title(&format!("Low stock as of {}: {}", low.as_of.to_rfc3339(), low.rows.len()))];
    let rows = low.rows.iter().map(|row| {
        vec![
            plain(&row.product_id),
            plain(&row.name),
            plain(&row.location_id),
            row.status.clone(),
            row.quantity.to_string(),
            row.reorder_point.to_string(),
            row.days_of_cover.map_or_else(none, |days| days.to_string()),
            row.suggested_order.to_string(),
        ]
    });
    let header = ["product", "name", "location", "status", "on hand", "reorder at", "days of cover", "order"];
    parts.extend(list(&header, rows.collect(), low.rows.len()));
    parts
}

fn data_quality(quality: &DataQuality) -> Vec<String> {
    let mut parts = vec![title("Records processed on this day")];
    let fates = quality.fates.iter().map(|f| {
        let counts = [f.consumed, f.applied, f.duplicates, f.rejected, f.parked];
        [plain(&f.topic)].into_iter().chain(counts.map(|count| count.to_string())).collect()
    });
    let header = ["topic", "consumed", "applied", "duplicates", "rejected", "parked"];
    parts.extend(list(&header, fates.collect(), quality.fates.len()));

    let rejects = &quality.rejects;
    parts.push(title(&format!("Rejected records: {}", rejects.records)));
    let reasons =
        rejects.by_reason.iter().map(|r| vec![plain(&r.topic), plain(&r.reason), r.records.to_string()]);
    parts.extend(list(&["topic", "reason", "records"], reasons.collect(), rejects.by_reason.len()));

    let outliers = &quality.outliers;
    let usual = outliers.largest_usual.map_or_else(String::new, |most| format!(" (up to {most} is usual)"));
    parts.push(title(&format!("Unusual quantities: {}{usual}", outliers.found)));
    let lines = outliers.rows.iter().map(|line| {
        vec![
            plain(&line.source),
            plain(&line.order_id),
            line.kind.clone(),
            plain(&line.product_id),
            plain(&line.name),
            line.quantity.to_string(),
            line.z_score.to_string(),
        ]
    });
    let header = ["source", "order", "kind", "product", "name", "quantity", "score"];
    parts.extend(list(&header, lines.collect(), usize::try_from(outliers.found).unwrap_or(0)));

    let (mismatches, late, oversold) = (&quality.value_mismatches, &quality.late_events, &quality.oversold);
    parts.push(format!(
        "\nStated values that differ from their lines: {} (in sum {})",
        mismatches.orders,
        money(mismatches.difference)
    ));
    parts.push(format!("Late events: {}", late.events));
    parts.push(format!(
        "Oversold stock rows: {} at the day's end, {} during the day",
        oversold.at_end, oversold.during_day
    ));
    parts
}

fn money(amount: Money) -> String {
    two_decimals(amount)
}

fn none() -> String {
    "-".to_owned()
}
