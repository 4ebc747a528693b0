//! `report.html`: one page for people, to read on a screen or on paper. It loads nothing and runs nothing.

use std::fmt::Write as _;

use serde_json::Value;
use stocktide_domain::Money;
use stocktide_domain::report::{Earlier, Figures, LowStockRow, SalesGroup, Seller, Tenths, Totals};

use super::chart::{Bar, bars};
use super::sheets::money;
use crate::changes::Change;

mod quality;

/// The most rows of a table that are shown; the CSV file beside has all.
const MOST_ROWS: usize = 100;
/// The most changes that are shown; the manifest names more.
const MOST_CHANGES_SHOWN: usize = 12;
/// The most bars in a chart.
const MOST_BARS: usize = 10;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#59616b;--rule:#d8dce2;--bar:#2f6f9f;--paper:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--soft:#a3acb6;--rule:#3a4048;--bar:#6fb1dd;--paper:#14171a}}\
body{font:15px/1.45 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:64rem;margin:2rem auto;padding:0 1rem}\
h1{font-size:1.6rem;margin:0}h2{font-size:1.2rem;margin:2.2rem 0 .6rem;border-bottom:2px solid var(--rule)}h3{font-size:1rem;margin:1.2rem 0 .3rem}\
p.sub,figcaption,.more{color:var(--soft)}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.6rem,1fr));gap:.6rem;margin:1rem 0}\
.tiles div{border:1px solid var(--rule);border-radius:.4rem;padding:.5rem .8rem;display:flex;flex-direction:column;justify-content:space-between}\
.tiles b{font-size:1.3rem}.note{border-left:4px solid var(--bar);padding:.3rem .9rem}\
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.88rem}\
th,td{padding:.22rem .45rem;border-bottom:1px solid var(--rule);text-align:left;vertical-align:top;unicode-bidi:isolate}\
th{vertical-align:bottom}td{max-width:20rem;overflow-wrap:break-word}.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}\
figure{margin:.8rem 0;max-width:48rem;font-size:.88rem}.bar{display:grid;grid-template-columns:19rem 1fr 6.5rem;gap:.6rem;align-items:center;margin:.2rem 0}\
.bar span{min-width:0;overflow-wrap:break-word;unicode-bidi:isolate}.bar svg{width:100%;height:.9rem;display:block}rect{fill:var(--bar)}\
@media(max-width:40rem){h1{font-size:1.35rem}td:not(.n){min-width:6rem}.bar{grid-template-columns:1fr 6.5rem}.bar span:first-child{grid-column:1/-1;margin-bottom:-.4rem}}\
@media print{@page{margin:12mm}:root{--ink:#000;--paper:#fff;--soft:#444;--rule:#bbb;--bar:#456}body{margin:0;padding:0;max-width:none;font-size:11px}\
table,figure{font-size:9px}th,td{padding:.15rem .25rem}td{max-width:12rem}.wide{overflow:visible}.tiles{grid-template-columns:repeat(6,1fr)}.tiles div{padding:.3rem .5rem}\
.bar{grid-template-columns:19rem 1fr 6.5rem}.bar span:first-child{grid-column:auto;margin:0}\
h2,h3,figcaption{break-after:avoid}tr,figure,.tiles{break-inside:avoid}rect{print-color-adjust:exact;-webkit-print-color-adjust:exact}}";

/// The page.
pub(super) fn page(figures: &Figures, revision: u32, changes: &[Change]) -> String {
    let mut html = head(figures, revision);
    revised(&mut html, revision, changes);
    sales(&mut html, figures);
    top_sellers(&mut html, figures);
    low_stock(&mut html, figures);
    quality::section(&mut html, figures);
    html.push_str("</body>\n</html>\n");
    html
}

fn head(figures: &Figures, revision: u32) -> String {
    let day = &figures.day;
    let title = format!("Daily report {}", day.date);
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<h1>{title}</h1>\n<p class=\"sub\">{}, {} · {} to {} · all money in {} · revision {revision}</p>\n",
        day.date.format("%A"),
        escape(&day.timezone),
        instant(&day.start),
        instant(&day.end),
        escape(&figures.currency),
    )
}

