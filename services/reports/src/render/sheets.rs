//! The CSV files: RFC 4180 (commas, CRLF, quotes where needed), UTF-8, money with two decimals.
//!
//! A text cell that a spreadsheet would run as a formula gets an apostrophe in front. Numbers are written by this program
//! and stay numbers, negative ones too.

use stocktide_domain::Money;
use stocktide_domain::report::{DataQuality, Earlier, Figures, Seller, Tenths, Totals};

use super::{RenderError, in_file};
use crate::file::File;

/// The four CSV files.
pub(super) fn sheets(figures: &Figures) -> Result<Vec<File>, RenderError> {
    Ok(vec![sales(figures)?, top_sellers(figures)?, low_stock(figures)?, data_quality(figures)?])
}

/// One of them, by its name.
pub(super) fn sheet(figures: &Figures, name: &str) -> Result<Option<File>, RenderError> {
    let make = match name {
        "sales.csv" => sales,
        "top_sellers.csv" => top_sellers,
        "low_stock.csv" => low_stock,
        "data_quality.csv" => data_quality,
        _ => return Ok(None),
    };
    make(figures).map(Some)
}

/// A CSV file in the making.
struct Sheet {
    name: &'static str,
    writer: csv::Writer<Vec<u8>>,
    rows: u64,
}

impl Sheet {
    fn new(name: &'static str, header: &[&str]) -> Result<Sheet, RenderError> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        writer.write_record(header).map_err(in_file(name))?;
        Ok(Sheet { name, writer, rows: 0 })
    }

    fn row(&mut self, cells: impl IntoIterator<Item = String>) -> Result<(), RenderError> {
        self.rows += 1;
        self.writer.write_record(cells.into_iter().map(String::into_bytes)).map_err(in_file(self.name))
    }

    fn finish(self) -> Result<File, RenderError> {
        let Sheet { name, writer, rows } = self;
        let bytes = writer.into_inner().map_err(|error| in_file(name)(error.error()))?;
        Ok(File { name, bytes, rows: Some(rows) })
    }
}

fn sales(figures: &Figures) -> Result<File, RenderError> {
    let header = [
        "date",
        "currency",
        "scope",
        "key",
        "name",
        "orders",
        "lines",
        "units",
        "gross",
        "cancellations",
        "cancelled_units",
        "cancelled_value",
        "returns",
        "returned_units",
        "returned_value",
        "net",
        "average_order_value",
        "orders_change_percent",
        "units_change_percent",
        "gross_change_percent",
        "net_change_percent",
    ];
    let mut sheet = Sheet::new("sales.csv", &header)?;
    let sales = &figures.sales;
    let mut row = |scope: &str, key: &str, name: &str, totals: &Totals, earlier: Option<&Earlier>| {
        let mut cells = vec![figures.day.date.to_string(), text(&figures.currency), scope.to_owned()];
        cells.extend([text(key), text(name)]);
        cells.extend(totals_cells(totals));
        let change = earlier.map(|earlier| &earlier.change);
        let percents = change.map_or([None; 4], |change| {
            [change.orders_percent, change.units_percent, change.gross_percent, change.net_percent]
        });
        cells.extend(percents.map(optional));
        sheet.row(cells)
    };
    row("total", "", "", &sales.total, None)?;
    for (scope, groups) in
        [("source", &sales.by_source), ("location", &sales.by_location), ("category", &sales.by_category)]
    {
        for group in groups {
            row(scope, &group.key, &group.name, &group.totals, None)?;
        }
    }
    for (scope, earlier) in
        [("day_before", &sales.compared.day_before), ("week_before", &sales.compared.week_before)]
    {
        row(scope, &earlier.date.to_string(), "", &earlier.totals, Some(earlier))?;
    }
    sheet.finish()
}

fn totals_cells(totals: &Totals) -> [String; 12] {
    [
        totals.orders.to_string(),
        totals.lines.to_string(),
        totals.units.to_string(),
        money(totals.gross),
        totals.cancellations.to_string(),
        totals.cancelled_units.to_string(),
        money(totals.cancelled_value),
        totals.returns.to_string(),
        totals.returned_units.to_string(),
        money(totals.returned_value),
        money(totals.net),
        totals.average_order_value.map(money).unwrap_or_default(),
    ]
}

