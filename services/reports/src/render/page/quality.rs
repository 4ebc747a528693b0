//! The page's section on the data's quality.

use std::fmt::Write as _;

use stocktide_domain::report::{DataQuality, Figures};

use super::{Cell, MOST_ROWS, count, dash, escape, grouped, instant, table};

pub(super) fn section(html: &mut String, figures: &Figures) {
    let quality = &figures.data_quality;
    html.push_str("<h2>Data quality</h2>\n");
    fates(html, quality);
    rejects(html, quality);
    outliers(html, quality);
    mismatches(html, quality);
    late(html, quality);
    oversold(html, quality);
}

fn numbers<const N: usize>(values: [i64; N]) -> impl Iterator<Item = Cell> {
    values.into_iter().map(|value| Cell::number(count(value)))
}

fn fates(html: &mut String, quality: &DataQuality) {
    html.push_str("<h3>Records processed on this day</h3>\n");
    let rows = quality.fates.iter().map(|f| {
        let counts = [f.consumed, f.applied, f.duplicates, f.rejected, f.parked];
        [Cell::text(&f.topic)].into_iter().chain(numbers(counts)).collect()
    });
    table(
        html,
        "Records processed on this day",
        &["Topic", "Consumed", "Applied", "Duplicates", "Rejected", "Parked"],
        rows.collect(),
        quality.fates.len(),
    );
}

fn rejects(html: &mut String, quality: &DataQuality) {
    let rejects = &quality.rejects;
    let _ = writeln!(html, "<h3>Rejected records: {}</h3>", rejects.records);
    if rejects.reason_aged_out != 0 {
        let _ = writeln!(
            html,
            "<p class=\"more\">The reasons of {} have gone with the aged part of the log.</p>",
            rejects.reason_aged_out
        );
    }
    let rows = rejects.by_reason.iter().take(MOST_ROWS).map(|reject| {
        vec![Cell::text(&reject.topic), Cell::text(&reject.reason), Cell::number(count(reject.records))]
    });
    table(html, "Rejected records", &["Topic", "Reason", "Records"], rows.collect(), rejects.by_reason.len());
}

fn outliers(html: &mut String, quality: &DataQuality) {
    let outliers = &quality.outliers;
    let _ = writeln!(html, "<h3>Unusual quantities: {}</h3>", outliers.found);
    match (outliers.median_quantity, outliers.largest_usual) {
        (Some(median), Some(largest)) => {
            let _ = writeln!(
                html,
                "<p class=\"sub\">The median line of the last {} days ({} lines) is of {median} units; up to {largest} is \
                 usual (modified z-score of the logarithm up to 3.5).</p>",
                outliers.window_days, outliers.window_lines
            );
        }
        _ => {
            let _ = writeln!(
                html,
                "<p class=\"sub\">{} lines in the last {} days are too few to say what is usual.</p>",
                outliers.window_lines, outliers.window_days
            );
        }
    }
    let rows = outliers.rows.iter().take(MOST_ROWS).map(|line| {
        vec![
            Cell::text(&line.source),
            Cell::text(&line.order_id),
            Cell::text(&line.kind),
            Cell::text(&line.product_id),
            Cell::text(&line.name),
            Cell::number(count(line.quantity)),
            Cell::number(grouped(line.unit_price)),
            Cell::number(line.z_score.to_string()),
            Cell::text(&instant(&line.occurred_at)),
        ]
    });
    let header = ["Source", "Order", "Kind", "Product", "Name", "Quantity", "Unit price", "Score", "At"];
    table(html, "Unusual quantities", &header, rows.collect(), usize::try_from(outliers.found).unwrap_or(0));
}

fn mismatches(html: &mut String, quality: &DataQuality) {
    let mismatches = &quality.value_mismatches;
    let _ = writeln!(
        html,
        "<h3>Stated values that differ from their lines: {}, in sum {}</h3>",
        mismatches.orders,
        escape(&grouped(mismatches.difference))
    );
    let rows = mismatches.rows.iter().take(MOST_ROWS).map(|order| {
        vec![
            Cell::text(&order.source),
            Cell::text(&order.order_id),
            Cell::number(grouped(order.stated_value)),
            Cell::number(grouped(order.order_value)),
        ]
    });
    let all = usize::try_from(mismatches.orders).unwrap_or(0);
    table(
        html,
        "Stated values that differ",
        &["Source", "Order", "Stated", "Lines add up to"],
        rows.collect(),
        all,
    );
}

fn late(html: &mut String, quality: &DataQuality) {
    let late = &quality.late_events;
    let _ = writeln!(
        html,
        "<h3>Late events: {}</h3>\n<p class=\"sub\">Of this day, but processed more than {} minutes after its end.</p>",
        late.events,
        late.grace_seconds / 60
    );
    let rows = late.by_source.iter().map(|source| {
        vec![
            Cell::text(&source.source),
            Cell::number(count(source.events)),
            Cell::number(count(source.lines)),
            Cell::text(&instant(&source.last_processed_at)),
        ]
    });
    table(
        html,
        "Late events",
        &["Source", "Events", "Lines", "Last processed"],
        rows.collect(),
        late.by_source.len(),
    );
}

fn oversold(html: &mut String, quality: &DataQuality) {
    let oversold = &quality.oversold;
    let _ = writeln!(
        html,
        "<h3>Oversold stock: {} at the day's end, {} during the day</h3>",
        oversold.at_end, oversold.during_day
    );
    let rows = oversold.rows.iter().take(MOST_ROWS).map(|row| {
        vec![
            Cell::text(&row.product_id),
            Cell::text(&row.name),
            Cell::text(&row.location_id),
            Cell::number(count(row.quantity_at_end)),
            Cell::number(row.lowest_in_day.map_or_else(dash, count)),
        ]
    });
    let header = ["Product", "Name", "Location", "At the end", "Lowest in the day"];
    table(html, "Oversold stock", &header, rows.collect(), oversold.rows.len());
}