fn revised(html: &mut String, revision: u32, changes: &[Change]) {
    if revision < 2 {
        return;
    }
    let _ = writeln!(
        html,
        "<div class=\"note\"><p>Revision {revision}: late events or a changed catalogue changed {} of the figures since \
         revision {}.</p>",
        changes.len(),
        revision - 1
    );
    let rows = changes.iter().take(MOST_CHANGES_SHOWN).map(|change| {
        vec![
            Cell::text(&change.figure),
            Cell::number(value(&change.before)),
            Cell::number(value(&change.after)),
        ]
    });
    table(html, "What changed", &["Figure", "Before", "Now"], rows.collect(), changes.len());
    html.push_str("</div>\n");
}

/// A JSON value in short.
fn value(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) => text.clone(),
        Value::Object(_) | Value::Array(_) => "…".to_owned(),
        other => other.to_string(),
    }
}

// Sales -------------------------------------------------------------------------------------------------------------------

fn sales(html: &mut String, figures: &Figures) {
    let sales = &figures.sales;
    let total = &sales.total;
    html.push_str("<h2>Sales</h2>\n<div class=\"tiles\">");
    for (name, figure) in [
        ("Total sales (gross)", grouped(total.gross)),
        ("Cancellations and returns", grouped(given_back(total))),
        ("Net", grouped(total.net)),
        ("Orders", count(total.orders)),
        ("Units", count(total.units)),
        ("Average order", total.average_order_value.map_or_else(dash, grouped)),
    ] {
        let _ = write!(html, "<div>{name}<b>{figure}</b></div>");
    }
    html.push_str("</div>\n");
    let compared = &sales.compared;
    let day = |label: String, totals: &Totals| Bar {
        label,
        value: totals.gross.ten_thousandths(),
        shown: grouped(totals.gross),
    };
    html.push_str(&bars(
        "Gross sales, compared",
        &[
            day("This day".to_owned(), total),
            day(format!("Day before, {}", compared.day_before.date), &compared.day_before.totals),
            day(format!("Week before, {}", compared.week_before.date), &compared.week_before.totals),
        ],
    ));
    compared_table(
        html,
        total,
        [("Day before", &compared.day_before), ("Week before", &compared.week_before)],
    );
    for (title, groups) in [
        ("By source", &sales.by_source),
        ("By location", &sales.by_location),
        ("By category", &sales.by_category),
    ] {
        group_table(html, title, groups);
    }
}

fn given_back(totals: &Totals) -> Money {
    let sum =
        totals.cancelled_value.ten_thousandths().saturating_add(totals.returned_value.ten_thousandths());
    Money::from_ten_thousandths(sum)
}

const TOTALS: [&str; 10] = [
    "Orders",
    "Lines",
    "Units",
    "Gross",
    "Cancellations",
    "Cancelled",
    "Returns",
    "Returned",
    "Net",
    "Average",
];

fn totals_cells(totals: &Totals) -> Vec<Cell> {
    [
        count(totals.orders),
        count(totals.lines),
        count(totals.units),
        grouped(totals.gross),
        count(totals.cancellations),
        grouped(totals.cancelled_value),
        count(totals.returns),
        grouped(totals.returned_value),
        grouped(totals.net),
        totals.average_order_value.map_or_else(dash, grouped),
    ]
    .map(Cell::number)
    .to_vec()
}

fn compared_table(html: &mut String, total: &Totals, earlier: [(&str, &Earlier); 2]) {
    let header: Vec<&str> = ["Day"].into_iter().chain(TOTALS).collect();
    let mut rows = vec![[vec![Cell::text("This day")], totals_cells(total)].concat()];
    for (name, day) in earlier {
        let label = format!("{name}, {}", day.date);
        rows.push([vec![Cell::text(&label)], totals_cells(&day.totals)].concat());
        let change = &day.change;
        let mut cells = vec![Cell::text("change")];
        cells.extend((0..TOTALS.len()).map(|at| match at {
            0 => Cell::number(percent(change.orders_percent)),
            2 => Cell::number(percent(change.units_percent)),
            3 => Cell::number(percent(change.gross_percent)),
            8 => Cell::number(percent(change.net_percent)),
            _ => Cell::number(String::new()),
        }));
        rows.push(cells);
    }
    let all = rows.len();
    table(html, "Sales, compared", &header, rows, all);
}