fn top_sellers(figures: &Figures) -> Result<File, RenderError> {
    let header = [
        "date",
        "currency",
        "list",
        "rank",
        "product_id",
        "name",
        "category",
        "orders",
        "units",
        "revenue",
        "returned_units",
        "returned_value",
    ];
    let mut sheet = Sheet::new("top_sellers.csv", &header)?;
    let lists =
        [("by_units", &figures.top_sellers.by_units), ("by_revenue", &figures.top_sellers.by_revenue)];
    for (list, sellers) in lists {
        for seller in sellers {
            let Seller { rank, product_id, name, category, orders, units, revenue, .. } = seller;
            sheet.row([
                figures.day.date.to_string(),
                text(&figures.currency),
                list.to_owned(),
                rank.to_string(),
                text(product_id),
                text(name),
                text(category),
                orders.to_string(),
                units.to_string(),
                money(*revenue),
                seller.returned_units.to_string(),
                money(seller.returned_value),
            ])?;
        }
    }
    sheet.finish()
}

fn low_stock(figures: &Figures) -> Result<File, RenderError> {
    let header = [
        "date",
        "product_id",
        "name",
        "category",
        "location_id",
        "status",
        "quantity",
        "reorder_point",
        "demand_units",
        "days_of_cover",
        "suggested_order",
    ];
    let mut sheet = Sheet::new("low_stock.csv", &header)?;
    for row in &figures.low_stock.rows {
        sheet.row([
            figures.day.date.to_string(),
            text(&row.product_id),
            text(&row.name),
            text(&row.category),
            text(&row.location_id),
            text(&row.status),
            row.quantity.to_string(),
            row.reorder_point.to_string(),
            row.demand_units.to_string(),
            optional(row.days_of_cover),
            row.suggested_order.to_string(),
        ])?;
    }
    sheet.finish()
}

/// One measure a row: what is odd is of many kinds, and new kinds add rows, not columns.
fn data_quality(figures: &Figures) -> Result<File, RenderError> {
    let header = ["date", "section", "source", "subject", "product_id", "location_id", "measure", "value"];
    let mut sheet = Sheet::new("data_quality.csv", &header)?;
    let date = figures.day.date.to_string();
    for row in quality_rows(&figures.data_quality) {
        let Measured { section, of: [source, subject, product_id, location_id], measure, value } = row;
        let labels = [source, subject, product_id, location_id].map(text);
        sheet.row(
            [date.clone(), section.to_owned()].into_iter().chain(labels).chain([measure.to_owned(), value]),
        )?;
    }
    sheet.finish()
}

/// A row of `data_quality.csv`.
struct Measured<'a> {
    section: &'static str,
    /// Source, subject, product_id, location_id; empty where it has none.
    of: [&'a str; 4],
    measure: &'static str,
    value: String,
}

/// The labels of a measure of the whole day.
const ALL: [&str; 4] = [""; 4];

/// The rows in the making.
#[derive(Default)]
struct Rows<'a>(Vec<Measured<'a>>);

