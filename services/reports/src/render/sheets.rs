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

fn quality_rows(quality: &DataQuality) -> Vec<Measured<'_>> {
    let mut rows = Vec::new();
    let mut say = |section, of, measures: &[(&'static str, String)]| {
        rows.extend(measures.iter().map(|(measure, value)| Measured {
            section,
            of,
            measure,
            value: value.clone(),
        }));
    };
    const ALL: [&str; 4] = [""; 4];
    for fates in &quality.fates {
        let counts = [
            ("consumed", fates.consumed),
            ("applied", fates.applied),
            ("duplicates", fates.duplicates),
            ("rejected", fates.rejected),
            ("parked", fates.parked),
        ];
        say(
            "fates",
            [fates.topic.as_str(), "", "", ""],
            &counts.map(|(name, count)| (name, count.to_string())),
        );
    }
    let rejects = &quality.rejects;
    say("rejects", ALL, &[("records", rejects.records.to_string())]);
    if rejects.reason_aged_out != 0 {
        say("rejects", ALL, &[("reason_aged_out", rejects.reason_aged_out.to_string())]);
    }
    for reject in &rejects.by_reason {
        say("rejects", [&reject.topic, &reject.reason, "", ""], &[("records", reject.records.to_string())]);
    }
    let outliers = &quality.outliers;
    say(
        "outliers",
        ALL,
        &[
            ("found", outliers.found.to_string()),
            ("largest_usual", outliers.largest_usual.map_or_else(String::new, |n| n.to_string())),
            ("median_quantity", outliers.median_quantity.map_or_else(String::new, |n| n.to_string())),
        ],
    );
    for line in &outliers.rows {
        say(
            "outliers",
            [&line.source, &line.order_id, &line.product_id, ""],
            &[("quantity", line.quantity.to_string()), ("z_score", line.z_score.to_string())],
        );
    }
    let mismatches = &quality.value_mismatches;
    say(
        "value_mismatches",
        ALL,
        &[("orders", mismatches.orders.to_string()), ("difference", money(mismatches.difference))],
    );
    for order in &mismatches.rows {
        say(
            "value_mismatches",
            [&order.source, &order.order_id, "", ""],
            &[("stated_value", money(order.stated_value)), ("order_value", money(order.order_value))],
        );
    }
    let late = &quality.late_events;
    say("late_events", ALL, &[("events", late.events.to_string())]);
    for source in &late.by_source {
        say(
            "late_events",
            [&source.source, "", "", ""],
            &[("events", source.events.to_string()), ("lines", source.lines.to_string())],
        );
    }
    let oversold = &quality.oversold;
    say(
        "oversold",
        ALL,
        &[("at_end", oversold.at_end.to_string()), ("during_day", oversold.during_day.to_string())],
    );
    for row in &oversold.rows {
        let mut measures = vec![("quantity_at_end", row.quantity_at_end.to_string())];
        measures.extend(row.lowest_in_day.map(|lowest| ("lowest_in_day", lowest.to_string())));
        say("oversold", ["", "", &row.product_id, &row.location_id], &measures);
    }
    rows
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