fn group_table(html: &mut String, title: &str, groups: &[SalesGroup]) {
    let _ = writeln!(html, "<h3>{title}</h3>");
    if groups.len() > 2 {
        let mut largest: Vec<&SalesGroup> = groups.iter().collect();
        // Stable: groups of equal value stay in the order of their keys.
        largest.sort_by_key(|group| std::cmp::Reverse(group.totals.gross));
        let drawn: Vec<Bar> = largest.iter().take(MOST_BARS).map(|group| group_bar(group)).collect();
        html.push_str(&bars(&format!("Gross sales {}", title.to_lowercase()), &drawn));
    }
    let header: Vec<&str> = ["Name"].into_iter().chain(TOTALS).collect();
    let row = |group: &SalesGroup| [vec![Cell::text(&named(group))], totals_cells(&group.totals)].concat();
    table(
        html,
        &format!("Sales {}", title.to_lowercase()),
        &header,
        groups.iter().take(MOST_ROWS).map(row).collect(),
        groups.len(),
    );
}

fn group_bar(group: &SalesGroup) -> Bar {
    Bar {
        label: named(group),
        value: group.totals.gross.ten_thousandths(),
        shown: grouped(group.totals.gross),
    }
}

fn named(group: &SalesGroup) -> String {
    let name = if group.name.is_empty() { &group.key } else { &group.name };
    if name.is_empty() { "(none)".to_owned() } else { name.clone() }
}

// Top sellers and low stock ------------------------------------------------------------------------------------------------

/// A seller's length in a chart, and the same in words.
type Measure = fn(&Seller) -> (i64, String);

fn top_sellers(html: &mut String, figures: &Figures) {
    let top = &figures.top_sellers;
    html.push_str("<h2>Top sellers</h2>\n");
    let lists: [(&str, &[Seller], Measure); 2] = [
        ("By revenue", &top.by_revenue, |s| (s.revenue.ten_thousandths(), grouped(s.revenue))),
        ("By units", &top.by_units, |s| (s.units, count(s.units))),
    ];
    for (title, sellers, measure) in lists {
        let _ = writeln!(html, "<h3>{title}</h3>");
        let bar = |seller: &Seller| {
            let (value, shown) = measure(seller);
            Bar { label: seller.name.clone(), value, shown }
        };
        let drawn: Vec<Bar> = sellers.iter().take(MOST_BARS).map(bar).collect();
        html.push_str(&bars(&format!("Top sellers {}", title.to_lowercase()), &drawn));
        let row = |seller: &Seller| {
            vec![
                Cell::number(seller.rank.to_string()),
                Cell::text(&seller.product_id),
                Cell::text(&seller.name),
                Cell::text(&seller.category),
                Cell::number(count(seller.orders)),
                Cell::number(count(seller.units)),
                Cell::number(grouped(seller.revenue)),
                Cell::number(count(seller.returned_units)),
            ]
        };
        table(
            html,
            &format!("Top sellers {}", title.to_lowercase()),
            &["#", "Product", "Name", "Category", "Orders", "Units", "Revenue", "Came back"],
            sellers.iter().take(MOST_ROWS).map(row).collect(),
            sellers.len(),
        );
    }
}

fn low_stock(html: &mut String, figures: &Figures) {
    let low = &figures.low_stock;
    let _ = writeln!(
        html,
        "<h2>Low stock</h2>\n<p class=\"sub\">As of {}: opening stock and every movement before that instant. Cover and \
         orders follow the sales of the {} days before it.</p>",
        instant(&low.as_of),
        low.cover_days
    );
    let row = |row: &LowStockRow| {
        vec![
            Cell::text(&row.product_id),
            Cell::text(&row.name),
            Cell::text(&row.location_id),
            Cell::text(&row.status),
            Cell::number(count(row.quantity)),
            Cell::number(count(row.reorder_point)),
            Cell::number(count(row.demand_units)),
            Cell::number(row.days_of_cover.map_or_else(dash, |days| days.to_string())),
            Cell::number(count(row.suggested_order)),
        ]
    };
    table(
        html,
        "Low stock",
        &[
            "Product",
            "Name",
            "Location",
            "Status",
            "On hand",
            "Reorder at",
            "Demand",
            "Days of cover",
            "Order",
        ],
        low.rows.iter().take(MOST_ROWS).map(row).collect(),
        low.rows.len(),
    );
}