impl<'a> Rows<'a> {
    fn say<const N: usize>(
        &mut self,
        section: &'static str,
        of: [&'a str; 4],
        measures: [(&'static str, String); N],
    ) {
        let row = |(measure, value)| Measured { section, of, measure, value };
        self.0.extend(measures.into_iter().map(row));
    }
}

fn quality_rows(quality: &DataQuality) -> Vec<Measured<'_>> {
    let mut rows = Rows::default();
    fates_and_rejects(&mut rows, quality);
    odd_lines(&mut rows, quality);
    late_and_oversold(&mut rows, quality);
    rows.0
}

fn fates_and_rejects<'a>(rows: &mut Rows<'a>, quality: &'a DataQuality) {
    for fates in &quality.fates {
        let counts = [
            ("consumed", fates.consumed),
            ("applied", fates.applied),
            ("duplicates", fates.duplicates),
            ("rejected", fates.rejected),
            ("parked", fates.parked),
        ];
        rows.say("fates", [&fates.topic, "", "", ""], counts.map(|(name, count)| (name, count.to_string())));
    }
    let rejects = &quality.rejects;
    rows.say("rejects", ALL, [("records", rejects.records.to_string())]);
    if rejects.reason_aged_out != 0 {
        rows.say("rejects", ALL, [("reason_aged_out", rejects.reason_aged_out.to_string())]);
    }
    for reject in &rejects.by_reason {
        let of = [reject.topic.as_str(), reject.reason.as_str(), "", ""];
        rows.say("rejects", of, [("records", reject.records.to_string())]);
    }
}

fn odd_lines<'a>(rows: &mut Rows<'a>, quality: &'a DataQuality) {
    let outliers = &quality.outliers;
    let optional = |number: Option<i64>| number.map_or_else(String::new, |number| number.to_string());
    let day = [
        ("found", if outliers.is_judged() { outliers.found.to_string() } else { String::new() }),
        ("largest_usual", optional(outliers.largest_usual)),
        ("median_quantity", optional(outliers.median_quantity)),
    ];
    rows.say("outliers", ALL, day);
    for line in &outliers.rows {
        let of = [line.source.as_str(), line.order_id.as_str(), line.product_id.as_str(), ""];
        let measures = [("quantity", line.quantity.to_string()), ("z_score", line.z_score.to_string())];
        rows.say("outliers", of, measures);
    }
    let mismatches = &quality.value_mismatches;
    let day = [("orders", mismatches.orders.to_string()), ("difference", money(mismatches.difference))];
    rows.say("value_mismatches", ALL, day);
    for order in &mismatches.rows {
        let of = [order.source.as_str(), order.order_id.as_str(), "", ""];
        let measures =
            [("stated_value", money(order.stated_value)), ("order_value", money(order.order_value))];
        rows.say("value_mismatches", of, measures);
    }
}

fn late_and_oversold<'a>(rows: &mut Rows<'a>, quality: &'a DataQuality) {
    let late = &quality.late_events;
    rows.say("late_events", ALL, [("events", late.events.to_string())]);
    for source in &late.by_source {
        let measures = [("events", source.events.to_string()), ("lines", source.lines.to_string())];
        rows.say("late_events", [&source.source, "", "", ""], measures);
    }
    let oversold = &quality.oversold;
    let day = [("at_end", oversold.at_end.to_string()), ("during_day", oversold.during_day.to_string())];
    rows.say("oversold", ALL, day);
    for row in &oversold.rows {
        let of = ["", "", row.product_id.as_str(), row.location_id.as_str()];
        rows.say("oversold", of, [("quantity_at_end", row.quantity_at_end.to_string())]);
        if let Some(lowest) = row.lowest_in_day {
            rows.say("oversold", of, [("lowest_in_day", lowest.to_string())]);
        }
    }
}

/// A text cell, defused: spreadsheets run cells that begin with these characters.
fn text(cell: &str) -> String {
    let runs =
        |first: char| matches!(first, '=' | '+' | '-' | '@' | '\t' | '\r' | '\n' | '＝' | '＋' | '－' | '＠');
    // Some trim what looks like space before they decide.
    if cell.trim_start().starts_with(runs) || cell.starts_with(runs) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

fn optional(number: Option<Tenths>) -> String {
    number.map_or_else(String::new, |number| number.to_string())
}

/// An amount with two decimals, rounded half away from zero.
pub fn money(amount: Money) -> String {
    let ten_thousandths = amount.ten_thousandths();
    let hundredths = (ten_thousandths.unsigned_abs() + 50) / 100;
    let sign = if ten_thousandths < 0 && hundredths > 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_two_decimals_and_is_rounded_half_away_from_zero() {
        let shown = [25_500, 49, 50, -49, -50, 12_345, -30_000, 0, i64::MAX]
            .map(|ten_thousandths| money(Money::from_ten_thousandths(ten_thousandths)));
        assert_eq!(
            shown,
            ["2.55", "0.00", "0.01", "0.00", "-0.01", "1.23", "-3.00", "0.00", "922337203685477.58"]
        );
    }

    #[test]
    fn cells_that_a_spreadsheet_would_run_are_defused() {
        for cell in ["=1+1", "+44", "-2", "@sum(a1)", "\t=1", "\r=1", "\n=1", "  =cmd|'/c calc'!a1", "＝1"] {
            assert_eq!(text(cell), format!("'{cell}"));
        }
        for cell in ["", "a=b", "22423", "CAKE, \"REGENCY\"", "é"] {
            assert_eq!(text(cell), cell);
        }
    }
}