// Parts of a page -----------------------------------------------------------------------------------------------------------

/// A cell of a table: words to the left, numbers to the right.
#[derive(Debug, Clone)]
struct Cell {
    text: String,
    is_number: bool,
}

impl Cell {
    fn text(text: &str) -> Cell {
        Cell { text: text.to_owned(), is_number: false }
    }

    fn number(text: String) -> Cell {
        Cell { text, is_number: true }
    }
}

/// A table of rows, of which there are `all`; a word instead where there is none. The label is for who does not see it.
fn table(html: &mut String, label: &str, header: &[&str], rows: Vec<Vec<Cell>>, all: usize) {
    let Some(first) = rows.first() else {
        html.push_str("<p class=\"more\">None.</p>\n");
        return;
    };
    let class = |is_number| if is_number { " class=\"n\"" } else { "" };
    // Wider than a narrow screen: it is moved under the finger or the arrow keys, not the whole page.
    let _ =
        write!(html, "<div class=\"wide\" role=\"region\" aria-label=\"{}\" tabindex=\"0\">", escape(label));
    html.push_str("<table><thead><tr>");
    for (name, cell) in header.iter().zip(first) {
        let _ = write!(html, "<th scope=\"col\"{}>{name}</th>", class(cell.is_number));
    }
    html.push_str("</tr></thead>\n<tbody>\n");
    let shown = rows.len();
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td{}>{}</td>", class(cell.is_number), escape(&cell.text));
        }
        html.push_str("</tr>\n");
    }
    html.push_str("</tbody></table></div>\n");
    if all > shown {
        let _ = writeln!(
            html,
            "<p class=\"more\">And {} more, which the files beside this page have.</p>",
            all - shown
        );
    }
}

fn dash() -> String {
    "–".to_owned()
}

fn percent(change: Option<Tenths>) -> String {
    change.map_or_else(dash, |change| {
        let sign = if change.0 > 0 { "+" } else { "" };
        format!("{sign}{change} %")
    })
}

fn instant(at: &chrono::DateTime<chrono::Utc>) -> String {
    at.format("%Y-%m-%d %H:%M UTC").to_string()
}

/// Two decimals, thousands apart.
fn grouped(amount: Money) -> String {
    let plain = money(amount);
    let (units, decimals) = plain.split_once('.').unwrap_or((&plain, "00"));
    format!("{}.{decimals}", apart(units))
}

/// A whole number, thousands apart.
fn count(number: i64) -> String {
    apart(&number.to_string())
}

fn apart(number: &str) -> String {
    let (sign, digits) = number.strip_prefix('-').map_or(("", number), |digits| ("-", digits));
    let mut apart = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            apart.push(',');
        }
        apart.push(digit);
    }
    apart
}

/// Text for HTML and SVG, in content and in quoted attributes. Control characters, which have no meaning there, become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(' '),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_with_its_thousands_apart() {
        let shown = [0, 9_999_900, 12_345_678_900, -12_345_600]
            .map(|ten_thousandths| grouped(Money::from_ten_thousandths(ten_thousandths)));
        assert_eq!(shown, ["0.00", "999.99", "1,234,567.89", "-1,234.56"]);
        assert_eq!([0, 999, 1_000, -80_995].map(count), ["0", "999", "1,000", "-80,995"]);
    }

    #[test]
    fn nothing_in_a_text_can_end_an_element_or_an_attribute() {
        assert_eq!(escape("<b a='\"'>&\u{0}\u{7f}\n"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;\u{fffd}\u{fffd} ");
    }
}
